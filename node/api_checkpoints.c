/* SPDX-License-Identifier: Apache-2.0 */
#include "node/api.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "node/store_jobs.h"

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
	struct checkpoint_detail detail;
	int result;
	struct error error;
};

static int ask_detail(struct inquiry *q, struct store *store, struct error *e);

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
	else if (x && q->ask == ask_detail)
		api_reply(x, &wire_checkpoint_detail, &q->detail);
	else if (x)
		http_reply_json(x, 200, json_pack("{s:b}", "ok", 1));
	wire_free(&wire_checkpoint_list, &q->list);
	wire_free(&wire_checkpoint_detail, &q->detail);
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

static struct checkpoint_info *grow(struct checkpoint_list *list)
{
	struct checkpoint_info *more = realloc(list->items, (list->count + 1) * sizeof(*more));
	if (!more)
		return NULL;
	list->items = more;
	more[list->count] = (struct checkpoint_info) { 0 };
	return &more[list->count++];
}

static int add_info(const struct store_meta *meta, void *arg)
{
	struct inquiry *q = arg;
	struct checkpoint_info *info = grow(&q->list);
	return info ? store_info(info, meta) : -ENOMEM;
}

static int add_damaged(const char *session, int64_t generation, const struct error *why, void *arg)
{
	struct inquiry *q = arg;
	struct checkpoint_info *info = grow(&q->list);
	if (!info)
		return -ENOMEM;
	*info = (struct checkpoint_info) {
		.session = strdup(session),
		.generation = generation,
		.damaged = strdup(why->text),
	};
	return info->session && info->damaged ? 0 : -ENOMEM;
}

static int add_fence(const char *session, int64_t generation, int64_t taken_at, const char *by,
		     void *arg)
{
	struct inquiry *q = arg;
	struct checkpoint_info *info = grow(&q->list);
	if (!info)
		return -ENOMEM;
	*info = (struct checkpoint_info) {
		.session = strdup(session),
		.generation = generation,
		.created_at = taken_at,
		.fence = strdup(by),
	};
	return info->session && info->fence ? 0 : -ENOMEM;
}

static int ask_fences(struct inquiry *q, struct store *store, struct error *e)
{
	return store_list_fences(store, q->session[0] ? q->session : NULL, add_fence, q, e);
}

static int ask_list(struct inquiry *q, struct store *store, struct error *e)
{
	return store_list(store, q->session[0] ? q->session : NULL, add_info, add_damaged, q, e);
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

static int64_t count_zero_pages(const struct store_memory *m)
{
	int64_t count = 0;
	for (uint64_t i = 0; i < m->pages; i++)
		count += m->frames[i] == STORE_ZERO;
	return count;
}

static int add_memories(struct checkpoint_detail *detail, const struct store_read *read)
{
	const struct store_memory *list;
	size_t count = store_read_memories(read, &list);
	detail->memories = calloc(count + 1, sizeof(*detail->memories));
	if (!detail->memories)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		detail->memories[detail->memory_count++] = (struct memory_info) {
			.name = strdup(list[i].name),
			.pages = (int64_t)list[i].pages,
			.zero_pages = count_zero_pages(&list[i]),
		};
		if (!detail->memories[i].name)
			return -ENOMEM;
	}
	return 0;
}

static int fill_detail(struct checkpoint_detail *detail, const struct store_read *read)
{
	const struct store_frame *frames;
	size_t count = store_read_frames(read, &frames);
	detail->frames = (int64_t)count;
	for (size_t i = 0; i < count; i++)
		detail->hot_frames += frames[i].hot;
	int r = store_info(&detail->checkpoint, store_read_meta(read));
	return r < 0 ? r : add_memories(detail, read);
}

static int ask_detail(struct inquiry *q, struct store *store, struct error *e)
{
	struct store_read *read = NULL;
	int r = store_read_open(store, q->session, q->generation, &read, e);
	if (r == 0 && fill_detail(&q->detail, read) < 0)
		r = error_set(e, ENOMEM, "out of memory");
	store_read_free(read);
	return r;
}

/* --- requests --------------------------------------------------------------------- */

void api_checkpoints(struct http_exchange *x, void *node)
{
	const char *session = http_exchange_query(x, "session");
	const char *fences = http_exchange_query(x, "fences");
	struct error e = ERROR_INIT;
	if (!session || id_valid(session)) {
		inquire(x, node, session ? session : "", 0,
			fences && strcmp(fences, "yes") == 0 ? ask_fences : ask_list);
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

void api_checkpoint(struct http_exchange *x, void *node)
{
	const char *generation = http_exchange_param(x, "generation");
	inquire_one(x, node, http_exchange_param(x, "session"),
		    generation ? strtoll(generation, NULL, 10) : 0, ask_detail);
}
