/* SPDX-License-Identifier: Apache-2.0 */
/* Looking: status, sessions, show, logs. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/secrets.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cmd_status(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "elsad", "version", COLUMN_TEXT },
		{ "node", "node", COLUMN_TEXT },
		{ "hub", "hub", COLUMN_TEXT },
		{ "hub error", "hub_error", COLUMN_TEXT },
		{ "what to do", "hub_remedy", COLUMN_TEXT },
		{ "sessions", "sessions", COLUMN_INT },
	};
	cleanup_json json_t *health = NULL;
	int r = api_get(cli, "/v1/health", &health, e);
	r = r < 0 ? r : api_check_object(health, "version", e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, health);
	else
		table_print_pairs(stdout, health, columns, ARRAY_SIZE(columns));
	if (!json_is_true(json_object_get(health, "ok")))
		r = error_fault(e, FAULT_UNAVAILABLE,
				"elsad runs, but not everything it needs does");
	return error_remedy(e, r, "see journalctl -u elsa-node -u elsad, and the Hub's own log");
}

/* What its user may notice now goes before why it is in its state. */
static void prefer_notes(json_t *rows)
{
	json_t *row;
	size_t i;
	json_array_foreach (rows, i, row) {
		json_t *note = json_object_get(row, "note");
		if (json_is_string(note))
			json_object_set(row, "reason", note);
	}
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
	cleanup_json json_t *rows = NULL;
	int r = api_get_list(cli, "/v1/sessions", "sessions", &rows, e);
	if (r < 0)
		return r;
	drop_secrets(rows);
	if (cli->json) {
		print_json(stdout, rows);
	} else if (json_array_size(rows) == 0) {
		puts("no sessions");
	} else {
		prefer_notes(rows);
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	}
	return 0;
}

/* A line each; what would be cut into several, or obeyed, is not offered. */
int cmd_user_names(struct cli *cli, struct error *e)
{
	cleanup_json json_t *rows = NULL;
	json_t *row;
	size_t i;
	int r = api_get_list(cli, "/v1/sessions", "sessions", &rows, e);
	json_array_foreach (rows, i, row) {
		char harmless[CELL_SIZE];
		const char *name = json_string_value(json_object_get(row, "user"));
		text_harmless(name ? name : "", harmless, sizeof(harmless));
		if (name && strcmp(name, harmless) == 0)
			puts(name);
	}
	return r;
}

/* --- one session ------------------------------------------------------------- */

static void print_operation(const json_t *operation)
{
	static const struct column columns[] = {
		{ "operation", "kind", COLUMN_TEXT },    { "  is", "state", COLUMN_TEXT },
		{ "  at", "step", COLUMN_TEXT },         { "  done", "bytes_done", COLUMN_BYTES },
		{ "  of", "bytes_total", COLUMN_BYTES }, { "  asked by", "who", COLUMN_TEXT },
		{ "  because", "why", COLUMN_TEXT },
	};
	static const struct column results[] = {
		{ "  took", "duration_us", COLUMN_US },
		{ "  frozen", "frozen_us", COLUMN_US },
	};
	static const struct column errors[] = {
		{ "  error", "text", COLUMN_TEXT },
		{ "  what to do", "remedy", COLUMN_TEXT },
	};
	const char *tail = json_string_value(json_object_get(operation, "log_tail"));
	table_print_pairs(stdout, operation, columns, ARRAY_SIZE(columns));
	table_print_pairs(stdout, json_object_get(operation, "result"), results,
			  ARRAY_SIZE(results));
	table_print_pairs(stdout, json_object_get(operation, "error"), errors, ARRAY_SIZE(errors));
	if (tail && *tail) {
		puts("\nits log");
		text_print(stdout, tail);
		if (tail[strlen(tail) - 1] != '\n')
			putchar('\n');
	}
}

static void print_checkpoints(const json_t *checkpoints)
{
	static const struct column columns[] = {
		{ "GENERATION", "generation", COLUMN_INT },
		{ "WHEN", "created_at", COLUMN_TIME },
		{ "MEMORY", "memory_bytes", COLUMN_BYTES },
		{ "STORED", "stored_bytes", COLUMN_BYTES },
		{ "ASIDE", "aside", COLUMN_TEXT },
	};
	if (json_array_size(checkpoints) == 0)
		return;
	puts("\ncheckpoints");
	table_print(stdout, checkpoints, columns, ARRAY_SIZE(columns));
}

static void print_session(const json_t *session)
{
	static const struct column columns[] = {
		{ "user", "user", COLUMN_TEXT },
		{ "server", "server", COLUMN_TEXT },
		{ "id", "id", COLUMN_TEXT },
		{ "state", "state", COLUMN_TEXT },
		{ "since", "changed_at", COLUMN_TIME },
		{ "reason", "reason", COLUMN_TEXT },
		{ "now", "note", COLUMN_TEXT },
		{ "next", "explain", COLUMN_TEXT },
		{ "generation", "generation", COLUMN_INT },
		{ "node", "node", COLUMN_TEXT },
		{ "address", "address", COLUMN_TEXT },
		{ "port", "port", COLUMN_INT },
		{ "memory", "rss_bytes", COLUMN_BYTES },
		{ "  at most", "memory_limit", COLUMN_BYTES },
		{ "moves to", "moving_to", COLUMN_TEXT },
		{ "memory comes from", "memory_from", COLUMN_TEXT },
		{ "still to come", "missing_bytes", COLUMN_BYTES },
		{ "stalled since", "stalled_since", COLUMN_TIME },
		{ "stored", "checkpoint_bytes", COLUMN_BYTES },
		{ "cpu share", "cpu_share", COLUMN_TEXT },
		{ "processes", "processes", COLUMN_INT },
		{ "running since", "started_at", COLUMN_TIME },
		{ "asleep since", "slept_at", COLUMN_TIME },
		{ "somebody came", "touched_at", COLUMN_TIME },
		{ "  not woken", "unwoken", COLUMN_TEXT },
		{ "person seen", "last_person_activity", COLUMN_AGE },
		{ "kept awake until", "keep_awake_until", COLUMN_TIME },
	};
	static const struct column protection[] = {
		{ "protected", "reason", COLUMN_TEXT },
		{ "  saved", "saved_at", COLUMN_AGE },
		{ "  next", "due_at", COLUMN_TIME },
	};
	static const struct column left[] = {
		{ "not saved", "why", COLUMN_TEXT },
		{ "  on node", "node", COLUMN_TEXT },
		{ "  which ends", "at", COLUMN_TIME },
	};
	table_print_pairs(stdout, session, columns, ARRAY_SIZE(columns));
	table_print_pairs(stdout, json_object_get(session, "left_behind"), left, ARRAY_SIZE(left));
	table_print_pairs(stdout, json_object_get(session, "protection"), protection,
			  ARRAY_SIZE(protection));
	table_print_pairs(stdout, json_object_get(session, "size"), size_columns, SIZE_COLUMNS);
	print_operation(json_object_get(session, "operation"));
	print_checkpoints(json_object_get(session, "checkpoints"));
}

int cmd_show(struct cli *cli, struct error *e)
{
	cleanup_free char *path = api_session_path(cli, "/v1/session", NULL);
	cleanup_json json_t *session = NULL;
	int r = api_get(cli, path, &session, e);
	r = r < 0 ? r : api_check_object(session, "state", e);
	if (r < 0)
		return r;
	drop_secrets(session);
	if (cli->json)
		print_json(stdout, session);
	else
		print_session(session);
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
		cleanup_json json_t *log = json_pack("{s:o}", "log", wire_text(text));
		print_json(stdout, log);
	} else if (isatty(STDOUT_FILENO)) {
		text_print(stdout, text);
	} else {
		fputs(text, stdout);
	}
	return 0;
}
