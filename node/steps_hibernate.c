/* SPDX-License-Identifier: Apache-2.0 */
#include "node/arrival.h"
#include "node/evacuate.h"
#include "node/steps.h"
#include "node/steps_checkpoint.h"

/* The moment of truth is behind us: from here on the session is the checkpoint. */
int checkpoint_let_go(struct effect *ef, struct error *e)
{
	checkpoint_note_generation(ef);
	if (ef->recovering)
		criu_kill_orphans(ef->work);
	ef->dump = criu_dump_keep(ef->dump);
	int r = steps_kill(ef, e);
	checkpoint_note_frozen(ef);
	if (r == 0 && evacuate_is_effect(ef->request.id)) {
		pthread_mutex_lock(&ef->node->lock);
		r = journal_set(&effect_journal(ef)->ended, EVACUATED, e);
		pthread_mutex_unlock(&ef->node->lock);
	}
	return r;
}

int checkpoint_teardown(struct effect *ef, struct error *e)
{
	int r = steps_teardown(ef, e);
	return r < 0 ? r : checkpoint_tidy(ef, e);
}

int checkpoint_resume(struct effect *ef, size_t at, struct error *e)
{
	size_t behind = plan_step(ef->plan, "kill");
	if (at + 1 < behind)
		return -1;
	/* Once the journal is behind the commit, only a hand from outside can have removed it. */
	int r = checkpoint_is_committed(ef, e);
	if (r == 0 && at >= behind && !session_alive(ef->node, ef->session))
		return (int)at;
	if (r <= 0)
		return r == 0 ? -1 : r;
	return (int)(at > behind ? at : behind);
}

static const struct step steps[] = {
	{ .name = "check", .run = checkpoint_check },
	{ .name = "arrive", .run = arrival_wait },
	{ .name = "begin", .run = checkpoint_begin, .undo = checkpoint_drop },
	{ .name = "freeze", .run = checkpoint_freeze, .undo = checkpoint_thaw },
	{ .name = "hold", .run = checkpoint_hold, .undo = checkpoint_release },
	{ .name = "dump", .run = checkpoint_dump, .undo = checkpoint_abandon_dump },
	{ .name = "layers", .run = checkpoint_layers },
	{ .name = "images", .run = checkpoint_images },
	{ .name = "commit", .run = checkpoint_commit },
	{ .name = "kill", .run = checkpoint_let_go, .must = true },
	{ .name = "teardown", .run = checkpoint_teardown },
	{ .name = "retention", .run = checkpoint_retention },
};

const struct plan plan_hibernate = {
	.name = "hibernate",
	.steps = steps,
	.count = sizeof(steps) / sizeof(steps[0]),
	.commit = 9,
	.resume = checkpoint_resume,
};
