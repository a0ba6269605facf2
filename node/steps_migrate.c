/* SPDX-License-Identifier: Apache-2.0 */
/* The side that a session moves to: docs/migration.md. */
#define _GNU_SOURCE
#include "node/steps_wake.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/arrival.h"
#include "node/hold.h"
#include "node/images.h"
#include "node/layers.h"
#include "node/layers_ahead.h"
#include "node/lease.h"
#include "node/move_client.h"
#include "node/move_files.h"
#include "node/precopy.h"
#include "node/rescue.h"
#include "node/steps_checkpoint.h"
#include "node/tar.h"
#include "store/parallel.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS "layers.tar"
#define NAMES  "layers.names"
#define EARLY  "early"

enum {
	ASK_AGAIN_MS = 100, /* after a hand-over that was not answered, doubling up to */
	ASK_MOST_MS = 2000,
	LOOK_MS = 50,
};

static int timeout_ms(const struct effect *ef)
{
	return (int)ef->node->config->node.effect_timeout_ms;
}

/* --- before anything stands still ---------------------------------------------------- */

static int check_offer(struct effect *ef, struct error *e)
{
	const struct move_client *c = ef->move;
	if (c->offer.version != MOVE_VERSION || strcmp(c->offer.spec.id, ef->session->id) != 0)
		return error_set(e, EBADMSG, "node %s offers something else than session %s",
				 c->from, ef->session->id);
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = c->offer.memory_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	wake_raise_limit(ef, c->offer.spec.limits.memory_bytes);
	return 0;
}

static int open_connection(struct effect *ef, struct error *e)
{
	const struct effect_request *q = &ef->request;
	int r = steps_check_idle(ef, e);
	if (r == 0 && (!q->from || !q->from_at))
		r = error_set(e, EINVAL, "it is not said which node has session %s, and where",
			      ef->session->id);
	if (r == 0)
		r = move_client_new(ef->node, q->id, ef->session->id, q->from, q->from_at,
				    &ef->move, e);
	if (r == 0)
		r = move_client_open(ef->move, e);
	return r < 0 ? r : check_offer(ef, e);
}

/* Unless it is not known any more what became of it there. */
static int note_kept(struct effect *ef, struct error *e)
{
	(void)e;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.kept = !ef->move || !(ef->move->given || ef->move->given_up);
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

static int check_dir(const char *what, const char *path, struct error *e)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	int r = error_fault(e, FAULT_REFUSED, "this node does not have the session's %s, %s", what,
			    path);
	return error_remedy(e, r, "Both nodes must have it, under the same name.");
}

/* All that can be known before it stands still there. */
static int check(struct effect *ef, struct error *e)
{
	const struct move_offer *offer = &ef->move->offer;
	const struct session_spec *spec = &ef->request.session;
	if (!arrival_is_possible(ef->node)) {
		int r = error_fault(e, FAULT_REFUSED,
				    "memory cannot follow a session to this node");
		return error_remedy(e, r, "`elsa-node doctor` there says why.");
	}
	int r = wake_check(ef, offer->cpu, offer->criu ? offer->criu : "", e);
	if (r == 0)
		r = check_dir("image", spec->image, e);
	return r < 0 ? r : check_dir("home", spec->home, e);
}

/* While the session runs, since it takes its time: CRIU, and connections for its memory. */
static int load(struct effect *ef, struct error *e)
{
	int r = wake_load(ef, e);
	return r < 0 ? r : arrival_connect_moved(ef, e);
}

/* --- it stands still ------------------------------------------------------------------- */

/* Noted before the next step is: who has it is to hear if this one comes to nothing. */
static int note_source(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	int r = journal_set(&j->moved_from, ef->move->from, e);
	if (r == 0)
		r = journal_set(&j->moved_from_at, ef->move->at, e);
	if (r == 0)
		r = journal_set(&j->moved_id, ef->move->departure, e);
	pthread_mutex_unlock(&ef->node->lock);
	return r < 0 ? r : journal_note(ef->node, j, e);
}

/* It was perhaps raised there since the offer. */
static int take_limit(struct effect *ef, struct error *e)
{
	if (!wake_raise_limit(ef, ef->move->skeleton.memory_limit))
		return 0;
	return cgroup_create(&ef->sandbox.cgroup, &ef->request.session.limits, e);
}

/* The way that packets take is changed before: what comes here is kept until it can be taken
 * (node/net_keep.h), while what came there to a session that stands still would be lost, and sent
 * again by TCP a fifth of a second later, or two. So what it is sent waits a moment longer than it
 * stands still, and what it sends itself does not. */
static int freeze(struct effect *ef, struct error *e)
{
	move_client_say_moving(ef->move);
	move_client_wait_moving(ef->move);
	int r = move_client_freeze(ef->move, e);
	ef->frozen_since = ef->move->still_since;
	return r;
}

/* As after a crash, too, when what is known of the other node is in the journal. */
static int have_client(struct effect *ef, struct error *e)
{
	const struct journal *j = effect_journal(ef);
	if (ef->move)
		return 0;
	if (!j->moved_id || !j->moved_from || !j->moved_from_at)
		return error_set(e, ENOENT, "it is not known which node has the session");
	return move_client_new(ef->node, j->moved_id, ef->session->id, j->moved_from,
			       j->moved_from_at, &ef->move, e);
}

static int tell_source(struct effect *ef, struct error *e)
{
	(void)e;
	if (have_client(ef, NULL) == 0)
		move_client_abort(ef->move);
	return 0;
}

static void note_bytes(uint64_t bytes, void *arg)
{
	struct effect *ef = arg;
	effect_progress(ef, bytes, (uint64_t)ef->move->skeleton.files_bytes);
}

/* GNU tar leaves out what leads out of the directory, by ".." or links. */
static int unpack_ahead(struct effect *ef, struct error *e)
{
	struct tar *tar;
	int ours;
	struct error own = ERROR_INIT;
	int r = tar_unpack(tar_layer, ef->sandbox.upper, timeout_ms(ef), &tar, &ours, &own);
	if (r == 0) {
		r = move_client_layer_ahead(ef->move, ours, note_bytes, ef, &own);
		close(ours);
		r = tar_end(tar, r, &own);
	}
	if (r < 0 && e)
		*e = own;
	return r;
}

/* As it is while the session runs there; nothing, where that would not pay. */
static int take_ahead(struct effect *ef, struct error *e)
{
	int r = note_source(ef, e);
	return r < 0 ? r : unpack_ahead(ef, e);
}

/* The layer, while that node writes down the rest. Where that changes it it comes again with the
 * rest, or only then. */
static int take_layer(struct effect *ef, struct error *e)
{
	cleanup_free char *early = fs_join(ef->images, EARLY);
	int r = early ? steps_drop_images(ef, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = fs_mkdirs(early, 0700, e);
	return r < 0 ? r : move_client_files(ef->move, MOVE_LAYER, NULL, early, NULL, NULL, e);
}

/* 1: it is there now; 0: it is not in `dir`. */
static int read_layer(struct effect *ef, const char *dir, struct error *e)
{
	cleanup_free char *file = fs_join(dir, LAYERS);
	cleanup_free char *names = fs_join(dir, NAMES);
	if (!file || !names)
		return error_set(e, ENOMEM, "out of memory");
	if (access(file, F_OK) < 0)
		return 0;
	/* Of what came ahead. */
	int r = access(names, F_OK) == 0 ? layers_prune(ef->sandbox.upper, names, e) : 0;
	if (r == 0)
		r = layers_unpack(ef->sandbox.upper, file, timeout_ms(ef), e);
	return r < 0 ? r : 1;
}

static int read_early(struct effect *ef, struct error *e)
{
	cleanup_free char *early = fs_join(ef->images, EARLY);
	int r = early ? read_layer(ef, early, e) : error_set(e, ENOMEM, "out of memory");
	ef->move->layer = r > 0;
	return r;
}

/* Some of CRIU's images, while it writes the others: where they will be, most likely. */
static int take_early(struct effect *ef, struct error *e)
{
	int r = fs_mkdirs(ef->images_near, 0700, e);
	return r < 0 ? r
		     : move_client_files(ef->move, MOVE_EARLY, NULL, ef->images_near, NULL, NULL,
					 e);
}

/* That node compares: what it has written since comes again. */
static int take_rest(struct effect *ef, struct error *e)
{
	cleanup_free char *criu = NULL;
	cleanup_buf struct buf has = BUF_INIT(MOVE_BODY_MOST);
	int r = wake_make_images_dir(ef, (uint64_t)ef->move->skeleton.files_bytes, &criu, e);
	if (r == 0 && ef->laid_out != ef->images_near)
		r = fs_remove_tree(ef->images_near, e);
	if (r == 0)
		r = move_files_each(criu, "criu", move_files_note, &has, e);
	return r < 0 ? r
		     : move_client_files(ef->move, MOVE_FILES, &has, ef->laid_out, note_bytes, ef,
					 e);
}

static int take_written(struct effect *ef, struct error *e)
{
	int r = take_early(ef, e);
	if (r == 0)
		r = move_client_wait_written(ef->move, e);
	ef->frozen_since = ef->move->still_since;
	if (r == 0)
		r = take_limit(ef, e);
	return r < 0 ? r : take_rest(ef, e);
}

typedef int part(struct effect *ef, struct error *e);

struct parts {
	struct effect *ef;
	part *const *all;
};

static int do_part(void *arg, size_t i, struct error *e)
{
	const struct parts *p = arg;
	return p->all[i](p->ef, e);
}

static int take_files(struct effect *ef, struct error *e)
{
	static part *const all[] = { take_written, read_early };
	return parallel(ARRAY_SIZE(all), ARRAY_SIZE(all), do_part, &(struct parts) { ef, all }, e);
}

static int read_late(struct effect *ef, struct error *e)
{
	int r = read_layer(ef, ef->laid_out, e);
	return r == 0 && !ef->move->layer
		       ? error_set(e, EBADMSG, "node %s has sent no layer", ef->move->from)
		       : r;
}

static int prepare_images(struct effect *ef, struct error *e)
{
	return images_prepare(ef->laid_out, &ef->request.session, e);
}

/* None of them looks at what another one does. */
static int lay_out(struct effect *ef, struct error *e)
{
	static part *const all[] = { arrival_listen_moved, read_late, prepare_images };
	int r = images_note_links(ef->laid_out, &ef->request.session, ef->links, e);
	if (r < 0)
		return r;
	return parallel(ARRAY_SIZE(all), ARRAY_SIZE(all), do_part, &(struct parts) { ef, all }, e);
}

/* The next dump of it, where it goes on, would find the names of its links taken. */
static int undo_lay_out(struct effect *ef, struct error *e)
{
	wake_stop_listening(ef, e);
	return images_drop_links(ef->links, &ef->request.session, e);
}

static int wait_moving(struct effect *ef, struct error *e)
{
	(void)e;
	move_client_wait_moving(ef->move);
	return 0;
}

/* --- whose it is ------------------------------------------------------------------------- */

/* By the journal's next step it is known that it may be ours, and where its memory is. */
static int record(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	const struct move_offer *offer = &ef->move->offer;
	int r = lease_check(ef, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	j->generation = offer->generation;
	j->fence = offer->fence;
	j->tried = offer->tried;
	if (offer->started_at)
		j->started_at = offer->started_at;
	j->arriving = ARRIVING_MOVED;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

static bool is_forced(struct effect *ef)
{
	pthread_mutex_lock(&ef->node->lock);
	bool force = ef->request.force;
	pthread_mutex_unlock(&ef->node->lock);
	return force;
}

static bool may_ask_on(struct effect *ef)
{
	return !ef->node->stopping && !is_forced(ef);
}

static void pause_ms(struct effect *ef, int ms)
{
	for (; ms > 0 && may_ask_on(ef); ms -= LOOK_MS)
		usleep(LOOK_MS * 1000);
}

/* 1: ours. 0: not; *e says why. -EAGAIN: that is not known, and this program ends. -ECANCELED: nor
 * will it be. */
static int ask_for_it(struct effect *ef, struct error *e)
{
	struct error why = ERROR_INIT;
	bool said = false;
	for (int ms = ASK_AGAIN_MS;; ms = 2 * ms < ASK_MOST_MS ? 2 * ms : ASK_MOST_MS) {
		int r = move_client_give(ef->move, &why);
		if (r >= 0) {
			*e = why;
			return r;
		}
		if (!said)
			log_warning("session %s: whether it is ours is not known yet: %s",
				    ef->session->id, why.text);
		said = true;
		pause_ms(ef, ms);
		if (may_ask_on(ef))
			continue;
		*e = why;
		if (!is_forced(ef))
			return -EAGAIN;
		ef->move->given_up = true;
		return error_wrap(e, -ECANCELED, "whether it is ours will not be known");
	}
}

static void note_given(struct effect *ef)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	j->released = j->generation > 0 ? j->generation : 1;
	pthread_mutex_unlock(&ef->node->lock);
}

static int hand_over(struct effect *ef, struct error *e)
{
	struct error why = ERROR_INIT;
	int r = ask_for_it(ef, &why);
	if (r > 0) {
		note_given(ef);
		return 0;
	}
	ef->undecided = r == -EAGAIN;
	if (e)
		*e = why;
	return r < 0 ? r : -fault_errno(why.fault);
}

/* What was ours was never let run. */
static int unrecord(struct effect *ef, struct error *e)
{
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->arriving = 0;
	pthread_mutex_unlock(&ef->node->lock);
	return steps_kill(ef, e);
}

/* --- it is ours ---------------------------------------------------------------------------- */

/* Both are safe to be done again; what is not done leaves it as it was given, for elsad to have the
 * other node take it back: it has not done a step here. */
static int release(struct effect *ef, struct error *e)
{
	int r = wake_release(ef, e);
	ef->move->open = r == 0;
	return r;
}

/* Where the lease has lapsed meanwhile elsad may have taken it back: it stands still until that one
 * calls it ours, and is not undone. */
static int thaw(struct effect *ef, struct error *e)
{
	struct error why = ERROR_INIT;
	if (!session_alive(ef->node, ef->session))
		return error_fault(e, FAULT_INTERNAL, "the session ended before it could run here");
	if (!ef->move->open)
		return error_fault(e, FAULT_INTERNAL, "nothing would reach the session");
	if (lease_check(ef, &why) < 0 && hold_take(ef->node, ef->session, HOLD_LEASE, &why) < 0)
		log_error("session %s: %s", ef->session->id, why.text);
	arrival_go(ef);
	rescue_begin(ef);
	int r = hold_settle(ef->node, ef->session, e);
	checkpoint_note_frozen(ef);
	ef->move->runs = r == 0;
	return r;
}

/* What was not let run here is the other node's to take back, who must not hear that all is here.
 */
static int tidy(struct effect *ef, struct error *e)
{
	if (!ef->move->runs)
		arrival_forget(ef, false);
	return wake_tidy(ef, e);
}

/* Once the other node may have said yes, only that one knows. Steps are noted before they are done,
 * that it was said behind them. */
static int resume(struct effect *ef, size_t at, struct error *e)
{
	size_t asked = plan_step(&plan_migrate, "hand-over");
	if (at < asked)
		return -1;
	if (have_client(ef, e) < 0)
		return -EAGAIN;
	ef->move->open = at > plan_step(&plan_migrate, "release");
	ef->move->runs = at > plan_step(&plan_migrate, "thaw");
	if (at > asked && effect_journal(ef)->released)
		return (int)at;
	int r = ask_for_it(ef, e);
	if (r > 0)
		note_given(ef);
	if (r > 0)
		return (int)asked + 1;
	return r == -EAGAIN ? -EAGAIN : -1;
}

static const struct step steps[] = {
	{ .name = "open", .run = open_connection, .undo = note_kept },
	{ .name = "check", .run = check },
	{ .name = "prepare", .run = wake_prepare, .undo = steps_clear },
	{ .name = "load", .run = load, .undo = steps_unload },
	{ .name = "ahead", .run = take_ahead, .undo = tell_source },
	{ .name = "precopy", .run = precopy_run },
	{ .name = "freeze", .run = freeze },
	{ .name = "layer", .run = take_layer, .undo = steps_drop_images },
	{ .name = "files", .run = take_files },
	{ .name = "images", .run = lay_out, .undo = undo_lay_out },
	{ .name = "mount", .run = steps_mount, .undo = steps_unmount },
	{ .name = "restore", .run = wake_restore, .undo = wake_kill_restored },
	{ .name = "settle", .run = arrival_settle },
	{ .name = "moving", .run = wait_moving },
	{ .name = "record", .run = record, .undo = unrecord },
	{ .name = "hand-over", .run = hand_over },
	{ .name = "release", .run = release, .must = true },
	{ .name = "thaw", .run = thaw, .must = true },
	{ .name = "unmount", .run = steps_unmount },
	{ .name = "tidy", .run = tidy },
};

const struct plan plan_migrate = {
	.name = "migrate",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = ARRAY_SIZE(steps) - 4,
	.told = ARRAY_SIZE(steps) - 2,
	.resume = resume,
};
