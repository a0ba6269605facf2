/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of pools and machines, as one fact of the database. */
#include "controller/capacity_private.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FACT "capacity"

#define FIELD(type, kind, f) { #f, kind, offsetof(struct type, f) }

static const struct wire_field pool_fields[] = {
	{ "name", WIRE_STRING, offsetof(struct pool_kept, name), .required = true },
	FIELD(pool_kept, WIRE_INT, asked_at),
	FIELD(pool_kept, WIRE_INT, asked),
	FIELD(pool_kept, WIRE_INT, refused_at),
	FIELD(pool_kept, WIRE_STRING, token),
	FIELD(pool_kept, WIRE_INT, more),
	FIELD(pool_kept, WIRE_INT, lower_to),
	FIELD(pool_kept, WIRE_INT, memory_bytes),
	FIELD(pool_kept, WIRE_STRING, features),
	FIELD(pool_kept, WIRE_STRING, price),
};
static const struct wire_struct wire_pool = { "pool", sizeof(struct pool_kept), pool_fields,
					      ARRAY_SIZE(pool_fields) };

static const struct wire_field machine_fields[] = {
	{ "id", WIRE_STRING, offsetof(struct machine_kept, id), .required = true },
	{ "pool", WIRE_STRING, offsetof(struct machine_kept, pool), .required = true },
	FIELD(machine_kept, WIRE_STRING, node),
	FIELD(machine_kept, WIRE_INT, since),
	FIELD(machine_kept, WIRE_BOOL, giving),
	FIELD(machine_kept, WIRE_STRING, why),
};
static const struct wire_struct wire_machine = { "machine", sizeof(struct machine_kept),
						 machine_fields, ARRAY_SIZE(machine_fields) };

static const struct wire_field kept_fields[] = {
	{ "pools", WIRE_LIST, offsetof(struct capacity_kept, pools), .nested = &wire_pool,
	  .count_offset = offsetof(struct capacity_kept, pool_count) },
	{ "machines", WIRE_LIST, offsetof(struct capacity_kept, machines), .nested = &wire_machine,
	  .count_offset = offsetof(struct capacity_kept, machine_count) },
	FIELD(capacity_kept, WIRE_INT, grown_at),
	FIELD(capacity_kept, WIRE_INT, shrunk_at),
};
static const struct wire_struct wire_kept = { "capacity", sizeof(struct capacity_kept), kept_fields,
					      ARRAY_SIZE(kept_fields) };

static struct pool *pool_named(struct capacity *cap, const char *name)
{
	for (size_t i = 0; i < cap->pool_count; i++)
		if (strcmp(cap->pools[i].kept.name, name) == 0)
			return &cap->pools[i];
	return NULL;
}

/* A pool that is not configured any more is forgotten; so are its machines: they are its operator's
 * again. */
static void take_kept(struct capacity *cap, struct capacity_kept *kept)
{
	cap->grown_at = kept->grown_at;
	cap->shrunk_at = kept->shrunk_at;
	for (size_t i = 0; i < kept->pool_count; i++) {
		struct pool *pool = pool_named(cap, kept->pools[i].name);
		struct pool_kept old = pool ? pool->kept : (struct pool_kept) { 0 };
		if (!pool)
			continue;
		pool->kept = kept->pools[i];
		kept->pools[i] = old; /* to be released */
	}
	for (size_t i = 0; i < kept->machine_count; i++) {
		struct machine_kept *k = &kept->machines[i];
		struct pool *pool = pool_named(cap, k->pool);
		struct machine *m = pool ? machine_new(cap, k->id, pool, k->since) : NULL;
		if (!m)
			continue;
		m->kept.giving = k->giving;
		m->kept.node = steal_ptr(&k->node);
		m->kept.why = steal_ptr(&k->why);
	}
}

int capacity_load(struct capacity *cap, struct error *e)
{
	cleanup_free char *text = NULL;
	struct capacity_kept kept = { 0 };
	struct error inner = ERROR_INIT;
	int r = db_fact_get(cap->controller->db, FACT, &text, &inner);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		if (e)
			*e = inner;
		return r;
	}
	r = wire_decode_text(&wire_kept, text, strlen(text), &kept, e);
	if (r < 0)
		return error_wrap(e, r, "the record of machines that were asked for");
	take_kept(cap, &kept);
	wire_free(&wire_kept, &kept);
	return 0;
}

static size_t count_machines(const struct capacity *cap)
{
	const struct machine *m;
	size_t n = 0;
	TAILQ_FOREACH(m, &cap->machines, entry)
	n++;
	return n;
}

int capacity_save(struct capacity *cap, struct error *e)
{
	const struct machine *m;
	/* Copies that only borrow. */
	cleanup_free struct pool_kept *pools = calloc(cap->pool_count + 1, sizeof(*pools));
	cleanup_free struct machine_kept *machines =
		calloc(count_machines(cap) + 1, sizeof(*machines));
	if (!pools || !machines)
		return error_set(e, ENOMEM, "out of memory");
	struct capacity_kept kept = { .pools = pools,
				      .pool_count = cap->pool_count,
				      .machines = machines,
				      .grown_at = cap->grown_at,
				      .shrunk_at = cap->shrunk_at };
	for (size_t i = 0; i < cap->pool_count; i++)
		pools[i] = cap->pools[i].kept;
	TAILQ_FOREACH(m, &cap->machines, entry)
	machines[kept.machine_count++] = m->kept;
	cleanup_json json_t *json = wire_encode(&wire_kept, &kept);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? db_fact_set(cap->controller->db, FACT, text, e)
		    : error_set(e, ENOMEM, "out of memory");
}
