/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/evacuations.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "controller/api.h"
#include "controller/drain.h"
#include "controller/left_behind.h"
#include "controller/record.h"
#include "controller/sessions.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASK_TIMEOUT_MS 10000

/* --- on record -------------------------------------------------------------------------- */

static char *fact_of(const char *name)
{
	return str_printf("evacuation.%s", name);
}

/* -ENOENT when there was none. */
static int load(struct controller *c, const char *name, struct evacuation *to, struct error *e)
{
	cleanup_free char *key = fact_of(name);
	cleanup_free char *text = NULL;
	int r = key ? db_fact_get(c->db, key, &text, e) : error_set(e, ENOMEM, "out of memory");
	return r < 0 ? r : wire_decode_text(&wire_evacuation, text, strlen(text), to, e);
}

static int save(struct controller *c, const char *name, const struct evacuation *from,
		struct error *e)
{
	cleanup_free char *key = fact_of(name);
	cleanup_json json_t *json = wire_encode(&wire_evacuation, from);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!key || !text)
		return error_set(e, ENOMEM, "out of memory");
	return db_fact_set(c->db, key, text, e);
}

/* --- events ------------------------------------------------------------------------------- */

struct news {
	struct controller *c;
	const char *name;
	const struct evacuation *now, *before; /* before: zeroed when there was none */
};

static const struct evacuee *find(const struct evacuation *in, const char *session)
{
	for (size_t i = 0; i < in->session_count; i++)
		if (strcmp(in->sessions[i].session, session) == 0)
			return &in->sessions[i];
	return NULL;
}

static int tell_saved(const struct news *n, const struct evacuee *s, struct error *e)
{
	const struct evacuee *before = find(n->before, s->session);
	if (before && before->state == EVACUEE_SAVED && before->generation == s->generation)
		return 0;
	cleanup_free char *detail =
		str_printf("from %s, as checkpoint %lld", n->name, (long long)s->generation);
	return record_event(n->c,
			    &(struct record) { .session = sessions_by_id(n->c, s->session),
					       .who = "node",
					       .what = "put-away",
					       .why = n->now->notice.source,
					       .detail = detail,
					       .duration_us = (s->ended_at - s->begun_at) * 1000,
					       .bytes = s->bytes },
			    e);
}

static int tell_left(const struct news *n, const struct evacuee *s, struct error *e)
{
	char age[CLOCK_TEXT_SIZE] = "";
	wall_ms end = n->now->ended_at;
	struct session *session = sessions_by_id(n->c, s->session);
	int r = session ? left_behind_note(session, n->name, n->now->notice.at, s, e) : 0;
	if (r < 0)
		return r;
	clock_format_duration(end - s->snapshot_at, age);
	cleanup_free char *detail =
		str_printf("on %s%s%s; %s%s", n->name, s->why ? ": " : "", s->why ? s->why : "",
			   s->snapshot_at ? "its last checkpoint was then of before " : "",
			   s->snapshot_at ? age : "it has no checkpoint");
	return record_event(n->c,
			    &(struct record) { .session = session,
					       .who = "node",
					       .what = "left-behind",
					       .why = name_of(evacuee_state_names,
							      EVACUEE_STATE_COUNT, s->state),
					       .detail = detail },
			    e);
}

static size_t count(const struct evacuation *in, enum evacuee_state state)
{
	size_t n = 0;
	for (size_t i = 0; i < in->session_count; i++)
		n += in->sessions[i].state == state;
	return n;
}

/* One that was called off has left nobody behind. */
static bool is_left(const struct evacuee *s)
{
	return s->state == EVACUEE_LEFT || s->state == EVACUEE_FAILED || s->state == EVACUEE_SAVING;
}

static int tell_end(const struct news *n, struct error *e)
{
	char margin[CLOCK_TEXT_SIZE];
	const struct evacuation *now = n->now;
	int64_t left = now->margin_ms, behind = 0;
	int r = 0;
	for (size_t i = 0; r == 0 && i < now->session_count; i++) {
		if (!is_left(&now->sessions[i]))
			continue;
		behind++;
		r = tell_left(n, &now->sessions[i], e);
	}
	clock_format_duration(left < 0 ? -left : left, margin);
	size_t moved = count(now, EVACUEE_MOVED);
	cleanup_free char *ran = moved ? str_printf(" (%zu while they ran)", moved) : NULL;
	cleanup_free char *detail = str_printf(
		"%s: %zu of %zu sessions saved%s, %lld left behind; %s %s the deadline", n->name,
		count(now, EVACUEE_SAVED) + moved, now->session_count, ran ? ran : "",
		(long long)behind, margin, left < 0 ? "behind" : "before");
	if (r < 0)
		return r;
	return record_event(
		n->c,
		&(struct record) { .who = "node",
				   .what = "evacuation",
				   .why = now->notice.source,
				   .detail = detail,
				   .duration_us = (now->ended_at - now->begun_at) * 1000 },
		e);
}

static int tell(const struct news *n, struct error *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < n->now->session_count; i++)
		if (n->now->sessions[i].state == EVACUEE_SAVED)
			r = tell_saved(n, &n->now->sessions[i], e);
	bool ended = n->now->ended_at && n->now->ended_at != n->before->ended_at;
	if (r == 0 && ended)
		r = tell_end(n, e);
	return r == 0 ? save(n->c, n->name, n->now, e) : r;
}

/* Events and record in one transaction: what is told is not told again. */
static int keep(struct controller *c, const char *name, const struct evacuation *now,
		struct error *e)
{
	struct evacuation before = { 0 };
	const struct news n = { c, name, now, &before };
	int r = load(c, name, &before, NULL);
	if (r == 0 && before.begun_at != now->begun_at)
		wire_free(&wire_evacuation, &before);
	r = db_begin(c->db, e);
	if (r == 0) {
		r = tell(&n, e);
		if (r == 0)
			r = db_commit(c->db, e);
		else
			db_rollback(c->db);
	}
	wire_free(&wire_evacuation, &before);
	return r;
}

/* Should the machine go away without another word, the record has it. */
static void note_left(struct node *node, struct session *s, const struct evacuation *now,
		      const struct evacuee *one, bool unsaved)
{
	struct error e = ERROR_INIT;
	int r = 0;
	if (!session_has_processes(s))
		return;
	if (unsaved)
		r = left_behind_note(s, node->name, now->notice.at, one, &e);
	else if (!node->info.notice_count || one->state == EVACUEE_SAVED)
		r = left_behind_take_back(s, node->name, &e);
	if (r < 0)
		log_error("%s: that it cannot be saved is not recorded: %s", s->label, e.text);
}

/* While there is time its user can be told. */
static void note_unsaved(struct node *node, const struct evacuation *now)
{
	for (size_t i = 0; i < now->session_count; i++) {
		const struct evacuee *one = &now->sessions[i];
		struct session *s = sessions_by_id(node->controller, one->session);
		bool unsaved = one->state == EVACUEE_FAILED && node->info.notice_count;
		if (!s || s->node != node)
			continue;
		note_left(node, s, now, one, unsaved);
		s->seen.to_move = one->to_move;
		snprintf(s->seen.unsaved, sizeof(s->seen.unsaved), "%s",
			 !unsaved   ? ""
			 : one->why ? one->why
				    : "the node gives no reason");
	}
}

/* --- asking ------------------------------------------------------------------------------- */

/* False: the reply holds none. */
static bool take(struct node *node, const struct http_reply *reply)
{
	struct evacuation now;
	struct error e = ERROR_INIT;
	if (reply->status == 404)
		node->evacuation = EVACUATION_OVER;
	if (reply->status != 200 || !node->name)
		return false;
	int r = wire_decode_text(&wire_evacuation, reply->body, reply->body_len, &now, &e);
	if (r == 0) {
		r = keep(node->controller, node->name, &now, &e);
		/* Not kept, it is asked for again. */
		node->evacuation = r == 0 && now.ended_at ? EVACUATION_OVER : EVACUATION_OPEN;
		note_unsaved(node, &now);
		drain_soon(node->controller);
		node->noticed = node->info.notice_count;
		wire_free(&wire_evacuation, &now);
	}
	if (r < 0)
		log_error("%s: its evacuation cannot be recorded: %s", node_name(node), e.text);
	return r == 0;
}

static void answered(const struct http_reply *reply, void *arg)
{
	struct node *node = arg;
	node_heard(node, reply);
	take(node, reply);
}

void evacuations_look(struct node *node, const struct node_info *info)
{
	/* Once more when the last notice is gone: nobody is to be told any more. */
	if (node->checked && node->evacuation == EVACUATION_OVER && !info->evacuating &&
	    !info->notice_count && !node->noticed)
		return;
	node_call(node, "GET", "/v1/evacuation", NULL, ASK_TIMEOUT_MS, answered, node, NULL, NULL);
}

/* --- of a node that is gone ----------------------------------------------------------------- */

/* As far as it had come when it was last heard. */
static void end_for(struct node *node, struct evacuation *last, wall_ms now)
{
	struct error e = ERROR_INIT;
	wall_ms saved = 0;
	for (size_t i = 0; i < last->session_count; i++) {
		struct evacuee *s = &last->sessions[i];
		bool safe = s->state == EVACUEE_SAVED || s->state == EVACUEE_MOVED;
		if (safe && s->ended_at > saved)
			saved = s->ended_at;
		if (s->state == EVACUEE_WAITING)
			s->state = EVACUEE_LEFT;
	}
	last->ended_at = now;
	last->margin_ms = saved ? last->notice.at - saved : 0;
	if (keep(node->controller, node->name, last, &e) == 0)
		node->evacuation = EVACUATION_OVER;
	else
		log_error("%s: its evacuation cannot be recorded: %s", node_name(node), e.text);
}

void evacuations_missed(struct node *node)
{
	struct evacuation last = { 0 };
	wall_ms now = clock_wall();
	if (node->evacuation == EVACUATION_OVER || !node->name)
		return;
	if (load(node->controller, node->name, &last, NULL) < 0 || last.ended_at)
		node->evacuation = EVACUATION_OVER;
	else if (now > last.notice.at)
		end_for(node, &last, now);
	wire_free(&wire_evacuation, &last);
}

/* --- for people ------------------------------------------------------------------------------- */

static void add_names(struct controller *c, json_t *evacuation)
{
	size_t i;
	json_t *one;
	json_array_foreach (json_object_get(evacuation, "sessions"), i, one) {
		const char *id = json_string_value(json_object_get(one, "session"));
		const struct session *s = id ? sessions_by_id(c, id) : NULL;
		if (s)
			json_object_set_new(one, "label", wire_text(s->label));
	}
}

static void reply_known(struct http_exchange *x, struct controller *c, const char *name)
{
	struct evacuation last = { 0 };
	struct error e = ERROR_INIT;
	int r = load(c, name, &last, &e);
	if (r == -ENOENT) {
		error_clear(&e);
		error_set(&e, ENOENT, "of no evacuation of a node \"%s\" is known", name);
		error_remedy(&e, 0, "see 'elsa node list' for the nodes there are");
	}
	if (r < 0) {
		http_reply_error(x, &e);
		return;
	}
	json_t *json = wire_encode(&wire_evacuation, &last);
	wire_free(&wire_evacuation, &last);
	json_object_set_new(json, "node", wire_text(name));
	add_names(c, json);
	http_reply_json(x, 200, json);
}

struct asked {
	struct node *node;
	struct http_exchange *x; /* NULL: its caller went away */
};

static void asker_left(void *arg)
{
	((struct asked *)arg)->x = NULL;
}

static void answered_for(const struct http_reply *reply, void *arg)
{
	struct asked *a = arg;
	answered(reply, a->node);
	if (a->x) {
		http_exchange_on_close(a->x, NULL, NULL);
		reply_known(a->x, a->node->controller, a->node->name);
	}
	free(a);
}

/* What a node that is there knows is newer. */
void api_get_evacuation(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	const char *name = http_exchange_query(x, "node");
	struct node *node = name ? nodes_find(c, name) : NULL;
	if (!name || !*name) {
		api_reply_fault(x, FAULT_BAD_INPUT, "node: expected a name", NULL);
		return;
	}
	struct asked *a = node && node->up ? calloc(1, sizeof(*a)) : NULL;
	if (a) {
		*a = (struct asked) { node, x };
		if (node_call(node, "GET", "/v1/evacuation", NULL, ASK_TIMEOUT_MS, answered_for, a,
			      NULL, NULL) == 0) {
			http_exchange_on_close(x, asker_left, a);
			return;
		}
		free(a);
	}
	reply_known(x, c, name);
}
