/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/evacuate_private.h"

#include <stdlib.h>
#include <string.h>

enum {
	MOVE_TIMES = 2,          /* as long as thought a move may take and still be in time */
	OLD_MS = 10 * 60 * 1000, /* a snapshot gets no worse than this old */
	WEIGHT = 100,
	WEIGHT_BARE = 4 * WEIGHT,
};
/* Twice the age of the oldest snapshot is less. */
#define AGE_MOST    ((int64_t)365 * 24 * 3600 * 1000)
#define LOSS_OF_ALL (4 * AGE_MOST)

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
	[EVACUATE_TO_MOVE] = "it moves while it runs, if a machine takes it",
	[EVACUATE_IS_MOVING] = "another machine is taking it over",
	[EVACUATE_NO_TIME_TO_MOVE] = "its move was called off: it took too long",
	[EVACUATE_MEMORY_FOLLOWS] = "another machine has it, and its memory follows",
};

static int by_id(const void *a, const void *b)
{
	const struct evacuate_session *x = a, *y = b;
	return strcmp(x->id, y->id);
}

static void weigh(const struct evacuate_facts *f, struct evacuate_session *s)
{
	int64_t age = f->now > s->snapshot_at ? f->now - s->snapshot_at : 0;
	int64_t old = age < OLD_MS ? age : OLD_MS;
	s->weight = evacuate_is_bare(s) ? WEIGHT_BARE : WEIGHT + WEIGHT * old / OLD_MS;
	s->loss_ms = evacuate_is_bare(s) ? LOSS_OF_ALL : age < AGE_MOST ? age : AGE_MOST;
	if (s->in_use) {
		s->weight *= 2;
		s->loss_ms *= 2;
	}
}

static wall_ms if_slower(const struct evacuate_facts *f, const struct evacuate_session *s)
{
	return s->ends_at + (s->ends_at - f->now) / 2;
}

/* --- who moves ------------------------------------------------------------------------------- */

static int by_memory(const void *a, const void *b)
{
	const struct evacuate_session *x = a, *y = b;
	if (x->resident_bytes != y->resident_bytes)
		return x->resident_bytes < y->resident_bytes ? -1 : 1;
	return strcmp(x->id, y->id);
}

static bool may_move(const struct evacuate_plan *p, const struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	return s->state == EVACUATE_WAITING && s->in_use && s->movable && !s->tried && !s->frozen &&
	       f->now < f->moves_until && f->now < f->deadline;
}

/* Memory goes over one link: what is on its way comes before. */
static void nominate(struct evacuate_plan *p)
{
	int64_t behind = 0;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		s->moves = s->state == EVACUATE_MOVING;
		if (s->moves || s->state == EVACUATE_AWAY)
			behind += evacuate_move_left(p->facts, s);
	}
	if (p->count)
		qsort(p->list, p->count, sizeof(*p->list), by_memory);
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		int64_t most = (p->limit - p->facts->now) / MOVE_TIMES;
		int64_t there = behind + evacuate_move_takes(p->facts, s->resident_bytes);
		if (!may_move(p, s) || there > most)
			continue;
		s->moves = true;
		behind = there;
	}
}

/* Who would not be saved for certain should its move fail. True: there was one. */
static bool drop_risky(struct evacuate_plan *p)
{
	bool any = false;
	for (size_t i = 0; i < p->count; i++) {
		struct evacuate_session *s = &p->list[i];
		if (!s->moves || s->state == EVACUATE_MOVING ||
		    (s->taken && if_slower(p->facts, s) <= p->limit))
			continue;
		s->moves = false;
		any = true;
	}
	return any;
}

/* --- what that means now --------------------------------------------------------------------- */

static void decide_left(const struct evacuate_plan *p, struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	s->what = EVACUATE_LEAVE;
	s->ends_at = 0;
	if (f->now >= p->limit)
		s->why = EVACUATE_WINDOW_OVER;
	else if (f->now + evacuate_takes_one(f, s, 1) > p->limit)
		s->why = EVACUATE_TOO_LONG;
	else
		s->why = EVACUATE_NO_ROOM;
}

static void decide_taken(const struct evacuate_plan *p, struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	bool late = f->now >= f->deadline;
	if (s->moves) {
		s->what = EVACUATE_MOVE;
		s->why = EVACUATE_TO_MOVE;
		return;
	}
	if (s->starts_at <= f->now && s->state == EVACUATE_WAITING) {
		s->what = EVACUATE_CHECKPOINT;
		s->why = late ? EVACUATE_OVERTIME : EVACUATE_TURN;
		return;
	}
	/* Behind the deadline each moment may be the last one for all alike. */
	bool risk = !s->tried && (s->frozen || (!late && if_slower(f, s) > p->limit));
	s->what = risk ? EVACUATE_FREEZE : EVACUATE_WAIT;
	s->why = risk ? EVACUATE_AT_RISK : EVACUATE_LATER;
	/* A snapshot that is under way wants it frozen and let go by itself. */
	if (s->state == EVACUATE_BUSY)
		s->why = EVACUATE_IS_BUSY;
}

/* Where it could not be saved any more, its move is what is left to hope for. */
static void decide_moving(const struct evacuate_plan *p, struct evacuate_session *s)
{
	const struct evacuate_facts *f = p->facts;
	bool late = f->now + evacuate_move_left(f, s) > p->limit || !s->taken;
	bool can_be_saved = f->now + EVACUATE_UNDO_MS + evacuate_takes_one(f, s, 1) <= p->limit;
	bool recalled = late && can_be_saved;
	s->what = recalled ? EVACUATE_RECALL : EVACUATE_NOTHING;
	s->why = recalled ? EVACUATE_NO_TIME_TO_MOVE : EVACUATE_IS_MOVING;
}

static void decide_rest(const struct evacuate_plan *p, struct evacuate_session *s)
{
	s->what = EVACUATE_NOTHING;
	if (s->state == EVACUATE_AWAY) {
		s->why = EVACUATE_MEMORY_FOLLOWS;
		s->ends_at = p->facts->now + evacuate_move_left(p->facts, s);
		return;
	}
	s->why = s->state == EVACUATE_OVER ? EVACUATE_IS_OVER : EVACUATE_UNDER_WAY;
	s->ends_at = s->state == EVACUATE_OVER ? 0 : evacuate_ends(p->facts, s, p->at_once);
}

static void decide(const struct evacuate_plan *p, struct evacuate_session *s)
{
	if (s->state == EVACUATE_MOVING) {
		decide_moving(p, s);
	} else if (!evacuate_waits(s)) {
		decide_rest(p, s);
	} else if (s->taken) {
		decide_taken(p, s);
	} else {
		decide_left(p, s);
	}
}

static wall_ms next_wake(const struct evacuate_plan *p)
{
	const struct evacuate_facts *f = p->facts;
	bool any = false;
	for (size_t i = 0; i < p->count; i++)
		any |= evacuate_waits(&p->list[i]) && p->list[i].what != EVACUATE_CHECKPOINT;
	if (!any)
		return 0;
	wall_ms wake = f->now + EVACUATE_LOOK_MS;
	if (f->now < f->moves_until && f->moves_until < wake)
		wake = f->moves_until;
	return f->now < f->deadline && f->deadline < wake ? f->deadline : wake;
}

wall_ms evacuate_decide(const struct evacuate_facts *f, struct evacuate_session *list, size_t count)
{
	size_t open = 0, most = f->workers;
	struct evacuate_plan p = { .facts = f, .list = list, .count = count };
	for (size_t i = 0; i < count; i++) {
		weigh(f, &list[i]);
		list[i].starts_at = list[i].ends_at = 0;
		list[i].taken = list[i].chosen = false;
		list[i].moves = false;
		open += list[i].state != EVACUATE_OVER && list[i].state != EVACUATE_AWAY;
	}
	most = most < open ? most : open;
	most = most < EVACUATE_WORKERS_MOST ? most : EVACUATE_WORKERS_MOST;
	p.limit = f->now >= f->deadline ? EVACUATE_FOREVER : f->deadline - f->margin_ms;
	nominate(&p);
	do
		evacuate_find_best(&p, most ? most : 1);
	while (drop_risky(&p));
	for (size_t i = 0; i < count; i++)
		decide(&p, &list[i]);
	if (count)
		qsort(list, count, sizeof(*list), by_id);
	return next_wake(&p);
}
