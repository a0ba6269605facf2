/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/nodes_change.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/record.h"
#include "controller/remains.h"
#include "controller/rows.h"
#include "controller/sessions.h"

#include <string.h>

size_t node_sessions(const struct node *node)
{
	size_t count = 0;
	for (struct session *s = sessions_first(node->controller); s; s = sessions_next(s))
		count += s->node == node &&
			 (session_is_its_nodes(s) || session_state_is_transient(s->state));
	for (struct session *s = sessions_first(node->controller); s; s = sessions_next(s))
		count += s->node != node && s->state == SESSION_MIGRATING && s->effect &&
			 s->effect->node == node;
	return count + remains_needed_at(node);
}

/* In one transaction: the row put (or, with `remove`, deleted) and the event. */
static int write_change(struct controller *c, const struct db_node *row, bool remove,
			const char *who, const char *what, struct error *e)
{
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = remove ? db_node_delete(c->db, row->name, e) : db_node_put(c->db, row, e);
	if (r == 0)
		r = record_event(c, &(struct record) { .who = who, .what = what, .why = row->name },
				 e);
	if (r == 0)
		return db_commit(c->db, e);
	db_rollback(c->db);
	return r;
}

int node_set_state(struct controller *c, const char *name, const char *state, const char *who,
		   const char *what, struct error *e)
{
	cleanup(db_node_deinit) struct db_node row = { 0 };
	int r = db_node_get(c->db, name, &row, e);
	if (r < 0 || strcmp(row.state, state) == 0)
		return r;
	replace_text(&row.state, state);
	r = write_change(c, &row, false, who, what, e);
	return r < 0 ? r : nodes_reload(c, e);
}

int node_take_off(struct controller *c, const char *name, const char *who, const char *what,
		  struct error *e)
{
	cleanup(db_node_deinit) struct db_node row = { 0 };
	int r = db_node_get(c->db, name, &row, e);
	if (r == 0)
		r = write_change(c, &row, true, who, what, e);
	if (r < 0)
		return r;
	log_info("node %s was taken off the record", name);
	return nodes_reload(c, e);
}
