/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that elsad asks for and gives back. */
#include "cli/cli.h"

#include "cli/table.h"
#include "wire/codec.h"

#include <stdio.h>
#include <string.h>

static const struct column pool_columns[] = {
	{ "POOL", "name", COLUMN_TEXT },
	{ "WANTED", "desired", COLUMN_INT },
	{ "MACHINES", "machines", COLUMN_INT },
	{ "NODES", "nodes", COLUMN_INT },
	{ "MEMORY", "memory_bytes", COLUMN_BYTES },
	{ "ASKED", "asked_at", COLUMN_AGE },
	{ "REFUSED", "refused_at", COLUMN_AGE },
	{ "PROBLEM", "problem", COLUMN_TEXT },
};

static const struct column machine_columns[] = {
	{ "MACHINE", "id", COLUMN_TEXT },       { "POOL", "pool", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },      { "NODE", "node", COLUMN_TEXT },
	{ "TYPE", "type", COLUMN_TEXT },        { "ZONE", "zone", COLUMN_TEXT },
	{ "PRICE", "price", COLUMN_TEXT },      { "SEEN FIRST", "since", COLUMN_AGE },
	{ "EMPTY", "empty_since", COLUMN_AGE }, { "WHY", "why", COLUMN_TEXT },
};

static const struct column wanted_columns[] = {
	{ "USER", "user", COLUMN_TEXT },
	{ "SERVER", "server", COLUMN_TEXT },
	{ "MEMORY", "memory_bytes", COLUMN_BYTES },
	{ "WAITS", "since", COLUMN_AGE },
	{ "FOR", "text", COLUMN_TEXT },
};

static void print_part(const json_t *answer, const char *name, const char *title,
		       const struct column *columns, size_t count)
{
	const json_t *rows = json_object_get(answer, name);
	if (!json_array_size(rows))
		return;
	if (title)
		printf("\n%s\n", title);
	table_print(stdout, rows, columns, count);
}

int cmd_capacity(struct cli *cli, struct error *e)
{
	cleanup_json json_t *answer = NULL;
	int r = api_get(cli, "/v1/capacity", &answer, e);
	r = r < 0 ? r : api_check_object(answer, "provider", e);
	if (r < 0)
		return r;
	const char *provider = json_string_value(json_object_get(answer, "provider"));
	if (cli->json) {
		print_json(stdout, answer);
	} else if (strcmp(provider, "none") == 0) {
		puts("nobody gives machines: capacity.provider is \"none\"");
	} else {
		print_part(answer, "pools", NULL, pool_columns, ARRAY_SIZE(pool_columns));
		print_part(answer, "machines", "Machines", machine_columns,
			   ARRAY_SIZE(machine_columns));
		print_part(answer, "wanted", "Sessions without a machine", wanted_columns,
			   ARRAY_SIZE(wanted_columns));
	}
	return 0;
}
