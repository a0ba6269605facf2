/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/depart.h"
#include "node/hold.h"
#include "node/lease.h"

#include <errno.h>

/*
 * What was given to another node runs here again, as it was handed over: elsad
 * has seen to it that nothing of it runs there any more, nor ever will.
 */

static void set_given(struct effect *ef, const char *to)
{
	pthread_mutex_lock(&ef->node->lock);
	journal_set(&effect_journal(ef)->given_to, to, NULL);
	pthread_mutex_unlock(&ef->node->lock);
}

/* The store was fenced before: that is against its other copies, and not against this one. */
static void pass_fence(struct effect *ef)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	if (ef->request.generation > j->fence)
		j->fence = ef->request.generation;
	pthread_mutex_unlock(&ef->node->lock);
}

static int check(struct effect *ef, struct error *e)
{
	hold_own(ef->node, ef->session);
	if (!session_alive(ef->node, ef->session))
		return error_set(e, ESRCH, "nothing is left here of session %s", ef->session->id);
	return lease_check(ef, e);
}

/* While it stands still, and is given: whatever fails until it is taken, elsad asks again. */
static int release(struct effect *ef, struct error *e)
{
	return sandbox_release(&ef->sandbox, e);
}

static int hold(struct effect *ef, struct error *e)
{
	return sandbox_hold(&ef->sandbox, e);
}

static int take(struct effect *ef, struct error *e)
{
	set_given(ef, NULL);
	pass_fence(ef);
	int r = journal_save(ef->node, effect_journal(ef), e);
	if (r < 0)
		set_given(ef, ef->request.from);
	return r;
}

static int thaw(struct effect *ef, struct error *e)
{
	sandbox_ease(&ef->sandbox, &effect_journal(ef)->session.limits, false);
	return hold_settle(ef->node, ef->session, e);
}

/* Before "take" was over it is the other node's, and elsad asks again. */
static int resume(struct effect *ef, size_t at, struct error *e)
{
	(void)e;
	if (session_is_given(ef->session))
		return -1;
	return (int)(at > plan_return.commit ? at : plan_return.commit);
}

static const struct step steps[] = {
	{ .name = "check", .run = check },
	{ .name = "release", .run = release, .undo = hold },
	{ .name = "take", .run = take },
	{ .name = "thaw", .run = thaw, .must = true },
};

const struct plan plan_return = {
	.name = "return",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = 3,
	.again = true,
	.resume = resume,
};
