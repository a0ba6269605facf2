/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/retention.h"

#include <stdlib.h>

static int newest_first(const void *a, const void *b)
{
	const struct retained *x = a;
	const struct retained *y = b;
	return (x->generation < y->generation) - (x->generation > y->generation);
}

/* Index of the newest that is not set aside; `count`: none. */
static size_t find_newest(const struct retained *list, size_t count)
{
	size_t i = 0;
	while (i < count && list[i].aside)
		i++;
	return i;
}

static void decide_by_count(struct retained *list, size_t count, int64_t keep)
{
	int64_t seen[2] = { 0, 0 };
	for (size_t i = 0; keep > 0 && i < count; i++)
		if (++seen[list[i].aside] > keep)
			list[i].remove = true;
}

/* A clock that was set back makes none older. */
static void decide_by_age(struct retained *list, size_t count, int64_t age_ms, wall_ms now)
{
	for (size_t i = 0; age_ms > 0 && i < count; i++)
		if (now > list[i].created_at && now - list[i].created_at > age_ms)
			list[i].remove = true;
}

static void spare(struct retained *list, size_t count)
{
	size_t newest = find_newest(list, count);
	for (size_t i = 0; i < count; i++)
		if (i == newest || list[i].needed)
			list[i].remove = false;
}

static int64_t kept_bytes(const struct retained *list, size_t count)
{
	int64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		if (!list[i].remove && __builtin_add_overflow(sum, list[i].bytes, &sum))
			return INT64_MAX;
	return sum;
}

static void decide_by_bytes(struct retained *list, size_t count, int64_t bytes)
{
	size_t newest = find_newest(list, count);
	for (int aside = 1; bytes > 0 && aside >= 0; aside--)
		for (size_t i = count; i-- > 0 && kept_bytes(list, count) > bytes;)
			if (list[i].aside == aside && i != newest && !list[i].needed)
				list[i].remove = true;
}

size_t retention_decide(const struct retention_rules *rules, struct retained *list, size_t count,
			wall_ms now)
{
	size_t removed = 0;
	if (count)
		qsort(list, count, sizeof(*list), newest_first);
	for (size_t i = 0; i < count; i++)
		list[i].remove = false;
	decide_by_count(list, count, rules->keep);
	decide_by_age(list, count, rules->age_ms, now);
	spare(list, count);
	decide_by_bytes(list, count, rules->bytes);
	for (size_t i = 0; i < count; i++)
		removed += list[i].remove;
	return removed;
}
