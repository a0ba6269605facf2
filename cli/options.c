/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/units.h"
#include "cli/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MOST     8
#define TIMEOUT_MOST   (7 * 24 * 3600)
#define NUMBER_MOST    1000000000
#define FOR_DEFAULT    ((int64_t)8 * 3600 * 1000)
#define FOR_MOST       ((int64_t)3650 * 24 * 3600 * 1000)
#define IN_DEFAULT     ((int64_t)30 * 1000)
#define TTL_DEFAULT    ((int64_t)3600 * 1000)
#define LINES_DEFAULT  100
#define USERS_DEFAULT  10000
#define USERS_MOST     1000000
#define DAYS_DEFAULT   90
#define DAYS_MOST      3650
#define MEMORY_DEFAULT ((int64_t)1 << 30)

/* What getopt_long() returns: words come in order, wherever options stand. */
enum { GOT_WORD = 1, GOT_OPTION = 1000, GOT_MARKDOWN = 2000, GOT_MANUAL, GOT_WORDS, GOT_USERS };

struct parse {
	char *words[WORDS_MOST];
	int count;
	uint64_t given; /* CLI_BIT()s */
	int print;      /* GOT_... of what is to be printed instead of anything done */
};

static int parse_number(const char *text, const char *option, int64_t most, int64_t *value,
			struct error *e)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || end == text || *end || number < 0 || number > most)
		return error_set(e, EINVAL, "--%s wants a whole number up to %lld, not \"%s\"",
				 option, (long long)most, text);
	*value = number;
	return 0;
}

static int parse_duration(const char *text, const char *option, int64_t *ms, struct error *e)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {
		{ "", 1000 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }
	};
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	for (size_t i = 0; i < ARRAY_SIZE(units) && end != text && !errno && number >= 0; i++)
		if (strcmp(end, units[i].unit) == 0 && number <= FOR_MOST / units[i].ms) {
			*ms = number * units[i].ms;
			return 0;
		}
	return error_set(e, EINVAL, "--%s wants a time such as 90m, 8h or 2d, not \"%s\"", option,
			 text);
}

static int read_token(const char *path, char **token, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	int r = fs_read(path, &text, e);
	if (r < 0)
		return r;
	size_t len = strcspn(buf_text(&text), " \t\r\n");
	if (len == 0)
		return error_set(e, EINVAL, "%s holds no token", path);
	free(*token);
	*token = strndup(buf_text(&text), len);
	return *token ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int take_url(struct cli *cli, const char *url, struct error *e)
{
	if (strncmp(url, "unix:/", 6) != 0 && strncmp(url, "http://", 7) != 0 &&
	    strncmp(url, "https://", 8) != 0)
		return error_set(
			e, EINVAL,
			"the address of elsad is unix:/PATH or http(s)://HOST:PORT, not \"%s\"",
			url);
	free(cli->url);
	cli->url = strdup(url);
	if (!cli->url)
		return error_set(e, ENOMEM, "out of memory");
	size_t len = strlen(cli->url);
	while (cli->url[0] == 'h' && len && cli->url[len - 1] == '/')
		cli->url[--len] = '\0';
	return 0;
}

static int parse_size(const char *text, const char *option, int64_t least, int64_t *bytes,
		      struct error *e)
{
	if (units_parse_size(text, bytes) < 0 || *bytes < least)
		return error_set(e, EINVAL, "--%s wants a size such as 800M or 2G, not \"%s\"",
				 option, text);
	return 0;
}

static int take_option(struct cli *cli, enum cli_option_id id, char *value, struct error *e)
{
	switch (id) {
	case CLI_SERVER:
		cli->server = value;
		cli->server_given = true;
		return 0;
	case CLI_WAIT:
		cli->wait = true;
		return 0;
	case CLI_TIMEOUT:
		return parse_number(value, "timeout", TIMEOUT_MOST, &cli->timeout_s, e);
	case CLI_WHY:
		cli->why = value;
		return 0;
	case CLI_FOR:
		return parse_duration(value, "for", &cli->for_ms, e);
	case CLI_IN:
		return parse_duration(value, "in", &cli->in_ms, e);
	case CLI_TTL:
		return parse_duration(value, "ttl", &cli->ttl_ms, e);
	case CLI_USES:
		return parse_number(value, "uses", NUMBER_MOST, &cli->uses, e);
	case CLI_GENERATION:
		return parse_number(value, "generation", NUMBER_MOST, &cli->generation, e);
	case CLI_LINES:
		return parse_number(value, "lines", NUMBER_MOST, &cli->lines, e);
	case CLI_FOLLOW:
		cli->follow = true;
		return 0;
	case CLI_FORCE:
		cli->force = true;
		return 0;
	case CLI_DRY_RUN:
		cli->dry_run = true;
		return 0;
	case CLI_TO:
		cli->to = value;
		return 0;
	case CLI_SAFE:
		cli->safe = true;
		return 0;
	case CLI_TRANSPARENT:
		cli->unseen = true;
		return 0;
	case CLI_WATCH:
		cli->watch = true;
		return 0;
	case CLI_BENCH:
		cli->bench_path = value;
		return 0;
	case CLI_PRICES:
		cli->prices_path = value;
		return 0;
	case CLI_HTML:
		cli->html_path = value;
		return 0;
	case CLI_SEED:
		return parse_number(value, "seed", INT64_MAX, &cli->seed, e);
	case CLI_USERS:
		return parse_number(value, "users", USERS_MOST, &cli->users, e);
	case CLI_DAYS:
		return parse_number(value, "days", DAYS_MOST, &cli->days, e);
	case CLI_SINCE:
		return parse_duration(value, "since", &cli->since_ms, e);
	case CLI_BY:
		cli->by = value;
		return 0;
	case CLI_MEMORY:
		return parse_size(value, "memory", 1, &cli->memory_bytes, e);
	case CLI_SPARE:
		return parse_size(value, "spare", 0, &cli->spare_bytes, e);
	case CLI_JSON:
		cli->json = true;
		return 0;
	case CLI_CONFIG:
		cli->config_path = value;
		return 0;
	case CLI_URL:
		return take_url(cli, value, e);
	case CLI_TOKEN_FILE:
		return read_token(value, &cli->token, e);
	default:
		return 0;
	}
}

/* The table as getopt_long() wants it. */
static void prepare(struct option to[CLI_OPTION_COUNT + 5], char letters[2 * CLI_OPTION_COUNT + 3])
{
	static const struct option hidden[] = {
		{ "help-markdown", no_argument, NULL, GOT_MARKDOWN },
		{ "help-manual", no_argument, NULL, GOT_MANUAL },
		{ "help-words", no_argument, NULL, GOT_WORDS },
		{ "help-users", no_argument, NULL, GOT_USERS },
		{ 0 },
	};
	/* '-': words in order, even where POSIXLY_CORRECT is set; ':' tells a missing value apart.
	 */
	*letters++ = '-';
	*letters++ = ':';
	for (int i = 0; i < CLI_OPTION_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];
		int argument = o->argument ? required_argument : no_argument;
		to[i] = (struct option) { o->name, argument, NULL, GOT_OPTION + i };
		if (o->letter)
			*letters++ = o->letter;
		if (o->letter && o->argument)
			*letters++ = ':';
	}
	*letters = '\0';
	memcpy(to + CLI_OPTION_COUNT, hidden, sizeof(hidden));
}

static int by_letter(int got)
{
	for (int i = 0; i < CLI_OPTION_COUNT; i++)
		if (cli_options[i].letter && cli_options[i].letter == got)
			return GOT_OPTION + i;
	return got;
}

static int add_word(struct parse *parse, char *word, struct error *e)
{
	if (parse->count == WORDS_MOST)
		return error_set(e, EINVAL, "\"%s\" is one word too many", word);
	parse->words[parse->count++] = word;
	return 0;
}

static int complain(int got, char **argv, struct error *e)
{
	const char *name = argv[optind - 1];
	char letter[3] = { '-', (char)optopt, '\0' };
	if (optopt > 0 && optopt < 256)
		name = letter;
	if (got == ':')
		return error_set(e, EINVAL, "%s wants a value", name);
	if (optopt >= GOT_OPTION)
		return error_set(e, EINVAL, "%.*s takes no value", (int)strcspn(name, "="), name);
	return error_set(e, EINVAL, "there is no option %s", name);
}

/* -h and the like end it: whatever else is wrong with the line does not matter then. */
static int take(struct cli *cli, struct parse *parse, int got, struct error *e)
{
	got = by_letter(got);
	if (got == GOT_WORD)
		return add_word(parse, optarg, e);
	if (got >= GOT_MARKDOWN || got == GOT_OPTION + CLI_HELP ||
	    got == GOT_OPTION + CLI_VERSION) {
		parse->print = got;
		return 0;
	}
	parse->given |= CLI_BIT(got - GOT_OPTION);
	return take_option(cli, (enum cli_option_id)(got - GOT_OPTION), optarg, e);
}

static int read_line(struct cli *cli, struct parse *parse, int argc, char **argv, struct error *e)
{
	struct option known[CLI_OPTION_COUNT + 5];
	char letters[2 * CLI_OPTION_COUNT + 3];
	struct error first = ERROR_INIT;
	int got;
	prepare(known, letters);
	opterr = 0;
	while ((got = getopt_long(argc, argv, letters, known, NULL)) != -1 && !parse->print) {
		struct error wrong = ERROR_INIT;
		if (got == '?' || got == ':')
			complain(got, argv, &wrong);
		else
			take(cli, parse, got, &wrong);
		/* A later -h still gets its help. */
		if (wrong.fault != FAULT_NONE && first.fault == FAULT_NONE)
			first = wrong;
	}
	if (parse->print)
		return 0;
	/* After "--" there are only words. */
	while (first.fault == FAULT_NONE && optind < argc)
		add_word(parse, argv[optind++], &first);
	if (first.fault != FAULT_NONE && e)
		*e = first;
	return -fault_errno(first.fault);
}

static void print_asked(const struct parse *parse)
{
	int used = 0;
	int help = parse->count && strcmp(parse->words[0], "help") == 0;
	switch (parse->print) {
	case GOT_MARKDOWN:
		help_markdown(stdout);
		break;
	case GOT_MANUAL:
		help_manual(stdout);
		break;
	case GOT_WORDS:
		help_words(stdout);
		break;
	case GOT_OPTION + CLI_VERSION:
		puts("elsa " ELSA_VERSION);
		break;
	default:
		help_print(stdout, cli_find_command((char *const *)parse->words + help,
						    parse->count - help, &used));
	}
}

/* --- what fits the command --------------------------------------------------- */

static int check_options(const struct cli_command *command, uint64_t given, struct error *e)
{
	uint64_t wrong = given & ~(command->options | CLI_FOR_EVERY_ONE);
	for (int i = 0; i < CLI_OPTION_COUNT; i++)
		if (wrong & CLI_BIT(i)) {
			int r = error_set(e, EINVAL, "elsa %s takes no --%s", command->name,
					  cli_options[i].name);
			return error_remedy(e, r, "see elsa %s --help", command->name);
		}
	return 0;
}

static int check_text(const char *text, const char *what, struct error *e)
{
	if (!text || text_is_utf8(text))
		return 0;
	return error_set(e, EINVAL, "%s is no UTF-8 text, which names in JupyterHub are", what);
}

static int take_words(struct cli *cli, const struct cli_command *command, char **words, int count,
		      struct error *e)
{
	bool may_user = command->takes >= CLI_MAY_USER && command->takes <= CLI_USER_MAY_FILE;
	bool needs_user = command->takes == CLI_NEEDS_USER || command->takes == CLI_USER_MAY_FILE;
	int r = 0;
	if (may_user && count > 0)
		cli->user = words[0], count--, words++;
	if (command->takes >= CLI_USER_MAY_FILE && count > 0)
		cli->argument = words[0], count--, words++;
	if (count > 0)
		r = error_set(e, EINVAL, "elsa %s: \"%s\" is one word too many", command->name,
			      words[0]);
	else if (needs_user && !cli->user)
		r = error_set(e, EINVAL, "elsa %s wants the name of a user", command->name);
	else if (command->takes == CLI_NEEDS_FILE && !cli->argument)
		r = error_set(e, EINVAL, "elsa %s wants a file, or - for standard input",
			      command->name);
	else if (command->takes == CLI_NEEDS_NODE && !(cli->argument && *cli->argument))
		r = error_set(e, EINVAL, "elsa %s wants the name of a node", command->name);
	else if (cli->user && !*cli->user)
		r = error_set(e, EINVAL, "elsa %s: the name of the user is empty", command->name);
	else if (cli->server_given && !cli->user)
		r = error_set(e, EINVAL, "elsa %s: --server goes with the name of a user",
			      command->name);
	return error_remedy(e, r, "see elsa %s --help", command->name);
}

static int no_such_command(const struct parse *parse, struct error *e)
{
	int r;
	if (parse->count == 0) {
		help_print(stderr, NULL);
		return error_set(e, EINVAL, "no command given");
	}
	r = error_set(e, EINVAL, "there is no command \"%s\"", parse->words[0]);
	for (size_t i = 0; i < cli_command_count; i++) {
		size_t len = strlen(parse->words[0]);
		const char *name = cli_commands[i].name;
		if (len && strncmp(name, parse->words[0], len) == 0)
			return error_remedy(e, r, "there is: elsa %s %s", name,
					    cli_commands[i].arguments);
	}
	return error_remedy(e, r, "see elsa --help");
}

int cli_parse(struct cli *cli, int argc, char **argv, const struct cli_command **command,
	      struct error *e)
{
	struct parse parse = { 0 };
	int used = 0;
	*command = NULL;
	cli->lines = LINES_DEFAULT;
	cli->for_ms = FOR_DEFAULT;
	cli->in_ms = IN_DEFAULT;
	cli->ttl_ms = TTL_DEFAULT;
	cli->uses = 1;
	cli->seed = 1;
	cli->users = USERS_DEFAULT;
	cli->days = DAYS_DEFAULT;
	cli->memory_bytes = MEMORY_DEFAULT;
	cli->spare_bytes = -1;
	cli->server = "";
	int r = read_line(cli, &parse, argc, argv, e);
	if (r < 0)
		return error_remedy(e, r, "see elsa --help");
	if (parse.print == GOT_USERS) {
		*command = &cli_user_names;
		return 0;
	}
	if (parse.print || (parse.count && strcmp(parse.words[0], "help") == 0)) {
		print_asked(&parse);
		return 0;
	}
	const struct cli_command *found = cli_find_command(parse.words, parse.count, &used);
	if (!found)
		return no_such_command(&parse, e);
	r = check_options(found, parse.given, e);
	r = r < 0 ? r : take_words(cli, found, parse.words + used, parse.count - used, e);
	r = r < 0 ? r : check_text(cli->user, "the name of the user", e);
	r = r < 0 ? r : check_text(cli->server, "the name of the server", e);
	r = r < 0 ? r : check_text(cli->why, "--why", e);
	r = r < 0 ? r : check_text(cli->to, "the name of the node", e);
	if (r == 0 && found->takes == CLI_NEEDS_NODE)
		r = check_text(cli->argument, "the name of the node", e);
	*command = r < 0 ? NULL : found;
	return r;
}
