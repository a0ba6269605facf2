/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions cost and used. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOUR_MS ((int64_t)3600 * 1000)
#define DAY_MS  (24 * HOUR_MS)

/* --- savings -------------------------------------------------------------------------------------
 */

static const struct column cost_columns[] = {
	{ "", "key", COLUMN_TEXT },
	{ "USERS", "users", COLUMN_INT },
	{ "OPEN h", "open_hours", COLUMN_TEXT },
	{ "AWAKE h", "awake_hours", COLUMN_TEXT },
	{ "ALWAYS ON", "always_on", COLUMN_MONEY },
	{ "MACHINES", "machines", COLUMN_MONEY },
	{ "STORE", "store", COLUMN_MONEY },
	{ "COST", "cost", COLUMN_MONEY },
	{ "SAVED", "saved", COLUMN_MONEY },
	{ "TIMES", "times", COLUMN_TEXT },
};

static const struct column total_columns[] = {
	{ "currency", "currency", COLUMN_TEXT },
	{ "prices of", "as_of", COLUMN_TEXT },
	{ "from", "from", COLUMN_TIME },
	{ "until", "until", COLUMN_TIME },
};

static void print_savings(struct cli *cli, json_t *answer)
{
	json_t *total = json_object_get(answer, "total");
	json_t *rows = json_object_get(answer, "rows");
	struct column columns[ARRAY_SIZE(cost_columns)];
	memcpy(columns, cost_columns, sizeof(columns));
	columns[0].title = !cli->by                        ? "FOR"
			   : strcmp(cli->by, "user") == 0  ? "USER"
			   : strcmp(cli->by, "group") == 0 ? "GROUP"
							   : "DAY";
	json_object_set_new(total, "key", json_string("all"));
	json_array_append(rows, total);
	table_print_pairs(stdout, answer, total_columns, ARRAY_SIZE(total_columns));
	putchar('\n');
	table_print(stdout, rows, columns, ARRAY_SIZE(columns));
}

int cmd_savings(struct cli *cli, struct error *e)
{
	int64_t since = cli->since_ms ? cli->since_ms : 30 * DAY_MS;
	const char *by = cli->by ? cli->by : "all";
	if (cli->by && strcmp(by, "user") != 0 && strcmp(by, "group") != 0 &&
	    strcmp(by, "day") != 0)
		return error_set(e, EINVAL, "--by wants user, group or day, not \"%s\"", by);
	cleanup_free char *path =
		str_printf("/v1/savings?by=%s&since_ms=%lld", by, (long long)since);
	cleanup_json json_t *answer = NULL;
	int r = api_get(cli, path, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "currency", e);
	if (r < 0)
		return r;
	if (!json_is_array(json_object_get(answer, "rows")) ||
	    !json_is_object(json_object_get(answer, "total")))
		return error_fault(e, FAULT_INTERNAL, "elsad answered without an account");
	if (cli->json)
		print_json(stdout, answer);
	else
		print_savings(cli, answer);
	return 0;
}

/* --- usage ---------------------------------------------------------------------------------------
 */

static const struct column usage_columns[] = {
	{ "FROM", "at", COLUMN_TIME },
	{ "AWAKE", "awake_ms", COLUMN_MS },
	{ "MEMORY", "memory_bytes", COLUMN_BYTES },
	{ "P95", "memory_p95_bytes", COLUMN_BYTES },
	{ "PEAK", "memory_peak_bytes", COLUMN_BYTES },
	{ "CPU", "cpu_share", COLUMN_SHARE },
	{ "CHANGED/min", "changed_bytes_per_minute", COLUMN_BYTES },
	{ "WAITED: CPU", "cpu_stall", COLUMN_SHARE },
	{ "MEMORY", "memory_stall", COLUMN_SHARE },
	{ "DISK", "io_stall", COLUMN_SHARE },
};

static const char *span_of(int64_t since)
{
	return since <= 3 * HOUR_MS ? "minute" : since <= 3 * DAY_MS ? "hour" : "day";
}

static const struct column now_columns[] = {
	{ "memory now", "memory_bytes", COLUMN_BYTES },
	{ "cpu now", "cpu_share", COLUMN_SHARE },
	{ "processes", "processes", COLUMN_INT },
};

static void print_usage(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "rows");
	table_print_pairs(stdout, json_object_get(answer, "now"), now_columns,
			  ARRAY_SIZE(now_columns));
	if (!json_array_size(rows)) {
		puts("nothing was seen of it in that time");
		return;
	}
	table_print(stdout, rows, usage_columns, ARRAY_SIZE(usage_columns));
	cleanup_json json_t *total = json_array();
	json_array_append(total, json_object_get(answer, "total"));
	puts("\nTogether");
	table_print(stdout, total, usage_columns, ARRAY_SIZE(usage_columns));
}

int cmd_usage(struct cli *cli, struct error *e)
{
	int64_t since = cli->since_ms ? cli->since_ms : DAY_MS;
	cleanup_free char *more =
		str_printf("&span=%s&since_ms=%lld", span_of(since), (long long)since);
	cleanup_free char *path = api_session_path(cli, "/v1/usage", more);
	cleanup_json json_t *answer = NULL;
	int r = api_get(cli, path, &answer, e);
	r = r < 0 ? r : api_check_object(answer, NULL, e);
	if (r < 0)
		return r;
	if (!json_is_object(json_object_get(answer, "total")))
		return error_fault(e, FAULT_INTERNAL, "elsad answered without a total");
	if (cli->json)
		print_json(stdout, answer);
	else
		print_usage(answer);
	return 0;
}
