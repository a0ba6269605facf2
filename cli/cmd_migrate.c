/* SPDX-License-Identifier: Apache-2.0 */
/* migrate: to another node, watched until it runs there or until its memory has followed. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/bar.h"
#include "cli/secrets.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_DEFAULT_S 300
#define PAUSE_US       (200 * 1000)

struct watch {
	struct cli *cli;
	char *session_path, *operation_path;
	char *from; /* node that it was on */
	mono_us deadline;
	int64_t seconds;
	json_t *session;                 /* as seen last */
	int64_t frozen_us;               /* how long it stood still; 0: not known */
	int64_t memory_bytes, memory_us; /* that followed, and how long that took */
	bool stalled;
};

static void watch_deinit(struct watch *w)
{
	free(w->session_path);
	free(w->operation_path);
	free(w->from);
	json_decref(w->session);
}

static int check_time(const struct watch *w, const char *what, struct error *e)
{
	if (clock_mono() < w->deadline)
		return 0;
	int r = error_fault(e, FAULT_TIMEOUT, "%s after %lld s", what, (long long)w->seconds);
	return error_remedy(e, r,
			    "it goes on without us: see elsa show, or wait longer with --timeout");
}

/* elsad may be restarted meanwhile: it goes on with what it was at. */
static int look_at_session(struct watch *w, struct error *e)
{
	json_t *session = NULL;
	struct error told = ERROR_INIT;
	int r = api_get(w->cli, w->session_path, &session, &told);
	if (r < 0 && told.fault == FAULT_UNAVAILABLE) {
		usleep(PAUSE_US);
		return check_time(w, "elsad does not answer", e);
	}
	if (r < 0) {
		if (e)
			*e = told;
		return r;
	}
	json_decref(w->session);
	w->session = session;
	return api_check_object(session, "state", e);
}

static bool state_is(const json_t *object, const char *state)
{
	return strcmp(wire_text_at(object, "state"), state) == 0;
}

/* --- until it runs there ----------------------------------------------------- */

static void show_step(const json_t *operation)
{
	char step[64], done[32], total[32];
	int64_t bytes = wire_number_at(operation, "bytes_total");
	if (!isatty(STDERR_FILENO))
		return;
	text_harmless(wire_text_at(operation, "step"), step, sizeof(step));
	fprintf(stderr, "\r\033[Kmigrate: %s", step);
	if (bytes > 0)
		fprintf(stderr, " %s of %s",
			format_bytes(wire_number_at(operation, "bytes_done"), done),
			format_bytes(bytes, total));
	fflush(stderr);
}

static void end_line(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static int operation_failed(const json_t *operation, struct error *e)
{
	struct error told = ERROR_INIT;
	wire_decode_error(operation, 500, &told);
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

/* Its operation is not known any more, as elsad was restarted, or something newer was asked of the
 * session, which tells what came of it. 1: it is over. */
static int judge_session(struct watch *w, struct error *e)
{
	int r = look_at_session(w, e);
	if (r < 0)
		return r;
	bool moves = state_is(w->session, "migrating") || state_is(w->session, "checkpointing") ||
		     state_is(w->session, "restoring") || state_is(w->session, "fencing") ||
		     json_is_true(json_object_get(w->session, "waking"));
	if (moves) {
		usleep(PAUSE_US);
		return check_time(w, "it is still moving", e);
	}
	if (state_is(w->session, "running") &&
	    strcmp(wire_text_at(w->session, "node"), w->from) != 0)
		return 1;
	const char *reason = wire_text_at(w->session, "reason");
	r = error_fault(e, FAULT_REFUSED, "it did not move, and is %s%s%s",
			wire_text_at(w->session, "state"), *reason ? ": " : "", reason);
	return error_remedy(e, r, "see elsa events");
}

/* 1: it runs there. */
static int look_at_operation(struct watch *w, struct error *e)
{
	cleanup_json json_t *operation = NULL;
	struct error told = ERROR_INIT;
	int r = api_get(w->cli, w->operation_path, &operation, &told);
	if (r < 0 && told.fault == FAULT_UNAVAILABLE) {
		usleep(PAUSE_US);
		return check_time(w, "elsad does not answer", e);
	}
	if (r < 0 && told.fault == FAULT_NOT_FOUND)
		return judge_session(w, e);
	if (r < 0) {
		if (e)
			*e = told;
		return r;
	}
	if (json_is_true(json_object_get(operation, "superseded")))
		return judge_session(w, e);
	if (state_is(operation, "failed"))
		return operation_failed(operation, e);
	if (state_is(operation, "done")) {
		w->frozen_us = wire_number_at(json_object_get(operation, "result"), "frozen_us");
		r = look_at_session(w, e);
		return r < 0 ? r : 1;
	}
	show_step(operation);
	return check_time(w, "it is still moving", e);
}

/* --- until its memory is there ----------------------------------------------- */

static void show_stall(struct watch *w)
{
	char why[200];
	bool stalled = wire_number_at(w->session, "stalled_since") > 0;
	if (stalled && !w->stalled) {
		end_line();
		text_harmless(wire_text_at(w->session, "stalled"), why, sizeof(why));
		fprintf(stderr, "elsa: it waits for its memory: %s\n", why);
	}
	w->stalled = stalled;
}

static int watch_memory(struct watch *w, struct error *e)
{
	struct bar bar = { .title = "memory" };
	mono_us begun = clock_mono();
	int r = 0;
	while (r == 0 && state_is(w->session, "running") &&
	       *wire_text_at(w->session, "memory_from")) {
		int64_t total = wire_number_at(w->session, "missing_total");
		int64_t missing = wire_number_at(w->session, "missing_bytes");
		if (total > w->memory_bytes)
			w->memory_bytes = total;
		show_stall(w);
		bar_show(&bar, total - missing, total);
		usleep(PAUSE_US);
		r = look_at_session(w, e);
		r = r < 0 ? r : check_time(w, "its memory is still on its way", e);
	}
	w->memory_us = clock_mono() - begun;
	bar_end(&bar);
	return r;
}

/* --- the whole --------------------------------------------------------------- */

static int watch(struct watch *w, struct error *e)
{
	int r;
	while ((r = look_at_operation(w, e)) == 0)
		;
	end_line();
	if (r > 0 && w->cli->watch)
		r = watch_memory(w, e);
	return r < 0 ? r : 0;
}

static void print_name(const struct cli *cli)
{
	text_print_name(stdout, cli->user);
	if (*cli->server) {
		putchar('/');
		text_print_name(stdout, cli->server);
	}
}

static void say(const struct watch *w)
{
	char bytes[32], speed[32];
	struct cli *cli = w->cli;
	if (cli->json) {
		json_object_set_new(w->session, "frozen_us", json_integer(w->frozen_us));
		drop_secrets(w->session);
		print_json(stdout, w->session);
		return;
	}
	print_name(cli);
	printf(": on ");
	text_print_name(stdout, wire_text_at(w->session, "node"));
	if (w->frozen_us > 0)
		printf("; it stood still for %.3f s", (double)w->frozen_us / 1e6);
	if (w->memory_bytes > 0 && w->memory_us > 0)
		printf("; %s followed in %.1f s (%s/s)", format_bytes(w->memory_bytes, bytes),
		       (double)w->memory_us / 1e6,
		       format_bytes((int64_t)((double)w->memory_bytes * 1e6 / (double)w->memory_us),
				    speed));
	putchar('\n');
}

static int ask(struct cli *cli, json_t **answer, struct error *e)
{
	json_t *body = api_session_body(cli);
	if (cli->to)
		json_object_set_new(body, "to", wire_text(cli->to));
	if (cli->safe)
		json_object_set_new(body, "safe", json_true());
	int r = api_post(cli, "/v1/session/migrate", body, answer, e);
	return r < 0 ? r : api_check_object(*answer, "id", e);
}

static int follow(struct cli *cli, json_t *asked, struct error *e)
{
	cleanup(watch_deinit) struct watch w = { .cli = cli };
	const char *id = wire_text_at(asked, "id");
	json_t *session = json_object_get(asked, "session");
	w.seconds = cli->timeout_s ? cli->timeout_s : WAIT_DEFAULT_S;
	w.deadline = clock_mono() + (mono_us)w.seconds * 1000000;
	w.session = json_incref(session);
	w.from = strdup(wire_text_at(session, "node"));
	w.session_path = api_session_path(cli, "/v1/session", NULL);
	w.operation_path = str_printf("/v1/operation?id=%s&wait=1", id);
	if (!w.from || !w.session_path || !w.operation_path)
		return error_set(e, ENOMEM, "out of memory");
	if (strspn(id, "0123456789abcdef-") != strlen(id))
		return error_fault(e, FAULT_INTERNAL, "elsad answered with a bad id");
	int r = watch(&w, e);
	if (r == 0)
		say(&w);
	return r;
}

int cmd_migrate(struct cli *cli, struct error *e)
{
	cleanup_json json_t *answer = NULL;
	int r = ask(cli, &answer, e);
	if (r < 0)
		return r;
	if (cli->wait || cli->watch)
		return follow(cli, answer, e);
	if (cli->json) {
		drop_secrets(answer);
		print_json(stdout, answer);
		return 0;
	}
	print_name(cli);
	puts(": move asked for");
	return 0;
}
