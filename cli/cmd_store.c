/* SPDX-License-Identifier: Apache-2.0 */
/* The store: ls, verify. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"

#include <stdio.h>
#include <unistd.h>

static int fetch_checkpoints(struct cli *cli, json_t **answer, struct error *e)
{
	cleanup_free char *path = cli->user ? api_session_path(cli, "/v1/checkpoints", NULL)
					    : str_printf("/v1/checkpoints");
	return api_get(cli, path, answer, e);
}

int cmd_store_ls(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "USER", "user", COLUMN_TEXT },	    { "SERVER", "server", COLUMN_TEXT },
		{ "GENERATION", "generation", COLUMN_INT }, { "WHEN", "created_at", COLUMN_TIME },
		{ "MEMORY", "memory_bytes", COLUMN_BYTES }, { "STORED", "stored_bytes", COLUMN_BYTES },
		{ "OBJECTS", "objects", COLUMN_INT },	    { "ASIDE", "aside", COLUMN_TEXT },
		{ "SESSION", "session", COLUMN_TEXT },
	};
	json_t *answer = NULL;
	int r = fetch_checkpoints(cli, &answer, e);
	if (r < 0)
		return r;
	json_t *rows = json_object_get(answer, "checkpoints");
	if (cli->json)
		json_dumpf(rows, stdout, JSON_INDENT(2)), putchar('\n');
	else if (json_array_size(rows) == 0)
		printf("no checkpoints\n");
	else
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	json_decref(answer);
	return 0;
}

static int verify_one(struct cli *cli, const json_t *checkpoint, struct error *e)
{
	json_t *body = json_object();
	static const char *const keys[] = { "user", "server", "session", "generation" };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(body, keys[i], json_object_get(checkpoint, keys[i]));
	return api_post(cli, "/v1/checkpoints/verify", body, NULL, e);
}

/* Goes on after a bad one, so that all of them are known. */
int cmd_store_verify(struct cli *cli, struct error *e)
{
	json_t *answer = NULL;
	json_t *checkpoint;
	json_t *results = json_array();
	size_t i;
	int worst = fetch_checkpoints(cli, &answer, e);
	json_array_foreach(json_object_get(answer, "checkpoints"), i, checkpoint) {
		int64_t generation = json_integer_value(json_object_get(checkpoint, "generation"));
		if (cli->generation && generation != cli->generation)
			continue;
		struct error bad = ERROR_INIT;
		int r = verify_one(cli, checkpoint, &bad);
		const char *user = json_string_value(json_object_get(checkpoint, "user"));
		if (!cli->json)
			printf("%s generation %lld: %s\n", user, (long long)generation,
				r < 0 ? bad.text : "good");
		json_array_append_new(results,
			json_pack("{s:O, s:I, s:b, s:s}", "user", json_object_get(checkpoint, "user"),
				"generation", (json_int_t)generation, "ok", r == 0, "error", bad.text));
		if (r < 0) {
			worst = r;
			if (e)
				*e = bad;
		}
	}
	if (cli->json)
		json_dumpf(results, stdout, JSON_INDENT(2)), putchar('\n');
	json_decref(results);
	json_decref(answer);
	return worst;
}
