/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/table.h"
#include "wire/codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static void show_progress(const json_t *operation)
{
	if (!isatty(STDERR_FILENO) || !json_is_object(operation))
		return;
	char done[32];
	char total[32];
	int64_t bytes = json_integer_value(json_object_get(operation, "bytes_total"));
	fprintf(stderr, "\r\033[K%s: %s", text_at(operation, "kind"), text_at(operation, "step"));
	if (bytes)
		fprintf(stderr, " %s of %s",
			format_bytes(json_integer_value(json_object_get(operation, "bytes_done")),
				done),
			format_bytes(bytes, total));
	fflush(stderr);
}

static void end_progress(void)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
}

/* The operation that ended badly since `before`, as our error; 0 when there is none. */
static int operation_failure(const json_t *session, const json_t *before, struct error *e)
{
	const json_t *operation = json_object_get(session, "operation");
	if (strcmp(text_at(operation, "state"), "failed") != 0 ||
		strcmp(text_at(operation, "id"),
			text_at(json_object_get(before, "operation"), "id")) == 0)
		return 0;
	struct error told = ERROR_INIT;
	wire_decode_error(operation, 500, &told);
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

/* Waits a little on the server's side where it can tell when something moves. */
static void pause_for_news(struct cli *cli, const json_t *session)
{
	const json_t *operation = json_object_get(session, "operation");
	if (strcmp(text_at(operation, "state"), "running") != 0) {
		usleep(100 * 1000);
		return;
	}
	cleanup_free char *path =
		str_printf("/v1/operation?id=%s&wait=1", text_at(operation, "id"));
	json_t *moved = NULL;
	if (api_get(cli, path, &moved, NULL) < 0)
		usleep(100 * 1000);
	json_decref(moved);
}

int wait_for_state(struct cli *cli, const char *target, json_t *before, struct error *e)
{
	cleanup_free char *path = api_session_path(cli, "/v1/session", NULL);
	mono_us deadline = clock_mono() + (mono_us)cli->timeout_s * 1000000;
	for (;;) {
		json_t *session = NULL;
		int r = api_get(cli, path, &session, e);
		if (r < 0)
			return r;
		bool there = strcmp(text_at(session, "state"), target) == 0;
		r = there ? 0 : operation_failure(session, before, e);
		if (!there && r == 0 && clock_mono() > deadline)
			r = error_fault(e, FAULT_TIMEOUT,
				"%s is still %s, not %s, after %d s; it goes on without us",
				cli->user, text_at(session, "state"), target, cli->timeout_s);
		if (there || r < 0) {
			end_progress();
			json_decref(session);
			return r;
		}
		show_progress(json_object_get(session, "operation"));
		pause_for_news(cli, session);
		json_decref(session);
	}
}
