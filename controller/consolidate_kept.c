/* SPDX-License-Identifier: Apache-2.0 */
/* Which node is being emptied, and who was moved when, as one fact of the database. */
#include "controller/consolidate_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FACT    "consolidation"
#define HOUR_MS ((int64_t)3600 * 1000)

#define FIELD(type, kind, f) { #f, kind, offsetof(struct type, f) }

static const struct wire_field move_fields[] = {
	{ "session", WIRE_STRING, offsetof(struct consolidate_move, session), .required = true },
	FIELD(consolidate_move, WIRE_INT, at),
};
static const struct wire_struct wire_move = { "move", sizeof(struct consolidate_move), move_fields,
					      ARRAY_SIZE(move_fields) };

static const struct wire_field kept_fields[] = {
	FIELD(consolidate_kept, WIRE_STRING, emptying),
	FIELD(consolidate_kept, WIRE_INT, began_at),
	FIELD(consolidate_kept, WIRE_INT, ended_at),
	{ "moves", WIRE_LIST, offsetof(struct consolidate_kept, moves), .nested = &wire_move,
	  .count_offset = offsetof(struct consolidate_kept, move_count) },
};
static const struct wire_struct wire_kept = { "consolidation", sizeof(struct consolidate_kept),
					      kept_fields, ARRAY_SIZE(kept_fields) };

void consolidate_kept_deinit(struct consolidate_kept *kept)
{
	wire_free(&wire_kept, kept);
}

int consolidate_load(struct controller *c, struct error *e)
{
	cleanup_free char *text = NULL;
	struct error inner = ERROR_INIT;
	int r = db_fact_get(c->db, FACT, &text, &inner);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		if (e)
			*e = inner;
		return r;
	}
	r = wire_decode_text(&wire_kept, text, strlen(text), &c->consolidate->kept, e);
	return r < 0 ? error_wrap(e, r, "the record of nodes that are emptied") : 0;
}

int consolidate_save(struct controller *c, struct error *e)
{
	cleanup_json json_t *json = wire_encode(&wire_kept, &c->consolidate->kept);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? db_fact_set(c->db, FACT, text, e) : error_set(e, ENOMEM, "out of memory");
}

wall_ms consolidate_moved_at(const struct consolidate_kept *kept, const char *session)
{
	for (size_t i = kept->move_count; i > 0; i--)
		if (strcmp(kept->moves[i - 1].session, session) == 0)
			return kept->moves[i - 1].at;
	return 0;
}

struct consolidate_budget consolidate_budget_of(const struct session *s, wall_ms now)
{
	const struct consolidate_kept *kept = &s->controller->consolidate->kept;
	wall_ms moved_at = consolidate_moved_at(kept, s->row.id);
	struct consolidate_budget b = { .since_ms = -1 };
	for (size_t i = 0; i < kept->move_count; i++) {
		if (now - kept->moves[i].at >= HOUR_MS)
			continue;
		if (b.moves++ == 0)
			b.free_ms = kept->moves[i].at + HOUR_MS - now;
	}
	if (moved_at)
		b.since_ms = now > moved_at ? now - moved_at : 0;
	return b;
}

/* Those that count for no budget any more. A clock set back must not make them count for ever. */
static void forget_old(struct consolidate_kept *kept, int64_t keep_ms, wall_ms now)
{
	size_t left = 0;
	for (size_t i = 0; i < kept->move_count; i++) {
		struct consolidate_move *m = &kept->moves[i];
		if (m->at > now)
			m->at = now;
		if (now - m->at < keep_ms)
			kept->moves[left++] = *m;
		else
			free(m->session);
	}
	kept->move_count = left;
}

int consolidate_add_move(struct controller *c, const char *session, wall_ms now)
{
	struct consolidate_kept *kept = &c->consolidate->kept;
	int64_t rest = c->config->consolidation.rest_ms;
	forget_old(kept, rest > HOUR_MS ? rest : HOUR_MS, now);
	struct consolidate_move *moves =
		reallocarray(kept->moves, kept->move_count + 1, sizeof(*moves));
	char *id = strdup(session);
	if (moves)
		kept->moves = moves;
	if (!moves || !id) {
		free(id);
		return -ENOMEM;
	}
	moves[kept->move_count++] = (struct consolidate_move) { .session = id, .at = now };
	return 0;
}

void consolidate_drop_move(struct controller *c)
{
	struct consolidate_kept *kept = &c->consolidate->kept;
	free(kept->moves[--kept->move_count].session);
}
