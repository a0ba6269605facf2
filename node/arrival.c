/* SPDX-License-Identifier: Apache-2.0 */
#include "node/arrival_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LOOK_MS = 200,
	HOLD_BACK = 64 << 20, /* a session with less memory is there in no time */
	STALL_MS = 15000,     /* nothing comes for so long: whoever waits for it gives up */
};

bool arrival_is_possible(const struct node *node)
{
	return node->config->node.lazy_restore && node->criu.lazy_pages;
}

char *arrival_dir(const struct node *node, const char *id)
{
	return node_path(node, "pages", id, "");
}

void *arrival_free(struct arrival *a)
{
	if (a) {
		pages_free(a->pages);
		free(a->dir);
		free(a->from);
		free(a);
	}
	return NULL;
}
DEFINE_CLEANUP(struct arrival *, arrival_free)

int arrival_new(struct node *node, const char *id, struct arrival **to, struct error *e)
{
	struct arrival *a = calloc(1, sizeof(*a));
	if (!a)
		return error_set(e, ENOMEM, "out of memory");
	a->node = node;
	snprintf(a->id, sizeof(a->id), "%s", id);
	a->dir = arrival_dir(node, id);
	int r = a->dir ? fs_mkdirs(a->dir, 0700, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		arrival_free(a);
	else
		*to = a;
	return r;
}

static struct arrival *take_from(struct node *node, struct session *s)
{
	pthread_mutex_lock(&node->lock);
	struct arrival *a = steal_ptr(&s->arrival);
	pthread_mutex_unlock(&node->lock);
	return a;
}

/* --- when all is in ---------------------------------------------------------------- */

struct ticket {
	struct node *node;
	char id[ID_SIZE];
};

static void on_loop(void *arg)
{
	struct ticket *t = arg;
	struct session *s = session_find(t->node, t->id);
	/* Otherwise the effect's end is the next occasion. */
	if (s && !s->effect)
		arrival_tidy(t->node, s);
	free(t);
}

/* On a thread of the service, which may not be freed from here. */
static void on_arrived(void *arg)
{
	struct arrival *a = arg;
	struct ticket *t = calloc(1, sizeof(*t));
	if (!t)
		return;
	t->node = a->node;
	snprintf(t->id, sizeof(t->id), "%s", a->id);
	if (pool_post(a->node->pool, on_loop, t, NULL) < 0)
		free(t);
}

static bool has_arrived(const struct arrival *a)
{
	struct pages_status st;
	pages_status(a->pages, &st);
	return st.arrived;
}

/* Should the note not be written, the next program finds an empty vault. */
static void note_complete(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	bool moved = s->journal.arriving == ARRIVING_MOVED;
	pthread_mutex_lock(&node->lock);
	s->journal.arriving = 0;
	pthread_mutex_unlock(&node->lock);
	if (journal_note(node, &s->journal, &e) < 0)
		log_warning("session %s: %s", s->id, e.text);
	else
		log_info("session %s: all of its memory is there", s->id);
	if (moved)
		arrival_tell_source(node, s);
}

void arrival_tidy(struct node *node, struct session *s)
{
	bool arrived = s->arrival && has_arrived(s->arrival);
	if (arrived) {
		arrival_free(take_from(node, s));
		note_complete(node, s);
	}
	if (s->source_empty && s->journal.arriving == ARRIVING_MOVED)
		arrival_end_lost_soon(node, s);
}

void arrival_drop(struct node *node, struct session *s)
{
	arrival_free(take_from(node, s));
}

/* --- a restore ----------------------------------------------------------------------- */

struct pages_options arrival_options(struct arrival *a)
{
	return (struct pages_options) {
		.session = a->id,
		.dir = a->dir,
		.hold_back = HOLD_BACK,
		.arrived = on_arrived,
		.arg = a,
	};
}

int arrival_new_for(struct effect *ef, struct arrival **to, struct error *e)
{
	struct arrival *a = NULL;
	int r = arrival_new(ef->node, ef->session->id, &a, e);
	if (r == 0)
		r = fs_mkdirs(ef->work, 0700, e);
	if (r < 0)
		arrival_free(a);
	else
		*to = a;
	return r;
}

int arrival_begin(struct effect *ef, struct arrival *a, struct page_source *source,
		  const struct pages_options *options, struct error *e)
{
	int r = pages_listen(options, ef->work, source, &a->pages, e);
	if (r < 0) {
		arrival_free(a);
		return r;
	}
	pthread_mutex_lock(&ef->node->lock);
	ef->session->arrival = a;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

int arrival_listen(struct effect *ef, struct error *e)
{
	struct page_source source;
	struct arrival *a;
	int r = arrival_new_for(ef, &a, e);
	if (r < 0)
		return r;
	struct pages_options options = arrival_options(a);
	options.set_follows = true;
	page_source_of(store_read_share(ef->read), &source);
	return arrival_begin(ef, a, &source, &options, e);
}

/* That of the checkpoint, if it has one. */
int arrival_working_set(struct effect *ef, struct error *e)
{
	const struct arrival *a = ef->session->arrival;
	if (!a)
		return 0;
	cleanup_free char *path = fs_join(a->dir, WORKING_SET_FILE);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(e, "cannot write %s", path);
	int r = store_read_file(ef->read, WORKING_SET_FILE, fd, e);
	if (r < 0)
		unlink(path);
	if (r < 0 && r != -ENOENT)
		return r;
	pages_early_set(a->pages);
	return 0;
}

int arrival_settle(struct effect *ef, struct error *e)
{
	struct arrival *a = ef->session->arrival;
	if (!a)
		return 0;
	cleanup_free char *images = fs_join(ef->laid_out, "criu");
	int r = images ? 0 : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = pages_settle(a->pages, (pid_t)effect_journal(ef)->pid, e);
	return r < 0 ? r : pages_bring_wiped(a->pages, images, e);
}

void arrival_go(struct effect *ef)
{
	if (ef->session->arrival)
		pages_go(ef->session->arrival->pages);
}

/* --- after a crash -------------------------------------------------------------------- */

int arrival_place_of(const struct journal *j, struct arrival_place *to, struct error *e)
{
	*to = (struct arrival_place) { .generation = j->arriving };
	int r = journal_set(&to->node, j->moved_from, e);
	if (r == 0)
		r = journal_set(&to->at, j->moved_from_at, e);
	if (r == 0)
		r = journal_set(&to->departure, j->moved_id, e);
	if (r < 0)
		arrival_place_deinit(to);
	return r;
}

void arrival_place_deinit(struct arrival_place *p)
{
	free(p->node);
	free(p->at);
	free(p->departure);
	*p = (struct arrival_place) { 0 };
}

static int open_stored(struct node *node, const char *id, int64_t generation,
		       struct page_source *source, struct error *e)
{
	struct store *store;
	struct store_read *read = NULL;
	int r = node_store(node, &store, e);
	if (r == 0)
		r = store_read_open(store, id, generation, &read, e);
	/* A checkpoint that is not found is not "nothing missing". */
	if (r == -ENOENT)
		r = error_set(e, EIO, "the checkpoint is gone");
	if (r < 0)
		return error_wrap(e, r, "checkpoint %lld, from which its memory comes",
				  (long long)generation);
	page_source_of(read, source);
	return 0;
}

static int open_place(struct node *node, const char *id, const struct arrival_place *place,
		      struct page_source *source, struct error *e)
{
	if (place->generation != ARRIVING_MOVED)
		return open_stored(node, id, place->generation, source, e);
	if (!place->node || !place->at || !place->departure)
		return error_set(e, EIO, "it is not known which node has its memory");
	struct move_lines *lines;
	int r = arrival_lines(node, id, place, &lines, e);
	if (r == 0)
		r = arrival_open_moved(node, id, lines, NULL, source, e);
	/* Nor are images that are not found. */
	if (r == -ENOENT)
		r = error_set(e, EIO, "what says which memory is missing is gone");
	return error_wrap(e, r, "node %s, which has its memory", place->node);
}

/* -ENOENT when nothing is missing any more. Blocking. */
static int resume(struct node *node, const char *id, pid_t init, const struct arrival_place *place,
		  struct arrival **to, struct error *e)
{
	struct page_source source;
	struct arrival *a = NULL;
	int r = open_place(node, id, place, &source, e);
	if (r < 0)
		return r;
	r = arrival_new(node, id, &a, e);
	if (r == 0 && place->generation == ARRIVING_MOVED && !(a->from = strdup(place->node)))
		r = error_set(e, ENOMEM, "out of memory");
	if (r < 0) {
		source.free(source.from);
		arrival_free(a);
		return r;
	}
	struct pages_options options = arrival_options(a);
	r = pages_resume(&options, init, &source, &a->pages, e);
	if (r < 0)
		arrival_free(a);
	else
		*to = a;
	return r;
}

struct take_up {
	struct node *node;
	char id[ID_SIZE];
	pid_t init;
	struct arrival_place place;
	struct arrival *arrival;
	int result;
	struct error error;
};

static void take_up_work(void *arg)
{
	struct take_up *t = arg;
	t->result = resume(t->node, t->id, t->init, &t->place, &t->arrival, &t->error);
}

static void free_take_up(struct take_up *t)
{
	arrival_free(t->arrival);
	arrival_place_deinit(&t->place);
	free(t);
}

/* Still the same life of the session; under the lock. */
static bool is_same(const struct session *s, const struct take_up *t)
{
	return s->journal.pid == t->init && s->journal.arriving == t->place.generation &&
	       !s->arrival;
}

static void note_stall(struct session *s, const struct error *why)
{
	free(s->arrival_stall);
	s->arrival_stall = strdup(why->text);
	if (!s->arrival_stalled_since)
		s->arrival_stalled_since = clock_wall();
}

static void take_up_done(void *arg)
{
	struct take_up *t = arg;
	struct node *node = t->node;
	struct session *s = session_find(node, t->id);
	bool complete = false;
	if (s) {
		pthread_mutex_lock(&node->lock);
		s->taking_up = false;
		if (is_same(s, t)) {
			complete = t->result == -ENOENT;
			s->arrival = steal_ptr(&t->arrival);
			if (t->result < 0 && !complete)
				note_stall(s, &t->error);
		}
		pthread_mutex_unlock(&node->lock);
		if (t->result == 0)
			log_info("session %s: its memory goes on coming", s->id);
		else if (!complete)
			log_error("session %s waits for its memory: %s", s->id, t->error.text);
		if (complete && !s->effect)
			note_complete(node, s);
		else if (!s->effect)
			arrival_tidy(node, s);
	}
	free_take_up(t);
}

static bool begin_take_up(struct node *node, const struct session *s)
{
	struct take_up *t = calloc(1, sizeof(*t));
	if (!t)
		return false;
	t->node = node;
	snprintf(t->id, sizeof(t->id), "%s", s->id);
	t->init = (pid_t)s->journal.pid;
	if (arrival_place_of(&s->journal, &t->place, NULL) < 0 ||
	    pool_submit(node->pool, take_up_work, take_up_done, t, NULL) < 0) {
		free_take_up(t);
		return false;
	}
	return true;
}

void arrival_take_up(struct node *node, struct session *s)
{
	if (s->arrival || s->taking_up || !session_alive(node, s))
		return;
	if (!s->journal.arriving) {
		arrival_tell_source(node, s);
		return;
	}
	pthread_mutex_lock(&node->lock);
	s->taking_up = begin_take_up(node, s);
	pthread_mutex_unlock(&node->lock);
}

/* On the effect's worker, unless the loop has it taken up just now. -ENOENT: nothing is missing. */
static int take_up_here(struct effect *ef, struct error *e)
{
	struct node *node = ef->node;
	struct session *s = ef->session;
	pthread_mutex_lock(&node->lock);
	bool theirs = s->taking_up || s->arrival;
	if (!theirs)
		s->taking_up = true;
	pthread_mutex_unlock(&node->lock);
	if (theirs) {
		usleep(LOOK_MS * 1000);
		return 0;
	}
	struct arrival *a = NULL;
	struct arrival_place place;
	int r = arrival_place_of(&s->journal, &place, e);
	if (r == 0)
		r = resume(node, s->id, (pid_t)s->journal.pid, &place, &a, e);
	arrival_place_deinit(&place);
	pthread_mutex_lock(&node->lock);
	s->taking_up = false;
	s->arrival = a;
	pthread_mutex_unlock(&node->lock);
	return r;
}

/* --- waiting for it ------------------------------------------------------------------- */

static int stalled_error(const struct arrival *a, const struct pages_status *st, struct error *e)
{
	int r = error_fault(e, FAULT_UNAVAILABLE, "its memory has not come in yet: %s",
			    st->stalled.text);
	if (a->from)
		return error_remedy(e, r, "The session goes on when node %s can be reached again.",
				    a->from);
	return error_remedy(e, r, "The session goes on when the store can be read again.");
}

/* Until all is in, as long as anything comes. */
static int wait_for(struct effect *ef, struct arrival *a, struct error *e)
{
	struct pages_status st;
	uint64_t missing = UINT64_MAX;
	mono_us last = clock_mono();
	mono_us patience = ef->node->config->node.effect_timeout_ms * 1000LL;
	for (;;) {
		if (!session_alive(ef->node, ef->session))
			return error_set(e, ESRCH, "session %s does not run here", ef->session->id);
		int r = pages_wait(a->pages, LOOK_MS, NULL);
		pages_status(a->pages, &st);
		effect_progress(ef, st.total - st.missing, st.total);
		if (r == 0)
			return 0;
		if (st.missing < missing)
			last = clock_mono();
		missing = st.missing;
		if (st.stalled_since && clock_mono() - last > STALL_MS * 1000LL)
			return stalled_error(a, &st, e);
		if (clock_mono() - last > patience)
			return error_set(e, ETIMEDOUT, "its memory does not come in");
	}
}

int arrival_wait(struct effect *ef, struct error *e)
{
	struct session *s = ef->session;
	while (s->journal.arriving) {
		pthread_mutex_lock(&ef->node->lock);
		struct arrival *a = s->arrival;
		pthread_mutex_unlock(&ef->node->lock);
		int r = a ? wait_for(ef, a, e) : take_up_here(ef, e);
		if (r < 0 && (a || r != -ENOENT))
			return r;
		if (!a && r == 0)
			continue;
		arrival_drop(ef->node, s);
		pthread_mutex_lock(&ef->node->lock);
		s->journal.arriving = 0;
		pthread_mutex_unlock(&ef->node->lock);
	}
	return 0;
}

/* --- shown ------------------------------------------------------------------------------- */

void arrival_status(const struct node *node, const struct session *s, struct session_status *st)
{
	struct pages_status p = { .missing = STORE_PAGE, .total = STORE_PAGE };
	(void)node;
	if (!s->journal.arriving)
		return;
	if (s->arrival) {
		pages_status(s->arrival->pages, &p);
	} else if (s->arrival_stall) {
		p.stalled_since = s->arrival_stalled_since;
		snprintf(p.stalled.text, sizeof(p.stalled.text), "%s", s->arrival_stall);
	}
	st->missing_bytes = (int64_t)p.missing;
	st->missing_total = (int64_t)p.total;
	st->stalled_since = p.stalled_since;
	if (p.stalled_since)
		st->stalled = strdup(p.stalled.text);
}
