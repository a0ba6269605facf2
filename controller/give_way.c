/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/give_way.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/node.h"
#include "controller/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000

struct giving {
	LIST_ENTRY(giving) entry;
	struct node *node;
	char session[ID_SIZE];
	char effect[ID_SIZE];
	bool forgotten;
	gave_way then;
	void *arg;
};

/* --- those that are forgotten ------------------------------------------------------------------
 */

static char *left_key(const char *session)
{
	return str_printf("left.%s", session);
}

int give_way_leave(struct session *s, struct error *e)
{
	cleanup_free char *key = left_key(s->row.id);
	return key ? db_fact_set(s->controller->db, key, node_name(s->node), e)
		   : error_set(e, ENOMEM, "out of memory");
}

bool give_way_was_left(struct controller *c, const char *session)
{
	cleanup_free char *key = left_key(session);
	cleanup_free char *node = NULL;
	return key && db_fact_get(c->db, key, &node, NULL) == 0;
}

static void forget_left(struct controller *c, const char *session)
{
	cleanup_free char *key = left_key(session);
	if (key)
		db_fact_set(c->db, key, NULL, NULL);
}

/* --- asking ------------------------------------------------------------------------------------
 */

static void giving_free(struct giving *g)
{
	LIST_REMOVE(g, entry);
	free(g);
}

void give_way_free(struct node *node)
{
	for (struct giving *g; (g = LIST_FIRST(&node->giving));)
		giving_free(g);
}

static bool is_asked(const struct node *node, const char *session)
{
	const struct giving *g;
	LIST_FOREACH(g, &node->giving, entry)
	if (strcmp(g->session, session) == 0)
		return true;
	return false;
}

static void gone(const struct giving *g)
{
	struct controller *c = g->node->controller;
	struct session *s = sessions_by_id(c, g->session);
	cleanup_free char *detail =
		str_printf("what node %s still held of it was ended there: it goes on elsewhere, "
			   "or was ended",
			   node_name(g->node));
	if (s)
		log_info("%s: %s has given way", s->label, node_name(g->node));
	record_note(c, &(struct record) { .session = s,
					  .who = "lease",
					  .what = "gave-way",
					  .why = s ? node_name(g->node) : g->session,
					  .detail = detail });
	if (g->forgotten)
		forget_left(c, g->session);
}

static void answered(const struct http_reply *reply, void *arg)
{
	struct giving *g = arg;
	struct effect_result result = { 0 };
	struct error e;
	node_heard(g->node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_effect_result, reply->body, reply->body_len, &result, &e);
	bool ended = e.fault == FAULT_NONE && result.state == EFFECT_DONE;
	if (ended && !g->then)
		gone(g);
	else if (!ended && (e.fault != FAULT_NONE || result.state == EFFECT_FAILED))
		log_warning("session %s does not give way on %s: %s", g->session,
			    node_name(g->node), result.text ? result.text : e.text);
	/* The next look asks anew if it is still there. */
	if (e.fault == FAULT_NONE && result.state != EFFECT_RUNNING)
		effect_acknowledge(g->node, g->effect, EFFECT_NONE);
	wire_free(&wire_effect_result, &result);
	if (g->then)
		g->then(g->node, ended, g->arg);
	giving_free(g);
}

static bool ask(struct node *node, const struct session_spec *spec, enum effect_kind kind,
		gave_way then, void *arg)
{
	struct giving *g = is_asked(node, spec->id) ? NULL : calloc(1, sizeof(*g));
	if (!g)
		return false;
	g->then = then;
	g->arg = arg;
	LIST_INSERT_HEAD(&node->giving, g, entry);
	g->node = node;
	g->forgotten = kind == EFFECT_FORGET;
	snprintf(g->session, sizeof(g->session), "%s", spec->id);
	/* Another one each time: a session may have to give way on the same node once more, and
	 * what was acknowledged is not done again. */
	id_new(g->effect);
	const struct effect_request request = {
		.id = g->effect,
		.kind = kind,
		.session = *spec,
	};
	cleanup_json json_t *body = wire_encode(&wire_effect_request, &request);
	cleanup_free char *path = str_printf("/v1/effects/%s", g->effect);
	if (!body || !path ||
	    node_call(node, "PUT", path, body, TIMEOUT_MS, answered, g, NULL, NULL) < 0) {
		giving_free(g);
		return false;
	}
	return true;
}

bool give_way_then(struct node *node, struct session *s, gave_way then, void *arg)
{
	struct session_spec spec = { 0 };
	bool asked = session_spec(s, &spec, NULL) == 0 && ask(node, &spec, EFFECT_STOP, then, arg);
	wire_free(&wire_session_spec, &spec);
	return asked;
}

void give_way(struct node *node, struct session *s)
{
	give_way_then(node, s, NULL, NULL);
}

void give_way_forgotten(struct node *node, const char *session)
{
	static char nothing[] = "";
	static char root[] = "/";
	static char *no_words[] = { NULL };
	const struct session_spec spec = {
		.id = (char *)session,
		.user = nothing,
		.server = nothing,
		.address = nothing,
		.port = 1,
		.uid = 1,
		.gid = 1,
		.home = root,
		.home_inside = root,
		.image = root,
		.cmd = no_words,
		.env = no_words,
	};
	ask(node, &spec, EFFECT_FORGET, NULL, NULL);
}
