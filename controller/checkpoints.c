/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/checkpoints.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/node.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "wire/text.h"

#include <stdlib.h>
#include <string.h>

#define LIST_TIMEOUT_MS  60000
#define ASIDE_TIMEOUT_MS 30000

/* --- setting aside -----------------------------------------------------------------------------
 */

static void told_aside(const struct http_reply *reply, void *arg)
{
	struct error e;
	node_heard(arg, reply);
	node_error(reply, &e);
	if (e.fault != FAULT_NONE && e.fault != FAULT_NOT_FOUND)
		log_warning("a checkpoint is not marked as set aside in the store yet: %s", e.text);
}

void checkpoints_tell_aside(struct controller *c, const char *session, int64_t generation)
{
	struct node *node = nodes_for_store(c);
	cleanup_json json_t *body =
		json_pack("{s:s, s:I}", "session", session, "generation", (json_int_t)generation);
	if (body)
		node_call(node, "POST", "/v1/checkpoints/aside", body, ASIDE_TIMEOUT_MS, told_aside,
			  node, NULL, NULL);
}

/* --- comparing ---------------------------------------------------------------------------------
 */

struct comparison {
	struct controller *c;
	struct node *node;     /* that is asked */
	char session[ID_SIZE]; /* "": all */
	mono_us asked_at;
};

static int by_session(const void *a, const void *b)
{
	const struct checkpoint_info *x = a;
	const struct checkpoint_info *y = b;
	int order = strcmp(x->session, y->session);
	return order ? order : (x->generation > y->generation) - (x->generation < y->generation);
}

/* `list` is in the order of by_session(). */
static const struct checkpoint_info *find_info(const struct checkpoint_list *list,
					       const char *session, int64_t generation)
{
	const struct checkpoint_info key = { .session = (char *)session, .generation = generation };
	return list->count ? bsearch(&key, list->items, list->count, sizeof(key), by_session)
			   : NULL;
}

/* The last one of the session that can be used: before the first that comes after all it could
 * have. */
static const struct checkpoint_info *newest_info(const struct checkpoint_list *list,
						 const char *session)
{
	size_t low = 0;
	size_t high = list->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(list->items[middle].session, session) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	while (low > 0 && list->items[low - 1].damaged &&
	       strcmp(list->items[low - 1].session, session) == 0)
		low--;
	if (low == 0 || strcmp(list->items[low - 1].session, session) != 0)
		return NULL;
	return &list->items[low - 1];
}

static void report_missing(struct session *s, int64_t generation)
{
	log_error("%s: its checkpoint %lld is not in the store", s->label, (long long)generation);
	record_note(
		s->controller,
		&(struct record) {
			.session = s,
			.who = "store",
			.what = "checkpoint-missing",
			.why = "not-listed",
			.detail =
				"the newest checkpoint is not in the store: is the store whole and "
				"mounted?" });
}

static void report_damaged(struct session *s, const struct checkpoint_info *info)
{
	log_error("%s: its checkpoint %lld is damaged: %s", s->label, (long long)info->generation,
		  info->damaged);
	record_note(s->controller, &(struct record) { .session = s,
						      .who = "store",
						      .what = "checkpoint-damaged",
						      .why = "listed",
						      .detail = info->damaged });
}

/* What only the store knows of one: all of it, if its writer could not tell. */
static void learn(struct session *s, const struct db_checkpoint *row,
		  const struct checkpoint_info *info)
{
	struct error e = ERROR_INIT;
	struct db_checkpoint better = *row;
	bool knows_cpu = !info->cpu || (row->cpu && strcmp(row->cpu, info->cpu) == 0);
	if (info->damaged || (row->stored_bytes && knows_cpu))
		return;
	better.cpu = info->cpu;
	if (!row->stored_bytes) {
		better.stored_bytes = info->stored_bytes;
		better.memory_bytes = info->memory_bytes;
		better.created_at = info->created_at;
	}
	if (db_checkpoint_put(s->controller->db, &better, &e) < 0)
		log_error("%s: %s", s->label, e.text);
	else if (better.generation == s->row.checkpoint)
		session_take_checkpoint(s, &better);
}

static void compare_row(struct session *s, const struct db_checkpoint *row,
			const struct checkpoint_list *list, int64_t newest)
{
	struct error e = ERROR_INIT;
	const struct checkpoint_info *info = find_info(list, s->row.id, row->generation);
	if (info && info->damaged && row->generation == s->row.checkpoint)
		report_damaged(s, info);
	if (info && row->aside && !info->aside && !info->damaged)
		checkpoints_tell_aside(s->controller, s->row.id, row->generation);
	if (info) {
		learn(s, row, info);
		return;
	}
	if (row->generation == s->row.checkpoint)
		report_missing(s, row->generation);
	else if (row->generation < newest && /* older ones are removed by the node: store.keep */
		 db_checkpoint_delete(s->controller->db, s->row.id, row->generation, &e) < 0)
		log_error("%s: %s", s->label, e.text);
}

static void compare_session(struct session *s, const struct checkpoint_list *list)
{
	const struct checkpoint_info *newest = newest_info(list, s->row.id);
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	struct error e = ERROR_INIT;
	if (newest && newest->generation > s->row.generation && !s->effect &&
	    session_adopt_checkpoint(s, newest, NULL, &e) < 0)
		log_error("%s: %s", s->label, e.text);
	if (rows_checkpoints(s->controller->db, s->row.id, &rows, &count, &e) < 0)
		log_error("%s: %s", s->label, e.text);
	for (size_t i = 0; i < count; i++)
		compare_row(s, &rows[i], list, newest ? newest->generation : 0);
	rows_free_checkpoints(rows, count);
}

static void compare(struct comparison *cmp, struct checkpoint_list *list)
{
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), by_session);
	for (struct session *s = sessions_first(cmp->c); s; s = sessions_next(s))
		if ((!cmp->session[0] || strcmp(cmp->session, s->row.id) == 0) &&
		    s->settled_at < cmp->asked_at)
			compare_session(s, list);
}

static void listed(const struct http_reply *reply, void *arg)
{
	struct comparison *cmp = arg;
	struct checkpoint_list list = { 0 };
	struct error e;
	node_heard(cmp->node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_checkpoint_list, reply->body, reply->body_len, &list, &e);
	if (e.fault == FAULT_NONE)
		compare(cmp, &list);
	else
		log_warning("the checkpoints in the store cannot be listed: %s", e.text);
	wire_free(&wire_checkpoint_list, &list);
	free(cmp);
}

void checkpoints_compare(struct controller *c, const struct session *s)
{
	cleanup_free char *path =
		s ? str_printf("/v1/checkpoints?session=%s", s->row.id) : strdup("/v1/checkpoints");
	struct comparison *cmp = calloc(1, sizeof(*cmp));
	if (!path || !cmp) {
		free(cmp);
		return;
	}
	cmp->c = c;
	cmp->node = nodes_for_store(c);
	cmp->asked_at = clock_mono();
	if (s)
		memcpy(cmp->session, s->row.id, ID_SIZE);
	if (node_call(cmp->node, "GET", path, NULL, LIST_TIMEOUT_MS, listed, cmp, NULL, NULL) < 0)
		free(cmp);
}

/* --- as JSON -----------------------------------------------------------------------------------
 */

static json_t *text_or_null(const char *text)
{
	return text && *text ? wire_text(text) : json_null();
}

json_t *checkpoint_info_json(const struct session *s, const struct checkpoint_info *info)
{
	json_t *shown = wire_encode(&wire_checkpoint_info, info);
	const char *user = s ? s->row.user : (info->user ? info->user : "");
	const char *server = s ? s->row.server : (info->server ? info->server : "");
	if (!shown)
		return NULL;
	json_object_set_new(shown, "user", wire_text(user));
	json_object_set_new(shown, "server", wire_text(server));
	json_object_set_new(shown, "cpu", text_or_null(info->cpu));
	json_object_set_new(shown, "damaged", text_or_null(info->damaged));
	json_object_set_new(shown, "fence", text_or_null(info->fence));
	return shown;
}

json_t *checkpoints_json(struct session *s)
{
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	json_t *list = json_array();
	if (rows_checkpoints(s->controller->db, s->row.id, &rows, &count, NULL) < 0)
		log_error("%s: its checkpoints cannot be read from the database", s->label);
	for (size_t i = 0; i < count; i++) {
		const struct checkpoint_info info = {
			.session = rows[i].session,
			.generation = rows[i].generation,
			.created_at = rows[i].created_at,
			.memory_bytes = rows[i].memory_bytes,
			.stored_bytes = rows[i].stored_bytes,
			.aside = rows[i].aside,
		};
		json_array_append_new(list, checkpoint_info_json(s, &info));
	}
	rows_free_checkpoints(rows, count);
	return list;
}
