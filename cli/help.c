/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of cli/commands.c for people, as docs/cli.md, as a manual page, for shells. */
#include "cli/cli.h"

#include "base/cleanup.h"

#include <string.h>

/* Kinds of failure, in the order of their exit statuses (base/error.c). */
static const struct {
	enum fault fault;
	const char *meaning;
} failures[] = {
	{ FAULT_NONE, "done" },
	{ FAULT_INTERNAL, "something broke that should not: a bug, or a broken machine" },
	{ FAULT_BAD_INPUT, "the command, its options or a configuration file are wrong" },
	{ FAULT_NOT_FOUND, "there is no such session, checkpoint or file" },
	{ FAULT_CONFLICT, "not in the session's present state, or somebody else does it already" },
	{ FAULT_DENIED, "no permission, or a wrong token" },
	{ FAULT_REFUSED, "the session cannot be checkpointed or restored as it is" },
	{ FAULT_UNAVAILABLE, "elsad, its node or the Hub is down: try again later" },
	{ FAULT_TIMEOUT, "no end within the time given; what was asked for goes on" },
	{ FAULT_FULL, "no disk space, memory or addresses left" },
	{ FAULT_CORRUPT, "stored data is not what was written" },
};

static const char about[] = "elsa: sleep and wake for JupyterHub sessions";

static const char json_note[] = "With --json results go to standard output as elsad gave them "
				"(docs/api.md), without the tokens "
				"of sessions; lists are JSON lists. A failure is an object with "
				"`error`, which has `fault`, "
				"`text` and `remedy`, on standard error.";

static const char words_note[] =
	"Options may stand before or after the command; after `--` everything is a name. Names are "
	"shown "
	"with what a terminal could obey replaced by `?`; --json gives them whole.";

static const char where_note[] = "elsad is looked for at --url, then $ELSA_URL, then the "
				 "controller.socket of the configuration "
				 "file, then that option's default.";

/* Prose in lines of at most so many columns. */
static void wrap(FILE *to, const char *text, size_t columns)
{
	size_t column = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		if (column && column + 1 + len > columns) {
			fputc('\n', to);
			column = 0;
		}
		column += (size_t)fprintf(to, "%s%.*s", column ? " " : "", (int)len, text);
		text += len;
		text += *text == ' ';
	}
	fputc('\n', to);
}

/* --- for people -------------------------------------------------------------- */

static void print_option(FILE *to, const struct cli_option *option)
{
	char left[40];
	char letter[5] = "    ";
	if (option->letter)
		snprintf(letter, sizeof(letter), "-%c, ", option->letter);
	snprintf(left, sizeof(left), "%s--%s %s", letter, option->name,
		 option->argument ? option->argument : "");
	fprintf(to, "  %-25s %s\n", left, option->help);
}

static void print_options(FILE *to, uint64_t set)
{
	for (int i = 0; i < CLI_OPTION_COUNT; i++)
		if (set & CLI_BIT(i))
			print_option(to, &cli_options[i]);
}

static void print_one(FILE *to, const struct cli_command *command)
{
	fprintf(to, "elsa %s: %s\n\nusage: elsa %s %s%s[OPTION...]\n", command->name, command->help,
		command->name, command->arguments, *command->arguments ? " " : "");
	if (command->more) {
		fputc('\n', to);
		wrap(to, command->more, 80);
	}
	fputc('\n', to);
	print_options(to, command->options | CLI_FOR_EVERY_ONE);
}

static void print_all(FILE *to)
{
	fprintf(to, "%s\n\nusage: elsa COMMAND [ARGUMENT] [OPTION...]\n\n", about);
	for (size_t i = 0; i < cli_command_count; i++)
		fprintf(to, "  %-13s %-11s %s\n", cli_commands[i].name, cli_commands[i].arguments,
			cli_commands[i].help);
	fputc('\n', to);
	print_options(to, CLI_FOR_EVERY_ONE);
	fputs("\nelsa COMMAND --help tells what else a command takes.\n\nexit status:\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		fprintf(to, "  %2d  %s\n", fault_exit_code(failures[i].fault), failures[i].meaning);
}

void help_print(FILE *to, const struct cli_command *command)
{
	if (command)
		print_one(to, command);
	else
		print_all(to);
}

void help_words(FILE *to)
{
	for (size_t i = 0; i < cli_command_count; i++)
		fprintf(to, "%s\n", cli_commands[i].name);
	for (int i = 0; i < CLI_OPTION_COUNT; i++)
		fprintf(to, "--%s\n", cli_options[i].name);
}

/* --- docs/cli.md ------------------------------------------------------------- */

static void markdown_options(FILE *to, uint64_t set)
{
	fputs("\n| option | |\n|---|---|\n", to);
	for (int i = 0; i < CLI_OPTION_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];
		if (!(set & CLI_BIT(i)))
			continue;
		fputs("| ", to);
		if (o->letter)
			fprintf(to, "`-%c`, ", o->letter);
		fprintf(to, "`--%s%s%s` | %s |\n", o->name, o->argument ? " " : "",
			o->argument ? o->argument : "", o->help);
	}
}

static void markdown_command(FILE *to, const struct cli_command *command)
{
	fprintf(to, "\n### elsa %s%s%s\n\n", command->name, *command->arguments ? " " : "",
		command->arguments);
	fprintf(to, "%c%s.%s", command->help[0] - 'a' + 'A', command->help + 1,
		command->more ? "\n" : "");
	if (command->more)
		wrap(to, command->more, 100);
	else
		fputc('\n', to);
	if (command->options)
		markdown_options(to, command->options);
}

void help_markdown(FILE *to)
{
	fputs("# The command line\n\n"
	      "<!-- Made from cli/commands.c by `elsa --help-markdown`; a test compares. -->\n\n"
	      "    elsa COMMAND [ARGUMENT] [OPTION...]\n\n",
	      to);
	wrap(to, words_note, 100);
	fputc('\n', to);
	wrap(to, where_note, 100);
	fputc('\n', to);
	wrap(to, json_note, 100);
	fputs("\n## For every command\n", to);
	markdown_options(to, CLI_FOR_EVERY_ONE);
	fputs("\n## Commands\n", to);
	for (size_t i = 0; i < cli_command_count; i++)
		markdown_command(to, &cli_commands[i]);
	fputs("\n## Exit status\n\n| status | fault in JSON | meaning |\n|---|---|---|\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		fprintf(to, "| %d | %s%s%s | %s |\n", fault_exit_code(failures[i].fault),
			failures[i].fault ? "`" : "",
			failures[i].fault ? fault_name(failures[i].fault) : "",
			failures[i].fault ? "`" : "", failures[i].meaning);
}

/* --- packaging/man/elsa.1, in mdoc(7) ---------------------------------------- */

static void manual_word(FILE *to, const char *word, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (word[i] == '\\')
			fputs("\\e", to);
		else if (word[i] == '-' && len > 1 && (i == 0 || word[0] == '-'))
			fputs("\\-", to);
		else if (word[i] != '`') /* Markdown's */
			fputc(word[i], to);
}

/* A sentence begins a line, as mdoc has it. */
static void manual_text(FILE *to, const char *text)
{
	size_t column = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		bool ends = strchr(".;", text[len - 1]);
		manual_word(to, text, len);
		column += len + 1;
		text += len;
		text += *text == ' ';
		if (*text && (ends || column + strcspn(text, " ") > 70)) {
			fputc('\n', to);
			column = 0;
		} else if (*text) {
			fputc(' ', to);
		}
	}
	fputc('\n', to);
}

static void manual_options(FILE *to, uint64_t set)
{
	fputs(".Bl -tag -width Ds -compact\n", to);
	for (int i = 0; i < CLI_OPTION_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];
		if (!(set & CLI_BIT(i)))
			continue;
		fputs(".It ", to);
		if (o->letter)
			fprintf(to, "Fl %c , ", o->letter);
		fprintf(to, "Fl -%s", o->name);
		if (o->argument)
			fprintf(to, " Ar %s", o->argument);
		fputc('\n', to);
		manual_text(to, o->help);
	}
	fputs(".El\n", to);
}

static void manual_command(FILE *to, const struct cli_command *command)
{
	fprintf(to, ".It Nm Cm %s", command->name);
	if (*command->arguments == '[')
		fprintf(to, " Op Ar %.*s", (int)strcspn(command->arguments + 1, "]"),
			command->arguments + 1);
	else if (*command->arguments)
		fprintf(to, " Ar %s", command->arguments);
	fprintf(to, "\n%c%s.\n", command->help[0] - 'a' + 'A', command->help + 1);
	if (command->more)
		manual_text(to, command->more);
	if (command->options) {
		fputs(".Pp\n", to);
		manual_options(to, command->options);
	}
}

static void manual_head(FILE *to)
{
	fputs(".\\\" SPDX-License-Identifier: Apache-2.0\n"
	      ".\\\" Made from cli/commands.c by elsa --help-manual; a test compares.\n"
	      ".Dd November 23, 2026\n.Dt ELSA 1\n.Os\n"
	      ".Sh NAME\n.Nm elsa\n.Nd sleep and wake for JupyterHub sessions\n"
	      ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar argument\n.Op Ar option ...\n"
	      ".Sh DESCRIPTION\n"
	      "The command line of\n.Xr elsad 8 .\n",
	      to);
	manual_text(to, words_note);
	fputs(".Pp\n", to);
	manual_text(to, where_note);
	fputs(".Pp\n", to);
	manual_text(to, json_note);
}

void help_manual(FILE *to)
{
	manual_head(to);
	fputs(".Pp\nEvery command takes:\n.Pp\n", to);
	manual_options(to, CLI_FOR_EVERY_ONE);
	fputs(".Sh COMMANDS\n.Bl -tag -width Ds\n", to);
	for (size_t i = 0; i < cli_command_count; i++)
		manual_command(to, &cli_commands[i]);
	fputs(".El\n.Sh ENVIRONMENT\n.Bl -tag -width ELSA_TOKEN\n"
	      ".It Ev ELSA_URL\nWhere elsad is, when\n.Fl -url\nis not given.\n"
	      ".It Ev ELSA_TOKEN\nIts token, when\n.Fl -token-file\nis not given.\n.El\n"
	      ".Sh FILES\n.Bl -tag -width Ds\n.It Pa /etc/elsa/elsa.toml\n"
	      "See\n.Xr elsa.toml 5 .\n.El\n.Sh EXIT STATUS\n.Bl -tag -width 10 -compact\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		fprintf(to, ".It %d\n%s\n", fault_exit_code(failures[i].fault),
			failures[i].meaning);
	fputs(".El\n.Sh SEE ALSO\n.Xr elsa.toml 5 ,\n.Xr criu 8 ,\n.Xr elsa-node 8 ,\n"
	      ".Xr elsad 8\n",
	      to);
}
