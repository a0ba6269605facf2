/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/arrival.h"
#include "node/depart_private.h"
#include "node/doze.h"
#include "node/hold.h"
#include "node/images.h"
#include "node/layers.h"
#include "node/lease.h"
#include "node/locks.h"
#include "node/steps.h"
#include "node/steps_checkpoint.h"
#include "node/unseen.h"
#include "store/parallel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The side that a session leaves (docs/migration.md). It stands still from
 * "freeze" on, and its processes are the memory that the other node fetches; what
 * they are besides is written down in images and layers. Until "give" has noted
 * that the other node has it, all can be undone by letting it run.
 */

enum {
	LOCKS_MS = 3000, /* that a lock in its home is waited for */
	LOCKS_LOOK_MS = 10,
};

#define UNSEEN "unseen"

static const char *departure_of(const struct effect *ef)
{
	return ef->request.id + strlen(DEPART_EFFECT);
}

/* --- before it stands still -------------------------------------------------------- */

/* CRIU puts all memory into pipes for a moment. */
static int check_pipes(const struct node *node, struct error *e)
{
	enum { NEEDED = 4 << 20 };
	cleanup_buf struct buf text = BUF_INIT(64);
	long most = fs_read("/proc/sys/fs/pipe-max-size", &text, NULL) < 0
			    ? 0
			    : strtol(buf_text(&text), NULL, 10);
	if (most >= NEEDED || !node->criu.needs_real_ids)
		return 0;
	int r = error_fault(e, FAULT_REFUSED,
			    "a session cannot move from here while it runs: pipes are limited to "
			    "%ld bytes",
			    most);
	return error_remedy(e, r, "sysctl -w fs.pipe-max-size=%d", 4 * NEEDED);
}

/* Its processes go on having them here for as long as they are its memory, and CRIU would wait for
 * them there. Most are let go of within a moment: a kernel's history is a database. */
static int check_locks(struct effect *ef, struct error *e)
{
	return locks_check(&ef->sandbox.cgroup, ef->request.session.home_inside, e);
}

static int wait_for_locks(struct effect *ef, struct error *e)
{
	mono_us until = clock_mono() + LOCKS_MS * 1000;
	int r = check_locks(ef, e);
	while (r < 0 && clock_mono() < until) {
		usleep(LOCKS_LOOK_MS * 1000);
		r = check_locks(ef, e);
	}
	return r;
}

/* Nobody waits for it, and all of its memory would have to come back first: what dozes is put to
 * sleep and woken elsewhere. */
static int check_dozing(struct effect *ef, struct error *e)
{
	if (!doze_is_dozing(ef->node, ef->session))
		return 0;
	int r = error_fault(e, FAULT_CONFLICT, "session %s dozes", ef->session->id);
	return error_remedy(e, r, "Rouse it first, or hibernate it.");
}

static int check(struct effect *ef, struct error *e)
{
	struct sandbox_usage usage;
	const char *id = ef->session->id;
	if (!session_alive(ef->node, ef->session))
		return error_set(e, ESRCH, "session %s does not run here", id);
	if (hold_has(ef->node, ef->session, HOLD_LEASE))
		return error_fault(e, FAULT_CONFLICT,
				   "session %s is held: elsad has not said whose it is", id);
	int r = check_dozing(ef, e);
	if (r == 0)
		r = check_pipes(ef->node, e);
	if (r == 0)
		r = wait_for_locks(ef, e);
	if (r == 0)
		r = sandbox_usage(&ef->sandbox, &usage, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = usage.rss_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

/* One may have been taken since they were looked at. */
static int freeze_without_locks(struct effect *ef, struct error *e)
{
	mono_us until = clock_mono() + LOCKS_MS * 1000;
	for (;;) {
		int r = checkpoint_freeze(ef, e);
		if (r < 0)
			return r;
		r = check_locks(ef, e);
		if (r == 0 || clock_mono() >= until)
			return r;
		r = checkpoint_thaw(ef, e);
		if (r < 0)
			return r;
		usleep(LOCKS_LOOK_MS * 1000);
	}
}

/* What was in /dev/shm and the like is in the images, and that is not for memory that nobody has
 * reckoned with (see steps_restore.c). */
static int choose_place(struct effect *ef, struct error *e)
{
	enum { SMALL = 64 << 20 };
	struct cgroup_usage usage;
	int r = cgroup_usage(&ef->sandbox.cgroup, &usage, e);
	ef->laid_out = usage.shared_bytes <= SMALL ? ef->images_near : ef->images;
	return r;
}

/* With memory that stays where it is, mostly; else it is not for what will be asked. */
static int load(struct effect *ef, struct error *e)
{
	struct criu_options options;
	int r = choose_place(ef, e);
	if (r < 0 || !ef->node->criu.pagemap_scan)
		return r;
	cleanup_free char *images = fs_join(ef->laid_out, "criu");
	cleanup_free char *unseen = fs_join(ef->images, UNSEEN);
	if (!images || !unseen)
		return error_set(e, ENOMEM, "out of memory");
	effect_criu_options(ef, &options);
	options.images = images;
	options.unseen = unseen;
	return criu_load_dump(&ef->sandbox, (pid_t)effect_journal(ef)->pid, &options, &ef->loaded,
			      e);
}

/* It is to be stopped, or has ended. */
static bool is_wanted_here(void *arg)
{
	struct effect *ef = arg;
	pthread_mutex_lock(&ef->node->lock);
	bool queued = ef->session->queued;
	pthread_mutex_unlock(&ef->node->lock);
	return queued || !session_alive(ef->node, ef->session);
}

/* It stands still for a look at every file of its layer, so that no call that changes one is under
 * way. */
static int see_layer(struct effect *ef, struct layers_seen **seen, struct error *e)
{
	int64_t since_ns;
	int r = layers_sync(ef->sandbox.upper, &since_ns, e);
	if (r < 0)
		return r;
	hold_own(ef->node, ef->session);
	r = sandbox_freeze(&ef->sandbox, e);
	if (r == 0)
		r = layers_see(ef->sandbox.upper, since_ns, seen, e);
	int settled = hold_settle(ef->node, ef->session, r < 0 ? NULL : e);
	return r < 0 ? r : settled;
}

/* A large layer goes ahead while the session runs, if the other node wants that. */
static int ahead(struct effect *ef, struct error *e)
{
	struct departures *all = ef->node->departures;
	struct layers_seen *seen = NULL;
	if (!depart_wants_ahead(all, departure_of(ef)))
		return 0;
	int r = layers_ahead_pays(ef->sandbox.upper) ? see_layer(ef, &seen, e) : 0;
	if (r < 0) {
		layers_seen_free(seen);
		return r;
	}
	return depart_await_freeze(all, departure_of(ef), seen, is_wanted_here, ef, e);
}

/* Memory may have been waited for meanwhile. By its id it is known, should we be killed, that this
 * departure came to nothing. */
static int freeze(struct effect *ef, struct error *e)
{
	int r = depart_check_wanted(ef->node->departures, departure_of(ef), e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	r = journal_set(&effect_journal(ef)->given_id, departure_of(ef), e);
	pthread_mutex_unlock(&ef->node->lock);
	return r < 0 ? r : freeze_without_locks(ef, e);
}

static int hold(struct effect *ef, struct error *e)
{
	int r = checkpoint_hold(ef, e);
	if (r == 0)
		depart_stands_still(ef->node->departures, departure_of(ef));
	return r;
}

/* --- what it is but for its memory ------------------------------------------------- */

static int make_dirs(struct effect *ef, char **criu, struct error *e)
{
	int r = choose_place(ef, e);
	if (r == 0)
		r = steps_drop_images(ef, e);
	if (r == 0)
		r = fs_mkdirs(ef->images, 0700, e);
	if (r == 0)
		r = fs_mkdirs(ef->laid_out, 0700, e);
	if (r < 0)
		return r;
	*criu = fs_join(ef->laid_out, "criu");
	return *criu ? fs_mkdirs(*criu, 0700, e) : error_set(e, ENOMEM, "out of memory");
}

/* layers.tar, with what has changed since or all of it. */
static int pack_layer(struct effect *ef, const char *dir, struct error *e)
{
	const struct layers_seen *seen = depart_layer(ef->node->departures, departure_of(ef));
	int timeout_ms = (int)ef->node->config->node.effect_timeout_ms;
	cleanup_free char *file = fs_join(dir, DEPART_LAYERS);
	cleanup_free char *names = fs_join(dir, DEPART_NAMES);
	if (!file || !names)
		return error_set(e, ENOMEM, "out of memory");
	if (seen)
		return layers_pack_since(ef->sandbox.upper, seen, file, names, timeout_ms, e);
	return layers_pack(ef->sandbox.upper, file, timeout_ms, e);
}

/* While the rest is written down it can be sent already. */
static int pack_early(struct effect *ef, struct error *e)
{
	cleanup_free char *dir = fs_join(ef->images, DEPART_EARLY);
	int r = dir ? fs_mkdirs(dir, 0700, e) : error_set(e, ENOMEM, "out of memory");
	return r < 0 ? r : pack_layer(ef, dir, e);
}

static int drop_early(struct effect *ef, struct error *e)
{
	cleanup_free char *dir = fs_join(ef->images, DEPART_EARLY);
	return dir ? fs_remove_tree(dir, e) : error_set(e, ENOMEM, "out of memory");
}

static bool has_early(struct effect *ef)
{
	cleanup_free char *file = fs_join(ef->images, DEPART_EARLY DEPART_LAYERS);
	return file && access(file, F_OK) == 0;
}

/* CRIU, and beside it a look at the memory that it does not see, and the layer. */
struct dumping {
	struct effect *ef;
	const char *images;
	struct unseen unseen;
	char *file;
};

/* What it sees of such memory it keeps, in pipes, for who asks for it. Nobody does: its end of the
 * socket is closed behind the dump. */
static int run_lazy(struct dumping *d, struct criu_options *options, struct error *e)
{
	struct effect *ef = d->ef;
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(e, "cannot make a socket for CRIU");
	options->lazy = true;
	options->page_socket = ends[0];
	int r = criu_dump(&ef->sandbox, (pid_t)effect_journal(ef)->pid, options, &ef->dump,
			  &ef->log_tail, e);
	close(ends[1]);
	return r;
}

static int run_criu(struct dumping *d, struct error *e)
{
	struct effect *ef = d->ef;
	struct criu_options options;
	effect_criu_options(ef, &options);
	options.images = d->images;
	options.unseen = d->file;
	if (!d->file || d->unseen.partly)
		return run_lazy(d, &options, e);
	return criu_dump(&ef->sandbox, (pid_t)effect_journal(ef)->pid, &options, &ef->dump,
			 &ef->log_tail, e);
}

static int scan_unseen(struct dumping *d, struct error *e)
{
	return unseen_scan(&d->unseen, e);
}

/* Should this come to nothing, it is done when CRIU is through. */
static int pack_beside(struct dumping *d, struct error *e)
{
	struct effect *ef = d->ef;
	int r = pack_early(ef, NULL) < 0 ? drop_early(ef, e) : 0;
	depart_packed(ef->node->departures, departure_of(ef));
	return r;
}

static int (*const dumps[])(struct dumping *d, struct error *e) = {
	run_criu,
	scan_unseen,
	pack_beside,
};

static int dump_one(void *arg, size_t i, struct error *e)
{
	return dumps[i](arg, e);
}

static int hide(struct dumping *d, struct error *e)
{
	struct effect *ef = d->ef;
	bool frozen = false;
	int r = ef->node->criu.pagemap_scan ? criu_stays_frozen(&ef->sandbox, &frozen, e) : 0;
	if (r < 0 || !frozen)
		return r;
	d->file = fs_join(ef->images, UNSEEN);
	r = d->file ? unseen_find(&ef->sandbox.cgroup, &d->unseen, e)
		    : error_set(e, ENOMEM, "out of memory");
	return r < 0 ? r : unseen_write(&d->unseen, d->file, e);
}

static int run_dump(struct effect *ef, const char *images, struct error *e)
{
	struct dumping d = { .ef = ef, .images = images };
	int r = hide(&d, e);
	if (r == 0)
		r = parallel(ARRAY_SIZE(dumps), ARRAY_SIZE(dumps), dump_one, &d, e);
	if (r == 0)
		r = unseen_add(&d.unseen, images, e);
	unseen_deinit(&d.unseen);
	free(d.file);
	return r;
}

static int dump(struct effect *ef, struct error *e)
{
	cleanup_free char *images = NULL;
	unlink(ef->links);
	int r = make_dirs(ef, &images, e);
	if (r == 0)
		r = run_dump(ef, images, e);
	return r < 0 ? r : images_keep(ef->laid_out, &ef->request.session, ef->links, e);
}

/* CRIU has taken its links away again, but the other node may have put them back for a restore that
 * came to nothing: the next dump would find their names taken. */
static int undump(struct effect *ef, struct error *e)
{
	struct error why = ERROR_INIT;
	ef->dump = criu_dump_abandon(ef->dump);
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	if (r == 0 && images_drop_links(ef->links, &ef->request.session, &why) < 0)
		log_warning("session %s: %s", ef->session->id, why.text);
	if (r == 0)
		r = checkpoint_abandon_dump(ef, e);
	return r < 0 ? r : fs_remove_tree(ef->images_near, e);
}

/* Packed again with the links that CRIU has made for deleted files, if there are any: the other
 * node, which may have the early one, gets both. */
static int layers(struct effect *ef, struct error *e)
{
	bool links;
	int r = images_have_links(ef->laid_out, &links, e);
	if (r == 0 && links)
		r = drop_early(ef, e);
	return r < 0 || has_early(ef) ? r : pack_layer(ef, ef->images, e);
}

/* CRIU takes its links away again. The processes are as before, and stay frozen. That takes as long
 * as their memory is large, since it had all of that in pipes. */
static int let_criu_go(struct effect *ef, struct error *e)
{
	bool frozen = false;
	ef->dump = criu_dump_abandon(ef->dump);
	int r = sandbox_frozen(&ef->sandbox, &frozen, e);
	if (r == 0 && !frozen)
		r = error_fault(e, FAULT_INTERNAL, "the session does not stand still");
	return r;
}

/* --- the other node's word ----------------------------------------------------------------------
 */

/* While CRIU goes the other node may begin; but where links are in the home, which is that node's,
 * too, it is not to find what is about to be taken away. */
static int offer(struct effect *ef, struct error *e)
{
	struct move_skeleton skeleton = { 0 };
	int r = access(ef->links, F_OK) == 0 ? let_criu_go(ef, e) : 0;
	if (r == 0)
		r = depart_files_bytes(ef->node, ef->session->id, &skeleton.files_bytes, e);
	if (r < 0)
		return r;
	skeleton.memory_limit = ef->request.session.limits.memory_bytes;
	skeleton.frozen_us = clock_mono() - ef->frozen_since;
	return depart_offer(ef->node->departures, departure_of(ef), &skeleton, e);
}

static int await(struct effect *ef, struct error *e)
{
	return depart_await(ef->node->departures, departure_of(ef), is_wanted_here, ef, e);
}

static int set_given(struct effect *ef, const char *to, struct error *e)
{
	pthread_mutex_lock(&ef->node->lock);
	bool queued = ef->session->queued;
	int r = queued && to ? error_set(e, EBUSY, "something else is to be done to the session")
			     : journal_set(&effect_journal(ef)->given_to, to, e);
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

/* The commit. A lease that has lapsed meanwhile may have made it another node's already. */
static int give(struct effect *ef, struct error *e)
{
	int r = lease_check(ef, e);
	if (r == 0 && !session_alive(ef->node, ef->session))
		r = error_set(e, ESRCH, "session %s has ended", ef->session->id);
	if (r == 0)
		r = set_given(ef, ef->request.from, e);
	/* A power cut ends these processes in any case: only a kill must find it noted, and a disk
	 * may take its time. */
	if (r == 0)
		r = journal_note(ef->node, effect_journal(ef), e);
	if (r == 0)
		depart_given(ef->node->departures, departure_of(ef));
	return r;
}

/* Could not be noted: said before it runs again. */
static int take_back(struct effect *ef, struct error *e)
{
	if (!session_is_given(ef->session))
		return 0;
	int r = set_given(ef, NULL, e);
	return r < 0 ? r : journal_note(ef->node, effect_journal(ef), e);
}

/* The other node has it all, and what it has not, memory, is not there. */
static int tidy(struct effect *ef, struct error *e)
{
	checkpoint_note_frozen(ef);
	unlink(ef->links);
	int r = steps_drop_images(ef, e);
	return r < 0 ? r : fs_remove_tree(ef->work, e);
}

static int resume(struct effect *ef, size_t at, struct error *e)
{
	(void)at;
	(void)e;
	return session_is_given(ef->session) ? (int)plan_depart.commit : -1;
}

static const struct step steps[] = {
	{ .name = "check", .run = check },
	{ .name = "arrive", .run = arrival_wait },
	{ .name = "load", .run = load, .undo = steps_unload },
	{ .name = "ahead", .run = ahead, .undo = checkpoint_thaw },
	{ .name = "freeze", .run = freeze, .undo = checkpoint_thaw },
	{ .name = "hold", .run = hold, .undo = checkpoint_release },
	{ .name = "dump", .run = dump, .undo = undump },
	{ .name = "layers", .run = layers },
	{ .name = "offer", .run = offer },
	{ .name = "let-go", .run = let_criu_go },
	{ .name = "await", .run = await },
	{ .name = "give", .run = give, .undo = take_back },
	{ .name = "tidy", .run = tidy },
};

const struct plan plan_depart = {
	.name = "depart",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = ARRAY_SIZE(steps) - 1,
	.resume = resume,
};
