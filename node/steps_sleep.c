/* SPDX-License-Identifier: Apache-2.0 */
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/connections.h"
#include "node/doze.h"
#include "node/steps.h"
#include "node/steps_checkpoint.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>

/*
 * A hibernation that nobody sees: new connections are answered by this node from
 * before the session stands still, so that whoever comes at any moment is either
 * the session's, which is then not put to sleep, or waits, and has it woken.
 */

static int check(struct effect *ef, struct error *e)
{
	if (!ef->node->asleep)
		return error_set(e, EOPNOTSUPP, "sessions cannot be answered for here");
	return checkpoint_check(ef, e);
}

static int answer(struct effect *ef, struct error *e)
{
	return asleep_begin_wait(ef, ASLEEP_STORED, e);
}

static int unanswer(struct effect *ef, struct error *e)
{
	if (doze_is_dozing(ef->node, ef->session))
		return asleep_begin_wait(ef, ASLEEP_DOZES, e);
	asleep_end_wait(ef);
	return 0;
}

static int refuse_touched(struct effect *ef, struct error *e)
{
	if (!asleep_is_touched(ef->node, ef->session))
		return 0;
	return error_set(e, EBUSY, "somebody came for session %s: it goes on", ef->session->id);
}

/* Before it stood still, too, but its server has not got to it. Of one that dozes all was looked at
 * when it came: what it has not read is idle talk. */
static int look(struct effect *ef, struct error *e)
{
	int r = refuse_touched(ef, e);
	return r < 0 || doze_is_dozing(ef->node, ef->session) ? r : steps_check_unanswered(ef, e);
}

static int images(struct effect *ef, struct error *e)
{
	cleanup_free char *criu = fs_join(ef->images, "criu");
	cleanup_free char *dir = asleep_dir(ef->node, ef->session->id);
	struct error why = ERROR_INIT;
	if (!criu || !dir)
		return error_set(e, ENOMEM, "out of memory");
	/* Without it those who were connected must come anew. */
	if (connections_keep(criu, ef->request.session.port, dir, &why) < 0)
		log_warning("session %s: %s", ef->session->id, why.text);
	int r = checkpoint_images(ef, e);
	return r < 0 ? r : store_write_tree(ef->write, ASLEEP_TREE, dir, e);
}

static int commit(struct effect *ef, struct error *e)
{
	int r = refuse_touched(ef, e);
	return r < 0 ? r : checkpoint_commit(ef, e);
}

static int let_go(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	struct error why = ERROR_INIT;
	int r = checkpoint_let_go(ef, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	j->asleep = ef->request.generation;
	j->asleep_bytes = ef->result.memory_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	/* It is safe all the same, and answered for as soon as that can be done. */
	if (asleep_begin_wait(ef, ASLEEP_STORED, &why) < 0)
		log_error("session %s: %s", ef->session->id, why.text);
	asleep_look_at_kept(ef, ef->sandbox.keep);
	return 0;
}

static const struct step steps[] = {
	{ .name = "check", .run = check },
	{ .name = "arrive", .run = arrival_wait },
	{ .name = "record", .run = steps_record },
	{ .name = "begin", .run = checkpoint_begin, .undo = checkpoint_drop },
	{ .name = "answer", .run = answer, .undo = unanswer },
	{ .name = "freeze", .run = checkpoint_freeze, .undo = checkpoint_thaw },
	{ .name = "hold", .run = checkpoint_hold, .undo = checkpoint_release },
	{ .name = "look", .run = look },
	{ .name = "dump", .run = checkpoint_dump, .undo = checkpoint_abandon_dump },
	{ .name = "layers", .run = checkpoint_layers },
	{ .name = "images", .run = images },
	{ .name = "commit", .run = commit },
	{ .name = "kill", .run = let_go, .must = true },
	{ .name = "teardown", .run = checkpoint_teardown },
	{ .name = "retention", .run = checkpoint_retention },
};

const struct plan plan_sleep = {
	.name = "sleep",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = 12,
	.resume = checkpoint_resume,
};
