/* SPDX-License-Identifier: Apache-2.0 */
/* evacuation: what a node that goes away made of its sessions. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "io/http_client.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>

static void set_duration(json_t *row, const char *key, int64_t ms)
{
	char text[CLOCK_TEXT_SIZE];
	clock_format_duration(ms < 0 ? -ms : ms, text);
	cleanup_free char *all = str_printf("%s%s", ms < 0 ? "-" : "", text);
	json_object_set_new(row, key, json_string(all ? all : text));
}

/* What the table shows beside what is there. */
static void add_cells(const json_t *evacuation, json_t *row)
{
	const char *state = wire_text_at(row, "state"), *to = wire_text_at(row, "to");
	bool saved = strcmp(state, "saved") == 0 || strcmp(state, "moved") == 0;
	int64_t begun = wire_number_at(row, "begun_at"), ended = wire_number_at(row, "ended_at");
	int64_t snapshot = wire_number_at(row, "snapshot_at"),
		end = wire_number_at(evacuation, "ended_at");
	int64_t deadline = wire_number_at(json_object_get(evacuation, "notice"), "at");
	if (!*wire_text_at(row, "label"))
		json_object_set_new(row, "label", wire_text(wire_text_at(row, "session")));
	if (begun && ended)
		json_object_set_new(row, "took_us", json_integer((ended - begun) * 1000));
	if (*to) {
		cleanup_free char *text = str_printf("to %s", to);
		json_object_set_new(row, "why", wire_text(text ? text : to));
	}
	if (saved)
		set_duration(row, "left", deadline - ended);
	else if (snapshot)
		set_duration(row, "age", (end ? end : clock_wall()) - snapshot);
}

static void print_head(const json_t *evacuation)
{
	static const struct column columns[] = {
		{ "node", "node", COLUMN_TEXT },         { "told by", "source", COLUMN_TEXT },
		{ "deadline", "deadline", COLUMN_TIME }, { "begun", "begun_at", COLUMN_TIME },
		{ "ended", "ended_at", COLUMN_TIME },    { "margin", "margin", COLUMN_TEXT },
	};
	const json_t *notice = json_object_get(evacuation, "notice");
	cleanup_json json_t *head = json_object();
	json_object_set(head, "node", json_object_get(evacuation, "node"));
	json_object_set(head, "source", json_object_get(notice, "source"));
	json_object_set(head, "deadline", json_object_get(notice, "at"));
	json_object_set(head, "begun_at", json_object_get(evacuation, "begun_at"));
	if (wire_number_at(evacuation, "ended_at")) {
		json_object_set(head, "ended_at", json_object_get(evacuation, "ended_at"));
		set_duration(head, "margin", wire_number_at(evacuation, "margin_ms"));
	}
	table_print_pairs(stdout, head, columns, ARRAY_SIZE(columns));
}

static void print_table(const json_t *evacuation)
{
	static const struct column columns[] = {
		{ "SESSION", "label", COLUMN_TEXT },    { "STATE", "state", COLUMN_TEXT },
		{ "BEGAN", "begun_at", COLUMN_TIME },   { "TOOK", "took_us", COLUMN_US },
		{ "BYTES", "bytes", COLUMN_BYTES },     { "LEFT_OF_WINDOW", "left", COLUMN_TEXT },
		{ "SNAPSHOT_AGE", "age", COLUMN_TEXT }, { "WHY", "why", COLUMN_TEXT },
	};
	json_t *rows = json_object_get(evacuation, "sessions"), *row;
	size_t i;
	json_array_foreach (rows, i, row)
		add_cells(evacuation, row);
	print_head(evacuation);
	if (!json_array_size(rows))
		return;
	putchar('\n');
	table_print(stdout, rows, columns, ARRAY_SIZE(columns));
}

int cmd_evacuation(struct cli *cli, struct error *e)
{
	cleanup_free char *name = http_escape(cli->argument);
	cleanup_free char *path = name ? str_printf("/v1/nodes/evacuation?node=%s", name) : NULL;
	cleanup_json json_t *answer = NULL;
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = api_get(cli, path, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "node", e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, answer);
	else
		print_table(answer);
	return 0;
}
