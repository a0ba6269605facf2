/* SPDX-License-Identifier: Apache-2.0 */
/* Size classes: which there are, and which a session is to have. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BY_USE "auto"

static const struct column class_columns[] = {
	{ "CLASS", "name", COLUMN_TEXT }, { "MEMORY", "memory_bytes", COLUMN_BYTES },
	{ "CPUS", "cpus", COLUMN_TEXT },  { "HOUR", "hour", COLUMN_MONEY },
	{ "", "mark", COLUMN_TEXT },
};

const struct column size_columns[SIZE_COLUMNS] = {
	{ "size", "class", COLUMN_TEXT },
	{ "  memory", "memory_bytes", COLUMN_BYTES },
	{ "  chosen", "chosen", COLUMN_TEXT },
	{ "  recommended", "recommended", COLUMN_TEXT },
	{ "  at its next wake", "to", COLUMN_TEXT },
	{ "  because", "text", COLUMN_TEXT },
	{ "  it holds", "held_bytes", COLUMN_BYTES },
	{ "  uses (95 %)", "p95_bytes", COLUMN_BYTES },
	{ "  uses at most", "peak_bytes", COLUMN_BYTES },
	{ "  needs", "need_bytes", COLUMN_BYTES },
	{ "  seen awake", "observed_ms", COLUMN_MS },
};

static bool is_named(const json_t *session, const char *key, const json_t *class)
{
	const char *name = json_string_value(json_object_get(session, key));
	const char *own = json_string_value(json_object_get(class, "name"));
	return name && own && strcmp(name, own) == 0;
}

static void mark(json_t *classes, const json_t *session)
{
	size_t i;
	json_t *class;
	json_array_foreach (classes, i, class) {
		const char *text = is_named(session, "chosen", class)        ? "chosen"
				   : is_named(session, "class", class)       ? "has it"
				   : is_named(session, "recommended", class) ? "recommended"
									     : "";
		json_object_set_new(class, "mark", json_string(text));
		if (json_number_value(json_object_get(class, "cpus")) <= 0)
			json_object_set_new(class, "cpus", json_string("all"));
	}
}

static void print_sizes(const json_t *answer)
{
	json_t *classes = json_object_get(answer, "classes");
	const json_t *session = json_object_get(answer, "session");
	if (json_array_size(classes) == 0) {
		puts("there are no size classes: see [[size.class]] in elsa.toml(5)");
		return;
	}
	mark(classes, session);
	table_print(stdout, classes, class_columns, ARRAY_SIZE(class_columns));
	if (json_is_object(session)) {
		putchar('\n');
		table_print_pairs(stdout, session, size_columns, SIZE_COLUMNS);
	}
}

int cmd_sizes(struct cli *cli, struct error *e)
{
	cleanup_free char *path =
		cli->user ? api_session_path(cli, "/v1/sizes", NULL) : strdup("/v1/sizes");
	cleanup_json json_t *answer = NULL;
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = api_get(cli, path, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "currency", e);
	if (r < 0)
		return r;
	if (!json_is_array(json_object_get(answer, "classes")))
		return error_fault(e, FAULT_INTERNAL, "elsad answered without classes");
	if (cli->json)
		print_json(stdout, answer);
	else
		print_sizes(answer);
	return 0;
}

int cmd_resize(struct cli *cli, struct error *e)
{
	const char *class = cli->argument;
	if (!class || !*class) {
		int r = error_set(e, EINVAL, "elsa resize wants the name of a class, or " BY_USE);
		return error_remedy(e, r, "see elsa sizes for those there are");
	}
	json_t *body = api_session_body(cli);
	json_object_set_new(body, "size", wire_text(strcmp(class, BY_USE) == 0 ? "" : class));
	cleanup_json json_t *answer = NULL;
	int r = api_post(cli, "/v1/session/size", body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "text", e);
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(stdout, answer);
		return 0;
	}
	text_print_name(stdout, cli->user);
	printf(": ");
	text_print_name(stdout, class);
	printf(": %s\n", json_string_value(json_object_get(answer, "text")));
	return 0;
}
