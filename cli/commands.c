/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to say to elsa. The help, docs/cli.md, the manual page and the completion of shells
 * are made from these two tables. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "config/config.h"

#include <string.h>

const struct cli_option cli_options[CLI_OPTION_COUNT] = {
	[CLI_SERVER] = { "server", 's', "NAME", "a named server; the default one otherwise" },
	[CLI_WAIT] = { "wait", 0, NULL, "until it is done, with progress on a terminal" },
	[CLI_WHY] = { "why", 0, "TEXT", "recorded with the event" },
	[CLI_FOR] = { "for", 0, "TIME", "such as 90m, 8h or 2d (8h); 0 ends it" },
	[CLI_IN] = { "in", 0, "TIME", "from now, such as 30s or 2m (30s)" },
	[CLI_TTL] = { "ttl", 0, "TIME", "how long it can be used, such as 30m or 2d (1h)" },
	[CLI_USES] = { "uses", 0, "N", "how many hosts can use it (1); 0: any number" },
	[CLI_GENERATION] = { "generation", 0, "N", "only this checkpoint" },
	[CLI_LINES] = { "lines", 'n', "N", "at most so many, the newest (100)" },
	[CLI_FOLLOW] = { "follow", 'f', NULL, "go on as they come" },
	[CLI_FORCE] = { "force", 0, NULL, "also what would lose a session" },
	[CLI_DRY_RUN] = { "dry-run", 0, NULL, "only say what would be done" },
	[CLI_TO] = { "to", 0, "NODE", "not where it fits best, but there" },
	[CLI_TRANSPARENT] = { "transparent", 0, NULL,
			      "as the idle policy does: nobody sees it, and who comes wakes it" },
	[CLI_SAFE] = { "safe", 0, NULL, "by checkpoint: never on two machines at once" },
	[CLI_WATCH] = { "watch", 0, NULL, "as --wait, and until its memory has followed" },
	[CLI_BENCH] = { "bench", 0, "FILE", "a build/bench.json: ours takes as long as measured" },
	[CLI_PRICES] = { "prices", 0, "FILE", "a catalogue; one of AWS otherwise" },
	[CLI_HTML] = { "html", 0, "FILE", "a page with plots, too" },
	[CLI_SPARE] = { "spare", 0, "SIZE",
			"memory kept free for who comes (4G, and 6.5M for each session)" },
	[CLI_SEED] = { "seed", 0, "N", "the same one gives the same result (1)" },
	[CLI_USERS] = { "users", 0, "N", "so many users (10000)" },
	[CLI_DAYS] = { "days", 0, "N", "for so many days (90)" },
	[CLI_MEMORY] = { "memory", 0, "SIZE", "of each session, which the Hub does not know (1G)" },
	[CLI_SINCE] = { "since", 0, "TIME", "so far back, such as 7d" },
	[CLI_BY] = { "by", 0, "WHAT", "user, group or day: a line for each" },
	[CLI_JSON] = { "json", 0, NULL, "for programs" },
	[CLI_TIMEOUT] = { "timeout", 0, "SECONDS",
			  "longest wait for an answer (120), or with --wait for the end (300)" },
	[CLI_CONFIG] = { "config", 'c', "FILE", "read FILE instead of " CONFIG_DEFAULT_PATH },
	[CLI_URL] = { "url", 0, "URL", "elsad: unix:/PATH or http(s)://HOST:PORT; or $ELSA_URL" },
	[CLI_TOKEN_FILE] = { "token-file", 0, "FILE", "its token for http; or $ELSA_TOKEN" },
	[CLI_HELP] = { "help", 'h', NULL, "this, or of one command" },
	[CLI_VERSION] = { "version", 0, NULL, "of elsa" },
};

#define B      CLI_BIT
#define SERVER B(CLI_SERVER)
#define ACTING (SERVER | B(CLI_WAIT) | B(CLI_WHY))

/* clang-format off */
const struct cli_command cli_commands[] = {
	{ "status", "", "whether elsad, its node and the Hub are up",
	  "Fails (7) where one of them is not.",
	  cmd_status, CLI_NO_USER, 0, false },
	{ "sessions", "", "all sessions",
	  "Who is awake, who sleeps, how much memory and storage each takes, and why it is so. One that is "
	  "asleep, or dozes, wakes by itself when somebody comes; one that is hibernated, when its user starts "
	  "it.",
	  cmd_sessions, CLI_NO_USER, 0, false },
	{ "show", "USER", "one session, its checkpoints, why it is as it is",
	  "Of an operation that failed it gives the reason in CRIU's own words, too.",
	  cmd_show, CLI_NEEDS_USER, SERVER, false },
	{ "hibernate", "USER", "checkpoint a session and let its processes go",
	  "elsad asks the Hub to stop the server, so that the Hub's view stays right. When the "
	  "session cannot be checkpointed it goes on running, and this fails (6). With --transparent the Hub "
	  "is told nothing: the session is asleep, its node answers for it, and the first who comes wakes it. "
	  "Without, one that is asleep is let go of: its user has to start it.",
	  cmd_hibernate, CLI_NEEDS_USER, ACTING | B(CLI_TRANSPARENT), false },
	{ "snapshot", "USER", "take a checkpoint of a session that goes on running",
	  "It stands still only while its memory is read, which is the shorter the less has changed "
	  "since its last checkpoint. If it is lost later (its node is rebooted), it is this that it "
	  "is woken from. When no checkpoint can be taken it goes on all the same, and this fails.",
	  cmd_snapshot, CLI_NEEDS_USER, ACTING, false },
	{ "migrate", "USER", "a session goes to another node while it runs",
	  "It stands still for a moment, keeps its connections, and its memory follows "
	  "(docs/migration.md). Where it cannot move it goes on where it is, and this fails. With --safe it "
	  "is hibernated and woken there instead. With --watch how long it stood still, how fast its memory "
	  "follows and how much of it is left is shown.",
	  cmd_migrate, CLI_NEEDS_USER,
	  ACTING | B(CLI_TO) | B(CLI_SAFE) | B(CLI_WATCH), false },
	{ "resume", "USER", "wake a session, as its user's login would",
	  "elsad asks the Hub to start the server. What is asleep or dozes, it wakes by itself: the Hub has "
	  "never stopped that.",
	  cmd_resume, CLI_NEEDS_USER, ACTING, false },
	{ "stop", "USER", "end a session; its memory is not kept",
	  "Its checkpoints are set aside: kept, but no login wakes them.",
	  cmd_stop, CLI_NEEDS_USER, ACTING, false },
	{ "forget", "USER", "end a session and delete its checkpoints",
	  "There is no way back. Files in the user's home are not touched.",
	  cmd_forget, CLI_NEEDS_USER, ACTING, false },
	{ "keep-awake", "USER", "no policy puts a session to sleep for some time",
	  "A hibernation that somebody asks for is done all the same.",
	  cmd_keep_awake, CLI_NEEDS_USER, SERVER | B(CLI_FOR), false },
	{ "logs", "USER", "what the session's server printed", NULL,
	  cmd_logs, CLI_NEEDS_USER, SERVER | B(CLI_LINES), false },
	{ "events", "[USER]", "who did what, when, why, how long, how many bytes",
	  "Of one user: of all of their servers, or of the one --server names. "
	  "With --follow and --json every event is a line of its own.",
	  cmd_events, CLI_MAY_USER, SERVER | B(CLI_LINES) | B(CLI_FOLLOW), false },
	{ "policy run", "", "a pass of the idle policy now",
	  "Prints what it decided for each session. What is to sleep is put to sleep, unless "
	  "idle.dry_run is set.",
	  cmd_policy_run, CLI_NO_USER, 0, false },
	{ "policy try", "FILE", "what a config would decide, and nothing done",
	  "All policies by that file on what there is now, beside what they decide by the one in "
	  "force: who is put to sleep, snapshots, checkpoints that are kept, where who waits would "
	  "go, memory limits, sizes, machines, nodes that are emptied, budgets. Of all but the first "
	  "what would be another; with --json all of it. What is wrong with the file is said with "
	  "line and column.",
	  cmd_policy_try, CLI_NEEDS_FILE, 0, false },
	{ "explain", "USER", "why a session is as it is, and what comes next",
	  "What the idle policy would decide now and from what, what will happen when, and the last "
	  "events with what was known then (with --json all of it).",
	  cmd_explain, CLI_NEEDS_USER, SERVER, false },
	{ "usage", "USER", "what a session was seen to use",
	  "Memory (mean, 95th percentile, peak), processor, how long it had to wait for it, for memory and "
	  "for disks (where the kernel says so), and what changed of it. Up to three hours by minutes, up to "
	  "three days by hours, else by days; the last day without --since.",
	  cmd_usage, CLI_NEEDS_USER, SERVER | B(CLI_SINCE), false },
	{ "sizes", "[USER]", "the size classes, and which one a session is to have",
	  "What each has and costs an hour. Of a user: what the session has, what it was seen to use, which "
	  "class that asks for, and what will be done (docs/size.md).",
	  cmd_sizes, CLI_MAY_USER, SERVER, false },
	{ "resize", "USER CLASS", "the class that a session is to have from now on",
	  "It gets it at its next wake; more than it has, at once, if it runs and its node has room, or "
	  "another, where it then moves as it runs. It keeps it until another is chosen; auto has it found by its use again. What holds more than the "
	  "class has room for keeps what it has until it holds less. What becomes of it is said.",
	  cmd_resize, CLI_USER_MAY_FILE, SERVER | B(CLI_WHY), false },
	{ "savings", "", "what sessions cost, and would have cost always on",
	  "By the account that elsad keeps, in whole days (UTC) of the last 30, or of --since "
	  "(docs/savings.md).",
	  cmd_savings, CLI_NO_USER, B(CLI_SINCE) | B(CLI_BY), false },
	{ "capacity", "", "machines that were asked for, and what for",
	  "The pools of capacity.pools with how many machines each is to have, their machines and "
	  "which nodes those are, and the sessions that no node has room for.",
	  cmd_capacity, CLI_NO_USER, 0, false },
	{ "store ls", "[USER]", "the checkpoints in the store",
	  "Of one user: of all of their servers, or of the one --server names. STORED is what a "
	  "checkpoint takes itself, SHARED what it uses of older ones. One that cannot be used is listed "
	  "as damaged, with the reason. Behind them are the fences: numbers that a node has taken, "
	  "under which nothing can be stored any more.",
	  cmd_store_ls, CLI_MAY_USER, SERVER, false },
	{ "store show", "USER", "what a checkpoint holds",
	  "The newest, or that of --generation.",
	  cmd_store_show, CLI_NEEDS_USER, SERVER | B(CLI_GENERATION), false },
	{ "store verify", "[USER]", "read checkpoints whole and see that they are as written",
	  "Goes on after a bad one, names each bad object, and fails (10) in the end. It takes as long "
	  "as reading the store does.",
	  cmd_store_verify, CLI_MAY_USER, SERVER | B(CLI_GENERATION), false },
	{ "store gc", "", "remove what no checkpoint needs",
	  "What crashed uploads left behind. elsa-node does the same every store.gc. What is being "
	  "written, here or on another node, is left alone.",
	  cmd_store_gc, CLI_NO_USER, B(CLI_DRY_RUN), false },
	{ "store rm", "USER", "remove one checkpoint, that of --generation",
	  "What other checkpoints share of it stays. Of a session that sleeps, the newest is all there "
	  "is: it is refused (4) unless --force says that the session may be lost. One that a session "
	  "is being woken from is never removed.",
	  cmd_store_rm, CLI_NEEDS_USER, SERVER | B(CLI_GENERATION) | B(CLI_FORCE) | B(CLI_DRY_RUN),
	  false },
	{ "store export", "USER [FILE]", "one checkpoint, with all it needs, as a tar",
	  "To a new FILE, for its owner's eyes only, or to standard output. It stays sealed: whoever "
	  "imports it needs the master key. The newest, or that of --generation.",
	  cmd_store_export, CLI_USER_MAY_FILE, SERVER | B(CLI_GENERATION), false },
	{ "store import", "FILE", "put an exported checkpoint into the store",
	  "From FILE, or from standard input if that is -. It is verified before it counts. A session "
	  "that was not known here can be woken after that, if its user, uid and address are nobody "
	  "else's; what came of it is said.",
	  cmd_store_import, CLI_NEEDS_FILE, 0, false },
	{ "store rekey", "", "wrap the sessions' keys with the present master key",
	  "After a rotation (docs/operations.md). What was written before stays as it is and can be "
	  "read without the old key from then on.",
	  cmd_store_rekey, CLI_NO_USER, 0, false },
	{ "node list", "", "the hosts that run sessions",
	  "SESSIONS are those with processes there. LEASE is how long they may run without a word from "
	  "it; a node that is lost has none, and runs nothing. The hub's own host needs none.",
	  cmd_node_list, CLI_NO_USER, 0, false },
	{ "node token", "", "a token by which another host joins",
	  "Prints it, and what is to be done on that host (docs/nodes.md). It is a secret until it has "
	  "been used up or its time is over, and is shown only once.",
	  cmd_node_token, CLI_NO_USER, B(CLI_TTL) | B(CLI_USES), false },
	{ "node drain", "NODE", "sessions leave a node, and nothing new is placed there",
	  "Those in use move to another node while they run, or, where they cannot, are hibernated and woken "
	  "there; the others are hibernated, a few at once (idle.concurrency). What cannot be checkpointed "
	  "stays; so do all sessions of the hub's own host. The same as elsa drain.",
	  cmd_node_drain, CLI_NEEDS_NODE, 0, false },
	{ "drain", "NODE", "the same as elsa node drain", NULL,
	  cmd_node_drain, CLI_NEEDS_NODE, 0, false },
	{ "node undrain", "NODE", "the opposite of drain", NULL,
	  cmd_node_undrain, CLI_NEEDS_NODE, 0, false },
	{ "node remove", "NODE", "its certificate does not count any more",
	  "It is refused (4) while sessions are there, unless --force says that what runs there may be "
	  "lost: their last checkpoints are then what is left. To come back the host needs a new token.",
	  cmd_node_remove, CLI_NEEDS_NODE, B(CLI_FORCE), false },
	{ "evacuation", "NODE", "what a node that goes away made of its sessions",
	  "The last one: who was saved when, how much of the time there was was left then, and what "
	  "the others fall back to. elsad knows it also when the node is gone.",
	  cmd_evacuation, CLI_NEEDS_NODE, 0, false },
	{ "drill evict", "NODE", "tell a node that its machine goes away",
	  "As if its cloud had said so: it puts its sessions away, in earnest, and nothing new is placed "
	  "there. The machine stays. It holds until it is taken back (docs/nodes.md).",
	  cmd_drill_evict, CLI_NEEDS_NODE, B(CLI_IN), false },
	{ "drill rebalance", "NODE", "tell a node that its machine is likely to go away",
	  "What comes of it is for spot.rebalance to say.",
	  cmd_drill_rebalance, CLI_NEEDS_NODE, B(CLI_IN), false },
	{ "drill reboot", "NODE", "tell a node that its machine will be rebooted", NULL,
	  cmd_drill_reboot, CLI_NEEDS_NODE, B(CLI_IN), false },
	{ "drill freeze", "NODE", "tell a node that its machine will stand still for a moment", NULL,
	  cmd_drill_freeze, CLI_NEEDS_NODE, B(CLI_IN), false },
	{ "drill cancel", "NODE", "take a drill back",
	  "What was put away stays so until it is wanted.",
	  cmd_drill_cancel, CLI_NEEDS_NODE, 0, false },
	{ "simulate", "TRACE", "what a trace of a hub would have cost, run in several ways",
	  "Always on, culled by killing (on demand, and on spot machines), as Elsa's prototype did, and "
	  "as Elsa does, by its own policies on a virtual clock (docs/simulator.md). TRACE is a file, or - "
	  "for standard input. With --config the timeouts, the RPO, the capacity and the size classes of "
	  "that file hold; where there are classes, a sixth way shows what it would cost without.",
	  cmd_simulate, CLI_NEEDS_FILE,
	  B(CLI_BENCH) | B(CLI_PRICES) | B(CLI_HTML) | B(CLI_SPARE) | B(CLI_SEED), true },
	{ "trace generate", "", "a trace after published shapes of use",
	  "To standard output. docs/simulator.md has the source of each of its numbers.",
	  cmd_trace_generate, CLI_NO_USER, B(CLI_USERS) | B(CLI_DAYS) | B(CLI_SEED), true },
	{ "trace from-hub", "FILE", "a trace of what your own hub did",
	  "From JupyterHub's database (SQLite), which knows of each server's last start and activity only, "
	  "or from its log, which knows all of them; - reads a log from standard input. To standard output, "
	  "without the names of users.",
	  cmd_trace_from_hub, CLI_NEEDS_FILE, B(CLI_MEMORY), true },
	{ "doctor", "", "what this machine lacks, and what to do about it",
	  "Needs no elsad. Fails where sessions could not be checkpointed.",
	  cmd_doctor, CLI_NO_USER, 0, true },
	{ "config check", "[FILE]", "check a configuration file",
	  "What is wrong with it is said with line and column.",
	  cmd_config_check, CLI_MAY_FILE, 0, true },
	{ "config show", "[FILE]", "every option with its value", NULL,
	  cmd_config_show, CLI_MAY_FILE, 0, true },
};
/* clang-format on */
const size_t cli_command_count = ARRAY_SIZE(cli_commands);

const struct cli_command cli_user_names = { .name = "--help-users", .run = cmd_user_names };

static const struct cli_command *find_name(const char *name)
{
	for (size_t i = 0; name && i < cli_command_count; i++)
		if (strcmp(cli_commands[i].name, name) == 0)
			return &cli_commands[i];
	return NULL;
}

const struct cli_command *cli_find_command(char *const *words, int count, int *used)
{
	const struct cli_command *command = NULL;
	if (count > 1) {
		cleanup_free char *name = str_printf("%s %s", words[0], words[1]);
		command = find_name(name);
		*used = 2;
	}
	if (!command && count > 0) {
		command = find_name(words[0]);
		*used = 1;
	}
	return command;
}
