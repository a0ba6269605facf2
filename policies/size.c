/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/size.h"

#include "base/cleanup.h"
#include "base/names.h"

#include <math.h>
#include <stdlib.h>

#define HOUR_MS     ((int64_t)3600 * 1000)
#define HELD_ROOM   0.25 /* of what it holds: to go on at all, as in node/steps_wake.c */
#define TWENTIETH   0.05
#define MEMORY_MOST 0x1p60 /* far beyond any machine, and within int64_t */

const struct size_rules size_defaults = {
	.headroom = 0.5,
	.peak_room = 0.1,
	.slack = 0.25,
	.observed_ms = 2 * HOUR_MS,
	.settle_ms = 24 * HOUR_MS,
};

static const char *const reason_names[SIZE_REASON_COUNT] = {
	[SIZE_NO_CLASSES] = "no-classes",
	[SIZE_CHOSEN] = "chosen",
	[SIZE_HOLDS] = "holds-more",
	[SIZE_GROWS] = "needs-more",
	[SIZE_LARGEST] = "largest",
	[SIZE_CHEAPER] = "cheaper-will-do",
	[SIZE_FITS] = "fits",
	[SIZE_UNSEEN] = "not-seen-enough",
	[SIZE_SETTLING] = "changed-lately",
};

static const char *const reason_texts[SIZE_REASON_COUNT] = {
	[SIZE_NO_CLASSES] = "there are no size classes",
	[SIZE_CHOSEN] = "its user has chosen it",
	[SIZE_HOLDS] = "it holds more than what its user has chosen has room for",
	[SIZE_GROWS] = "it needs more than it has",
	[SIZE_LARGEST] = "it needs more than the largest class has",
	[SIZE_CHEAPER] = "a cheaper one will do",
	[SIZE_FITS] = "no cheaper one would do",
	[SIZE_UNSEEN] = "it was not seen for long enough to become smaller",
	[SIZE_SETTLING] = "its size was changed lately",
};

/* --- what it uses ------------------------------------------------------------------------- */

/* The largest first. */
static int by_bytes(const void *a, const void *b)
{
	const struct size_sample *x = a;
	const struct size_sample *y = b;
	return (x->p95_bytes < y->p95_bytes) - (x->p95_bytes > y->p95_bytes);
}

static double cpus_of(const struct size_sample *s)
{
	return s->awake_ms > 0 ? (double)s->cpu_ms / (double)s->awake_ms : 0;
}

static int by_cpus(const void *a, const void *b)
{
	double x = cpus_of(a);
	double y = cpus_of(b);
	return (x < y) - (x > y);
}

/* The first that is not of the twentieth part of the time with the most; count > 0. */
static size_t at_p95(const struct size_sample *samples, size_t count, int64_t all_ms)
{
	double above = 0;
	size_t i = 0;
	while (i + 1 < count) {
		above += (double)(samples[i].awake_ms > 0 ? samples[i].awake_ms : 0);
		if (above > TWENTIETH * (double)all_ms)
			break;
		i++;
	}
	return i;
}

struct size_use size_use_of(struct size_sample *samples, size_t count)
{
	struct size_use use = { 0 };
	if (count == 0)
		return use;
	for (size_t i = 0; i < count; i++) {
		use.observed_ms += samples[i].awake_ms > 0 ? samples[i].awake_ms : 0;
		if (samples[i].peak_bytes > use.peak_bytes)
			use.peak_bytes = samples[i].peak_bytes;
	}
	qsort(samples, count, sizeof(*samples), by_bytes);
	use.p95_bytes = samples[at_p95(samples, count, use.observed_ms)].p95_bytes;
	qsort(samples, count, sizeof(*samples), by_cpus);
	use.cpus = cpus_of(&samples[at_p95(samples, count, use.observed_ms)]);
	return use;
}

/* --- what it needs ------------------------------------------------------------------------ */

static double more(double a, double b)
{
	return a > b ? a : b;
}

static double less(double a, double b)
{
	return a < b ? a : b;
}

static double held_with_room(const struct size_facts *f)
{
	return (double)f->held_bytes * (1 + HELD_ROOM);
}

static double need_of(const struct size_rules *rules, const struct size_facts *f)
{
	double need = held_with_room(f);
	need = more(need, (double)f->use.p95_bytes * (1 + rules->headroom));
	need = more(need, (double)f->use.peak_bytes * (1 + rules->peak_room));
	return less(more(need, 0), MEMORY_MOST);
}

static double cpus_of_class(const struct size_class *c)
{
	return c->cpus > 0 ? c->cpus : INFINITY;
}

/* No more than it has: who is short of processors chooses himself what that is worth. */
static double need_cpus_of(const struct size_rules *rules, const struct size_facts *f)
{
	double need = more(f->use.cpus, 0) * (1 + rules->headroom);
	return f->cpus > 0 ? less(need, f->cpus) : need;
}

/* --- classes ------------------------------------------------------------------------------ */

static bool is_better(const struct size_class *a, const struct size_class *b)
{
	if (a->cost != b->cost)
		return a->cost < b->cost;
	if (a->memory_bytes != b->memory_bytes)
		return a->memory_bytes > b->memory_bytes;
	return cpus_of_class(a) > cpus_of_class(b);
}

/* The cheapest with so much; -1: none. */
static int best(const struct size_class *classes, size_t count, double memory, double cpus)
{
	int found = -1;
	for (size_t i = 0; i < count; i++)
		if ((double)classes[i].memory_bytes >= memory && classes[i].memory_bytes > 0 &&
		    cpus_of_class(&classes[i]) >= cpus &&
		    (found < 0 || is_better(&classes[i], &classes[found])))
			found = (int)i;
	return found;
}

static int largest(const struct size_class *classes, size_t count)
{
	int found = 0;
	for (size_t i = 1; i < count; i++)
		if (classes[i].memory_bytes > classes[found].memory_bytes)
			found = (int)i;
	return best(classes, count, (double)classes[found].memory_bytes, 0);
}

static bool is_what_it_has(const struct size_class *c, const struct size_facts *f)
{
	return c->memory_bytes == f->memory_bytes && c->cpus == f->cpus;
}

/* The cheapest of those that are the same. */
static int class_of(const struct size_class *classes, size_t count, const struct size_facts *f)
{
	int found = -1;
	for (size_t i = 0; i < count; i++)
		if (is_what_it_has(&classes[i], f) &&
		    (found < 0 || is_better(&classes[i], &classes[found])))
			found = (int)i;
	return found;
}

/* What is no class costs as much as its memory says: nothing but less of it is cheaper. */
static bool is_cheaper(const struct size_class *classes, size_t count, int to,
		       const struct size_facts *f)
{
	int has = class_of(classes, count, f);
	if (has >= 0)
		return classes[to].cost < classes[has].cost;
	return f->memory_bytes <= 0 || classes[to].memory_bytes < f->memory_bytes;
}

/* --- the decision ------------------------------------------------------------------------- */

struct choice {
	const struct size_rules *rules;
	const struct size_class *classes;
	size_t count;
	const struct size_facts *facts;
	double need, need_cpus;
};

static void decide_chosen(const struct choice *c, struct size_decision *d)
{
	double held = held_with_room(c->facts);
	d->reason = SIZE_CHOSEN;
	d->to = c->facts->chosen;
	if ((double)c->classes[d->to].memory_bytes >= held)
		return;
	d->reason = SIZE_HOLDS;
	d->to = best(c->classes, c->count, held, 0);
}

static void decide_larger(const struct choice *c, struct size_decision *d)
{
	d->reason = SIZE_GROWS;
	d->to = best(c->classes, c->count, c->need, c->need_cpus);
	if (d->to < 0)
		d->to = best(c->classes, c->count, c->need, 0);
	if (d->to >= 0)
		return;
	int most = largest(c->classes, c->count);
	int64_t bytes = c->classes[most].memory_bytes;
	d->reason = SIZE_LARGEST;
	if (bytes > c->facts->memory_bytes && bytes >= c->facts->held_bytes)
		d->to = most;
}

static void decide_smaller(const struct choice *c, struct size_decision *d)
{
	const struct size_facts *f = c->facts;
	int to = best(c->classes, c->count, c->need * (1 + c->rules->slack), c->need_cpus);
	d->reason = SIZE_FITS;
	if (to < 0 || !is_cheaper(c->classes, c->count, to, f))
		return;
	d->reason = SIZE_UNSEEN;
	if (f->use.observed_ms < c->rules->observed_ms)
		return;
	d->reason = SIZE_SETTLING;
	if (f->since_ms >= 0 && f->since_ms < c->rules->settle_ms) {
		d->wait_ms = c->rules->settle_ms - f->since_ms;
		return;
	}
	d->reason = SIZE_CHEAPER;
	d->to = to;
}

static int fits(const struct choice *c)
{
	if (c->facts->use.observed_ms < c->rules->observed_ms)
		return -1;
	int to = best(c->classes, c->count, c->need, c->need_cpus);
	return to >= 0 ? to : best(c->classes, c->count, c->need, 0);
}

struct size_decision size_decide(const struct size_rules *rules, const struct size_class *classes,
				 size_t count, const struct size_facts *facts)
{
	const struct choice c = { .rules = rules,
				  .classes = classes,
				  .count = count,
				  .facts = facts,
				  .need = need_of(rules, facts),
				  .need_cpus = need_cpus_of(rules, facts) };
	struct size_decision d = { .to = -1,
				   .fits = -1,
				   .need_bytes = (int64_t)c.need,
				   .need_cpus = c.need_cpus,
				   .wait_ms = -1 };
	if (count == 0)
		return d;
	d.fits = fits(&c);
	if (facts->chosen >= 0 && (size_t)facts->chosen < count)
		decide_chosen(&c, &d);
	else if (facts->memory_bytes > 0 && c.need > (double)facts->memory_bytes)
		decide_larger(&c, &d);
	else
		decide_smaller(&c, &d);
	if (d.to >= 0 && is_what_it_has(&classes[d.to], facts))
		d.to = -1;
	return d;
}

const char *size_reason_name(enum size_reason reason)
{
	return name_of(reason_names, ARRAY_SIZE(reason_names), (int)reason);
}

const char *size_reason_text(enum size_reason reason)
{
	return name_of(reason_texts, ARRAY_SIZE(reason_texts), (int)reason);
}
