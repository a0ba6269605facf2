/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAIT_DEFAULT_S 300
#define PAUSE_US       (100 * 1000)

struct waiting {
	struct cli *cli;
	const char *target; /* NULL: no session any more */
	const char *path;
	const char *before; /* id of the operation that was there already; never NULL */
	const char *asked;  /* id of the one that elsad began for us; "": it did not say */
	int64_t changed_at; /* of the session before */
	mono_us deadline;
	int64_t seconds;
};

/* --- progress ---------------------------------------------------------------- */

static void show_progress(const json_t *operation)
{
	char kind[64], step[64], done[32], total[32];
	int64_t bytes = wire_number_at(operation, "bytes_total");
	if (!isatty(STDERR_FILENO) || !json_is_object(operation))
		return;
	text_harmless(wire_text_at(operation, "kind"), kind, sizeof(kind));
	text_harmless(wire_text_at(operation, "step"), step, sizeof(step));
	fprintf(stderr, "\r\033[K%s: %s", kind, step);
	if (bytes > 0)
		fprintf(stderr, " %s of %s",
			format_bytes(wire_number_at(operation, "bytes_done"), done),
			format_bytes(bytes, total));
	fflush(stderr);
}

static void end_progress(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

/* --- how it ends ------------------------------------------------------------- */

/* CRIU's own words, ahead of the error they belong to. */
static void print_log_tail(const struct cli *cli, const json_t *operation)
{
	const char *tail = wire_text_at(operation, "log_tail");
	if (!*tail || cli->json)
		return;
	text_print(stderr, tail);
	if (tail[strlen(tail) - 1] != '\n')
		fputc('\n', stderr);
}

/* The operation that ended badly since we asked, as our error; 0 when there is none. */
static int operation_failure(const struct waiting *w, const json_t *session, struct error *e)
{
	const json_t *operation = json_object_get(session, "operation");
	const char *id = wire_text_at(operation, "id");
	struct error told = ERROR_INIT;
	if (strcmp(wire_text_at(operation, "state"), "failed") != 0)
		return 0;
	if (strcmp(id, w->before) == 0 && strcmp(id, w->asked) != 0)
		return 0;
	wire_decode_error(operation, 500, &told);
	end_progress();
	print_log_tail(w->cli, operation);
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

/* It came to an end that is not the one waited for, and nothing is under way. */
static int other_end(const struct waiting *w, const json_t *session, struct error *e)
{
	const char *state = wire_text_at(session, "state");
	const char *reason = wire_text_at(session, "reason");
	bool ended = strcmp(state, "failed") == 0 || strcmp(state, "lost") == 0;
	bool busy = strcmp(wire_text_at(json_object_get(session, "operation"), "state"),
			   "running") == 0;
	if (!ended || busy || wire_number_at(session, "changed_at") == w->changed_at)
		return 0;
	int r = error_fault(e, FAULT_REFUSED, "the session is %s%s%s", state, *reason ? ": " : "",
			    reason);
	return error_remedy(e, r, "see elsa show");
}

static int too_late(const struct waiting *w, const char *state, struct error *e)
{
	int r = error_fault(e, FAULT_TIMEOUT, "the session is still %s, not %s, after %lld s",
			    state, w->target ? w->target : "gone", (long long)w->seconds);
	return error_remedy(e, r,
			    "it goes on without us: see elsa show, or wait longer with "
			    "--timeout");
}

/* Waits a little, on the server's side where it can tell when something moves. */
static void pause_for_news(struct cli *cli, const json_t *session)
{
	const json_t *operation = json_object_get(session, "operation");
	const char *id = wire_text_at(operation, "id");
	if (strcmp(wire_text_at(operation, "state"), "running") != 0 ||
	    strspn(id, "0123456789abcdef-") != strlen(id)) {
		usleep(PAUSE_US);
		return;
	}
	cleanup_free char *path = str_printf("/v1/operation?id=%s&wait=1", id);
	cleanup_json json_t *moved = NULL;
	if (api_get(cli, path, &moved, NULL) < 0 ||
	    strcmp(wire_text_at(moved, "state"), "running") != 0)
		usleep(PAUSE_US);
}

/* 1: there; 0: not yet; negative: it will not be. */
static int look(const struct waiting *w, struct error *e)
{
	cleanup_json json_t *session = NULL;
	struct error told = ERROR_INIT;
	int r = api_get(w->cli, w->path, &session, &told);
	bool late = clock_mono() >= w->deadline;
	if (r < 0 && told.fault == FAULT_NOT_FOUND && !w->target)
		return 1;
	/* elsad may be restarted meanwhile: it goes on with what it was at. */
	if (r < 0 && told.fault == FAULT_UNAVAILABLE && !late) {
		usleep(PAUSE_US);
		return 0;
	}
	if (r < 0) {
		if (e)
			*e = told;
		return r;
	}
	r = api_check_object(session, "state", e);
	/* First: after a snapshot that failed it is running, too. */
	r = r < 0 ? r : operation_failure(w, session, e);
	if (r == 0 && w->target && strcmp(wire_text_at(session, "state"), w->target) == 0)
		return 1;
	r = r < 0 ? r : other_end(w, session, e);
	if (r == 0 && late)
		r = too_late(w, wire_text_at(session, "state"), e);
	if (r < 0)
		return r;
	show_progress(json_object_get(session, "operation"));
	pause_for_news(w->cli, session);
	return 0;
}

int wait_for_state(struct cli *cli, const char *target, const json_t *before, const json_t *asked,
		   struct error *e)
{
	cleanup_free char *path = api_session_path(cli, "/v1/session", NULL);
	struct waiting w = {
		.cli = cli,
		.target = target,
		.path = path,
		.before = wire_text_at(json_object_get(before, "operation"), "id"),
		.asked = wire_text_at(asked, "id"),
		.changed_at = wire_number_at(before, "changed_at"),
		.seconds = cli->timeout_s ? cli->timeout_s : WAIT_DEFAULT_S,
	};
	w.deadline = clock_mono() + (mono_us)w.seconds * 1000000;
	int r;
	while ((r = look(&w, e)) == 0)
		;
	end_progress();
	return r < 0 ? r : 0;
}
