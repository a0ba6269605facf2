/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "db/query.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_ADDRESSES 16 /* the first of the pool are the host's */

struct pool {
	uint32_t first, last; /* that may be given out */
};

static int parse_pool(const char *text, struct pool *pool, struct error *e)
{
	char address[INET_ADDRSTRLEN];
	unsigned bits;
	int end = 0;
	struct in_addr in;
	if (sscanf(text, "%15[0-9.]/%2u%n", address, &bits, &end) != 2 || text[end] || bits < 8 ||
	    bits > 30 || inet_pton(AF_INET, address, &in) != 1)
		return error_set(e, EINVAL,
				 "'%s' is not a pool of IPv4 addresses such as 10.99.0.0/16", text);
	uint32_t size = (uint32_t)1 << (32 - bits);
	uint32_t base = ntohl(in.s_addr) & ~(size - 1);
	pool->first = base + HOST_ADDRESSES;
	pool->last = base + size - 2; /* the last one is the broadcast address */
	return 0;
}

struct numbers {
	uint32_t *list; /* owned */
	size_t count, size;
};

static void numbers_deinit(struct numbers *n)
{
	free(n->list);
}

static int numbers_add(struct numbers *n, uint32_t value)
{
	if (n->count == n->size) {
		size_t size = n->size ? n->size * 2 : 64;
		uint32_t *list = realloc(n->list, size * sizeof(*list));
		if (!list)
			return -ENOMEM;
		n->list = list;
		n->size = size;
	}
	n->list[n->count++] = value;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int collect_used(struct db *db, const char *sql, struct numbers *used, struct error *e)
{
	cleanup_query struct query q;
	int r;
	query_start(&q, db, sql, e);
	while ((r = query_step(&q)) > 0) {
		struct in_addr in;
		const char *text = (const char *)sqlite3_column_text(q.stmt, 0);
		if (text && inet_pton(AF_INET, text, &in) == 1 &&
		    numbers_add(used, ntohl(in.s_addr)) < 0)
			return error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

static int format_address(uint32_t value, char **address, struct error *e)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr in = { .s_addr = htonl(value) };
	*address = strdup(inet_ntop(AF_INET, &in, text, sizeof(text)));
	return *address ? 0 : error_set(e, ENOMEM, "out of memory");
}

/* The lowest address of the pool that is not among the rows of `sql`. */
static int pick_address(struct db *db, const char *pool, const char *sql, char **address,
			struct error *e)
{
	cleanup(numbers_deinit) struct numbers used = { 0 };
	struct pool range = { 0 };
	int r = parse_pool(pool, &range, e);
	if (r == 0)
		r = collect_used(db, sql, &used, e);
	if (r < 0)
		return r;
	if (used.count > 0)
		qsort(used.list, used.count, sizeof(*used.list), compare);
	uint32_t candidate = range.first;
	for (size_t i = 0; i < used.count; i++)
		if (used.list[i] == candidate)
			candidate++;
	if (candidate <= range.last)
		return format_address(candidate, address, e);
	return error_fault(e, FAULT_FULL, "no address of the pool %s is free", pool);
}

int db_address_pick(struct db *db, const char *pool, char **address, struct error *e)
{
	int r = pick_address(db, pool, "SELECT address FROM sessions WHERE address IS NOT NULL",
			     address, e);
	return r == -ENOSPC ? error_remedy(e, r,
					   "delete servers that are not needed or configure a "
					   "larger pool")
			    : r;
}

int db_overlay_pick(struct db *db, const char *pool, char **address, struct error *e)
{
	int r = pick_address(db, pool, "SELECT overlay FROM nodes", address, e);
	return r == -ENOSPC ? error_remedy(e, r,
					   "remove nodes that are gone or configure a larger "
					   "network.overlay")
			    : r;
}

static int find_uid(struct db *db, const char *user, int64_t *uid, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "SELECT uid FROM uids WHERE user = ?", e);
	query_text(&q, user);
	int r = query_step(&q);
	if (r > 0)
		*uid = sqlite3_column_int64(q.stmt, 0);
	return r;
}

/* `from` itself, or the lowest number that follows a used one and is not used. */
static int find_gap(struct db *db, int64_t from, int64_t to, int64_t *uid, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "SELECT ?1 WHERE ?1 <= ?2 AND NOT EXISTS (SELECT 1 FROM uids WHERE uid = ?1)"
		    " UNION ALL "
		    "SELECT * FROM (SELECT uid + 1 FROM uids AS used WHERE uid >= ?1 AND uid < ?2"
		    " AND NOT EXISTS (SELECT 1 FROM uids WHERE uid = used.uid + 1)"
		    " ORDER BY uid LIMIT 1) LIMIT 1",
		    e);
	query_integer(&q, from);
	query_integer(&q, to);
	int r = query_step(&q);
	if (r > 0)
		*uid = sqlite3_column_int64(q.stmt, 0);
	return r;
}

int db_uid_pick(struct db *db, const char *user, int64_t from, int64_t to, int64_t *uid,
		struct error *e)
{
	int r = find_uid(db, user, uid, e);
	if (r == 0)
		r = find_gap(db, from, to, uid, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = error_fault(e, FAULT_FULL, "no uid of %lld-%lld is free", (long long)from,
			(long long)to);
	return error_remedy(e, r, "configure a larger range of uids");
}
