/* SPDX-License-Identifier: Apache-2.0 */
#include "node/api.h"

#include "base/cleanup.h"
#include "base/id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One request about checkpoints, worked off by the pool. */
struct inquiry {
	struct node *node;
	struct http_exchange *exchange; /* NULL when the caller has left */
	int (*ask)(struct inquiry *q, struct store *store, struct error *e);
	char session[ID_SIZE]; /* "": all */
	int64_t generation;
	struct checkpoint_list list;
	int result;
	struct error error;
};

static void run(void *arg)
{
	struct inquiry *q = arg;
	struct store *store;
	q->result = node_store(q->node, &store, &q->error);
	if (q->result == 0)
		q->result = q->ask(q, store, &q->error);
}

static void reply(void *arg)
{
	struct inquiry *q = arg;
	struct http_exchange *x = q->exchange;
	if (x)
		http_exchange_on_close(x, NULL, NULL);
	if (x && q->result < 0)
		http_reply_error(x, &q->error);
	else if (x && q->generation == 0)
		api_reply(x, &wire_checkpoint_list, &q->list);
	else if (x)
		http_reply_json(x, 200, json_pack("{s:b}", "ok", 1));
	wire_free(&wire_checkpoint_list, &q->list);
	free(q);
}

static void caller_left(void *arg)
{
	struct inquiry *q = arg;
	q->exchange = NULL;
}

static void inquire(struct http_exchange *x, struct node *node, const char *session,
		    int64_t generation,
		    int (*ask)(struct inquiry *q, struct store *store, struct error *e))
{
	struct error e = ERROR_INIT;
	struct inquiry *q = malloc(sizeof(*q));
	if (q) {
		*q = (struct inquiry) {
			.node = node, .exchange = x, .ask = ask, .generation = generation
		};
		snprintf(q->session, sizeof(q->session), "%s", session);
	}
	if (q && pool_submit(node->pool, run, reply, q, &e) == 0) {
		/* Not too late: the pool answers on this thread. */
		http_exchange_on_close(x, caller_left, q);
		return;
	}
	free(q);
	error_set(&e, ENOMEM, "out of memory");
	http_reply_error(x, &e);
}

/* --- what can be asked ----------------------------------------------------------- */

static int fill_info(struct checkpoint_info *info, const struct store_meta *meta)
{
	*info = (struct checkpoint_info) {
		.session = strdup(meta->session),
		.generation = meta->generation,
		.created_at = meta->created_at,
		.memory_bytes = meta->memory_bytes,
		.stored_bytes = meta->stored_bytes,
		.objects = meta->objects,
		.aside = meta->aside,
		.user = strdup(meta->user ? meta->user : ""),
		.server = strdup(meta->server ? meta->server : ""),
		.cpu = strdup(meta->cpu ? meta->cpu : ""),
	};
	return info->session && info->user && info->server && info->cpu ? 0 : -ENOMEM;
}

static int add_info(const struct store_meta *meta, void *arg)
{
	struct checkpoint_list *list = arg;
	struct checkpoint_info *more = realloc(list->items, (list->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	list->items = more;
	return fill_info(&list->items[list->count++], meta);
}

static int ask_list(struct inquiry *q, struct store *store, struct error *e)
{
	return store_list(store, q->session[0] ? q->session : NULL, add_info, NULL, &q->list, e);
}

static int ask_verify(struct inquiry *q, struct store *store, struct error *e)
{
	struct store_read *read = NULL;
	int r = store_read_open(store, q->session, q->generation, &read, e);
	if (r == 0)
		r = store_read_verify(read, NULL, NULL, e);
	store_read_free(read);
	return r;
}

static int ask_aside(struct inquiry *q, struct store *store, struct error *e)
{
	return store_set_aside(store, q->session, q->generation, e);
}

static int ask_remove(struct inquiry *q, struct store *store, struct error *e)
{
	return store_remove(store, q->session, q->generation, e);
}

/* --- requests --------------------------------------------------------------------- */

void api_checkpoints(struct http_exchange *x, void *node)
{
	const char *session = http_exchange_query(x, "session");
	struct error e = ERROR_INIT;
	if (!session || id_valid(session)) {
		inquire(x, node, session ? session : "", 0, ask_list);
		return;
	}
	error_set(&e, EINVAL, "session: expected 16 hexadecimal digits");
	http_reply_error(x, &e);
}

static void inquire_one(struct http_exchange *x, struct node *node, const char *session,
			int64_t generation,
			int (*ask)(struct inquiry *q, struct store *store, struct error *e))
{
	struct error e = ERROR_INIT;
	if (id_valid(session) && generation > 0) {
		inquire(x, node, session, generation, ask);
		return;
	}
	error_set(&e, EINVAL, "expected a session's id and a generation above 0");
	http_reply_error(x, &e);
}

static void inquire_body(struct http_exchange *x, struct node *node,
			 int (*ask)(struct inquiry *q, struct store *store, struct error *e))
{
	json_t *body = http_exchange_json(x);
	if (!body)
		return;
	inquire_one(x, node, json_string_value(json_object_get(body, "session")),
		    json_integer_value(json_object_get(body, "generation")), ask);
	json_decref(body);
}

void api_checkpoint_verify(struct http_exchange *x, void *node)
{
	inquire_body(x, node, ask_verify);
}

void api_checkpoint_aside(struct http_exchange *x, void *node)
{
	inquire_body(x, node, ask_aside);
}

void api_checkpoint_remove(struct http_exchange *x, void *node)
{
	const char *generation = http_exchange_param(x, "generation");
	inquire_one(x, node, http_exchange_param(x, "session"),
		    generation ? strtoll(generation, NULL, 10) : 0, ask_remove);
}
