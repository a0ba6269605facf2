/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_CLI_H
#define ELSA_CLI_CLI_H

/*
 * elsa, the command line: one table of commands and one of options
 * (cli/commands.c), each command a function from parsed options to an exit
 * status. Results go to standard output, as a table for people or with --json
 * as what elsad answered; progress and errors go to standard error. Exit
 * statuses are base/error.h's by kind of failure. One thread.
 */

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cli {
	/* Where elsad is: "unix:/path" or "http://host:port"; and a bearer token for the latter. */
	char *url;
	char *token;
	const char *config_path; /* NULL: the usual one, if it is there */
	bool json;
	bool wait;
	bool follow;
	bool force;
	bool dry_run;
	bool safe;
	bool unseen; /* --transparent */
	bool watch;
	int64_t timeout_s; /* 0: not given */
	int64_t lines;
	int64_t generation; /* 0: all */
	int64_t for_ms;     /* keep-awake's */
	int64_t in_ms;      /* a drill's */
	int64_t ttl_ms;     /* of a token */
	int64_t uses;
	int64_t seed, users, days; /* of a simulation or a trace */
	int64_t memory_bytes;
	int64_t since_ms;                                 /* 0: not given */
	const char *by;                                   /* NULL: not given */
	int64_t spare_bytes;                              /* negative: not given */
	const char *bench_path, *prices_path, *html_path; /* NULL: not given */
	const char *server; /* "" for the default one; what --server said when server_given */
	bool server_given;
	const char *user;     /* NULL where a command does not want one */
	const char *why;      /* NULL: elsad's own words */
	const char *argument; /* a file, or a node */
	const char *to;       /* a node; NULL: any */
};

/* The index of an option in cli_options[], and its bit in a command's set. */
enum cli_option_id {
	CLI_SERVER,
	CLI_WAIT,
	CLI_WHY,
	CLI_FOR,
	CLI_IN,
	CLI_TTL,
	CLI_USES,
	CLI_GENERATION,
	CLI_LINES,
	CLI_FOLLOW,
	CLI_FORCE,
	CLI_DRY_RUN,
	CLI_TO,
	CLI_SAFE,
	CLI_TRANSPARENT,
	CLI_WATCH,
	CLI_BENCH,
	CLI_PRICES,
	CLI_HTML,
	CLI_SPARE,
	CLI_SEED,
	CLI_USERS,
	CLI_DAYS,
	CLI_MEMORY,
	CLI_SINCE,
	CLI_BY,
	CLI_JSON, /* the rest is for every command */
	CLI_TIMEOUT,
	CLI_CONFIG,
	CLI_URL,
	CLI_TOKEN_FILE,
	CLI_HELP,
	CLI_VERSION,
	CLI_OPTION_COUNT
};
#define CLI_BIT(id)       ((uint64_t)1 << (id))
#define CLI_FOR_EVERY_ONE (~(CLI_BIT(CLI_JSON) - 1))

struct cli_option {
	const char *name;
	char letter;          /* '\0': none */
	const char *argument; /* what the help calls its value; NULL: it takes none */
	const char *help;
};
extern const struct cli_option cli_options[CLI_OPTION_COUNT];

struct cli_command {
	const char *name;      /* "store ls" has a space */
	const char *arguments; /* for the help */
	const char *help;      /* a line */
	const char *more;      /* sentences for the manual; NULL: none */
	int (*run)(struct cli *cli, struct error *e);
	enum {
		CLI_NO_USER,
		CLI_MAY_USER,
		CLI_NEEDS_USER,
		CLI_USER_MAY_FILE, /* a user, then perhaps a file, or a class */
		CLI_MAY_FILE,
		CLI_NEEDS_FILE,
		CLI_NEEDS_NODE,
	} takes;
	uint64_t options; /* CLI_BIT() of those it takes beside everyone's */
	bool local;       /* needs no elsad */
};
extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;
extern const struct cli_command cli_user_names; /* hidden: for completion */

/* The longest command that the leading words spell, or NULL. *used: how many they are. */
const struct cli_command *cli_find_command(char *const *words, int count, int *used);

/* cli/options.c: the words of a command line. *command is NULL when help, the version or the like
 * was asked for and printed: then there is nothing left to do. What is given points into argv. */
int cli_parse(struct cli *cli, int argc, char **argv, const struct cli_command **command,
	      struct error *e);

/* cli/help.c */
void help_print(FILE *to, const struct cli_command *command); /* NULL: all of them */
void help_markdown(FILE *to);                                 /* docs/cli.md */
void help_manual(FILE *to);                                   /* packaging/man/elsa.1 */
void help_words(FILE *to); /* commands, then options, one on a line, for completion */

/* cli/api.c: one request to elsad. *answer is a new reference; may be NULL when not wanted. */
int api_get(struct cli *cli, const char *path, json_t **answer, struct error *e);
int api_post(struct cli *cli, const char *path, json_t *body /* stolen */, json_t **answer,
	     struct error *e);
int api_get_text(struct cli *cli, const char *path, char **text, struct error *e);
/* The list called `key` of an answer, as a new reference; anything else is an error. */
int api_get_list(struct cli *cli, const char *path, const char *key, json_t **list,
		 struct error *e);
/* Bytes, as they are: a part of a body that is fetched or sent piece by piece. */
int api_get_bytes(struct cli *cli, const char *path,
		  int (*each)(const char *data, size_t len, void *arg), void *arg, struct error *e);
int api_post_bytes(struct cli *cli, const char *path, const char *data, size_t len,
		   struct error *e);
/* "/v1/session?user=..&server=.." with both escaped; `more` is appended. Allocated. */
char *api_session_path(struct cli *cli, const char *path, const char *more);
json_t *api_session_body(struct cli *cli); /* {"user", "server", "who", "why"} */
/* An object, with text at `key` unless that is NULL: else an error. */
int api_check_object(const json_t *answer, const char *key, struct error *e);

/* cli/wait.c: until the session is in state `target`, or gone when that is NULL, with progress on a
 * terminal. `before` is the session as it was when asked, `asked` what elsad answered to that. */
int wait_for_state(struct cli *cli, const char *target, const json_t *before, const json_t *asked,
		   struct error *e);

/* cli/cmd_node.c: asks elsad for something about the node that the command line names. Whoever
 * reads no JSON is told "NODE: said". */
int node_tell(struct cli *cli, const char *path, json_t *body /* stolen */, const char *said,
	      struct error *e);

/* cli/store_task.c: work on the store, asked for and followed to its end with a bar on a terminal.
 * *end is what elsad said last, a new reference; negative when it failed. */
int store_task_run(struct cli *cli, const char *kind, json_t *body /* stolen */, json_t **end,
		   struct error *e);
int store_task_begin(struct cli *cli, const char *kind, json_t *body /* stolen */, json_t **task,
		     struct error *e);
int store_task_follow(struct cli *cli, const char *kind, const char *id, json_t **end,
		      struct error *e);
/* The checkpoints that the command line means, as a list; or the fences. */
int store_checkpoints(struct cli *cli, json_t **list, struct error *e);
int store_fences(struct cli *cli, json_t **list, struct error *e);
/* ... the only one: of --generation, or the newest that can be used. */
int store_checkpoint(struct cli *cli, json_t **checkpoint, struct error *e);
json_t *store_checkpoint_body(struct cli *cli, const json_t *checkpoint); /* to ask by */

/* cli/commands: see the table in cli/commands.c. */
int cmd_status(struct cli *cli, struct error *e);
int cmd_sessions(struct cli *cli, struct error *e);
int cmd_user_names(struct cli *cli, struct error *e);
int cmd_show(struct cli *cli, struct error *e);
int cmd_hibernate(struct cli *cli, struct error *e);
int cmd_snapshot(struct cli *cli, struct error *e);
int cmd_migrate(struct cli *cli, struct error *e);
int cmd_resume(struct cli *cli, struct error *e);
int cmd_stop(struct cli *cli, struct error *e);
int cmd_forget(struct cli *cli, struct error *e);
int cmd_keep_awake(struct cli *cli, struct error *e);
int cmd_logs(struct cli *cli, struct error *e);
int cmd_events(struct cli *cli, struct error *e);
int cmd_policy_run(struct cli *cli, struct error *e);
int cmd_policy_try(struct cli *cli, struct error *e);
int cmd_explain(struct cli *cli, struct error *e);
int cmd_sizes(struct cli *cli, struct error *e);
int cmd_resize(struct cli *cli, struct error *e);
int cmd_savings(struct cli *cli, struct error *e);
int cmd_usage(struct cli *cli, struct error *e);
int cmd_capacity(struct cli *cli, struct error *e);
int cmd_store_ls(struct cli *cli, struct error *e);
int cmd_store_show(struct cli *cli, struct error *e);
int cmd_store_verify(struct cli *cli, struct error *e);
int cmd_store_gc(struct cli *cli, struct error *e);
int cmd_store_rm(struct cli *cli, struct error *e);
int cmd_store_export(struct cli *cli, struct error *e);
int cmd_store_import(struct cli *cli, struct error *e);
int cmd_store_rekey(struct cli *cli, struct error *e);
int cmd_node_token(struct cli *cli, struct error *e);
int cmd_node_list(struct cli *cli, struct error *e);
int cmd_node_drain(struct cli *cli, struct error *e);
int cmd_node_undrain(struct cli *cli, struct error *e);
int cmd_node_remove(struct cli *cli, struct error *e);
int cmd_evacuation(struct cli *cli, struct error *e);
int cmd_drill_evict(struct cli *cli, struct error *e);
int cmd_drill_rebalance(struct cli *cli, struct error *e);
int cmd_drill_reboot(struct cli *cli, struct error *e);
int cmd_drill_freeze(struct cli *cli, struct error *e);
int cmd_drill_cancel(struct cli *cli, struct error *e);
int cmd_simulate(struct cli *cli, struct error *e);
int cmd_trace_generate(struct cli *cli, struct error *e);
int cmd_trace_from_hub(struct cli *cli, struct error *e);
int cmd_doctor(struct cli *cli, struct error *e);
int cmd_config_check(struct cli *cli, struct error *e);
int cmd_config_show(struct cli *cli, struct error *e);

#endif
