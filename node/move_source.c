/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_source.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "node/move_ahead.h"
#include "node/move_pages.h"
#include "store/seal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	CONNECT_MS = 5000,
	ANSWER_MS = 10000,
	RETRY_FIRST_MS = 50, /* after a connection that could not be made, until the next try */
	RETRY_MOST_MS = 2000,
	PART_PAGES = 128, /* asked for at once: while one part is put into place the next comes */
	MEASURED = 64,    /* pages of an answer that says how fast they come */
	LINES = 4,        /* connections for each kind of reads */
	IN_FLIGHT = 2,    /* parts that are asked for and not answered */
};

/* --- whether to compress ------------------------------------------------------------- */

enum {
	SLOW = 120000000,  /* bytes per second of one connection */
	TRY_EVERY = 256,   /* answers, of which */
	TRY_OTHER_WAY = 4, /* ... so many the other way */
};

void move_rates_note(struct move_rates *rates, bool squeezed, uint64_t bytes, int64_t took_us)
{
	uint64_t now = bytes * 1000000 / (uint64_t)(took_us > 0 ? took_us : 1);
	uint64_t *mean = &rates->per_s[squeezed];
	*mean = *mean ? (3 * *mean + now) / 4 : now;
	rates->count++;
}

bool move_rates_squeeze(const struct move_rates *rates)
{
	uint64_t plain = rates->per_s[0], squeezed = rates->per_s[1];
	if (plain == 0 || plain >= SLOW)
		return false;
	if (squeezed == 0)
		return true;
	bool better = squeezed > plain + plain / 8;
	return better != (rates->count % TRY_EVERY < TRY_OTHER_WAY);
}

/* Single frames, which somebody waits for, do not stand behind what nobody does. */
enum kind { FAULTS, BULK, KINDS };

/* What is here already, perhaps, of a part that is asked for. */
struct copies {
	bool any;
	struct move_tag tags[PART_PAGES];
	unsigned char pages[PART_PAGES * STORE_PAGE];
};

struct line {
	struct move_conn *conn; /* NULL: not yet, or no more */
	bool busy;
	struct buf body, question;
	unsigned char *pages;
	struct copies *copies; /* IN_FLIGHT; NULL: nothing came ahead */
	struct sealer *sealer; /* of their digests */
};

struct move_source {
	_Atomic int references;
	char *departure, *session, *node, *at;
	struct move_tls *(*tls)(void *arg, struct error *e);
	void (*gone)(void *arg, bool said);
	int64_t patience_us;
	void (*drop)(void *arg);
	void *arg;
	struct move_pages pages;

	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct line lines[KINDS][LINES];
	mono_us retry_at;
	int retry_ms;
	struct error failure;  /* why the last connection could not be made */
	mono_us failing_since; /* connections; 0: not */
	bool is_gone[2];       /* `gone` was called so */
	struct move_rates rates;
	struct move_ahead *ahead; /* NULL: nothing came ahead */
};

/* --- beginnings and ends ------------------------------------------------------------ */

static void destroy(struct move_source *m)
{
	for (int k = 0; k < KINDS; k++) {
		for (int i = 0; i < LINES; i++) {
			struct line *l = &m->lines[k][i];
			move_conn_free(l->conn);
			buf_deinit(&l->body);
			buf_deinit(&l->question);
			free(l->pages);
			free(l->copies);
			sealer_free(l->sealer);
		}
	}
	move_pages_deinit(&m->pages);
	move_ahead_free(m->ahead);
	m->drop(m->arg);
	pthread_cond_destroy(&m->idle);
	pthread_mutex_destroy(&m->lock);
	free(m->departure);
	free(m->session);
	free(m->node);
	free(m->at);
	free(m);
}

static void unref(struct move_source *m)
{
	if (atomic_fetch_sub(&m->references, 1) == 1)
		destroy(m);
}

static void *free_source(void *from)
{
	unref(from);
	return NULL;
}

/* --- connections -------------------------------------------------------------------- */

static void note_gone(struct move_source *m, bool said)
{
	pthread_mutex_lock(&m->lock);
	bool first = !m->is_gone[said];
	m->is_gone[said] = true;
	pthread_mutex_unlock(&m->lock);
	if (first)
		m->gone(m->arg, said);
}

/* An answer of the other node's, that is; connections fail for other reasons. */
static int look_at(struct move_source *m, int r, const struct error *why)
{
	if (r < 0 && (why->fault == FAULT_NOT_FOUND || why->fault == FAULT_CONFLICT))
		note_gone(m, true);
	return r;
}

static int say_hello(struct move_source *m, struct line *l, struct error *e)
{
	const struct move_hello hello = { .version = MOVE_VERSION,
					  .departure = m->departure,
					  .session = m->session };
	cleanup_json json_t *json = wire_encode(&wire_move_hello, &hello);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return move_ask(l->conn, MOVE_HELLO, text, strlen(text), MOVE_OK, &l->body, ANSWER_MS, e);
}

static int connect_line(struct move_source *m, struct line *l, struct error *e)
{
	struct move_tls *tls = m->tls(m->arg, e);
	int r = tls ? move_connect(tls, m->at, m->node, CONNECT_MS, &l->conn, e) : -EIO;
	move_tls_free(tls);
	if (r < 0)
		return r;
	r = look_at(m, say_hello(m, l, e), e);
	if (r < 0)
		l->conn = move_conn_free(l->conn);
	return r;
}

/* Where nobody answers it is not all threads that try again and again. */
static bool may_try(struct move_source *m, struct error *e)
{
	pthread_mutex_lock(&m->lock);
	bool may = clock_mono() >= m->retry_at;
	if (!may)
		*e = m->failure;
	pthread_mutex_unlock(&m->lock);
	return may;
}

static void note_try(struct move_source *m, int r, const struct error *why)
{
	mono_us now = clock_mono();
	bool out_of_patience = false;
	pthread_mutex_lock(&m->lock);
	if (r == 0) {
		m->retry_at = m->failing_since = 0;
		m->retry_ms = 0;
	} else {
		m->retry_ms = m->retry_ms ? 2 * m->retry_ms : RETRY_FIRST_MS;
		m->retry_ms = m->retry_ms < RETRY_MOST_MS ? m->retry_ms : RETRY_MOST_MS;
		m->retry_at = now + m->retry_ms * 1000LL;
		m->failing_since = m->failing_since ? m->failing_since : now;
		out_of_patience = now - m->failing_since >= m->patience_us;
		m->failure = *why;
	}
	pthread_mutex_unlock(&m->lock);
	if (out_of_patience)
		note_gone(m, false);
}

static int have_connection(struct move_source *m, struct line *l, struct error *e)
{
	if (l->conn)
		return 0;
	if (!may_try(m, e))
		return -fault_errno(e->fault);
	int r = connect_line(m, l, e);
	note_try(m, r, e);
	return r;
}

static struct line *find_idle(struct line *lines)
{
	struct line *unconnected = NULL;
	for (int i = 0; i < LINES; i++) {
		if (!lines[i].busy && lines[i].conn)
			return &lines[i];
		if (!lines[i].busy && !unconnected)
			unconnected = &lines[i];
	}
	return unconnected;
}

static struct line *take_line(struct move_source *m, enum kind kind)
{
	struct line *l;
	pthread_mutex_lock(&m->lock);
	while (!(l = find_idle(m->lines[kind])))
		pthread_cond_wait(&m->idle, &m->lock);
	l->busy = true;
	pthread_mutex_unlock(&m->lock);
	if (!l->pages)
		l->pages = malloc((size_t)PART_PAGES * STORE_PAGE);
	return l;
}

static void give_line(struct move_source *m, struct line *l)
{
	pthread_mutex_lock(&m->lock);
	l->busy = false;
	pthread_cond_broadcast(&m->idle);
	pthread_mutex_unlock(&m->lock);
}

/* --- reading ------------------------------------------------------------------------ */

struct reading {
	struct move_source *m;
	struct line *line;
	const uint32_t *frames;
	size_t count;
	size_t asked, done;     /* of them */
	unsigned asks, answers; /* parts, on this connection */
	mono_us took;           /* for the last answer */
	bool squeeze;
	int (*each)(uint32_t frame, const void *pages, size_t len, void *arg);
	void *arg;
	int stopped; /* what `each` has said */
};

/* How many frames from `at` on are a part, and their pages. */
static size_t part_at(const struct reading *r, size_t at, size_t *pages)
{
	size_t n = 0;
	*pages = 0;
	for (; at + n < r->count; n++) {
		size_t more = r->m->pages.frames[r->frames[at + n]].pages;
		if (*pages + more > PART_PAGES)
			break;
		*pages += more;
	}
	return n;
}

static bool follows(const struct move_range *a, const struct move_range *b)
{
	return a->pid == b->pid && a->address + (uint64_t)a->pages * STORE_PAGE == b->address;
}

static int ask_plainly(struct reading *r, size_t n, struct error *e)
{
	struct move_range ranges[PART_PAGES];
	size_t count = 0;
	struct line *l = r->line;
	for (size_t i = 0; i < n; i++) {
		const struct move_range *next = &r->m->pages.ranges[r->frames[r->asked + i]];
		if (count && follows(&ranges[count - 1], next))
			ranges[count - 1].pages += next->pages;
		else
			ranges[count++] = *next;
	}
	int result = move_ranges_write(ranges, count, r->squeeze, &l->question, e);
	if (result == 0)
		result = move_send(l->conn, MOVE_PAGES, l->question.data, l->question.len, e);
	return result;
}

static bool have_copies(struct reading *r)
{
	struct seal_key key;
	struct line *l = r->line;
	const struct move_ahead *ahead = r->m->ahead;
	if (!ahead)
		return false;
	if (!l->copies)
		l->copies = calloc(IN_FLIGHT, sizeof(*l->copies));
	memcpy(key.bytes, ahead->key, sizeof(key.bytes));
	return l->copies && (l->sealer || sealer_new(&key, &l->sealer, NULL) == 0);
}

static struct copies *copies_of(const struct reading *r, unsigned part)
{
	return r->line->copies ? &r->line->copies[part % IN_FLIGHT] : NULL;
}

/* The digest is that of the very bytes which are put into place if it is right. */
static void find_copies(struct reading *r, size_t n)
{
	struct copies *c = copies_of(r, r->asks);
	size_t at = 0;
	c->any = false;
	for (size_t i = 0; i < n; i++) {
		struct move_tag *t = &c->tags[i];
		*t = (struct move_tag) { .range = r->m->pages.ranges[r->frames[r->asked + i]] };
		size_t len = (size_t)t->range.pages * STORE_PAGE;
		t->has = move_ahead_get(r->m->ahead, &t->range, c->pages + at) &&
			 seal_tag(r->line->sealer, c->pages + at, len, t->tag) == 0;
		c->any |= t->has;
		at += len;
	}
}

static int ask_part(struct reading *r, struct error *e)
{
	size_t pages, n = part_at(r, r->asked, &pages);
	struct line *l = r->line;
	struct copies *c = have_copies(r) ? copies_of(r, r->asks) : NULL;
	int result;
	buf_reset(&l->question);
	if (c)
		find_copies(r, n);
	if (!c || !c->any) {
		result = ask_plainly(r, n, e);
	} else {
		result = move_tags_write(r->m->ahead->key, c->tags, n, r->squeeze, &l->question, e);
		if (result == 0)
			result =
				move_send(l->conn, MOVE_SAME, l->question.data, l->question.len, e);
	}
	r->asks++;
	r->asked += n;
	return result;
}

/* What was asked for before the last answer came is as fast as the link. */
static void measure(struct reading *r, size_t pages)
{
	struct move_source *m = r->m;
	if (pages < MEASURED || r->done == 0)
		return;
	pthread_mutex_lock(&m->lock);
	move_rates_note(&m->rates, r->squeeze, (uint64_t)pages * STORE_PAGE, r->took);
	pthread_mutex_unlock(&m->lock);
}

static int answer_of(struct reading *r, struct error *e)
{
	struct line *l = r->line;
	enum move_type type;
	mono_us begun = clock_mono();
	int result = move_recv(l->conn, &type, &l->body, ANSWER_MS, e);
	if (result < 0)
		return result;
	if (type == MOVE_ERROR)
		return look_at(r->m, move_failure_read(l->conn, &l->body, e), e);
	if (type != MOVE_DATA)
		return error_set(e, EPROTO, "node %s answers something else than was asked",
				 r->m->node);
	r->took = clock_mono() - begun;
	return 0;
}

static int take_part(struct reading *r, struct error *e)
{
	struct line *l = r->line;
	bool same[PART_PAGES] = { false };
	size_t pages, n = part_at(r, r->done, &pages), came = 0, here = 0;
	const struct copies *c = copies_of(r, r->answers++);
	int result = c && c->any ? move_same_read(l->body.data, l->body.len, c->tags, n, same,
						  l->pages, &pages, e)
				 : move_pages_read(l->body.data, l->body.len, l->pages, pages, e);
	/* Not the page's fault: on another connection it will be as it was. */
	if (result < 0)
		return result == -EBADMSG
			       ? error_fault(e, FAULT_UNAVAILABLE, "node %s: %s", r->m->node,
					     "what came was damaged on the way")
			       : result;
	measure(r, pages);
	for (size_t i = 0; i < n && r->stopped == 0; i++) {
		uint32_t frame = r->frames[r->done + i];
		size_t len = (size_t)r->m->pages.frames[frame].pages * STORE_PAGE;
		const void *data = same[i] ? c->pages + here : l->pages + came;
		r->stopped = r->each(frame, data, len, r->arg);
		here += len;
		came += same[i] ? 0 : len;
	}
	r->done += n;
	return 0;
}

/* The next part is asked for before the one that has come is put into place. */
static int read_rest(struct reading *r, struct error *e)
{
	r->asked = r->done;
	r->asks = r->answers = 0;
	int result = ask_part(r, e);
	while (result == 0 && r->done < r->count && r->stopped == 0) {
		if (r->asked < r->count)
			result = ask_part(r, e);
		if (result == 0)
			result = answer_of(r, e);
		if (result == 0)
			result = take_part(r, e);
	}
	return result;
}

/* A connection of before may have ended long since. */
static int read_on_line(struct reading *r, struct error *e)
{
	struct line *l = r->line;
	bool fresh = !l->conn;
	int result = l->pages ? have_connection(r->m, l, e) : error_set(e, ENOMEM, "out of memory");
	if (result == 0)
		result = read_rest(r, e);
	if ((result < 0 || r->stopped) && l->conn)
		l->conn = move_conn_free(l->conn);
	if (result == -ECONNRESET && !fresh) {
		result = have_connection(r->m, l, e);
		if (result == 0)
			result = read_rest(r, e);
		if ((result < 0 || r->stopped) && l->conn)
			l->conn = move_conn_free(l->conn);
	}
	return result;
}

static int read_pages(void *from, const uint32_t *frames, size_t count,
		      int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		      void *arg, struct error *e)
{
	struct move_source *m = from;
	struct error own = ERROR_INIT;
	struct reading r = { .m = m, .frames = frames, .count = count, .each = each, .arg = arg };
	if (count == 0)
		return 0;
	pthread_mutex_lock(&m->lock);
	r.squeeze = move_rates_squeeze(&m->rates);
	pthread_mutex_unlock(&m->lock);
	r.line = take_line(m, count == 1 ? FAULTS : BULK);
	int result = read_on_line(&r, &own);
	give_line(m, r.line);
	if (result < 0 && e)
		*e = own;
	return result < 0 ? result : r.stopped;
}

/* --- opening ------------------------------------------------------------------------ */

/* By the time somebody needs them they are there. */
static void *connect_early(void *arg)
{
	struct move_source *m = arg;
	for (int kind = 0; kind < KINDS; kind++) {
		struct error e = ERROR_INIT;
		struct line *l = take_line(m, (enum kind)kind);
		have_connection(m, l, &e);
		give_line(m, l);
	}
	unref(m);
	return NULL;
}

static void start_early(struct move_source *m)
{
	pthread_t thread;
	pthread_attr_t detached;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&m->references, 1);
	if (pthread_create(&thread, &detached, connect_early, m) != 0)
		unref(m);
	pthread_attr_destroy(&detached);
}

static struct move_source *new_source(const struct move_source_options *o)
{
	struct move_source *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	*m = (struct move_source) { .references = 1,
				    .departure = strdup(o->departure),
				    .session = strdup(o->session),
				    .node = strdup(o->node),
				    .at = strdup(o->at),
				    .tls = o->tls,
				    .gone = o->gone,
				    .patience_us = o->patience_ms * 1000,
				    .ahead = o->ahead,
				    .drop = o->drop,
				    .arg = o->arg };
	if (o->ahead)
		m->rates = o->ahead->rates;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->idle, NULL);
	for (int k = 0; k < KINDS; k++) {
		for (int i = 0; i < LINES; i++) {
			m->lines[k][i].body = BUF_INIT(MOVE_BODY_MOST);
			m->lines[k][i].question = BUF_INIT(MOVE_BODY_MOST);
		}
	}
	return m;
}

int move_source_open(const struct move_source_options *options, struct page_source *source,
		     struct error *e)
{
	struct move_source *m = new_source(options);
	if (!m) {
		move_ahead_free(options->ahead);
		options->drop(options->arg);
		return error_set(e, ENOMEM, "out of memory");
	}
	int r = m->departure && m->session && m->node && m->at
			? 0
			: error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = move_pages_init(&m->pages, options->images, e);
	if (r < 0) {
		unref(m);
		return r;
	}
	*source = (struct page_source) { .memories = m->pages.memories,
					 .memory_count = m->pages.memory_count,
					 .frames = m->pages.frames,
					 .frame_count = m->pages.frame_count,
					 .likely = m->pages.likely,
					 .likely_count = m->pages.likely_count,
					 .near = true,
					 .read = read_pages,
					 .from = m,
					 .free = free_source };
	start_early(m);
	return 0;
}
