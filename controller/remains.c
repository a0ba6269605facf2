/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/remains_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ABSENT_MOST 2 /* looks in a row without it before its memory counts as gone */

struct remains_table {
	TAILQ_HEAD(, remains) all;
};

static const char *const state_names[REMAINS_STATE_COUNT] = {
	[REMAINS_NEEDED] = "needed",
	[REMAINS_BACK] = "back",
	[REMAINS_OVER] = "over",
};

/* --- the table ---------------------------------------------------------------------------------
 */

static struct remains *first(const struct controller *c)
{
	return c->remains ? TAILQ_FIRST(&c->remains->all) : NULL;
}

bool remains_exist(const struct controller *c, const void *r)
{
	const struct remains *one = first(c);
	while (one && one != r)
		one = TAILQ_NEXT(one, entry);
	return one;
}

static bool is_of(const struct remains *r, const struct session *s)
{
	return strcmp(r->row.session, s->row.id) == 0;
}

struct remains *remains_any(const struct session *s)
{
	struct remains *found = NULL;
	for (struct remains *r = first(s->controller); r; r = TAILQ_NEXT(r, entry))
		if (r->state != REMAINS_OVER && is_of(r, s))
			found = r;
	return found;
}

struct remains *remains_of(const struct session *s)
{
	struct remains *r = remains_any(s);
	return r && r->state == REMAINS_NEEDED ? r : NULL;
}

bool remains_open(const struct session *s)
{
	for (const struct remains *r = first(s->controller); r; r = TAILQ_NEXT(r, entry))
		if (is_of(r, s) && node_in_reach(r->source))
			return true;
	return false;
}

size_t remains_needed_at(const struct node *node)
{
	size_t count = 0;
	for (const struct remains *r = first(node->controller); r; r = TAILQ_NEXT(r, entry)) {
		const struct session *s = sessions_by_id(node->controller, r->row.session);
		count += r->state == REMAINS_NEEDED && r->source == node && s && s->node != node;
	}
	return count;
}

bool remains_names(const struct node *node, const struct session *s)
{
	for (const struct remains *r = first(node->controller); r; r = TAILQ_NEXT(r, entry))
		if (r->source == node && r->state != REMAINS_OVER && is_of(r, s))
			return true;
	return false;
}

static struct db_departure copy_row(const struct db_departure *row)
{
	struct db_departure copy = *row;
	copy.source = strdup(row->source);
	copy.target = strdup(row->target);
	copy.state = strdup(row->state);
	if (!copy.source || !copy.target || !copy.state)
		abort(); /* it is on record: the next start of elsad takes it up */
	return copy;
}

static struct remains *insert(struct controller *c, const struct db_departure *row)
{
	struct remains *r = calloc(1, sizeof(*r));
	if (!r)
		abort();
	int state = value_of(state_names, REMAINS_STATE_COUNT, row->state);
	r->c = c;
	r->row = copy_row(row);
	r->state = state < 0 ? REMAINS_NEEDED : (enum remains_state)state;
	r->source = nodes_of_row(c, row->source);
	r->target = nodes_of_row(c, row->target);
	TAILQ_INSERT_TAIL(&c->remains->all, r, entry);
	return r;
}

static void free_one(void *arg)
{
	struct remains *r = arg;
	db_departure_deinit(&r->row);
	free(r);
}

static void take_out(struct remains *r)
{
	if (r->call)
		http_call_cancel(r->call);
	r->call = NULL;
	TAILQ_REMOVE(&r->c->remains->all, r, entry);
	controller_later(r->c, free_one, r);
}

static int load_one(const struct db_departure *row, void *arg)
{
	insert(arg, row);
	return 0;
}

int remains_new(struct controller *c, struct error *e)
{
	c->remains = calloc(1, sizeof(*c->remains));
	if (!c->remains)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->remains->all);
	return db_departure_each(c->db, load_one, c, e);
}

void remains_free(struct controller *c)
{
	if (!c->remains)
		return;
	for (struct remains *r; (r = TAILQ_FIRST(&c->remains->all));) {
		TAILQ_REMOVE(&c->remains->all, r, entry);
		free_one(r);
	}
	free(c->remains);
	c->remains = NULL;
}

/* --- the record --------------------------------------------------------------------------------
 */

static int write_state(struct remains *r, enum remains_state state, struct error *e)
{
	struct db_departure row = r->row;
	row.state = (char *)state_names[state];
	return db_departure_put(r->c->db, &row, e);
}

static void ask(struct remains *r);

static void take_state(struct remains *r, enum remains_state state)
{
	r->state = state;
	replace_text(&r->row.state, state_names[state]);
	if (r->call)
		http_call_cancel(r->call);
	r->call = NULL;
	ask(r);
}

int remains_write(struct controller *c, const struct remains_step *step, struct error *e)
{
	int r = 0;
	if (step->begins.id[0]) {
		struct db_departure row = step->begins;
		row.state = (char *)state_names[REMAINS_NEEDED];
		r = db_departure_put(c->db, &row, e);
	}
	if (r == 0 && step->settles && step->gone)
		r = db_departure_delete(c->db, step->settles->row.id, e);
	else if (r == 0 && step->settles)
		r = write_state(step->settles, step->to, e);
	return r;
}

void remains_settle(struct controller *c, struct remains_step *step)
{
	if (step->begins.id[0]) {
		step->begins.state = (char *)state_names[REMAINS_NEEDED];
		insert(c, &step->begins);
	}
	if (step->settles && step->gone)
		take_out(step->settles);
	else if (step->settles)
		take_state(step->settles, step->to);
}

/* Of one that no step of its session settles. */
static void settle_now(struct remains *r, enum remains_state state)
{
	struct error e = ERROR_INIT;
	if (write_state(r, state, &e) < 0)
		log_error("what is left of session %s on %s: %s", r->row.session,
			  node_name(r->source), e.text);
	else
		take_state(r, state);
}

static void forget(struct remains *r)
{
	struct error e = ERROR_INIT;
	if (db_departure_delete(r->c->db, r->row.id, &e) < 0) {
		log_error("what was left of session %s on %s: %s", r->row.session,
			  node_name(r->source), e.text);
		return; /* the next look says the same again */
	}
	struct controller *c = r->c;
	take_out(r);
	migrate_soon(c);
}

/* --- asking ------------------------------------------------------------------------------------
 */

static void answered(const struct http_reply *reply, void *arg)
{
	struct remains *r = arg;
	struct error e;
	r->call = NULL;
	node_heard(r->source, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE || reply->status == 404)
		forget(r);
	else
		log_info("what is left of session %s on %s stays for now: %s", r->row.session,
			 node_name(r->source), e.text);
}

/* Nothing comes of it while that node is not there: each look at it asks again. */
static void ask(struct remains *r)
{
	bool back = r->state == REMAINS_BACK;
	if (r->state == REMAINS_NEEDED || r->call || !node_in_reach(r->source))
		return;
	cleanup_free char *path =
		str_printf("/v1/departures/%s%s", r->row.id, back ? "/take-back" : "");
	if (path)
		node_call(r->source, back ? "POST" : "DELETE", path, NULL, REMAINS_TIMEOUT_MS,
			  answered, r, &r->call, NULL);
}

/* --- looks -------------------------------------------------------------------------------------
 */

const struct session_status *remains_status(const struct session_status_list *list, const char *id)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i].id, id) == 0 &&
		    (list->items[i].running || list->items[i].frozen || list->items[i].given_to))
			return &list->items[i];
	return NULL;
}

static struct remains *find_at(const struct node *node, const char *session)
{
	for (struct remains *r = first(node->controller); r; r = TAILQ_NEXT(r, entry))
		if (r->source == node && strcmp(r->row.session, session) == 0)
			return r;
	return NULL;
}

/* Its target was lost when its source was, too: of the two the source is back. What it holds is the
 * newest there is, unless somebody has begun something else, and then it is over. */
static void go_on_here(struct remains *r, struct session *s)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = EVENT_FOUND,
		.who = "node",
		.node = r->source,
	};
	if (s->row.checkpoint > r->row.generation)
		settle_now(r, REMAINS_OVER);
	else if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that it is back cannot be recorded: %s", s->label, e.text);
}

void remains_seen(struct node *node, struct session *s)
{
	struct remains *r = find_at(node, s->row.id);
	bool sleeps = s->state == SESSION_HIBERNATED || s->state == SESSION_LOST;
	bool homeless = s->node == node || !node_in_reach(s->node);
	if (!r || s->effect)
		return;
	if (r->state == REMAINS_NEEDED && sleeps && homeless && node_in_reach(node))
		go_on_here(r, s);
}

void remains_seen_alone(struct node *node, const char *session)
{
	struct remains *r = find_at(node, session);
	if (r && r->state != REMAINS_OVER)
		settle_now(r, REMAINS_OVER);
}

/* Memory that it waits for is nowhere any more: what it is without that nobody can use. */
void remains_memory_lost(struct session *s)
{
	struct error e = ERROR_INIT;
	const struct remains *r = remains_of(s);
	cleanup_free char *reason =
		str_printf("it had moved to node %s, and what was still to come of its memory is "
			   "lost with %s",
			   node_name(s->node), r ? node_name(r->source) : "the one it came from");
	const struct session_change change = {
		.event = EVENT_NODE_LOST,
		.who = "nodes",
		.why = "memory-lost",
		.reason = reason,
		.wish = WISH_AWAKE,
	};
	if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that its memory is lost cannot be recorded: %s", s->label, e.text);
}

static void count_absent(struct remains *r, const struct session_status_list *list)
{
	if (remains_status(list, r->row.session))
		r->absent = 0;
	else if (++r->absent == ABSENT_MOST)
		r->absent_at = clock_mono();
}

/* What the target lacks it may have said before all was in and that node was told to end it: an
 * answer can be long on its way. So that of a look counts that began behind. */
static bool source_is_gone(const struct remains *r, const struct session *s)
{
	int64_t lease_ms = r->c->config->nodes.lease_ms;
	int64_t stalled_ms = clock_wall() - s->seen.stalled_since;
	if (node_in_reach(r->source))
		return r->absent >= ABSENT_MOST && r->target->look_at > r->absent_at;
	return stalled_ms > lease_ms;
}

/* At a look at the node that has the session. */
static void look_at_session(struct remains *r, const struct session_status_list *list)
{
	struct session *s = sessions_by_id(r->c, r->row.session);
	if (s->effect || s->state != SESSION_RUNNING || s->node != r->target ||
	    s->settled_at >= r->target->look_at || !remains_status(list, s->row.id))
		return;
	if (!s->seen.missing_bytes)
		settle_now(r, REMAINS_OVER);
	else if (s->seen.stalled_since && source_is_gone(r, s))
		remains_memory_lost(s);
}

/* The node was taken off the record: nobody will ask it again. */
static bool is_off_record(const struct remains *r)
{
	return !r->source->local && !r->source->joined && r->source->lost &&
	       r->state != REMAINS_NEEDED;
}

void remains_looked(struct node *node, const struct session_status_list *list)
{
	struct remains *next;
	for (struct remains *r = first(node->controller); r; r = next) {
		next = TAILQ_NEXT(r, entry);
		if (is_off_record(r)) {
			forget(r);
			continue;
		}
		if (r->state == REMAINS_NEEDED && !sessions_by_id(r->c, r->row.session))
			settle_now(r, REMAINS_OVER);
		if (r->source == node)
			count_absent(r, list);
		if (r->target == node && r->state == REMAINS_NEEDED)
			look_at_session(r, list);
		else if (r->source == node)
			ask(r);
	}
}
