/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no running elsad: doctor, config check, config show. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "cli/table.h"
#include "cli/text.h"
#include "config/config.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The checks live where the work is done, in elsa-node; it stands beside us or in PATH. */
int cmd_doctor(struct cli *cli, struct error *e)
{
	char beside[4096];
	const char *argv[6] = { "elsa-node" };
	int n = 1;
	if (cli->config_path) {
		argv[n++] = "--config";
		argv[n++] = cli->config_path;
	}
	argv[n++] = "doctor";
	if (cli->json)
		argv[n++] = "--json";
	ssize_t len = readlink("/proc/self/exe", beside, sizeof(beside) - 16);
	if (len > 0) {
		beside[len] = '\0';
		char *slash = strrchr(beside, '/');
		snprintf(slash + 1, 16, "elsa-node");
		execv(beside, (char *const *)argv);
	}
	execvp("elsa-node", (char *const *)argv);
	execv("/usr/sbin/elsa-node", (char *const *)argv);
	int r = error_errno(e, "cannot run elsa-node");
	return error_remedy(e, r, "install elsa-node on this machine: it has the checks");
}

int cmd_config_check(struct cli *cli, struct error *e)
{
	struct config *config = NULL;
	const char *path = cli->argument ? cli->argument : cli->config_path;
	path = path ? path : CONFIG_DEFAULT_PATH;
	int r = config_load(path, &config, e);
	if (r < 0)
		return r;
	if (cli->json) {
		puts("{\"ok\": true}");
	} else {
		text_print(stdout, path);
		puts(": good");
	}
	config_free(config);
	return 0;
}

int cmd_config_show(struct cli *cli, struct error *e)
{
	struct config *config = NULL;
	const char *path = cli->argument ? cli->argument : cli->config_path;
	if (!path && access(CONFIG_DEFAULT_PATH, R_OK) == 0)
		path = CONFIG_DEFAULT_PATH;
	int r = config_load(path, &config, e);
	if (r < 0)
		return r;
	cleanup_free char *text = config_print(config);
	config_free(config);
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	if (cli->json) {
		cleanup_json json_t *object = json_pack("{s:o}", "toml", wire_text(text));
		print_json(stdout, object);
	} else {
		text_print(stdout, text);
	}
	return 0;
}
