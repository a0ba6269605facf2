/* SPDX-License-Identifier: Apache-2.0 */
/* The store: ls, verify. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>

/* Reading a store can take this long, when nothing else is said. */
#define VERIFY_TIMEOUT_S 3600

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static bool is_asked_for(const struct cli *cli, const json_t *checkpoint)
{
	if (cli->user && strcmp(text_at(checkpoint, "user"), cli->user) != 0)
		return false;
	return !cli->generation ||
	       json_integer_value(json_object_get(checkpoint, "generation")) == cli->generation;
}

/* One session's by its name, a user's by looking through all. */
static int fetch_checkpoints(struct cli *cli, json_t **list, struct error *e)
{
	cleanup_free char *path = cli->server_given ? api_session_path(cli, "/v1/checkpoints", NULL)
						    : str_printf("/v1/checkpoints");
	cleanup_json json_t *all = NULL;
	json_t *checkpoint;
	size_t i;
	int r = api_get_list(cli, path, "checkpoints", &all, e);
	if (r < 0)
		return r;
	*list = json_array();
	json_array_foreach (all, i, checkpoint)
		if (is_asked_for(cli, checkpoint))
			json_array_append(*list, checkpoint);
	return 0;
}

int cmd_store_ls(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT },
		{ "GENERATION", "generation", COLUMN_INT },
		{ "WHEN", "created_at", COLUMN_TIME },
		{ "MEMORY", "memory_bytes", COLUMN_BYTES },
		{ "STORED", "stored_bytes", COLUMN_BYTES },
		{ "OBJECTS", "objects", COLUMN_INT },
		{ "ASIDE", "aside", COLUMN_TEXT },
		{ "SESSION", "session", COLUMN_TEXT },
	};
	cleanup_json json_t *rows = NULL;
	int r = fetch_checkpoints(cli, &rows, e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, rows);
	else if (json_array_size(rows) == 0)
		puts("no checkpoints");
	else
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	return 0;
}

/* --- verify ------------------------------------------------------------------ */

static int verify_one(struct cli *cli, const json_t *checkpoint, struct error *e)
{
	static const char *const keys[] = { "user", "server", "session", "generation" };
	json_t *body = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(body, keys[i], json_object_get(checkpoint, keys[i]));
	return api_post(cli, "/v1/checkpoints/verify", body, NULL, e);
}

static void say_verified(const json_t *checkpoint, const char *verdict)
{
	const char *server = text_at(checkpoint, "server");
	text_print_name(stdout, text_at(checkpoint, "user"));
	if (*server) {
		putchar('/');
		text_print_name(stdout, server);
	}
	printf(" generation %lld: ",
	       (long long)json_integer_value(json_object_get(checkpoint, "generation")));
	text_print_name(stdout, verdict);
	putchar('\n');
	fflush(stdout); /* the next one may take minutes */
}

static json_t *result_json(const json_t *checkpoint, const struct error *bad)
{
	json_t *result = json_pack("{s:b, s:o}", "ok", bad->fault == FAULT_NONE, "error",
				   bad->fault == FAULT_NONE ? json_null() : wire_text(bad->text));
	static const char *const keys[] = { "user", "server", "generation" };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(result, keys[i], json_object_get(checkpoint, keys[i]));
	return result;
}

/* Goes on after a bad one, so that all of them are known; not when there is nobody to ask. */
int cmd_store_verify(struct cli *cli, struct error *e)
{
	cleanup_json json_t *list = NULL;
	cleanup_json json_t *results = json_array();
	json_t *checkpoint;
	size_t i;
	int worst = fetch_checkpoints(cli, &list, e);
	if (!cli->timeout_s)
		cli->timeout_s = VERIFY_TIMEOUT_S;
	json_array_foreach (list, i, checkpoint) {
		struct error bad = ERROR_INIT;
		int r = verify_one(cli, checkpoint, &bad);
		if (!cli->json)
			say_verified(checkpoint, r < 0 ? bad.text : "good");
		json_array_append_new(results, result_json(checkpoint, &bad));
		if (r < 0) {
			worst = r;
			*e = bad;
		}
		if (bad.fault == FAULT_UNAVAILABLE || bad.fault == FAULT_DENIED)
			break;
	}
	if (cli->json && list)
		print_json(stdout, results);
	else if (list && json_array_size(list) == 0)
		puts("no checkpoints");
	return worst;
}
