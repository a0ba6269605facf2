/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_CLI_H
#define ELSA_CLI_CLI_H

/*
 * elsa, the command line: one table of commands (cli/main.c), each a function
 * from parsed options to an exit status. Results go to standard output, as a
 * table for people or with --json as what elsad answered; progress and errors
 * go to standard error. Exit statuses are base/error.h's by kind of failure.
 */

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct cli {
	/* Where elsad is: "unix:/path" or "http://host:port"; and a bearer token for the latter. */
	char *url;
	char *token;
	const char *config_path;
	bool json;
	bool wait;
	bool follow;
	bool all;
	bool verbose;
	int timeout_s;
	int64_t lines;
	int64_t generation; /* 0: the newest */
	const char *server; /* "" for the default one */
	const char *user;   /* NULL where a command does not want one */
	const char *why;
	const char *argument; /* a second positional word */
	int argc;             /* what is left, for doctor */
	char **argv;
};

struct cli_command {
	const char *name;      /* "store ls" has a space */
	const char *arguments; /* for the help */
	const char *help;
	int (*run)(struct cli *cli, struct error *e);
	enum { CLI_NO_USER, CLI_MAY_USER, CLI_NEEDS_USER } user;
};

/* cli/api.c: one request to elsad. *answer is a new reference; may be NULL when not wanted. */
int api_get(struct cli *cli, const char *path, json_t **answer, struct error *e);
int api_post(struct cli *cli, const char *path, json_t *body /* stolen */, json_t **answer,
	struct error *e);
int api_get_text(struct cli *cli, const char *path, char **text, struct error *e);
/* "/v1/session?user=..&server=.." with both escaped; `more` is appended. Allocated. */
char *api_session_path(struct cli *cli, const char *path, const char *more);
json_t *api_session_body(struct cli *cli); /* {"user", "server"} */

/* cli/wait.c: until the session is in state `target`, with progress on a terminal. `before` is the
 * session as it was when asked. */
int wait_for_state(struct cli *cli, const char *target, json_t *before, struct error *e);

/* cli/commands: see the table in cli/main.c. */
int cmd_status(struct cli *cli, struct error *e);
int cmd_sessions(struct cli *cli, struct error *e);
int cmd_show(struct cli *cli, struct error *e);
int cmd_hibernate(struct cli *cli, struct error *e);
int cmd_resume(struct cli *cli, struct error *e);
int cmd_stop(struct cli *cli, struct error *e);
int cmd_forget(struct cli *cli, struct error *e);
int cmd_logs(struct cli *cli, struct error *e);
int cmd_events(struct cli *cli, struct error *e);
int cmd_policy_run(struct cli *cli, struct error *e);
int cmd_store_ls(struct cli *cli, struct error *e);
int cmd_store_verify(struct cli *cli, struct error *e);
int cmd_doctor(struct cli *cli, struct error *e);
int cmd_config_check(struct cli *cli, struct error *e);
int cmd_config_show(struct cli *cli, struct error *e);

#endif
