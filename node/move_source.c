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
#include <stdlib.h>
#include <string.h>

enum {
	ANSWER_MS = 10000,
	PART_PAGES = 128, /* asked for at once: while one part is put into place the next comes */
	MEASURED = 64,    /* pages of an answer that says how fast they come */
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

/* What is here already, perhaps, of a part that is asked for. */
struct copies {
	bool any;
	struct move_tag tags[PART_PAGES];
	unsigned char pages[PART_PAGES * STORE_PAGE];
};

/* What who reads on a line needs. */
struct desk {
	struct buf question;
	unsigned char *pages;
	struct copies *copies; /* IN_FLIGHT; NULL: nothing came ahead */
	struct sealer *sealer; /* of their digests */
};

struct move_source {
	struct move_lines *lines;
	struct move_pages pages;
	struct desk desks[MOVE_LINES];
	pthread_mutex_t lock;
	struct move_rates rates;
	struct move_ahead *ahead; /* NULL: nothing came ahead */
};

/* --- beginnings and ends ------------------------------------------------------------ */

static void *destroy(void *from)
{
	struct move_source *m = from;
	for (size_t i = 0; i < MOVE_LINES; i++) {
		struct desk *d = &m->desks[i];
		buf_deinit(&d->question);
		free(d->pages);
		free(d->copies);
		sealer_free(d->sealer);
	}
	move_pages_deinit(&m->pages);
	move_ahead_free(m->ahead);
	move_lines_free(m->lines);
	pthread_mutex_destroy(&m->lock);
	free(m);
	return NULL;
}

/* --- reading ------------------------------------------------------------------------ */

struct reading {
	struct move_source *m;
	struct move_line *line;
	struct desk *desk; /* of that line */
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
	struct buf *question = &r->desk->question;
	for (size_t i = 0; i < n; i++) {
		const struct move_range *next = &r->m->pages.ranges[r->frames[r->asked + i]];
		if (count && follows(&ranges[count - 1], next))
			ranges[count - 1].pages += next->pages;
		else
			ranges[count++] = *next;
	}
	int result = move_ranges_write(ranges, count, r->squeeze, question, e);
	if (result == 0)
		result = move_send(r->line->conn, MOVE_PAGES, question->data, question->len, e);
	return result;
}

static bool have_copies(struct reading *r)
{
	struct seal_key key;
	struct desk *d = r->desk;
	const struct move_ahead *ahead = r->m->ahead;
	if (!ahead)
		return false;
	if (!d->copies)
		d->copies = calloc(IN_FLIGHT, sizeof(*d->copies));
	memcpy(key.bytes, ahead->key, sizeof(key.bytes));
	return d->copies && (d->sealer || sealer_new(&key, &d->sealer, NULL) == 0);
}

static struct copies *copies_of(const struct reading *r, unsigned part)
{
	return r->desk->copies ? &r->desk->copies[part % IN_FLIGHT] : NULL;
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
			 seal_tag(r->desk->sealer, c->pages + at, len, t->tag) == 0;
		c->any |= t->has;
		at += len;
	}
}

static int ask_part(struct reading *r, struct error *e)
{
	size_t pages, n = part_at(r, r->asked, &pages);
	struct buf *question = &r->desk->question;
	struct copies *c = have_copies(r) ? copies_of(r, r->asks) : NULL;
	int result;
	buf_reset(question);
	if (c)
		find_copies(r, n);
	if (!c || !c->any) {
		result = ask_plainly(r, n, e);
	} else {
		result = move_tags_write(r->m->ahead->key, c->tags, n, r->squeeze, question, e);
		if (result == 0)
			result = move_send(r->line->conn, MOVE_SAME, question->data, question->len,
					   e);
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
	struct move_line *l = r->line;
	enum move_type type;
	mono_us begun = clock_mono();
	int result = move_recv(l->conn, &type, &l->body, ANSWER_MS, e);
	if (result < 0)
		return result;
	if (type == MOVE_ERROR)
		return move_lines_heard(r->m->lines, move_failure_read(l->conn, &l->body, e), e);
	if (type != MOVE_DATA)
		return error_set(e, EPROTO, "node %s answers something else than was asked",
				 move_lines_node(r->m->lines));
	r->took = clock_mono() - begun;
	return 0;
}

static int take_part(struct reading *r, struct error *e)
{
	const struct buf *body = &r->line->body;
	unsigned char *to = r->desk->pages;
	bool same[PART_PAGES] = { false };
	size_t pages, n = part_at(r, r->done, &pages), came = 0, here = 0;
	const struct copies *c = copies_of(r, r->answers++);
	int result =
		c && c->any ? move_same_read(body->data, body->len, c->tags, n, same, to, &pages, e)
			    : move_pages_read(body->data, body->len, to, pages, e);
	/* Not the page's fault: on another connection it will be as it was. */
	if (result < 0)
		return result == -EBADMSG ? error_fault(e, FAULT_UNAVAILABLE, "node %s: %s",
							move_lines_node(r->m->lines),
							"what came was damaged on the way")
					  : result;
	measure(r, pages);
	for (size_t i = 0; i < n && r->stopped == 0; i++) {
		uint32_t frame = r->frames[r->done + i];
		size_t len = (size_t)r->m->pages.frames[frame].pages * STORE_PAGE;
		const void *data = same[i] ? c->pages + here : to + came;
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

/* What an earlier reader has asked for and not waited for is still to come. */
static int skip_owed(struct move_line *l, struct error *e)
{
	enum move_type type;
	int r = 0;
	for (; r == 0 && l->owed; l->owed -= r == 0)
		r = move_recv(l->conn, &type, &l->body, ANSWER_MS, e);
	return r;
}

static int try_to_read(struct reading *r, struct error *e)
{
	int result = move_line_connect(r->m->lines, r->line, e);
	if (result == 0)
		result = skip_owed(r->line, e);
	if (result == 0)
		result = read_rest(r, e);
	if (result < 0)
		move_line_close(r->line);
	else
		r->line->owed = r->asks - r->answers;
	return result;
}

/* A connection of before may have ended long since. */
static int read_on_line(struct reading *r, struct error *e)
{
	bool fresh = !r->line->conn;
	if (!r->desk->pages)
		r->desk->pages = malloc((size_t)PART_PAGES * STORE_PAGE);
	if (!r->desk->pages)
		return error_set(e, ENOMEM, "out of memory");
	int result = try_to_read(r, e);
	return result == -ECONNRESET && !fresh ? try_to_read(r, e) : result;
}

/* Single frames, which somebody waits for, do not stand behind what nobody does. */
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
	r.line = move_lines_take(m->lines, count == 1 ? MOVE_LINE_FAULTS : MOVE_LINE_BULK);
	r.desk = &m->desks[r.line->number];
	int result = read_on_line(&r, &own);
	move_lines_give(m->lines, r.line);
	if (result < 0 && e)
		*e = own;
	return result < 0 ? result : r.stopped;
}

/* --- opening ------------------------------------------------------------------------ */

static struct move_source *new_source(const struct move_source_options *o)
{
	struct move_source *m = calloc(1, sizeof(*m));
	if (!m) {
		move_lines_free(o->lines);
		move_ahead_free(o->ahead);
		return NULL;
	}
	*m = (struct move_source) { .lines = o->lines, .ahead = o->ahead };
	if (o->ahead)
		m->rates = o->ahead->rates;
	pthread_mutex_init(&m->lock, NULL);
	for (size_t i = 0; i < MOVE_LINES; i++)
		m->desks[i].question = BUF_INIT(MOVE_BODY_MOST);
	return m;
}

int move_source_open(const struct move_source_options *options, struct page_source *source,
		     struct error *e)
{
	struct move_source *m = new_source(options);
	if (!m)
		return error_set(e, ENOMEM, "out of memory");
	int r = move_pages_init(&m->pages, options->images, e);
	if (r < 0) {
		destroy(m);
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
					 .free = destroy };
	return 0;
}
