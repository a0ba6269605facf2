/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/evacuate.h"

#include <stdlib.h>
#include <string.h>

/* Until something has been measured. Hopeful: what is not tried is lost for certain. */
#define GUESS_STREAM ((int64_t)250 << 20)
#define GUESS_DUMP   ((int64_t)1000 << 20)
enum { GUESS_FIXED_MS = 500, GUESS_STREAMS = 2 };

enum {
	LOOK_MS = 1000,          /* between looks while something waits */
	OLD_MS = 10 * 60 * 1000, /* a snapshot gets no worse than this old */
	WEIGHT = 100,
	WEIGHT_BARE = 4 * WEIGHT,
	SWAPS_MOST = 2000,
};
/* Twice the age of the oldest snapshot is less. */
#define AGE_MOST    ((int64_t)365 * 24 * 3600 * 1000)
#define LOSS_OF_ALL (4 * AGE_MOST)
#define TIME_MOST   (INT64_MAX / 4)
#define FOREVER     (INT64_MAX / 2)

const char *const evacuate_why_names[EVACUATE_WHY_COUNT] = {
	[EVACUATE_IS_OVER] = "it is over",
	[EVACUATE_UNDER_WAY] = "under way",
	[EVACUATE_TURN] = "its turn",
	[EVACUATE_LATER] = "others go first",
	[EVACUATE_AT_RISK] = "others go first, and it could become too late",
	[EVACUATE_IS_BUSY] = "something else is done to it",
	[EVACUATE_TOO_LONG] = "it would take longer than there was left",
	[EVACUATE_NO_ROOM] = "there was no time left beside the others",
	[EVACUATE_WINDOW_OVER] = "there was no time left",
	[EVACUATE_OVERTIME] = "the deadline has passed and the machine is still there",
};

/* --- how long things take ------------------------------------------------------------ */

/* Milliseconds; saturating. */
static int64_t time_for(int64_t bytes, int64_t bytes_per_s)
{
	double ms = (double)bytes * 1000.0 / (double)(bytes_per_s > 0 ? bytes_per_s : 1);
	return ms < (double)TIME_MOST ? (int64_t)ms : TIME_MOST;
}

static int64_t stream_rate(const struct evacuate_facts *f)
{
	return f->stream_bytes_per_s > 0 ? f->stream_bytes_per_s : GUESS_STREAM;
}

static int64_t store_rate(const struct evacuate_facts *f)
{
	int64_t stream = stream_rate(f);
	if (f->store_bytes_per_s <= 0)
		return stream < TIME_MOST / GUESS_STREAMS ? stream * GUESS_STREAMS : stream;
	return f->store_bytes_per_s > stream ? f->store_bytes_per_s : stream;
}

static int64_t dump_stream_rate(const struct evacuate_facts *f)
{
	if (f->dump_stream_bytes_per_s > 0)
		return f->dump_stream_bytes_per_s;
	return f->dump_bytes_per_s > 0 ? f->dump_bytes_per_s : GUESS_DUMP;
}

static int64_t dump_rate(const struct evacuate_facts *f)
{
	int64_t one = dump_stream_rate(f);
	int64_t streams = f->cpus / 2 > 1 ? (int64_t)(f->cpus / 2) : 1;
	if (f->dump_bytes_per_s <= 0)
		return one < TIME_MOST / streams ? one * streams : one;
	return f->dump_bytes_per_s > one ? f->dump_bytes_per_s : one;
}

/* Memory is read, squeezed and sent at the same time: the slower of the two counts. */
int64_t evacuate_takes(const struct evacuate_facts *f, int64_t resident_bytes, int64_t unsent_bytes,
		       size_t at_once)
{
	int64_t n = at_once ? (int64_t)at_once : 1;
	int64_t dump_share = dump_rate(f) / n, dump = dump_stream_rate(f);
	int64_t share = store_rate(f) / n, stream = stream_rate(f);
	int64_t read = time_for(resident_bytes, dump_share < dump ? dump_share : dump);
	int64_t sent = time_for(unsent_bytes, share < stream ? share : stream);
	int64_t fixed = f->fixed_ms > 0 ? f->fixed_ms : GUESS_FIXED_MS;
	return (read > sent ? read : sent) + (fixed < TIME_MOST ? fixed : TIME_MOST);
}

static int64_t takes(const struct evacuate_facts *f, const struct evacuate_session *s, size_t n)
{
	return evacuate_takes(f, s->resident_bytes, s->unsent_bytes, n);
}

/* What has gone on for longer than it should takes a quarter of that time more. */
static wall_ms ends(const struct evacuate_facts *f, const struct evacuate_session *s, size_t n)
{
	int64_t gone = s->since && f->now > s->since ? f->now - s->since : 0;
	int64_t left = takes(f, s, n) - gone;
	return f->now + (left > 0 ? left : gone / 4 + 1);
}

/* --- orders ----------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
	const struct evacuate_session *x = a, *y = b;
	return strcmp(x->id, y->id);
}

enum order { BY_WEIGHT, BY_TIME, BARE_BY_WEIGHT, BARE_BY_TIME, ORDER_COUNT };

static bool is_bare(const struct evacuate_session *s)
{
	return s->snapshot_at == 0;
}

/* Whether x goes before y. */
static bool goes_before(const struct evacuate_session *x, const struct evacuate_session *y,
			enum order order)
{
	if (x->tried != y->tried)
		return y->tried;
	if (order >= BARE_BY_WEIGHT && is_bare(x) != is_bare(y))
		return is_bare(x);
	double a = (double)x->cost_ms, b = (double)y->cost_ms;
	if (order == BY_WEIGHT || order == BARE_BY_WEIGHT) {
		a /= (double)x->weight;
		b /= (double)y->weight;
	}
	return a != b ? a < b : strcmp(x->id, y->id) < 0;
}

static int by_order(const struct evacuate_session *x, const struct evacuate_session *y,
		    enum order order)
{
	return goes_before(x, y, order) ? -1 : goes_before(y, x, order);
}

static int by_weight(const void *a, const void *b)
{
	return by_order(a, b, BY_WEIGHT);
}

static int by_time(const void *a, const void *b)
{
	return by_order(a, b, BY_TIME);
}

static int bare_by_weight(const void *a, const void *b)
{
	return by_order(a, b, BARE_BY_WEIGHT);
}

static int bare_by_time(const void *a, const void *b)
{
	return by_order(a, b, BARE_BY_TIME);
}

static bool waits(const struct evacuate_session *s)
{
	return s->state == EVACUATE_WAITING || s->state == EVACUATE_BUSY;
}

static bool is_under_way(const struct evacuate_session *s)
{
	return s->state == EVACUATE_SAVING || s->state == EVACUATE_BUSY;
}

static void weigh(const struct evacuate_facts *f, struct evacuate_session *s)
{
	int64_t age = f->now > s->snapshot_at ? f->now - s->snapshot_at : 0;
	int64_t old = age < OLD_MS ? age : OLD_MS;
	s->weight = is_bare(s) ? WEIGHT_BARE : WEIGHT + WEIGHT * old / OLD_MS;
	s->loss_ms = is_bare(s) ? LOSS_OF_ALL : age < AGE_MOST ? age : AGE_MOST;
	if (s->in_use) {
		s->weight *= 2;
		s->loss_ms *= 2;
	}
}

/* --- one plan ------------------------------------------------------------------------------ */

/* When each of those at once is free for the next one. */
struct lanes {
	wall_ms free[EVACUATE_WORKERS_MOST];
	size_t count;
};

static size_t earliest(const struct lanes *l)
{
	size_t at = 0;
	for (size_t i = 1; i < l->count; i++)
		if (l->free[i] < l->free[at])
			at = i;
	return at;
}

/* With more under way than there are lanes, the first ends make no room. */
static void open_lanes(const struct evacuate_facts *f, const struct evacuate_session *list,
		       size_t count, struct lanes *l, size_t n)
{
	*l = (struct lanes) { .count = n };
	for (size_t i = 0; i < n; i++)
		l->free[i] = f->now;
	for (size_t i = 0; i < count; i++) {
		if (!is_under_way(&list[i]))
			continue;
		wall_ms end = ends(f, &list[i], n);
		size_t at = earliest(l);
		if (end > l->free[at])
			l->free[at] = end;
	}
}

struct plan {
	const struct evacuate_facts *facts;
	struct evacuate_session *list; /* in the order in which they go */
	size_t count;
	size_t at_once;
	wall_ms limit;
	int swaps_left; /* so that very many sessions do not take their time to decide */
};

/* Begins nothing that is not ready or whose end would come behind the limit. False: then `s` has no
 * times. */
static bool place(const struct plan *p, struct lanes *l, struct evacuate_session *s)
{
	wall_ms ready = s->state == EVACUATE_BUSY ? ends(p->facts, s, p->at_once) : 0;
	size_t at = earliest(l);
	wall_ms start = l->free[at] > ready ? l->free[at] : ready;
	wall_ms end = start + takes(p->facts, s, p->at_once);
	if (end > p->limit)
		return false;
	l->free[at] = end;
	s->starts_at = start;
	s->ends_at = end;
	return true;
}

/* Times of all `taken`; false when one of them would be too late. */
static bool lay_out(const struct plan *p)
{
	struct lanes l;
	open_lanes(p->facts, p->list, p->count, &l, p->at_once);
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		if (s->taken && !place(p, &l, s))
			return false;
	}
	return true;
}

/* Takes whatever fits, one after the other. */
static void take_what_fits(const struct plan *p)
{
	struct lanes l;
	open_lanes(p->facts, p->list, p->count, &l, p->at_once);
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		s->taken = waits(s) && place(p, &l, s);
	}
}

static bool try_swap(struct plan *p, struct evacuate_session *in, struct evacuate_session *out)
{
	if (p->swaps_left-- <= 0)
		return false;
	in->taken = true;
	out->taken = false;
	if (lay_out(p))
		return true;
	in->taken = false;
	out->taken = true;
	return false;
}

/* Whose place it takes loses least. */
static struct evacuate_session *find_swap(struct plan *p, struct evacuate_session *in)
{
	struct evacuate_session *best = NULL;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *out = &p->list[i];
		if (!out->taken || out->loss_ms >= in->loss_ms || out->tried < in->tried ||
		    (best && best->loss_ms <= out->loss_ms))
			continue;
		if (try_swap(p, in, out)) {
			in->taken = false;
			out->taken = true;
			best = out;
		}
	}
	return best;
}

/* Who is left and would lose more takes the place of who would lose less. */
static void swap_for_less_loss(struct plan *p)
{
	p->swaps_left = SWAPS_MOST;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *in = &p->list[i];
		struct evacuate_session *out = waits(in) && !in->taken ? find_swap(p, in) : NULL;
		if (out) {
			in->taken = true;
			out->taken = false;
		}
	}
	lay_out(p);
}

/* --- which plan ------------------------------------------------------------------------------ */

struct score {
	size_t whole; /* in the store in the end */
	size_t saved;
	int64_t lost_ms;
	double ends; /* their sum, by weight */
};

static struct score score_of(const struct plan *p)
{
	struct score sc = { 0 };
	for (size_t i = 0; i < p->count; i++) {
		const struct evacuate_session *s = &p->list[i];
		if (!waits(s))
			continue;
		sc.whole += s->taken || !is_bare(s);
		sc.saved += s->taken;
		if (s->taken)
			sc.ends += (double)(s->ends_at - p->facts->now) * (double)s->weight;
		else if (sc.lost_ms < FOREVER - s->loss_ms)
			sc.lost_ms += s->loss_ms;
	}
	return sc;
}

static bool is_better(const struct score *a, const struct score *b)
{
	if (a->whole != b->whole)
		return a->whole > b->whole;
	if (a->saved != b->saved)
		return a->saved > b->saved;
	if (a->lost_ms != b->lost_ms)
		return a->lost_ms < b->lost_ms;
	return a->ends < b->ends;
}

static void put_in_order(struct plan *p, enum order order, size_t at_once)
{
	static int (*const compare[ORDER_COUNT])(const void *a, const void *b) = {
		[BY_WEIGHT] = by_weight,
		[BY_TIME] = by_time,
		[BARE_BY_WEIGHT] = bare_by_weight,
		[BARE_BY_TIME] = bare_by_time,
	};
	p->at_once = at_once;
	for (size_t i = 0; i < p->count; i++)
		p->list[i].cost_ms = takes(p->facts, &p->list[i], at_once);
	if (p->count)
		qsort(p->list, p->count, sizeof(*p->list), compare[order]);
}

static void choose(const struct plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		p->list[i].chosen = p->list[i].taken;
}

/* Tries orders and numbers at once; leaves the best in `p`, with its order and times. */
static void find_best(struct plan *p, size_t most)
{
	struct score best = { 0 };
	size_t at_once = 0;
	enum order order = BY_WEIGHT;
	for (int o = 0; o < ORDER_COUNT; o++) {
		for (size_t n = 1; n <= most; n++) {
			put_in_order(p, (enum order)o, n);
			take_what_fits(p);
			struct score sc = score_of(p);
			if (at_once && !is_better(&sc, &best))
				continue;
			best = sc;
			at_once = n;
			order = (enum order)o;
			choose(p);
		}
	}
	put_in_order(p, order, at_once);
	for (size_t i = 0; i < p->count; i++)
		p->list[i].taken = p->list[i].chosen;
	swap_for_less_loss(p);
}

/* --- what that means now --------------------------------------------------------------------- */

static void decide_left(const struct plan *p, struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	s->what = EVACUATE_LEAVE;
	s->ends_at = 0;
	if (f->now >= p->limit)
		s->why = EVACUATE_WINDOW_OVER;
	else if (f->now + takes(f, s, 1) > p->limit)
		s->why = EVACUATE_TOO_LONG;
	else
		s->why = EVACUATE_NO_ROOM;
}

static void decide_taken(const struct plan *p, struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	bool late = f->now >= f->deadline;
	wall_ms worse = s->ends_at + (s->ends_at - f->now) / 2;
	if (s->starts_at <= f->now && s->state == EVACUATE_WAITING) {
		s->what = EVACUATE_CHECKPOINT;
		s->why = late ? EVACUATE_OVERTIME : EVACUATE_TURN;
		return;
	}
	/* Behind the deadline each moment may be the last one for all alike. */
	bool risk = !s->tried && (s->frozen || (!late && worse > p->limit));
	s->what = risk ? EVACUATE_FREEZE : EVACUATE_WAIT;
	s->why = risk ? EVACUATE_AT_RISK : EVACUATE_LATER;
	/* A snapshot that is under way wants it frozen and let go by itself. */
	if (s->state == EVACUATE_BUSY)
		s->why = EVACUATE_IS_BUSY;
}

static void decide(const struct plan *p, struct evacuate_session *s)
{
	if (!waits(s)) {
		s->what = EVACUATE_NOTHING;
		s->why = s->state == EVACUATE_OVER ? EVACUATE_IS_OVER : EVACUATE_UNDER_WAY;
		s->ends_at = s->state == EVACUATE_OVER ? 0 : ends(p->facts, s, p->at_once);
	} else if (s->taken) {
		decide_taken(p, s);
	} else {
		decide_left(p, s);
	}
}

static wall_ms next_wake(const struct plan *p)
{
	const struct evacuate_facts *f = p->facts;
	bool any = false;
	for (size_t i = 0; i < p->count; i++)
		any |= waits(&p->list[i]) && p->list[i].what != EVACUATE_CHECKPOINT;
	if (!any)
		return 0;
	wall_ms wake = f->now + LOOK_MS;
	return f->now < f->deadline && f->deadline < wake ? f->deadline : wake;
}

wall_ms evacuate_decide(const struct evacuate_facts *f, struct evacuate_session *list, size_t count)
{
	size_t open = 0, most = f->workers;
	struct plan p = { .facts = f, .list = list, .count = count };
	for (size_t i = 0; i < count; i++) {
		weigh(f, &list[i]);
		list[i].starts_at = list[i].ends_at = 0;
		list[i].taken = list[i].chosen = false;
		open += list[i].state != EVACUATE_OVER;
	}
	most = most < open ? most : open;
	most = most < EVACUATE_WORKERS_MOST ? most : EVACUATE_WORKERS_MOST;
	p.limit = f->now >= f->deadline ? FOREVER : f->deadline - f->margin_ms;
	find_best(&p, most ? most : 1);
	for (size_t i = 0; i < count; i++)
		decide(&p, &list[i]);
	if (count)
		qsort(list, count, sizeof(*list), by_id);
	return next_wake(&p);
}
