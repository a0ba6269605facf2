/* SPDX-License-Identifier: Apache-2.0 */
/* Acting: hibernate, snapshot, resume, stop, forget, keep-awake, policy run. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/secrets.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"

#include <stdio.h>
#include <string.h>

struct action {
	const char *path;
	const char *target; /* state to wait for; NULL: until there is no session */
	const char *done, *asked;
	bool no_operation; /* elsad has none to tell of */
};

static void say_done(struct cli *cli, const char *what, json_t *answer)
{
	if (cli->json) {
		drop_secrets(answer);
		print_json(stdout, answer);
		return;
	}
	text_print_name(stdout, cli->user);
	if (*cli->server) {
		putchar('/');
		text_print_name(stdout, cli->server);
	}
	printf(": %s\n", what);
}

/* Asks, and with --wait stays until it came to its end. */
static int act(struct cli *cli, const struct action *action, json_t *body /* stolen */,
	       struct error *e)
{
	cleanup_free char *session_path = api_session_path(cli, "/v1/session", NULL);
	cleanup_json json_t *before = NULL;
	cleanup_json json_t *answer = NULL;
	int r = cli->wait ? api_get(cli, session_path, &before, e) : 0;
	if (r < 0) {
		json_decref(body);
		return r;
	}
	r = api_post(cli, action->path, body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, action->no_operation ? NULL : "id", e);
	if (r == 0 && cli->wait) {
		r = wait_for_state(cli, action->target, before, answer, e);
		json_decref(answer);
		answer = NULL;
		if (r == 0 && action->target)
			r = api_get(cli, session_path, &answer, e);
		else if (r == 0)
			answer = json_object();
	}
	if (r == 0)
		say_done(cli, cli->wait ? action->done : action->asked, answer);
	return r;
}

int cmd_hibernate(struct cli *cli, struct error *e)
{
	static const struct action action = { "/v1/session/hibernate", "hibernated", "hibernated",
					      "hibernation asked for", false };
	static const struct action unseen = { "/v1/session/hibernate", "asleep", "asleep",
					      "sleep asked for", false };
	json_t *body = api_session_body(cli);
	json_object_set_new(body, cli->unseen ? "transparent" : "through_hub", json_true());
	return act(cli, cli->unseen ? &unseen : &action, body, e);
}

int cmd_snapshot(struct cli *cli, struct error *e)
{
	static const struct action action = { "/v1/session/snapshot", "running",
					      "a checkpoint is taken; it goes on",
					      "snapshot asked for", false };
	return act(cli, &action, api_session_body(cli), e);
}

int cmd_resume(struct cli *cli, struct error *e)
{
	static const struct action action = { "/v1/session/resume", "running", "running",
					      "it is being woken, or the Hub was asked to start it",
					      true };
	return act(cli, &action, api_session_body(cli), e);
}

int cmd_stop(struct cli *cli, struct error *e)
{
	static const struct action action = { "/v1/session/stop", "stopped", "stopped",
					      "stop asked for", false };
	return act(cli, &action, api_session_body(cli), e);
}

int cmd_forget(struct cli *cli, struct error *e)
{
	static const struct action action = { "/v1/session/forget", NULL, "forgotten",
					      "being forgotten, with its checkpoints", false };
	return act(cli, &action, api_session_body(cli), e);
}

int cmd_keep_awake(struct cli *cli, struct error *e)
{
	char text[CLOCK_TEXT_SIZE];
	wall_ms until = cli->for_ms ? clock_wall() + cli->for_ms : 0;
	json_t *body = api_session_body(cli);
	cleanup_json json_t *answer = NULL;
	json_object_set_new(body, "until", json_integer(until));
	int r = api_post(cli, "/v1/session/keep-awake", body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "state", e);
	if (r < 0)
		return r;
	cleanup_free char *what =
		until ? str_printf("kept awake until %.19sZ", clock_format(until, text))
		      : str_printf("not kept awake any more");
	say_done(cli, what ? what : "done", answer);
	return 0;
}

int cmd_policy_run(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT },
		{ "HIBERNATE", "hibernate", COLUMN_TEXT },
		{ "TO", "to", COLUMN_TEXT },
		{ "REASON", "reason", COLUMN_TEXT },
		{ "RULE", "rule", COLUMN_TEXT },
		{ "PERSON SEEN", "person_at", COLUMN_AGE },
		{ "NEXT LOOK", "next_at", COLUMN_TIME },
	};
	cleanup_json json_t *answer = NULL;
	int r = api_post(cli, "/v1/policy/run", json_object(), &answer, e);
	r = r < 0 ? r : api_check_object(answer, NULL, e);
	if (r < 0)
		return r;
	json_t *rows = json_object_get(answer, "decisions");
	if (!json_is_array(rows))
		return error_fault(e, FAULT_INTERNAL, "elsad answered without decisions");
	if (cli->json)
		print_json(stdout, rows);
	else if (json_array_size(rows) == 0)
		puts("no running sessions to decide about");
	else
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	return 0;
}
