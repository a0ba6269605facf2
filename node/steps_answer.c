/* SPDX-License-Identifier: Apache-2.0 */
#include "node/asleep.h"
#include "node/steps.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <string.h>

/* --- answering for what another node, or this one in another life, has put into the store -------
 */

static bool is_answered(struct effect *ef)
{
	return ef->session->asleep && effect_journal(ef)->asleep == ef->request.generation;
}

/* Fences up to now are not against it: elsad knows them. */
static int open_checkpoint(struct effect *ef, struct error *e)
{
	struct store *store;
	struct store_numbers n;
	int r = steps_check_idle(ef, e);
	if (r == 0 && !is_answered(ef))
		r = node_store(ef->node, &store, e);
	if (r < 0 || is_answered(ef))
		return r;
	r = store_read_open_newest(store, ef->session->id, ef->request.generation, &n, &ef->read,
				   e);
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->fence = n.fence > 0 ? n.fence : 0;
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

static int close_checkpoint(struct effect *ef, struct error *e)
{
	(void)e;
	ef->read = store_read_free(ef->read);
	return 0;
}

static bool is_no_answer(const char *name, void *arg)
{
	(void)arg;
	return strncmp(name, ASLEEP_TREE "/", strlen(ASLEEP_TREE "/")) != 0;
}

static int lay_out(struct effect *ef, struct error *e)
{
	cleanup_free char *dir = node_path(ef->node, "asleep", ef->session->id, "");
	if (!dir)
		return error_set(e, ENOMEM, "out of memory");
	if (!ef->read)
		return 0;
	int r = fs_remove_tree(dir, e);
	if (r == 0)
		r = fs_mkdirs(dir, 0700, e);
	return r < 0 ? r : store_read_lay_out(ef->read, dir, is_no_answer, NULL, e);
}

static int answer(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	j->asleep = j->generation = ef->request.generation;
	if (ef->read)
		j->asleep_bytes = store_read_meta(ef->read)->memory_bytes;
	/* From here on an end is that of one that was woken. */
	journal_set(&j->ended, NULL, NULL);
	pthread_mutex_unlock(&ef->node->lock);
	close_checkpoint(ef, NULL);
	int r = asleep_begin_wait(ef, ASLEEP_STORED, e);
	if (r < 0)
		steps_unanswer(ef, "It cannot be answered for here.", NULL);
	return r;
}

/* --- ... no more ---------------------------------------------------------------------- */

/* Somebody who came just before has it awake. */
static int end(struct effect *ef, struct error *e)
{
	int r = steps_check_idle(ef, e);
	return r < 0 ? r : steps_unanswer(ef, "It is about to be woken on another machine.", e);
}

static int from_the_start(struct effect *ef, size_t at, struct error *e)
{
	(void)ef;
	(void)at;
	(void)e;
	return 0;
}

static const struct step answer_steps[] = {
	{ .name = "open", .run = open_checkpoint, .undo = close_checkpoint },
	{ .name = "record", .run = lay_out },
	{ .name = "answer", .run = answer, .must = true },
};

const struct plan plan_answer = {
	.name = "answer",
	.steps = answer_steps,
	.count = ARRAY_SIZE(answer_steps),
	.commit = ARRAY_SIZE(answer_steps) - 1,
	.resume = from_the_start,
};

static const struct step release_steps[] = {
	{ .name = "end", .run = end, .must = true },
};

const struct plan plan_release = {
	.name = "release",
	.steps = release_steps,
	.count = ARRAY_SIZE(release_steps),
	.commit = 0,
	.resume = from_the_start,
};
