/* SPDX-License-Identifier: Apache-2.0 */
/* Acting: hibernate, resume, stop, forget, policy run. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static void say_done(struct cli *cli, const char *what, json_t *answer)
{
	if (cli->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("%s%s%s: %s\n", cli->user, *cli->server ? "/" : "", cli->server, what);
	}
}

/* Asks, and with --wait stays until the session is in `target`. */
static int ask(struct cli *cli, const char *path, json_t *body, const char *target,
	const char *asked, struct error *e)
{
	cleanup_free char *session_path = api_session_path(cli, "/v1/session", NULL);
	json_t *before = NULL;
	json_t *answer = NULL;
	int r = api_get(cli, session_path, &before, e);
	r = r < 0 ? r : api_post(cli, path, body, &answer, e);
	if (r == 0 && cli->wait) {
		r = wait_for_state(cli, target, before, e);
		json_decref(answer);
		answer = NULL;
		r = r < 0 ? r : api_get(cli, session_path, &answer, e);
		if (r == 0) {
			json_object_del(answer, "api_token");
			json_object_del(answer, "spawner");
		}
	}
	if (r == 0)
		say_done(cli, cli->wait ? target : asked, answer);
	json_decref(before);
	json_decref(answer);
	return r;
}

int cmd_hibernate(struct cli *cli, struct error *e)
{
	json_t *body = api_session_body(cli);
	json_object_set_new(body, "through_hub", json_true());
	return ask(cli, "/v1/session/hibernate", body, "hibernated", "hibernation asked for", e);
}

int cmd_resume(struct cli *cli, struct error *e)
{
	return ask(cli, "/v1/session/resume", api_session_body(cli), "running",
		"asked the Hub to start it", e);
}

int cmd_stop(struct cli *cli, struct error *e)
{
	return ask(cli, "/v1/session/stop", api_session_body(cli), "stopped", "stop asked for", e);
}

/* Gone for good, hence no session to wait for. */
int cmd_forget(struct cli *cli, struct error *e)
{
	json_t *answer = NULL;
	int r = api_post(cli, "/v1/session/forget", api_session_body(cli), &answer, e);
	if (r == 0)
		say_done(cli, "being forgotten, with its checkpoints", answer);
	json_decref(answer);
	return r;
}

int cmd_policy_run(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "USER", "user", COLUMN_TEXT },
		{ "SERVER", "server", COLUMN_TEXT },
		{ "HIBERNATE", "hibernate", COLUMN_TEXT },
		{ "REASON", "reason", COLUMN_TEXT },
		{ "RULE", "rule", COLUMN_TEXT },
		{ "PERSON SEEN", "person_at", COLUMN_AGE },
		{ "NEXT LOOK", "next_at", COLUMN_TIME },
	};
	json_t *answer = NULL;
	int r = api_post(cli, "/v1/policy/run", json_object(), &answer, e);
	if (r < 0)
		return r;
	json_t *rows = json_object_get(answer, "decisions");
	if (cli->json)
		json_dumpf(rows, stdout, JSON_INDENT(2)), putchar('\n');
	else
		table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	json_decref(answer);
	return 0;
}
