/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "config/config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cli_command commands[] = {
	{ "status", "", "whether elsad, its node and the Hub are up", cmd_status, CLI_NO_USER },
	{ "sessions", "", "all sessions", cmd_sessions, CLI_NO_USER },
	{ "show", "USER", "one session, its checkpoints, why it is as it is", cmd_show,
		CLI_NEEDS_USER },
	{ "hibernate", "USER", "checkpoint a session and let its processes go", cmd_hibernate,
		CLI_NEEDS_USER },
	{ "resume", "USER", "wake a session, as its user's login would", cmd_resume, CLI_NEEDS_USER },
	{ "stop", "USER", "end a session; its memory is not kept", cmd_stop, CLI_NEEDS_USER },
	{ "forget", "USER", "end a session and delete its checkpoints", cmd_forget, CLI_NEEDS_USER },
	{ "logs", "USER", "what the session's server printed", cmd_logs, CLI_NEEDS_USER },
	{ "events", "[USER]", "who did what, when, why, how long, how many bytes", cmd_events,
		CLI_MAY_USER },
	{ "policy run", "", "a pass of the idle policy now", cmd_policy_run, CLI_NO_USER },
	{ "store ls", "[USER]", "the checkpoints in the store", cmd_store_ls, CLI_MAY_USER },
	{ "store verify", "[USER]", "read checkpoints whole and compare their sums",
		cmd_store_verify, CLI_MAY_USER },
	{ "doctor", "", "what this machine lacks, and what to do about it", cmd_doctor, CLI_NO_USER },
	{ "config check", "[FILE]", "check a configuration file", cmd_config_check, CLI_NO_USER },
	{ "config show", "[FILE]", "every option with its value", cmd_config_show, CLI_NO_USER },
};

enum { OPTION_URL = 256, OPTION_TOKEN, OPTION_CONFIG, OPTION_JSON, OPTION_WAIT, OPTION_TIMEOUT,
	OPTION_GENERATION, OPTION_WHY, OPTION_VERSION };

static const struct option options[] = {
	{ "url", required_argument, NULL, OPTION_URL },
	{ "token-file", required_argument, NULL, OPTION_TOKEN },
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "wait", no_argument, NULL, OPTION_WAIT },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "generation", required_argument, NULL, OPTION_GENERATION },
	{ "why", required_argument, NULL, OPTION_WHY },
	{ "server", required_argument, NULL, 's' },
	{ "lines", required_argument, NULL, 'n' },
	{ "follow", no_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void print_help(FILE *to)
{
	fprintf(to, "elsa: sleep and wake for JupyterHub sessions\n\n"
		    "usage: elsa COMMAND [OPTION...] [ARGUMENT]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-13s %-7s %s\n", commands[i].name, commands[i].arguments,
			commands[i].help);
	fprintf(to, "\n"
		    "  -s, --server NAME    a named server; the default one otherwise\n"
		    "      --json           for programs\n"
		    "      --wait           until it is done, with progress\n"
		    "      --timeout S      ... at most so long (300)\n"
		    "      --why TEXT       recorded with the event\n"
		    "      --generation N   of a checkpoint\n"
		    "  -n, --lines N        of a log, or events (100)\n"
		    "  -f, --follow         go on with events as they come\n"
		    "      --config FILE    (" CONFIG_DEFAULT_PATH ")\n"
		    "      --url URL        of elsad: unix:/path or http://host:port; or $ELSA_URL\n"
		    "      --token-file F   for http; or $ELSA_TOKEN\n"
		    "      --version\n\n"
		    "exit status: 0 done, 1 internal, 2 bad input, 3 not found, 4 conflict, 5 denied,\n"
		    "6 refused (CRIU cannot), 7 unavailable, 8 timeout, 9 full, 10 corrupt\n");
}

static int parse_number(const char *text, const char *option, int64_t *value, struct error *e)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || end == text || *end || number < 0 || number > 1000000000)
		return error_set(e, EINVAL, "%s wants a whole number, not \"%s\"", option, text);
	*value = number;
	return 0;
}

static int read_token(const char *path, char **token, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	int r = fs_read(path, &text, e);
	if (r < 0)
		return r;
	free(*token);
	*token = strndup(buf_text(&text), strcspn(buf_text(&text), " \t\r\n"));
	return 0;
}

static int take_option(struct cli *cli, int option, struct error *e)
{
	int64_t number = 0;
	int r = 0;
	switch (option) {
	case OPTION_URL:
		free(cli->url);
		cli->url = strdup(optarg);
		break;
	case OPTION_TOKEN:
		return read_token(optarg, &cli->token, e);
	case OPTION_CONFIG:
		cli->config_path = optarg;
		break;
	case OPTION_JSON:
		cli->json = true;
		break;
	case OPTION_WAIT:
		cli->wait = true;
		break;
	case OPTION_TIMEOUT:
		r = parse_number(optarg, "--timeout", &number, e);
		cli->timeout_s = (int)number;
		break;
	case OPTION_GENERATION:
		r = parse_number(optarg, "--generation", &cli->generation, e);
		break;
	case OPTION_WHY:
		cli->why = optarg;
		break;
	case 's':
		cli->server = optarg;
		break;
	case 'n':
		r = parse_number(optarg, "--lines", &cli->lines, e);
		break;
	case 'f':
		cli->follow = true;
		break;
	default:
		return error_set(e, EINVAL, "see elsa --help");
	}
	return r;
}

/* The longest command that the leading words spell. *words: how many they are. */
static const struct cli_command *find_command(int argc, char **argv, int *words)
{
	for (int n = argc < 2 ? argc : 2; n > 0; n--) {
		cleanup_free char *name = n == 2 ? str_printf("%s %s", argv[0], argv[1])
						 : strdup(argv[0]);
		for (size_t i = 0; name && i < ARRAY_SIZE(commands); i++)
			if (strcmp(commands[i].name, name) == 0) {
				*words = n;
				return &commands[i];
			}
	}
	return NULL;
}

static int take_arguments(struct cli *cli, const struct cli_command *command, int argc, char **argv,
	struct error *e)
{
	if (command->user != CLI_NO_USER && argc > 0)
		cli->user = argv[0], argc--, argv++;
	else if (strstr(command->arguments, "FILE") && argc > 0)
		cli->argument = argv[0], argc--, argv++;
	if (argc > 0)
		return error_set(e, EINVAL, "elsa %s: \"%s\" is one word too many", command->name,
			argv[0]);
	if (command->user == CLI_NEEDS_USER && (!cli->user || !*cli->user))
		return error_set(e, EINVAL, "elsa %s wants the name of a user", command->name);
	return 0;
}

/* --url, $ELSA_URL, the configuration's socket, the default's. */
static int find_elsad(struct cli *cli, struct error *e)
{
	if (!cli->token && getenv("ELSA_TOKEN"))
		cli->token = strdup(getenv("ELSA_TOKEN"));
	if (!cli->url && getenv("ELSA_URL"))
		cli->url = strdup(getenv("ELSA_URL"));
	if (cli->url)
		return 0;
	struct config *config = NULL;
	const char *path = cli->config_path;
	if (!path && access(CONFIG_DEFAULT_PATH, R_OK) == 0)
		path = CONFIG_DEFAULT_PATH;
	int r = config_load(path, &config, e);
	if (r < 0)
		return r;
	cli->url = str_printf("unix:%s", config->controller.socket);
	config_free(config);
	return cli->url ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int run(struct cli *cli, int argc, char **argv, struct error *e)
{
	int option;
	int words = 0;
	int r = 0;
	opterr = 0;
	while (r == 0 && (option = getopt_long(argc, argv, "s:n:fh", options, NULL)) != -1) {
		if (option == 'h' || option == OPTION_VERSION) {
			option == 'h' ? print_help(stdout) : (void)printf("elsa " ELSA_VERSION "\n");
			return 0;
		}
		if (option == '?')
			return error_set(e, EINVAL, "%s: no such option, or its value is missing",
				argv[optind - 1]);
		r = take_option(cli, option, e);
	}
	if (r < 0)
		return r;
	if (optind >= argc) {
		print_help(stderr);
		return error_set(e, EINVAL, "no command given");
	}
	const struct cli_command *command = find_command(argc - optind, argv + optind, &words);
	if (!command)
		return error_set(e, EINVAL, "there is no command \"%s\"; see elsa --help", argv[optind]);
	optind += words;
	r = take_arguments(cli, command, argc - optind, argv + optind, e);
	bool local = command->run == cmd_doctor || command->run == cmd_config_check ||
		     command->run == cmd_config_show;
	if (r == 0 && !local)
		r = find_elsad(cli, e);
	return r < 0 ? r : command->run(cli, e);
}

static void print_error(const struct cli *cli, const struct error *error)
{
	if (cli->json) {
		json_t *object = json_pack("{s:{s:s, s:s, s:s}}", "error", "fault",
			fault_name(error->fault), "text", error->text, "remedy", error->remedy);
		json_dumpf(object, stderr, JSON_COMPACT);
		fputc('\n', stderr);
		json_decref(object);
		return;
	}
	fprintf(stderr, "elsa: %s\n", error->text);
	if (error->remedy[0])
		fprintf(stderr, "      %s\n", error->remedy);
}

int main(int argc, char **argv)
{
	struct cli cli = { .server = "", .timeout_s = 300, .lines = 100 };
	struct error error = ERROR_INIT;
	signal(SIGPIPE, SIG_DFL);
	int r = run(&cli, argc, argv, &error);
	if (r < 0)
		print_error(&cli, &error);
	free(cli.url);
	free(cli.token);
	if (r < 0)
		return error.fault == FAULT_NONE ? 1 : fault_exit_code(error.fault);
	return r;
}
