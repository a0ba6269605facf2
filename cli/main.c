/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "config/config.h"
#include "wire/codec.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* $ELSA_URL, the configuration's socket, the default's. */
static int find_elsad(struct cli *cli, struct error *e)
{
	const char *url = getenv("ELSA_URL");
	const char *token = getenv("ELSA_TOKEN");
	if (!cli->token && token && *token)
		cli->token = strdup(token);
	if (!cli->url && url && *url)
		cli->url = strdup(url);
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

/* A full disk or the like: what was not written must not pass for success. */
static int flush_output(struct error *e)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return error_errno(e, "cannot write the output");
}

static int run(struct cli *cli, int argc, char **argv, struct error *e)
{
	const struct cli_command *command;
	int r = cli_parse(cli, argc, argv, &command, e);
	if (r == 0 && command && !command->local)
		r = find_elsad(cli, e);
	if (r == 0 && command)
		r = command->run(cli, e);
	/* What a failed command has found out is printed, too. */
	return r < 0 ? fflush(stdout), r : flush_output(e);
}

static void print_error(const struct cli *cli, const struct error *error)
{
	if (cli->json) {
		cleanup_json json_t *object = wire_encode_error(error);
		print_json(stderr, object);
		return;
	}
	fputs("elsa: ", stderr);
	text_print(stderr, error->text[0] ? error->text : "failed");
	fputc('\n', stderr);
	if (error->remedy[0]) {
		fputs("      ", stderr);
		text_print(stderr, error->remedy);
		fputc('\n', stderr);
	}
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	struct error error = ERROR_INIT;
	/* `elsa sessions | head -1` ends without a word, whatever our parent ignores. */
	signal(SIGPIPE, SIG_DFL);
	setlocale(LC_CTYPE, "C.UTF-8"); /* for the width of characters */
	int r = run(&cli, argc, argv, &error);
	if (r < 0)
		print_error(&cli, &error);
	free(cli.url);
	free(cli.token);
	if (r < 0)
		return fault_exit_code(error.fault == FAULT_NONE ? FAULT_INTERNAL : error.fault);
	return 0;
}
