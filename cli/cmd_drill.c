/* SPDX-License-Identifier: Apache-2.0 */
/* Notices that are made up, to see what happens. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"

#include <stdio.h>

static int ask(struct cli *cli, const char *path, json_t *body, const char *said, struct error *e)
{
	cleanup_json json_t *answer = NULL;
	json_object_set_new(body, "node", json_string(cli->argument));
	json_object_set_new(body, "who", json_string("elsa"));
	int r = api_post(cli, path, body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "node", e);
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(stdout, answer);
		return 0;
	}
	text_print_name(stdout, cli->argument);
	printf(": %s\n", said);
	return 0;
}

static int drill(struct cli *cli, const char *kind, struct error *e)
{
	char in[CLOCK_TEXT_SIZE];
	char said[160];
	json_t *body = json_pack("{s:s, s:I}", "kind", kind, "in_ms", (json_int_t)cli->in_ms);
	snprintf(said, sizeof(said), "was told \"%s\", in %s; 'elsa drill cancel' takes it back",
		 kind, clock_format_duration(cli->in_ms, in));
	return ask(cli, "/v1/nodes/drill", body, said, e);
}

int cmd_drill_evict(struct cli *cli, struct error *e)
{
	return drill(cli, "evict", e);
}

int cmd_drill_rebalance(struct cli *cli, struct error *e)
{
	return drill(cli, "rebalance", e);
}

int cmd_drill_reboot(struct cli *cli, struct error *e)
{
	return drill(cli, "reboot", e);
}

int cmd_drill_freeze(struct cli *cli, struct error *e)
{
	return drill(cli, "freeze", e);
}

int cmd_drill_cancel(struct cli *cli, struct error *e)
{
	return ask(cli, "/v1/nodes/drill/cancel", json_object(), "it is taken back", e);
}
