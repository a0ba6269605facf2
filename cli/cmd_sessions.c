/* SPDX-License-Identifier: Apache-2.0 */
/* Looking: status, sessions, show, logs, events. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static int print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
	return 0;
}

static void print_pairs(const json_t *object, const struct column *columns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char cell[1024];
		const json_t *value = json_object_get(object, columns[i].key);
		if (!value || json_is_null(value))
			continue;
		table_cell(value, columns[i].kind, cell, sizeof(cell));
		printf("%-16s %s\n", columns[i].title, cell);
	}
}

int cmd_status(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "elsad", "version", COLUMN_TEXT },	  { "node", "node", COLUMN_TEXT },
		{ "hub", "hub", COLUMN_TEXT },		  { "hub error", "hub_error", COLUMN_TEXT },
		{ "sessions", "sessions", COLUMN_INT },
	};
	json_t *health = NULL;
	int r = api_get(cli, "/v1/health", &health, e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(health);
	else
		print_pairs(health, columns, ARRAY_SIZE(columns));
	if (!json_is_true(json_object_get(health, "ok")))
		r = error_fault(e, FAULT_UNAVAILABLE, "elsad runs, but not everything it needs does");
	json_decref(health);
	return r;
}

/* elsad gives tokens to the Hub's account; they have no place on a screen. */
static void drop_secrets(json_t *session)
{
	json_object_del(session, "api_token");
	json_object_del(session, "spawner");
}

int cmd_sessions(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
		{ "GEN", "generation", COLUMN_INT },
		{ "NODE", "node", COLUMN_TEXT },
		{ "ADDRESS", "address", COLUMN_TEXT },
		{ "MEMORY", "rss_bytes", COLUMN_BYTES },
		{ "STORED", "checkpoint_bytes", COLUMN_BYTES },
		{ "PERSON SEEN", "last_person_activity", COLUMN_AGE },
		{ "REASON", "reason", COLUMN_TEXT },
	};
	json_t *answer = NULL;
	json_t *session;
	size_t i;
	int r = api_get(cli, "/v1/sessions", &answer, e);
	if (r < 0)
		return r;
	json_t *rows = json_object_get(answer, "sessions");
	json_array_foreach(rows, i, session)
		drop_secrets(session);
	if (cli->json)
		print_json(rows);
	else if (json_array_size(rows) == 0)
		printf("no sessions\n");
	else
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	json_decref(answer);
	return 0;
}

static void print_checkpoints(const json_t *checkpoints)
{
	static const struct column columns[] = {
		{ "GENERATION", "generation", COLUMN_INT }, { "WHEN", "created_at", COLUMN_TIME },
		{ "MEMORY", "memory_bytes", COLUMN_BYTES }, { "STORED", "stored_bytes", COLUMN_BYTES },
		{ "ASIDE", "aside", COLUMN_TEXT },
	};
	if (json_array_size(checkpoints) == 0)
		return;
	printf("\ncheckpoints\n");
	table_print(stdout, checkpoints, columns, ARRAY_SIZE(columns));
}

int cmd_show(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "user", "user", COLUMN_TEXT },
		{ "server", "server", COLUMN_TEXT },
		{ "id", "id", COLUMN_TEXT },
		{ "state", "state", COLUMN_TEXT },
		{ "since", "changed_at", COLUMN_TIME },
		{ "reason", "reason", COLUMN_TEXT },
		{ "next", "explain", COLUMN_TEXT },
		{ "generation", "generation", COLUMN_INT },
		{ "node", "node", COLUMN_TEXT },
		{ "address", "address", COLUMN_TEXT },
		{ "memory", "rss_bytes", COLUMN_BYTES },
		{ "cpu share", "cpu_share", COLUMN_TEXT },
		{ "processes", "processes", COLUMN_INT },
		{ "running since", "started_at", COLUMN_TIME },
		{ "person seen", "last_person_activity", COLUMN_AGE },
		{ "kept awake until", "keep_awake_until", COLUMN_TIME },
	};
	cleanup_free char *path = api_session_path(cli, "/v1/session", NULL);
	json_t *session = NULL;
	int r = api_get(cli, path, &session, e);
	if (r < 0)
		return r;
	drop_secrets(session);
	if (cli->json) {
		print_json(session);
	} else {
		print_pairs(session, columns, ARRAY_SIZE(columns));
		print_checkpoints(json_object_get(session, "checkpoints"));
	}
	json_decref(session);
	return 0;
}

int cmd_logs(struct cli *cli, struct error *e)
{
	cleanup_free char *more = str_printf("&lines=%lld", (long long)cli->lines);
	cleanup_free char *path = api_session_path(cli, "/v1/session/log", more);
	cleanup_free char *text = NULL;
	int r = api_get_text(cli, path, &text, e);
	if (r < 0)
		return r;
	if (cli->json) {
		json_t *log = json_pack("{s:s}", "log", text ? text : "");
		print_json(log);
		json_decref(log);
	} else {
		fputs(text ? text : "", stdout);
	}
	return 0;
}

static int64_t print_events(struct cli *cli, const json_t *events, int64_t newest)
{
	static const struct column columns[] = {
		{ "WHEN", "at", COLUMN_TIME },	     { "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT }, { "WHAT", "what", COLUMN_TEXT },
		{ "WHO", "who", COLUMN_TEXT },	     { "WHY", "why", COLUMN_TEXT },
		{ "TOOK", "duration_us", COLUMN_US }, { "BYTES", "bytes", COLUMN_BYTES },
		{ "DETAIL", "detail", COLUMN_TEXT },
	};
	size_t i;
	json_t *event;
	json_array_foreach(events, i, event) {
		int64_t id = json_integer_value(json_object_get(event, "id"));
		newest = id > newest ? id : newest;
	}
	if (cli->json)
		print_json(events);
	else if (json_array_size(events))
		table_print(stdout, events, columns, ARRAY_SIZE(columns));
	fflush(stdout);
	return newest;
}

static int fetch_events(struct cli *cli, int64_t after, json_t **answer, struct error *e)
{
	cleanup_free char *more = str_printf("&limit=%lld&after=%lld%s", (long long)cli->lines,
		(long long)after, after ? "&wait=30" : "");
	cleanup_free char *path = cli->user ? api_session_path(cli, "/v1/events", more)
					    : str_printf("/v1/events?%s", more + 1);
	return api_get(cli, path, answer, e);
}

int cmd_events(struct cli *cli, struct error *e)
{
	int64_t newest = 0;
	do {
		json_t *answer = NULL;
		int r = fetch_events(cli, newest, &answer, e);
		if (r < 0)
			return r;
		newest = print_events(cli, json_object_get(answer, "events"), newest);
		json_decref(answer);
	} while (cli->follow && (newest || usleep(500 * 1000) == 0));
	return 0;
}
