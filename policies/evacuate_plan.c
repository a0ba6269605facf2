/* SPDX-License-Identifier: Apache-2.0 */
/* Who is saved in which order, how many at once, and who not. */
#include "policies/evacuate_private.h"

#include <stdlib.h>
#include <string.h>

#define SWAPS_MOST 2000

/* --- how long things take ------------------------------------------------------------ */

int64_t evacuate_takes_one(const struct evacuate_facts *f, const struct evacuate_session *s,
			   size_t n)
{
	return evacuate_takes(f, s->resident_bytes, s->unsent_bytes, n);
}

/* What has gone on for longer than it should takes a quarter of that time more. */
static int64_t left_of(const struct evacuate_facts *f, const struct evacuate_session *s,
		       int64_t takes_ms)
{
	int64_t gone = s->since && f->now > s->since ? f->now - s->since : 0;
	return takes_ms > gone ? takes_ms - gone : gone / 4 + 1;
}

wall_ms evacuate_ends(const struct evacuate_facts *f, const struct evacuate_session *s, size_t n)
{
	return f->now + left_of(f, s, evacuate_takes_one(f, s, n));
}

int64_t evacuate_move_left(const struct evacuate_facts *f, const struct evacuate_session *s)
{
	return left_of(f, s, evacuate_move_takes(f, s->resident_bytes));
}

bool evacuate_is_bare(const struct evacuate_session *s)
{
	return s->snapshot_at == 0;
}

bool evacuate_waits(const struct evacuate_session *s)
{
	return s->state == EVACUATE_WAITING || s->state == EVACUATE_BUSY ||
	       s->state == EVACUATE_MOVING;
}

/* --- orders ----------------------------------------------------------------------------- */

enum order { BY_WEIGHT, BY_TIME, BARE_BY_WEIGHT, BARE_BY_TIME, ORDER_COUNT };

/* Whether x goes before y. */
static bool goes_before(const struct evacuate_session *x, const struct evacuate_session *y,
			enum order order)
{
	if (x->last != y->last)
		return y->last;
	if (x->tried != y->tried)
		return y->tried;
	if (order >= BARE_BY_WEIGHT && evacuate_is_bare(x) != evacuate_is_bare(y))
		return evacuate_is_bare(x);
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

static bool is_under_way(const struct evacuate_session *s)
{
	return s->state == EVACUATE_SAVING || s->state == EVACUATE_BUSY;
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
		wall_ms end = evacuate_ends(f, &list[i], n);
		size_t at = earliest(l);
		if (end > l->free[at])
			l->free[at] = end;
	}
}

/* When its checkpoint could be begun at the earliest. What moves is looked at once more before it
 * is called off. */
static wall_ms ready_at(const struct evacuate_plan *p, const struct evacuate_session *s)
{
	if (s->state == EVACUATE_BUSY)
		return evacuate_ends(p->facts, s, p->at_once);
	if (s->state == EVACUATE_MOVING)
		return p->facts->now + EVACUATE_LOOK_MS + EVACUATE_UNDO_MS;
	return s->moves ? p->facts->now + EVACUATE_HAND_OVER_MS : 0;
}

/* Begins nothing that is not ready or whose end would come behind the limit. False: then `s` has no
 * times. */
static bool place(const struct evacuate_plan *p, struct lanes *l, struct evacuate_session *s)
{
	wall_ms ready = ready_at(p, s);
	size_t at = earliest(l);
	wall_ms start = l->free[at] > ready ? l->free[at] : ready;
	wall_ms end = start + evacuate_takes_one(p->facts, s, p->at_once);
	if (end > p->limit)
		return false;
	l->free[at] = end;
	s->starts_at = start;
	s->ends_at = end;
	return true;
}

/* Times of all `taken`; false when one of them would be too late. */
static bool lay_out(const struct evacuate_plan *p)
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
static void take_what_fits(const struct evacuate_plan *p)
{
	struct lanes l;
	open_lanes(p->facts, p->list, p->count, &l, p->at_once);
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		s->taken = evacuate_waits(s) && place(p, &l, s);
	}
}

static bool try_swap(struct evacuate_plan *p, struct evacuate_session *in,
		     struct evacuate_session *out)
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
static struct evacuate_session *find_swap(struct evacuate_plan *p, struct evacuate_session *in)
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
static void swap_for_less_loss(struct evacuate_plan *p)
{
	p->swaps_left = SWAPS_MOST;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *in = &p->list[i];
		struct evacuate_session *out =
			evacuate_waits(in) && !in->taken ? find_swap(p, in) : NULL;
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

static struct score score_of(const struct evacuate_plan *p)
{
	struct score sc = { 0 };
	for (size_t i = 0; i < p->count; i++) {
		const struct evacuate_session *s = &p->list[i];
		if (!evacuate_waits(s))
			continue;
		sc.whole += s->taken || !evacuate_is_bare(s);
		sc.saved += s->taken;
		if (s->taken)
			sc.ends += (double)(s->ends_at - p->facts->now) * (double)s->weight;
		else if (sc.lost_ms < EVACUATE_FOREVER - s->loss_ms)
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

struct way {
	enum order order;
	bool waited_last; /* who was left alone for a move stays behind those who were not */
	size_t at_once;
};

static void put_in_order(struct evacuate_plan *p, const struct way *way)
{
	static int (*const compare[ORDER_COUNT])(const void *a, const void *b) = {
		[BY_WEIGHT] = by_weight,
		[BY_TIME] = by_time,
		[BARE_BY_WEIGHT] = bare_by_weight,
		[BARE_BY_TIME] = bare_by_time,
	};
	p->at_once = way->at_once;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		s->cost_ms = evacuate_takes_one(p->facts, s, way->at_once);
		s->last = s->moves || (way->waited_last && s->waited);
	}
	if (p->count)
		qsort(p->list, p->count, sizeof(*p->list), compare[way->order]);
}

static void choose(const struct evacuate_plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		p->list[i].chosen = p->list[i].taken;
}

static void try_way(struct evacuate_plan *p, const struct way *way, struct way *best,
		    struct score *best_score)
{
	put_in_order(p, way);
	take_what_fits(p);
	struct score score = score_of(p);
	if (best->at_once && !is_better(&score, best_score))
		return;
	*best_score = score;
	*best = *way;
	choose(p);
}

void evacuate_find_best(struct evacuate_plan *p, size_t most)
{
	struct score score = { 0 };
	struct way best = { 0 };
	bool any_waited = false;
	for (size_t i = 0; i < p->count; i++)
		any_waited |= p->list[i].waited;
	for (int last = 0; last <= any_waited; last++)
		for (int o = 0; o < ORDER_COUNT; o++)
			for (size_t n = 1; n <= most; n++)
				try_way(p, &(struct way) { (enum order)o, last, n }, &best, &score);
	put_in_order(p, &best);
	for (size_t i = 0; i < p->count; i++)
		p->list[i].taken = p->list[i].chosen;
	swap_for_less_loss(p);
}
