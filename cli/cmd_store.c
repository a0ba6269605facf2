/* SPDX-License-Identifier: Apache-2.0 */
/* The store: ls, show, verify, gc, rm, rekey. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "io/http_client.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void print_name(const json_t *checkpoint)
{
	const char *server = wire_text_at(checkpoint, "server");
	const char *user = wire_text_at(checkpoint, "user");
	/* Of a damaged one of a session that elsad does not know. */
	if (!*user) {
		printf("session ");
		text_print_name(stdout, wire_text_at(checkpoint, "session"));
		return;
	}
	text_print_name(stdout, user);
	if (*server) {
		putchar('/');
		text_print_name(stdout, server);
	}
}

/* --- ls, show ----------------------------------------------------------------- */

/* A word for people: what is to be known before it is used. */
static void add_states(json_t *rows)
{
	static const char *const sizes[] = { "memory_bytes", "stored_bytes", "shared_bytes",
					     "objects" };
	json_t *row;
	size_t i;
	json_array_foreach (rows, i, row) {
		const char *damaged = wire_text_at(row, "damaged");
		const char *fence = wire_text_at(row, "fence");
		cleanup_free char *text = NULL;
		for (size_t k = 0; *fence && k < ARRAY_SIZE(sizes); k++)
			json_object_del(row, sizes[k]);
		if (*damaged)
			text = str_printf("damaged: %s", damaged);
		else if (*fence)
			text = str_printf("fence, taken by %s", fence);
		else if (json_is_true(json_object_get(row, "aside")))
			text = strdup("aside");
		json_object_set_new(row, "state", text ? wire_text(text) : json_string("good"));
	}
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
		{ "SHARED", "shared_bytes", COLUMN_BYTES },
		{ "OBJECTS", "objects", COLUMN_INT },
		{ "SESSION", "session", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
	};
	cleanup_json json_t *rows = NULL;
	cleanup_json json_t *fences = NULL;
	int r = store_checkpoints(cli, &rows, e);
	if (r == 0)
		r = store_fences(cli, &fences, e);
	if (r < 0)
		return r;
	json_array_extend(rows, fences);
	if (cli->json) {
		print_json(stdout, rows);
	} else if (json_array_size(rows) == 0) {
		puts("no checkpoints");
	} else {
		add_states(rows);
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	}
	return 0;
}

static void print_checkpoint(json_t *checkpoint)
{
	static const struct column columns[] = {
		{ "user", "user", COLUMN_TEXT },
		{ "server", "server", COLUMN_TEXT },
		{ "session", "session", COLUMN_TEXT },
		{ "generation", "generation", COLUMN_INT },
		{ "when", "created_at", COLUMN_TIME },
		{ "memory", "memory_bytes", COLUMN_BYTES },
		{ "stored", "stored_bytes", COLUMN_BYTES },
		{ "in objects", "objects", COLUMN_INT },
		{ "shared", "shared_bytes", COLUMN_BYTES },
		{ "on the basis of", "basis", COLUMN_INT },
		{ "frames", "frames", COLUMN_INT },
		{ "wanted first", "hot_frames", COLUMN_INT },
		{ "set aside", "aside", COLUMN_TEXT },
		{ "criu", "criu", COLUMN_TEXT },
		{ "kernel", "kernel", COLUMN_TEXT },
		{ "cpu", "cpu", COLUMN_TEXT },
	};
	static const struct column memories[] = {
		{ "MEMORY", "name", COLUMN_TEXT },
		{ "PAGES", "pages", COLUMN_INT },
		{ "OF ZEROS", "zero_pages", COLUMN_INT },
	};
	const json_t *list = json_object_get(checkpoint, "memories");
	if (wire_number_at(checkpoint, "basis") == 0)
		json_object_del(checkpoint, "basis");
	table_print_pairs(stdout, checkpoint, columns, ARRAY_SIZE(columns));
	if (json_array_size(list)) {
		putchar('\n');
		table_print(stdout, list, memories, ARRAY_SIZE(memories));
	}
}

int cmd_store_show(struct cli *cli, struct error *e)
{
	cleanup_json json_t *listed = NULL;
	cleanup_json json_t *shown = NULL;
	int r = store_checkpoint(cli, &listed, e);
	if (r < 0)
		return r;
	cleanup_free char *session = http_escape(wire_text_at(listed, "session"));
	cleanup_free char *path =
		str_printf("/v1/checkpoint?session=%s&generation=%lld", session ? session : "",
			   (long long)wire_number_at(listed, "generation"));
	r = api_get(cli, path, &shown, e);
	r = r < 0 ? r : api_check_object(shown, "session", e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, shown);
	else
		print_checkpoint(shown);
	return 0;
}

/* --- verify ------------------------------------------------------------------ */

static void say_verified(const json_t *checkpoint, const char *verdict)
{
	print_name(checkpoint);
	printf(" generation %lld: ", (long long)wire_number_at(checkpoint, "generation"));
	text_print_name(stdout, verdict);
	putchar('\n');
	fflush(stdout); /* the next one may take minutes */
}

static json_t *result_json(const json_t *checkpoint, const struct error *bad)
{
	json_t *result = json_pack("{s:b, s:o}", "ok", bad->fault == FAULT_NONE, "error",
				   bad->fault == FAULT_NONE ? json_null() : wire_text(bad->text));
	static const char *const keys[] = { "user", "server", "session", "generation" };
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
	int worst = store_checkpoints(cli, &list, e);
	json_array_foreach (list, i, checkpoint) {
		cleanup_json json_t *end = NULL;
		struct error bad = ERROR_INIT;
		int r = store_task_run(cli, "verify", store_checkpoint_body(cli, checkpoint), &end,
				       &bad);
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

/* --- gc, rm, rekey ------------------------------------------------------------ */

int cmd_store_gc(struct cli *cli, struct error *e)
{
	cleanup_json json_t *end = NULL;
	char bytes[32], kept[32];
	json_t *body = cli->dry_run ? json_pack("{s:b}", "dry_run", 1) : json_object();
	int r = store_task_run(cli, "gc", body, &end, e);
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(stdout, end);
		return 0;
	}
	printf("%lld objects of %s %s; %lld objects of %s are needed\n",
	       (long long)wire_number_at(end, "objects"),
	       format_bytes(wire_number_at(end, "bytes"), bytes),
	       cli->dry_run ? "would be removed" : "removed",
	       (long long)wire_number_at(end, "kept_objects"),
	       format_bytes(wire_number_at(end, "kept_bytes"), kept));
	return 0;
}

int cmd_store_rm(struct cli *cli, struct error *e)
{
	cleanup_json json_t *checkpoint = NULL;
	cleanup_json json_t *end = NULL;
	int r = 0;
	if (!cli->generation) {
		r = error_set(e, EINVAL, "elsa store rm wants --generation");
		return error_remedy(e, r, "see elsa store ls for those there are");
	}
	r = store_checkpoint(cli, &checkpoint, e);
	if (r == 0)
		r = store_task_run(cli, "rm", store_checkpoint_body(cli, checkpoint), &end, e);
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(stdout, end);
		return 0;
	}
	print_name(checkpoint);
	printf(" generation %lld: %s\n", (long long)cli->generation,
	       cli->dry_run ? "would be removed" : "removed");
	return 0;
}

int cmd_store_rekey(struct cli *cli, struct error *e)
{
	cleanup_json json_t *end = NULL;
	int r = store_task_run(cli, "rekey", json_object(), &end, e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, end);
	else
		printf("the keys of %lld sessions are wrapped anew\n",
		       (long long)wire_number_at(end, "count"));
	return 0;
}
