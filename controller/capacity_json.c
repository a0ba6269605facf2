/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/capacity */
#include "controller/api.h"
#include "controller/capacity_private.h"
#include "wire/text.h"

#include <string.h>

static void set_text(json_t *to, const char *name, const char *text)
{
	json_object_set_new(to, name, text && *text ? wire_text(text) : json_null());
}

static void set_number(json_t *to, const char *name, int64_t value)
{
	json_object_set_new(to, name, json_integer(value));
}

static json_t *pool_json(const struct capacity *cap, const struct pool *pool)
{
	const struct machine *m;
	int64_t machines = 0, nodes = 0;
	json_t *to = json_object();
	TAILQ_FOREACH(m, &cap->machines, entry)
	{
		machines += m->pool == pool && m->seen && m->state != CLOUD_ENDING;
		nodes += m->pool == pool && m->node;
	}
	set_text(to, "name", pool->kept.name);
	set_number(to, "desired", pool->described ? pool->desired : -1);
	set_number(to, "most", pool->most);
	set_number(to, "machines", machines);
	set_number(to, "nodes", nodes);
	set_number(to, "asked_at", pool->kept.asked_at);
	set_number(to, "refused_at", pool->kept.refused_at);
	set_number(to, "memory_bytes", pool->kept.memory_bytes);
	set_text(to, "problem", pool->problem);
	return to;
}

static json_t *machine_json(const struct machine *m)
{
	json_t *to = json_object();
	const char *state = m->kept.giving ? "giving-back"
			    : m->node      ? "joined"
			    : m->refused   ? "refused"
					   : cloud_instance_state_names[m->state];
	set_text(to, "id", m->kept.id);
	set_text(to, "pool", m->kept.pool);
	set_text(to, "node", m->kept.node);
	set_text(to, "state", state);
	set_text(to, "zone", m->zone);
	set_text(to, "type", m->type);
	set_text(to, "price", m->price);
	set_text(to, "why", m->kept.giving ? m->kept.why : m->refused);
	set_number(to, "since", m->kept.since);
	set_number(to, "empty_since", m->empty_since);
	return to;
}

static json_t *want_json(struct controller *c, const struct want *w)
{
	char text[256];
	json_t *to = json_object();
	const struct session *s = sessions_by_id(c, w->id);
	capacity_explain(c, w->id, text, sizeof(text));
	set_text(to, "user", s ? s->row.user : NULL);
	json_object_set_new(to, "server", wire_text(s ? s->row.server : ""));
	set_number(to, "memory_bytes", w->memory_bytes);
	set_number(to, "since", w->since);
	json_object_set_new(to, "in_use", json_boolean(w->in_use));
	json_object_set_new(to, "coming", json_boolean(w->coming >= 0));
	set_text(to, "text", text);
	return to;
}

json_t *capacity_json(struct controller *c)
{
	const struct capacity *cap = c->capacity;
	const struct machine *m;
	const struct want *w;
	json_t *pools = json_array(), *machines = json_array(), *wanted = json_array();
	for (size_t i = 0; cap && i < cap->pool_count; i++)
		json_array_append_new(pools, pool_json(cap, &cap->pools[i]));
	if (cap) {
		TAILQ_FOREACH(m, &cap->machines, entry)
		json_array_append_new(machines, machine_json(m));
		TAILQ_FOREACH(w, &cap->wants, entry)
		json_array_append_new(wanted, want_json(c, w));
	}
	return json_pack("{s:s, s:I, s:I, s:s, s:o, s:o, s:o}", "provider",
			 cap ? cap->link.provider : "none", "min",
			 (json_int_t)c->config->capacity.min, "max",
			 (json_int_t)c->config->capacity.max, "block",
			 cap ? capacity_block_text(cap->block) : "", "pools", pools, "machines",
			 machines, "wanted", wanted);
}

void api_get_capacity(struct http_exchange *x, void *arg)
{
	http_reply_json(x, 200, capacity_json(arg));
}
