/* SPDX-License-Identifier: Apache-2.0 */
/* events, also as they come. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "io/http_client.h"
#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAIT_S   30
#define RETRY_US (1000 * 1000)

static int64_t id_of(const json_t *event)
{
	return json_integer_value(json_object_get(event, "id"));
}

static int by_id(const void *a, const void *b)
{
	int64_t x = id_of(*(json_t *const *)a);
	int64_t y = id_of(*(json_t *const *)b);
	return (x > y) - (x < y);
}

/* A new list, oldest first: elsad gives the newest ones newest first. */
static json_t *sort_events(const json_t *events)
{
	size_t count = json_array_size(events);
	json_t *sorted = json_array();
	json_t **items = calloc(count + 1, sizeof(json_t *));
	for (size_t i = 0; items && i < count; i++)
		items[i] = json_array_get(events, i);
	if (items && count)
		qsort(items, count, sizeof(json_t *), by_id);
	for (size_t i = 0; items && i < count; i++)
		json_array_append(sorted, items[i]);
	free(items);
	return sorted;
}

/* Programs that follow read line by line. */
static void print_lines(const json_t *events)
{
	size_t i;
	json_t *event;
	json_array_foreach (events, i, event) {
		json_dumpf(event, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		putchar('\n');
	}
}

static void print_events(struct cli *cli, struct table *table, const json_t *events)
{
	if (cli->json && cli->follow)
		print_lines(events);
	else if (cli->json)
		print_json(stdout, events);
	else if (json_array_size(events))
		table_add(table, events);
	else if (!cli->follow)
		puts("no events");
	fflush(stdout);
}

static char *events_path(struct cli *cli, int64_t after, bool wait)
{
	cleanup_free char *user = http_escape(cli->user ? cli->user : "");
	cleanup_free char *server = http_escape(cli->server);
	if (!user || !server)
		return NULL;
	return str_printf("/v1/events?after=%lld&limit=%lld&wait=%d%s%s%s%s", (long long)after,
			  (long long)cli->lines, wait ? WAIT_S : 0, cli->user ? "&user=" : "", user,
			  cli->server_given ? "&server=" : "", server);
}

static int fetch_events(struct cli *cli, int64_t after, bool wait, json_t **events, struct error *e)
{
	cleanup_free char *path = events_path(cli, after, wait);
	cleanup_json json_t *fetched = NULL;
	int r = api_get_list(cli, path, "events", &fetched, e);
	if (r == 0)
		*events = sort_events(fetched);
	return r;
}

/* elsad may be restarted while somebody follows: said once, and then asked until it is back. */
static bool comes_back(const struct error *error, bool *said)
{
	if (error->fault != FAULT_UNAVAILABLE)
		return false;
	if (!*said) {
		text_print(stderr, error->text);
		fputs("; trying again\n", stderr);
	}
	*said = true;
	usleep(RETRY_US);
	return true;
}

static int follow(struct cli *cli, struct table *table, int64_t newest, struct error *e)
{
	bool said = false;
	for (;;) {
		cleanup_json json_t *events = NULL;
		struct error told = ERROR_INIT;
		int r = fetch_events(cli, newest, true, &events, &told);
		if (r < 0 && !comes_back(&told, &said)) {
			*e = told;
			return r;
		}
		if (r < 0)
			continue;
		said = false;
		size_t count = json_array_size(events);
		if (count)
			newest = id_of(json_array_get(events, count - 1));
		print_events(cli, table, events);
	}
}

int cmd_events(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "WHEN", "at", COLUMN_TIME },        { "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT },  { "WHAT", "what", COLUMN_TEXT },
		{ "WHO", "who", COLUMN_TEXT },        { "WHY", "why", COLUMN_TEXT },
		{ "TOOK", "duration_us", COLUMN_US }, { "BYTES", "bytes", COLUMN_BYTES },
		{ "DETAIL", "detail", COLUMN_TEXT },
	};
	struct table table = {
		.to = stdout,
		.columns = columns,
		.count = ARRAY_SIZE(columns),
		.cell_most = table_cell_most(stdout),
	};
	cleanup_json json_t *events = NULL;
	int r = fetch_events(cli, 0, false, &events, e);
	if (r < 0)
		return r;
	print_events(cli, &table, events);
	if (!cli->follow)
		return 0;
	size_t count = json_array_size(events);
	return follow(cli, &table, count ? id_of(json_array_get(events, count - 1)) : 0, e);
}
