/* SPDX-License-Identifier: Apache-2.0 */
#include "node/arrival.h"
#include "node/steps.h"
#include "node/steps_checkpoint.h"

#include <unistd.h>

/*
 * The session stands still for the dump only. What CRIU has put into its file
 * systems for the restore is in the layer or kept with the images by then, so
 * that CRIU may take it away again; and should the checkpoint come to nothing,
 * nothing is left to undo.
 */
static int let_run(struct effect *ef, struct error *e)
{
	ef->dump = criu_dump_abandon(ef->dump);
	unlink(ef->links);
	int r = checkpoint_release(ef, e);
	return r < 0 ? r : checkpoint_thaw(ef, e);
}

static int record(struct effect *ef, struct error *e)
{
	(void)e;
	checkpoint_note_generation(ef);
	return 0;
}

/* Behind the commit the journal says so. In it, the store does; the session runs in each case. */
static int resume(struct effect *ef, size_t at, struct error *e)
{
	size_t behind = plan_step(&plan_snapshot, "record");
	if (at >= behind)
		return (int)at;
	if (at + 1 < behind)
		return -1;
	int r = checkpoint_is_committed(ef, e);
	return r > 0 ? (int)behind : r < 0 ? r : -1;
}

static const struct step steps[] = {
	{ .name = "check", .run = checkpoint_check },
	{ .name = "arrive", .run = arrival_wait },
	{ .name = "begin", .run = checkpoint_begin, .undo = checkpoint_drop },
	{ .name = "freeze", .run = checkpoint_freeze, .undo = checkpoint_thaw },
	{ .name = "hold", .run = checkpoint_hold, .undo = checkpoint_release },
	{ .name = "dump", .run = checkpoint_dump, .undo = checkpoint_abandon_dump },
	{ .name = "layers", .run = checkpoint_layers },
	{ .name = "let-run", .run = let_run },
	{ .name = "images", .run = checkpoint_images },
	{ .name = "commit", .run = checkpoint_commit },
	{ .name = "record", .run = record, .must = true },
	{ .name = "tidy", .run = checkpoint_tidy },
	{ .name = "retention", .run = checkpoint_retention },
};

const struct plan plan_snapshot = {
	.name = "snapshot",
	.steps = steps,
	.count = sizeof(steps) / sizeof(steps[0]),
	.commit = 10,
	.resume = resume,
};
