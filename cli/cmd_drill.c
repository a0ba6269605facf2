/* SPDX-License-Identifier: Apache-2.0 */
/* Notices that are made up, to see what happens. */
#include "cli/cli.h"

#include "base/clock.h"

#include <stdio.h>

static int ask(struct cli *cli, const char *path, json_t *body, const char *said, struct error *e)
{
	json_object_set_new(body, "who", json_string("elsa"));
	return node_tell(cli, path, body, said, e);
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
