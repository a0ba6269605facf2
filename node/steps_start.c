/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include "base/cleanup.h"
#include "node/home.h"
#include "node/images.h"
#include "node/lease.h"
#include "node/rescue.h"

enum { LOG_LINES = 30 };

static int prepare(struct effect *ef, struct error *e)
{
	/* Whatever a session of this id has left: this one is new. */
	int r = steps_clear(ef, e);
	if (r == 0)
		r = steps_unanswer(ef, "It is started anew.", e);
	if (r == 0)
		r = images_drop_links(ef->links, &ef->request.session, e);
	if (r == 0)
		r = home_make(&ef->request.session, e);
	return r < 0 ? r : sandbox_prepare(&ef->sandbox, false, e);
}

static int start(struct effect *ef, struct error *e)
{
	pid_t init;
	int r = sandbox_start(&ef->sandbox, &init, e);
	if (r == 0)
		r = effect_set_processes(ef, init, e);
	if (r < 0)
		session_log(ef->node, ef->session->id, LOG_LINES, &ef->log_tail, NULL);
	return r;
}

static int adopt(struct effect *ef, struct error *e)
{
	int r = lease_check(ef, e);
	if (r < 0)
		return r;
	rescue_begin(ef);
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->generation = ef->request.generation;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

/* Recorded as running when the journal has got to the step behind `start`. */
static int resume(struct effect *ef, size_t at, struct error *e)
{
	(void)e;
	size_t recorded = plan_step(&plan_start, "adopt");
	return at >= recorded && session_alive(ef->node, ef->session) ? (int)recorded : -1;
}

static const struct step steps[] = {
	{ .name = "check", .run = steps_check_idle },
	{ .name = "prepare", .run = prepare, .undo = steps_clear },
	{ .name = "mount", .run = steps_mount, .undo = steps_unmount },
	{ .name = "start", .run = start, .undo = steps_kill },
	{ .name = "adopt", .run = adopt },
	{ .name = "unmount", .run = steps_unmount },
};

const struct plan plan_start = {
	.name = "start",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = ARRAY_SIZE(steps) - 1,
	.resume = resume,
};
