/* SPDX-License-Identifier: Apache-2.0 */
/* Why, and what if: explain, policy try. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "config/config.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_MOST ((size_t)1 << 20)

/* --- explain -------------------------------------------------------------------------------------
 */

static const struct column session_columns[] = {
	{ "user", "user", COLUMN_TEXT },     { "server", "server", COLUMN_TEXT },
	{ "state", "state", COLUMN_TEXT },   { "since", "since", COLUMN_TIME },
	{ "reason", "reason", COLUMN_TEXT }, { "now", "explain", COLUMN_TEXT },
};

static const struct column input_columns[] = {
	{ "decision", "reason", COLUMN_TEXT },
	{ "  person seen", "person_at", COLUMN_AGE },
	{ "  kernels", "kernel_activity_at", COLUMN_AGE },
	{ "  terminals", "terminal_activity_at", COLUMN_AGE },
	{ "  requests", "request_at", COLUMN_AGE },
	{ "  by the Hub", "hub_activity_at", COLUMN_AGE },
	{ "  it answers", "server_seen", COLUMN_TEXT },
	{ "  kernel busy", "kernel_busy", COLUMN_TEXT },
	{ "  cpu", "cpu_share", COLUMN_SHARE },
	{ "  kept awake until", "keep_awake_until", COLUMN_TIME },
	{ "  refused", "refused_at", COLUMN_AGE },
};

static const struct column rule_columns[] = {
	{ "  rule", "name", COLUMN_TEXT },
	{ "    timeout", "timeout_ms", COLUMN_MS },
	{ "    max_age", "max_age_ms", COLUMN_MS },
	{ "    min_uptime", "min_uptime_ms", COLUMN_MS },
	{ "    cpu_threshold", "cpu_threshold", COLUMN_SHARE },
};

static const struct column next_columns[] = {
	{ "NEXT", "what", COLUMN_TEXT },
	{ "WHEN", "at", COLUMN_TIME },
	{ "WHY", "why", COLUMN_TEXT },
	{ "", "text", COLUMN_TEXT },
};

static const struct column event_columns[] = {
	{ "WHEN", "at", COLUMN_TIME }, { "WHAT", "what", COLUMN_TEXT },
	{ "WHO", "who", COLUMN_TEXT }, { "WHY", "why", COLUMN_TEXT },
	{ "", "detail", COLUMN_TEXT },
};

static const struct column budget_columns[] = {
	{ "BUDGET OF", "group", COLUMN_TEXT },       { "PER", "per", COLUMN_TEXT },
	{ "AMOUNT", "amount", COLUMN_MONEY },        { "SPENT", "spent", COLUMN_MONEY },
	{ "IT IS", "level", COLUMN_TEXT },           { "UNTIL", "until", COLUMN_TIME },
	{ "SLEEPS AFTER", "timeout_ms", COLUMN_MS }, { "STARTS", "starts", COLUMN_TEXT },
};

static void print_part(const json_t *answer, const char *name, const struct column *columns,
		       size_t count)
{
	const json_t *rows = json_object_get(answer, name);
	if (!json_array_size(rows))
		return;
	putchar('\n');
	table_print(stdout, rows, columns, count);
}

static void print_explain(const json_t *answer)
{
	const json_t *inputs = json_object_get(json_object_get(answer, "decision"), "inputs");
	table_print_pairs(stdout, answer, session_columns, ARRAY_SIZE(session_columns));
	table_print_pairs(stdout, inputs, input_columns, ARRAY_SIZE(input_columns));
	table_print_pairs(stdout, json_object_get(inputs, "rule"), rule_columns,
			  ARRAY_SIZE(rule_columns));
	table_print_pairs(stdout, json_object_get(answer, "size"), size_columns, SIZE_COLUMNS);
	print_part(answer, "next", next_columns, ARRAY_SIZE(next_columns));
	print_part(answer, "budgets", budget_columns, ARRAY_SIZE(budget_columns));
	print_part(answer, "events", event_columns, ARRAY_SIZE(event_columns));
}

int cmd_explain(struct cli *cli, struct error *e)
{
	cleanup_free char *path = api_session_path(cli, "/v1/explain", NULL);
	cleanup_json json_t *answer = NULL;
	int r = api_get(cli, path, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "state", e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, answer);
	else
		print_explain(answer);
	return 0;
}

/* --- policy try ----------------------------------------------------------------------------------
 */

static const struct column try_columns[] = {
	{ "USER", "user", COLUMN_TEXT },         { "SERVER", "server", COLUMN_TEXT },
	{ "CHANGED", "changed", COLUMN_TEXT },   { "NOW", "before", COLUMN_TEXT },
	{ "RULE", "rule_before", COLUMN_TEXT },  { "THEN", "reason", COLUMN_TEXT },
	{ "RULE", "rule", COLUMN_TEXT },         { "HIBERNATE", "hibernate", COLUMN_TEXT },
	{ "NEXT LOOK", "next_at", COLUMN_TIME },
};

/* Parsed here first: what is wrong has line and column, and elsad need not be there for that. */
static int read_config(const char *path, struct buf *text, struct error *e)
{
	struct config *config = NULL;
	int r = fs_read(path, text, e);
	if (r == 0)
		r = config_parse(buf_text(text), text->len, path, &config, e);
	config_free(config);
	return r;
}

/* What is decided now, beside what would be. */
static void flatten(json_t *rows)
{
	size_t i;
	json_t *row;
	json_array_foreach (rows, i, row) {
		json_t *now = json_object_get(row, "now");
		json_object_set(row, "before", json_object_get(now, "reason"));
		json_object_set(row, "rule_before", json_object_get(now, "rule"));
	}
}

/* The other policies. */
static const struct {
	const char *name, *title;
} try_parts[] = {
	{ "protection", "Snapshots" },
	{ "retention", "Checkpoints that are removed" },
	{ "placement", "Where who waits would go" },
	{ "rescue", "Memory limits" },
	{ "sizes", "Sizes" },
	{ "capacity", "Machines asked for and given back" },
	{ "consolidation", "Nodes that are emptied" },
	{ "budgets", "Budgets of groups" },
};

/* "ada/lab", a node, a pool, a group. */
static json_t *subject_of(const json_t *row)
{
	const char *server = wire_text_at(row, "server");
	const char *name = *wire_text_at(row, "user")   ? wire_text_at(row, "user")
			   : *wire_text_at(row, "node") ? wire_text_at(row, "node")
			   : *wire_text_at(row, "pool") ? wire_text_at(row, "pool")
							: wire_text_at(row, "group");
	cleanup_free char *text = str_printf("%s%s%s", name, *server ? "/" : "", server);
	return wire_text(text ? text : name);
}

static void print_changes(const json_t *rows, const char *title)
{
	static const struct column columns[] = { { "WHAT", "subject", COLUMN_TEXT },
						 { "NOW", "before", COLUMN_TEXT },
						 { "THEN", "text", COLUMN_TEXT } };
	cleanup_json json_t *changed = json_array();
	size_t i;
	json_t *row;
	json_array_foreach (rows, i, row) {
		if (!json_is_true(json_object_get(row, "changed")))
			continue;
		json_object_set(row, "before",
				json_object_get(json_object_get(row, "now"), "text"));
		json_object_set_new(row, "subject", subject_of(row));
		json_array_append(changed, row);
	}
	if (!json_array_size(changed)) {
		printf("\n%s: as now\n", title);
		return;
	}
	printf("\n%s: %zu of %zu change\n", title, json_array_size(changed), json_array_size(rows));
	table_print(stdout, changed, columns, ARRAY_SIZE(columns));
}

static void print_tried(json_t *answer, json_t *rows)
{
	if (json_array_size(rows)) {
		flatten(rows);
		table_print(stdout, rows, try_columns, ARRAY_SIZE(try_columns));
	} else {
		puts("no running sessions to decide about");
	}
	for (size_t i = 0; i < ARRAY_SIZE(try_parts); i++) {
		const json_t *part = json_object_get(answer, try_parts[i].name);
		if (json_array_size(part))
			print_changes(part, try_parts[i].title);
	}
}

int cmd_policy_try(struct cli *cli, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(CONFIG_MOST);
	cleanup_json json_t *answer = NULL;
	int r = read_config(cli->argument, &text, e);
	if (r < 0)
		return r;
	json_t *body = json_pack("{s:o, s:o}", "name", wire_text(cli->argument), "config",
				 wire_text(buf_text(&text)));
	r = api_post(cli, "/v1/policy/try", body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, NULL, e);
	if (r < 0)
		return r;
	json_t *rows = json_object_get(answer, "decisions");
	if (!json_is_array(rows))
		return error_fault(e, FAULT_INTERNAL, "elsad answered without decisions");
	if (cli->json)
		print_json(stdout, answer);
	else
		print_tried(answer, rows);
	return 0;
}
