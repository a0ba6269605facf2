/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/capacity.h"

#include "base/names.h"
#include "policies/features.h"

#include <stdlib.h>

#define NEVER INT64_MAX

static const char *const why_names[CAPACITY_WHY_COUNT] = {
	[CAPACITY_WANTED] = "wanted",
	[CAPACITY_MIN] = "min",
	[CAPACITY_REFUSED] = "refused",
	[CAPACITY_LATE] = "late",
	[CAPACITY_NEVER_JOINED] = "never-joined",
	[CAPACITY_EMPTY] = "empty",
	[CAPACITY_DOOMED] = "doomed",
	[CAPACITY_SPARE] = "spare",
};

static const char *const block_texts[CAPACITY_BLOCK_COUNT] = {
	[CAPACITY_CLEAR] = "",
	[CAPACITY_AT_MAX] = "there are as many machines as capacity.max or the pools allow",
	[CAPACITY_COOLING] = "no pool had a machine to give, lately",
	[CAPACITY_USELESS] = "no pool has machines that could take it",
	[CAPACITY_NOT_KNOWN] = "the pools could not be looked at yet",
	[CAPACITY_PACED] = "machines were asked for a moment ago",
};

const char *capacity_why_name(enum capacity_why why)
{
	return name_of(why_names, CAPACITY_WHY_COUNT, (int)why);
}

const char *capacity_block_text(enum capacity_block block)
{
	return name_of(block_texts, CAPACITY_BLOCK_COUNT, (int)block);
}

enum { PIECES = 16 };

int64_t capacity_usable(int64_t left_bytes, int64_t memory_bytes)
{
	return left_bytes > 0 && left_bytes >= memory_bytes / PIECES ? left_bytes : 0;
}

/* A machine into which sessions are packed: one that comes, or stands empty. */
struct bin {
	size_t pool;
	int64_t left;   /* NEVER: nobody knows how large it is */
	size_t machine; /* NONE: it has no number yet */
	bool used;
};
#define NONE SIZE_MAX
enum { BINS = 256 };

struct deciding {
	const struct capacity_rules *rules;
	const struct capacity_facts *facts;
	wall_ms now;
	struct capacity_decision *decisions;
	size_t count, most;
	struct capacity_decision nowhere; /* for those beyond `most` */
	struct capacity_outlook *out;
	struct bin bins[BINS];
	size_t bin_count, first_new; /* bins from here on are still to be asked for */
	int64_t total;               /* with them */
	bool for_spare;              /* some are */
};

static wall_ms later(wall_ms t, int64_t duration)
{
	wall_ms sum;
	return __builtin_add_overflow(t, duration > 0 ? duration : 0, &sum) ? NEVER : sum;
}

/* Whether `t` has come; when not, it is a time to look again. */
static bool due(struct deciding *d, wall_ms t)
{
	if (t <= d->now)
		return true;
	if (t != NEVER && (!d->out->next_at || t < d->out->next_at))
		d->out->next_at = t;
	return false;
}

static struct capacity_decision *decide(struct deciding *d, enum capacity_kind kind,
					enum capacity_why why, size_t pool)
{
	struct capacity_decision *x = d->count < d->most ? &d->decisions[d->count++] : &d->nowhere;
	*x = (struct capacity_decision) { .kind = kind, .why = why, .pool = pool };
	return x;
}

static const struct capacity_pool *pool_at(const struct deciding *d, size_t i)
{
	return &d->facts->pools[i];
}

/* Machines of it that are there and not being given back. */
static int64_t present(const struct deciding *d, size_t pool)
{
	int64_t n = 0;
	for (size_t i = 0; i < d->facts->machine_count; i++)
		n += d->facts->machines[i].pool == pool && !d->facts->machines[i].going;
	return n;
}

static int64_t unlaunched(const struct deciding *d, size_t pool)
{
	int64_t n = pool_at(d, pool)->desired - present(d, pool);
	return n > 0 ? n : 0;
}

static void add_bin(struct deciding *d, size_t pool, size_t machine)
{
	int64_t memory = pool_at(d, pool)->memory_bytes;
	if (d->bin_count < BINS)
		d->bins[d->bin_count++] = (struct bin) { .pool = pool,
							 .left = memory > 0 ? memory : NEVER,
							 .machine = machine };
}

/* What a pool was asked for and has not given: whether it still may come. */
static bool may_come(struct deciding *d, const struct capacity_pool *p)
{
	bool refused = p->refused_at && p->refused_at >= p->asked_at;
	return !refused && !due(d, later(p->asked_at, d->rules->start_timeout_ms));
}

/* What a pool will not give any more counts for nothing, although it may come yet where it cannot
 * be taken back: sessions must be able to go to another pool. */
static int64_t expected(struct deciding *d, size_t pool)
{
	int64_t n = unlaunched(d, pool);
	return n && may_come(d, pool_at(d, pool)) ? n : 0;
}

static int64_t count_total(struct deciding *d)
{
	int64_t n = 0;
	for (size_t i = 0; i < d->facts->pool_count; i++)
		n += expected(d, i);
	for (size_t i = 0; i < d->facts->machine_count; i++)
		n += !d->facts->machines[i].going && !d->facts->machines[i].doomed &&
		     !d->facts->machines[i].refused;
	return n;
}

/* An empty node that may be used. */
static bool is_idle(const struct capacity_machine *m)
{
	return m->joined && m->up && !m->sessions && !m->doomed && !m->held && !m->going;
}

/* ... and on which sessions may be placed at any moment now. */
static bool is_fresh(struct deciding *d, const struct capacity_machine *m)
{
	return is_idle(m) && !due(d, later(m->empty_since, d->rules->settle_ms));
}

static bool is_coming(struct deciding *d, const struct capacity_machine *m)
{
	return !m->joined && !m->doomed && !m->going && !m->refused &&
	       (d->facts->strangers || !due(d, later(m->since, d->rules->start_timeout_ms)));
}

static void find_bins(struct deciding *d)
{
	for (size_t i = 0; i < d->facts->machine_count; i++) {
		const struct capacity_machine *m = &d->facts->machines[i];
		if (is_fresh(d, m) || is_coming(d, m))
			add_bin(d, m->pool, i);
	}
	for (size_t i = 0; i < d->facts->pool_count; i++) {
		for (int64_t n = expected(d, i); n > 0 && d->bin_count < BINS; n--)
			add_bin(d, i, NONE);
	}
	d->first_new = d->bin_count;
}

/* An empty machine on which nothing was placed for a while, though sessions are wanted. */
static bool is_passed_over(const struct deciding *d, size_t pool)
{
	for (size_t i = 0; i < d->facts->machine_count; i++) {
		const struct capacity_machine *m = &d->facts->machines[i];
		if (m->pool == pool && is_idle(m) &&
		    later(m->empty_since, d->rules->settle_ms) <= d->now)
			return true;
	}
	return false;
}

static bool could_take(const struct deciding *d, size_t pool, const struct capacity_wanted *w)
{
	const struct capacity_pool *p = pool_at(d, pool);
	return (p->memory_bytes <= 0 || w->memory_bytes <= p->memory_bytes) &&
	       !(w->spot && p->not_spot) &&
	       (!p->features || !features_missing(w->features, p->features, NULL, 0)) &&
	       !is_passed_over(d, pool);
}

static bool put(struct deciding *d, struct capacity_wanted *w)
{
	for (size_t i = 0; i < d->bin_count; i++) {
		struct bin *b = &d->bins[i];
		if (!could_take(d, b->pool, w) || b->left < w->memory_bytes)
			continue;
		if (b->left != NEVER)
			b->left -= w->memory_bytes;
		b->used = true;
		w->coming = (int)b->pool;
		return true;
	}
	return false;
}

static int64_t still_to_ask(const struct deciding *d, size_t pool)
{
	int64_t n = 0;
	for (size_t i = d->first_new; i < d->bin_count; i++)
		n += d->bins[i].pool == pool;
	return n;
}

static bool may_ask(struct deciding *d, size_t pool, enum capacity_block *block)
{
	const struct capacity_pool *p = pool_at(d, pool);
	if (p->most > 0 &&
	    present(d, pool) + expected(d, pool) + still_to_ask(d, pool) >= p->most) {
		*block = CAPACITY_AT_MAX;
		return false;
	}
	if (p->desired < 0) {
		*block = CAPACITY_NOT_KNOWN;
		return false;
	}
	if (p->refused_at && !due(d, later(p->refused_at, d->rules->cooldown_ms))) {
		*block = CAPACITY_COOLING;
		return false;
	}
	return true;
}

/* The first pool that may be asked, for `w` (NULL: for the minimum); NONE with *block. */
static size_t choose_pool(struct deciding *d, const struct capacity_wanted *w,
			  enum capacity_block *block)
{
	*block = CAPACITY_USELESS;
	for (size_t i = 0; i < d->facts->pool_count; i++)
		if ((!w || could_take(d, i, w)) && may_ask(d, i, block))
			return i;
	return NONE;
}

/* 0, or why no machine more can be asked for. */
static enum capacity_block open_bin(struct deciding *d, const struct capacity_wanted *w)
{
	enum capacity_block block;
	size_t pool = choose_pool(d, w, &block);
	if (pool == NONE)
		return block;
	if (d->total >= d->rules->max)
		return CAPACITY_AT_MAX;
	if (d->bin_count == BINS)
		return CAPACITY_PACED;
	add_bin(d, pool, NONE);
	d->total++;
	return CAPACITY_CLEAR;
}

/* Those in use first, the large before the small; then who has waited longest. */
static int by_turn(const void *a, const void *b)
{
	const struct capacity_wanted *x = a, *y = b;
	if (x->in_use != y->in_use)
		return y->in_use - x->in_use;
	if (x->memory_bytes != y->memory_bytes)
		return (x->memory_bytes < y->memory_bytes) - (x->memory_bytes > y->memory_bytes);
	return (x->since > y->since) - (x->since < y->since);
}

static void pack(struct deciding *d, struct capacity_wanted *wanted, size_t count)
{
	if (count)
		qsort(wanted, count, sizeof(*wanted), by_turn);
	for (size_t i = 0; i < count; i++) {
		struct capacity_wanted *w = &wanted[i];
		w->coming = -1;
		w->useless = false;
		if (put(d, w) || !w->in_use)
			continue;
		enum capacity_block block = open_bin(d, w);
		w->useless = block == CAPACITY_USELESS;
		if (block == CAPACITY_CLEAR)
			put(d, w);
		else if (!d->out->block || d->out->block == CAPACITY_USELESS)
			d->out->block = block;
	}
}

static void fill_to_min(struct deciding *d)
{
	enum capacity_block block = CAPACITY_CLEAR;
	while (d->total < d->rules->min && block == CAPACITY_CLEAR)
		block = open_bin(d, NULL);
	if (!d->out->block)
		d->out->block = block;
}

static bool is_joined(const struct deciding *d, const struct bin *b)
{
	return b->machine != NONE && d->facts->machines[b->machine].joined;
}

/* Bytes that are free or coming, less those wanted now. A machine of which nobody knows how large
 * it is is enough. */
static int64_t spare_left(const struct deciding *d)
{
	int64_t left = d->facts->free_bytes;
	for (size_t i = 0; i < d->bin_count; i++) {
		const struct bin *b = &d->bins[i];
		if (is_joined(d, b))
			left -= b->left == NEVER ? 0 : pool_at(d, b->pool)->memory_bytes - b->left;
		else if (b->left == NEVER)
			return NEVER;
		else
			left += b->left;
	}
	return left;
}

static void fill_to_spare(struct deciding *d)
{
	enum capacity_block block = CAPACITY_CLEAR;
	while (d->rules->spare_bytes > 0 && spare_left(d) < d->rules->spare_bytes &&
	       block == CAPACITY_CLEAR) {
		block = open_bin(d, NULL);
		d->for_spare = true;
	}
	if (!d->out->block)
		d->out->block = block;
}

static enum capacity_why why_grow(const struct deciding *d, bool used)
{
	if (used)
		return CAPACITY_WANTED;
	return d->for_spare ? CAPACITY_SPARE : CAPACITY_MIN;
}

static void grow(struct deciding *d)
{
	bool paced = d->facts->grown_at &&
		     !due(d, later(d->facts->grown_at, d->rules->grow_interval_ms));
	for (size_t pool = 0; pool < d->facts->pool_count; pool++) {
		int64_t n = still_to_ask(d, pool);
		bool used = false;
		for (size_t i = d->first_new; i < d->bin_count; i++)
			used |= d->bins[i].pool == pool && d->bins[i].used;
		if (n && paced)
			d->out->block = CAPACITY_PACED;
		if (!n || paced || pool_at(d, pool)->busy)
			continue;
		int64_t desired = present(d, pool) + expected(d, pool) + n;
		if (desired < pool_at(d, pool)->desired)
			desired = pool_at(d, pool)->desired;
		decide(d, CAPACITY_GROW, why_grow(d, used), pool)->desired = desired;
	}
}

/* Machines of a pool that were asked for and will not come. A pool that is to grow keeps them. */
static void give_up(struct deciding *d)
{
	for (size_t i = 0; i < d->facts->pool_count; i++) {
		const struct capacity_pool *p = pool_at(d, i);
		if (!p->can_lower || p->busy || still_to_ask(d, i) || !unlaunched(d, i) ||
		    may_come(d, p))
			continue;
		bool refused = p->refused_at && p->refused_at >= p->asked_at;
		decide(d, CAPACITY_GIVE_UP, refused ? CAPACITY_REFUSED : CAPACITY_LATE, i)
			->desired = present(d, i);
	}
}

static bool is_needed(const struct deciding *d, size_t machine)
{
	for (size_t i = 0; i < d->first_new; i++)
		if (d->bins[i].machine == machine && d->bins[i].used)
			return true;
	return false;
}

/* Why this machine goes whatever the others do; CAPACITY_WHY_COUNT: it does not. */
static enum capacity_why why_ends(struct deciding *d, const struct capacity_machine *m)
{
	const struct capacity_pool *p = pool_at(d, m->pool);
	if (m->going || m->held || m->sessions || p->busy || p->keeps)
		return CAPACITY_WHY_COUNT;
	if (m->doomed && m->joined)
		return CAPACITY_DOOMED;
	if (m->refused && !m->joined)
		return CAPACITY_REFUSED;
	if (!m->joined && !d->facts->strangers &&
	    due(d, later(m->since, d->rules->start_timeout_ms)))
		return CAPACITY_NEVER_JOINED;
	return CAPACITY_WHY_COUNT;
}

static bool may_go(struct deciding *d, size_t i)
{
	const struct capacity_machine *m = &d->facts->machines[i];
	return m->joined && !m->doomed && !m->held && !m->going && !m->sessions && m->empty_since &&
	       due(d, later(m->empty_since, d->rules->empty_for_ms)) &&
	       !pool_at(d, m->pool)->busy && !pool_at(d, m->pool)->keeps && !is_needed(d, i);
}

/* Of the empty ones: of the last pool, longest empty. */
static size_t choose_empty(struct deciding *d)
{
	const struct capacity_machine *list = d->facts->machines;
	size_t best = NONE;
	for (size_t i = 0; i < d->facts->machine_count; i++) {
		if (!may_go(d, i))
			continue;
		if (best == NONE || list[i].pool > list[best].pool ||
		    (list[i].pool == list[best].pool &&
		     list[i].empty_since < list[best].empty_since))
			best = i;
	}
	return best;
}

/* Those that are nodes, can be used, and stay. */
static int64_t count_serving(const struct deciding *d)
{
	int64_t n = 0;
	for (size_t i = 0; i < d->facts->machine_count; i++) {
		const struct capacity_machine *m = &d->facts->machines[i];
		n += m->joined && m->up && !m->doomed && !m->going;
	}
	return n;
}

static bool leaves_spare(const struct deciding *d, const struct capacity_machine *m)
{
	int64_t own = m->up ? pool_at(d, m->pool)->memory_bytes : 0;
	return d->rules->spare_bytes <= 0 || d->facts->free_bytes - own >= d->rules->spare_bytes;
}

static void shrink(struct deciding *d)
{
	for (size_t i = 0; i < d->facts->machine_count; i++) {
		const struct capacity_machine *m = &d->facts->machines[i];
		enum capacity_why why = why_ends(d, m);
		if (why != CAPACITY_WHY_COUNT)
			decide(d, CAPACITY_SHRINK, why, m->pool)->machine = i;
	}
	size_t empty = choose_empty(d);
	if (empty == NONE)
		return;
	const struct capacity_machine *m = &d->facts->machines[empty];
	if (count_serving(d) - (m->up ? 1 : 0) < d->rules->min || !leaves_spare(d, m))
		return;
	if (d->facts->shrunk_at &&
	    !due(d, later(d->facts->shrunk_at, d->rules->shrink_interval_ms)))
		return;
	decide(d, CAPACITY_SHRINK, CAPACITY_EMPTY, m->pool)->machine = empty;
}

size_t capacity_decide(const struct capacity_rules *rules, struct capacity_facts *facts,
		       wall_ms now, struct capacity_decision *decisions, size_t most,
		       struct capacity_outlook *outlook)
{
	struct deciding d = { .rules = rules,
			      .facts = facts,
			      .now = now,
			      .decisions = decisions,
			      .most = most,
			      .out = outlook };
	*outlook = (struct capacity_outlook) { .block = CAPACITY_CLEAR };
	d.total = outlook->total = count_total(&d);
	find_bins(&d);
	pack(&d, facts->wanted, facts->wanted_count);
	fill_to_min(&d);
	fill_to_spare(&d);
	grow(&d);
	give_up(&d);
	shrink(&d);
	return d.count;
}
