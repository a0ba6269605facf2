/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/depart.h"
#include "node/doze.h"
#include "node/hold.h"
#include "node/images.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { GRACE_MS = 5000 };

/* One that only dozes is told to end as one that runs is. */
static int rouse(struct effect *ef, struct error *e)
{
	struct session *s = ef->session;
	if (!doze_is_dozing(ef->node, s) || !session_alive(ef->node, s))
		return 0;
	int r = hold_clear(ef->node, s, HOLD_DOZE, e);
	return r < 0 || hold_any(ef->node, s) || session_is_given(s)
		       ? r
		       : sandbox_thaw(&ef->sandbox, e);
}

/* First in CRIU's own way, should one of an earlier life of ours hold the processes. */
static int end(struct effect *ef, struct error *e)
{
	struct sandbox *sb = &ef->sandbox;
	/* With a lapsed lease it may run elsewhere by now, and must not do another step here. Nor
	 * must what stands still for another reason: it may never have been let run. */
	bool others = session_is_given(ef->session) || hold_has(ef->node, ef->session, HOLD_LEASE);
	bool frozen = false;
	hold_own(ef->node, ef->session);
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	if (r == 0)
		r = rouse(ef, e);
	if (r == 0)
		r = sandbox_frozen(sb, &frozen, e);
	/* Nor have its connections say that they end: they may go on where it is taken back. */
	if (r == 0 && (others || frozen) && cgroup_exists(&sb->cgroup))
		sandbox_hold(sb, NULL);
	if (r == 0)
		r = sandbox_end(sb, others || frozen ? 0 : GRACE_MS, e);
	if (r == 0)
		r = steps_kill(ef, e);
	if (r == 0)
		r = steps_unanswer(ef, "It has been stopped.", e);
	pthread_mutex_lock(&ef->node->lock);
	if (r == 0)
		journal_set(&effect_journal(ef)->ended, NULL, NULL);
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

static int teardown(struct effect *ef, struct error *e)
{
	int r = steps_teardown(ef, e);
	if (r == 0)
		r = steps_drop_images(ef, e);
	return r < 0 ? r : fs_remove_tree(ef->work, e);
}

/* Of one that ended by itself: why, before its cgroup is gone. */
static int note_end(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	struct sandbox_usage usage = { 0 };
	const char *why = "exited";
	/* Whether that one has ended its new node knows. */
	if (session_is_given(ef->session))
		return 0;
	sandbox_usage(&ef->sandbox, &usage, NULL);
	if (usage.oom_kills)
		why = "oom-killed";
	if (ef->session->memory_lost)
		why = "memory-lost";
	if (!j->boot_id || strcmp(j->boot_id, ef->node->boot_id) != 0)
		why = "rebooted";
	pthread_mutex_lock(&ef->node->lock);
	int r = journal_set(&j->ended, why, e);
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

static int remove_checkpoints(struct effect *ef, struct error *e)
{
	struct store *store;
	const char *id = ef->session->id;
	int r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_forget(store, id, e);
	cleanup_free char *log = node_path(ef->node, "log", id, "");
	if (r == 0 && log)
		unlink(log);
	/* The home may have been removed with its user. */
	if (r == 0 && images_drop_links(ef->links, &ef->request.session, NULL) < 0)
		unlink(ef->links);
	return r;
}

static int from_the_start(struct effect *ef, size_t at, struct error *e)
{
	(void)e;
	(void)ef;
	(void)at;
	return 0;
}

static const struct step stop_steps[] = {
	{ .name = "end", .run = end, .must = true },
	{ .name = "teardown", .run = teardown },
};

static const struct step forget_steps[] = {
	{ .name = "end", .run = end, .must = true },
	{ .name = "teardown", .run = teardown },
	{ .name = "checkpoints", .run = remove_checkpoints, .must = true },
};

static const struct step ended_steps[] = {
	{ .name = "note", .run = note_end },
	{ .name = "kill", .run = steps_kill },
	{ .name = "teardown", .run = teardown },
};

const struct plan plan_stop = {
	.name = "stop",
	.steps = stop_steps,
	.count = ARRAY_SIZE(stop_steps),
	.resume = from_the_start,
};

const struct plan plan_forget = {
	.name = "forget",
	.steps = forget_steps,
	.count = ARRAY_SIZE(forget_steps),
	.resume = from_the_start,
};

const struct plan plan_ended = {
	.name = "ended",
	.steps = ended_steps,
	.count = ARRAY_SIZE(ended_steps),
	.resume = from_the_start,
};
