/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tally.h"

enum { SUB_BITS = 6, SUB = 1 << SUB_BITS };

/* Below SUB each value has its own class; above, each power of two has SUB of them. */
static size_t class_of(int64_t ms)
{
	uint64_t v = ms > 0 ? (uint64_t)ms : 0;
	if (v < SUB)
		return v;
	int shift = 63 - __builtin_clzll(v) - SUB_BITS;
	size_t i = (size_t)(shift + 1) * SUB + (size_t)((v >> shift) - SUB);
	return i < TALLY_CLASSES ? i : TALLY_CLASSES - 1;
}

static int64_t end_of(size_t i)
{
	if (i < SUB)
		return (int64_t)i;
	int shift = (int)(i / SUB) - 1;
	return ((int64_t)(i % SUB + SUB + 1) << shift) - 1;
}

void tally_add(struct tally *t, int64_t ms)
{
	t->classes[class_of(ms)]++;
	t->count++;
	t->sum += (double)ms;
	if (ms > t->most)
		t->most = ms;
}

int64_t tally_at(const struct tally *t, double share)
{
	double wanted = share * (double)t->count;
	uint64_t seen = 0;
	for (size_t i = 0; i < TALLY_CLASSES; i++) {
		seen += t->classes[i];
		if (t->classes[i] && (double)seen >= wanted)
			return end_of(i) < t->most ? end_of(i) : t->most;
	}
	return t->most;
}

double tally_mean(const struct tally *t)
{
	return t->count ? t->sum / (double)t->count : 0;
}

double tally_share(const struct tally *t, int64_t ms)
{
	uint64_t seen = 0;
	for (size_t i = 0; i <= class_of(ms); i++)
		seen += t->classes[i];
	return t->count ? (double)seen / (double)t->count : 0;
}

static void halve(struct course *c)
{
	for (size_t i = 0; i < COURSE_MOST / 2; i++)
		c->values[i] = (c->values[2 * i] + c->values[2 * i + 1]) / 2;
	c->count = COURSE_MOST / 2;
	c->step_ms *= 2;
	c->each *= 2;
}

void course_add(struct course *c, double value)
{
	c->each = c->each ? c->each : 1;
	c->sum += value;
	if (++c->taken < c->each)
		return;
	c->values[c->count++] = c->sum / c->each;
	c->taken = 0;
	c->sum = 0;
	if (c->count == COURSE_MOST)
		halve(c);
}
