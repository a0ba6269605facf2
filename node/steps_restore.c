/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps_wake.h"

#include "base/cleanup.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/hold.h"
#include "node/images.h"
#include "node/layers.h"
#include "node/lease.h"
#include "node/pagemap_image.h"
#include "node/rescue.h"
#include "store/parallel.h"

#include <errno.h>
#include <string.h>

/* A checkpoint that has a successor is the past: to run it would undo what the user has done since.
 */
static int open_newest(struct effect *ef, struct store *store, struct error *e)
{
	struct store_numbers n;
	int64_t wanted = ef->request.generation;
	int r = store_read_open_newest(store, ef->session->id, wanted, &n, &ef->read, e);
	if (r == 0 && asleep_is_effect(ef->request.id))
		r = asleep_check_fence(ef, n.fence, e);
	if (r == -ENOENT && n.checkpoint < 0)
		return error_wrap(e, r, "no checkpoint to restore");
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->fence = n.fence > 0 ? n.fence : 0;
	pthread_mutex_unlock(&ef->node->lock);
	if (r != -EBUSY || n.checkpoint < wanted)
		return r;
	return error_remedy(e, r, "To go back to an older one, set the newer aside.");
}

static int open_checkpoint(struct effect *ef, struct error *e)
{
	struct store *store;
	int r = steps_check_idle(ef, e);
	if (r == 0)
		r = node_store(ef->node, &store, e);
	if (r == 0)
		r = open_newest(ef, store, e);
	if (r < 0)
		return r;
	const struct store_meta *meta = store_read_meta(ef->read);
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = meta->memory_bytes;
	ef->result.stored_bytes = meta->stored_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

static int close_checkpoint(struct effect *ef, struct error *e)
{
	(void)e;
	ef->read = store_read_free(ef->read);
	return 0;
}

static int check(struct effect *ef, struct error *e)
{
	const struct store_meta *meta = store_read_meta(ef->read);
	return wake_check(ef, meta->cpu, meta->criu, e);
}

static bool is_layers(const char *name, void *arg)
{
	(void)arg;
	return strcmp(name, LAYERS_FILE) == 0;
}

struct laying {
	struct effect *ef;
	enum pages_part part;
	const char *images; /* CRIU's */
};

static int lay_out_files(struct laying *l, struct error *e)
{
	struct effect *ef = l->ef;
	int r = store_read_lay_out(ef->read, ef->laid_out, is_layers, NULL, e);
	return r < 0 ? r : images_prepare(ef->laid_out, &ef->request.session, e);
}

static int lay_out_memory(struct laying *l, struct error *e)
{
	return pagemap_images_write(l->ef->read, l->part, l->images, e);
}

static int read_layers(struct laying *l, struct error *e)
{
	struct effect *ef = l->ef;
	return layers_load(ef->sandbox.upper, ef->read,
			   (int)ef->node->config->node.effect_timeout_ms, e);
}

static int read_working_set(struct laying *l, struct error *e)
{
	return arrival_working_set(l->ef, e);
}

/* From afar each of them waits for answers most of the time. */
static int (*const layings[])(struct laying *l, struct error *e) = {
	read_working_set,
	lay_out_files,
	lay_out_memory,
	read_layers,
};

static int lay_out_one(void *arg, size_t i, struct error *e)
{
	return layings[i](arg, e);
}

/* Nothing is read twice or looked at before: the store gives out nothing that is not as it was
 * written, and says what is wrong. */
static int lay_out(struct effect *ef, struct error *e)
{
	enum pages_part part = arrival_is_possible(ef->node) ? PAGES_EAGER : PAGES_ALL;
	uint64_t bytes = store_read_files_bytes(ef->read, is_layers, NULL) +
			 pagemap_images_bytes(ef->read, part);
	cleanup_free char *images = NULL;
	int r = steps_drop_images(ef, e);
	if (r == 0)
		r = wake_make_images_dir(ef, bytes, &images, e);
	struct laying l = { ef, part, images };
	return r < 0 ? r : parallel(ARRAY_SIZE(layings), ARRAY_SIZE(layings), lay_out_one, &l, e);
}

static int listen_for_faults(struct effect *ef, struct error *e)
{
	return arrival_is_possible(ef->node) ? arrival_listen(ef, e) : 0;
}

/* Recorded durably with the journal's next step: from then on, if these processes live, they and
 * not the checkpoint are the session. */
static int record(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	(void)e;
	pthread_mutex_lock(&ef->node->lock);
	j->released = j->generation = ef->request.generation;
	j->arriving = ef->session->arrival ? ef->request.generation : 0;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

static int unrecord(struct effect *ef, struct error *e)
{
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->released = 0;
	pthread_mutex_unlock(&ef->node->lock);
	return steps_kill(ef, e);
}

/* Whose packets pass may have taken what will not be sent again: better to have asked before. */
static int release(struct effect *ef, struct error *e)
{
	int r = lease_check(ef, e);
	return r < 0 ? r : wake_release(ef, e);
}

/* What its processes would say to its peers when they are ended is not for them to hear: they are
 * to go on when it is woken the next time. */
static int hold_again(struct effect *ef, struct error *e)
{
	return session_alive(ef->node, ef->session) ? sandbox_hold(&ef->sandbox, e) : 0;
}

static int thaw(struct effect *ef, struct error *e)
{
	int r = lease_check(ef, e);
	if (r < 0)
		return r;
	arrival_go(ef);
	rescue_begin(ef);
	r = hold_settle(ef->node, ef->session, e);
	if (r == 0)
		steps_answers_itself(ef);
	return r;
}

static int tidy(struct effect *ef, struct error *e)
{
	close_checkpoint(ef, e);
	return wake_tidy(ef, e);
}

/* The record is written on entering the step behind "record". */
static int resume(struct effect *ef, size_t at, struct error *e)
{
	(void)e;
	const struct journal *j = effect_journal(ef);
	size_t behind = plan_step(&plan_restore, "record") + 1;
	bool released = at >= behind && j->released == ef->request.generation;
	return released && session_alive(ef->node, ef->session) ? (int)behind : -1;
}

static const struct step steps[] = {
	{ .name = "open", .run = open_checkpoint, .undo = close_checkpoint },
	{ .name = "check", .run = check },
	{ .name = "prepare", .run = wake_prepare, .undo = steps_clear },
	{ .name = "load", .run = wake_load, .undo = steps_unload },
	{ .name = "listen", .run = listen_for_faults, .undo = wake_stop_listening },
	{ .name = "images", .run = lay_out, .undo = steps_drop_images },
	{ .name = "mount", .run = steps_mount, .undo = steps_unmount },
	{ .name = "restore", .run = wake_restore, .undo = wake_kill_restored },
	{ .name = "settle", .run = arrival_settle },
	{ .name = "record", .run = record, .undo = unrecord },
	{ .name = "release", .run = release, .undo = hold_again },
	{ .name = "thaw", .run = thaw },
	{ .name = "unmount", .run = steps_unmount },
	{ .name = "tidy", .run = tidy },
};

const struct plan plan_restore = {
	.name = "restore",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = ARRAY_SIZE(steps) - 2,
	.told = ARRAY_SIZE(steps) - 2,
	.resume = resume,
};
