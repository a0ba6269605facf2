/* SPDX-License-Identifier: Apache-2.0 */
/* The hosts that run sessions: list, token, drain, undrain, remove. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>

/* --- list ------------------------------------------------------------------ */

static bool is_set(const json_t *row, const char *key)
{
	return json_is_true(json_object_get(row, key));
}

static bool is_emptying(const json_t *consolidation)
{
	return strcmp(wire_text_at(consolidation, "reason"), "emptying") == 0;
}

/* What a node's state and what was seen of it come to. */
static void add_state(json_t *row)
{
	const json_t *emptied = json_object_get(row, "consolidation");
	const char *state = is_set(row, "drained") ? "drained"
			    : is_emptying(emptied) ? "emptying"
						   : wire_text_at(row, "state");
	const char *more = is_set(row, "lost")      ? ", lost"
			   : !is_set(row, "up")     ? ", no answer"
			   : is_set(row, "leaving") ? ", leaving"
						    : "";
	cleanup_free char *text = str_printf("%s%s", state, more);
	json_object_set_new(row, "state", wire_text(text ? text : state));
}

/* "1.2 GiB of 8.0 GiB" free. */
static void add_memory(json_t *row)
{
	char free_text[32], all_text[32];
	int64_t all = json_integer_value(json_object_get(row, "memory_bytes"));
	int64_t left = json_integer_value(json_object_get(row, "memory_available_bytes"));
	if (all <= 0)
		return;
	cleanup_free char *text = str_printf("%s of %s free", format_bytes(left, free_text),
					     format_bytes(all, all_text));
	json_object_set_new(row, "memory", wire_text(text ? text : ""));
}

static void add_lease(json_t *row)
{
	char text[CLOCK_TEXT_SIZE];
	const json_t *left = json_object_get(row, "lease_left_ms");
	if (json_integer_value(left) > 0)
		json_object_set_new(
			row, "lease",
			json_string(clock_format_duration(json_integer_value(left), text)));
}

/* The first that says a time, or the first: "evict in 25 s". */
static void add_notice(json_t *row)
{
	const json_t *notices = json_object_get(row, "notices");
	const json_t *shown = json_array_get(notices, 0);
	char in[CLOCK_TEXT_SIZE] = "";
	int64_t at = 0;
	size_t i;
	const json_t *notice;
	json_array_foreach (notices, i, notice) {
		int64_t when = json_integer_value(json_object_get(notice, "at"));
		if (when > 0 && (!at || when < at)) {
			shown = notice;
			at = when;
		}
	}
	if (!shown)
		return;
	int64_t left = at - clock_wall();
	if (at)
		clock_format_duration(left > 0 ? left : 0, in);
	cleanup_free char *text =
		str_printf("%s%s%s", wire_text_at(shown, "kind"), at ? " in " : "", in);
	json_object_set_new(row, "notice", wire_text(text ? text : ""));
}

/* Why it is not emptied, to be given back: "no-room, 1.2 GiB short". */
static void add_consolidation(json_t *row)
{
	char bytes[32], until[CLOCK_TEXT_SIZE];
	const json_t *from = json_object_get(row, "consolidation");
	int64_t lacks = json_integer_value(json_object_get(from, "short_bytes"));
	int64_t left = json_integer_value(json_object_get(from, "until")) - clock_wall();
	if (!json_is_object(from))
		return;
	cleanup_free char *text = str_printf(
		"%s%s%s%s%s%s", wire_text_at(from, "reason"), lacks > 0 ? ", " : "",
		lacks > 0 ? format_bytes(lacks, bytes) : "", lacks > 0 ? " short" : "",
		left > 0 ? ", another " : "", left > 0 ? clock_format_duration(left, until) : "");
	json_object_set_new(row, "emptied", wire_text(text ? text : ""));
}

int cmd_node_list(struct cli *cli, struct error *e)
{
	static const struct column columns[] = {
		{ "NAME", "name", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
		{ "PRICE", "price", COLUMN_TEXT },
		{ "ZONE", "zone", COLUMN_TEXT },
		{ "TYPE", "instance_type", COLUMN_TEXT },
		{ "SESSIONS", "sessions", COLUMN_INT },
		{ "MEMORY", "memory", COLUMN_TEXT },
		{ "LEASE", "lease", COLUMN_TEXT },
		{ "SEEN", "seen_at", COLUMN_AGE },
		{ "NOTICE", "notice", COLUMN_TEXT },
		{ "CONSOLIDATION", "emptied", COLUMN_TEXT },
	};
	cleanup_json json_t *rows = NULL;
	size_t i;
	json_t *row;
	bool consolidates = false;
	int r = api_get_list(cli, "/v1/nodes", "items", &rows, e);
	if (r < 0)
		return r;
	if (cli->json) {
		print_json(stdout, rows);
		return 0;
	}
	json_array_foreach (rows, i, row) {
		add_state(row);
		add_memory(row);
		add_lease(row);
		add_notice(row);
		add_consolidation(row);
		consolidates = consolidates || json_object_get(row, "emptied");
	}
	table_print(stdout, rows, columns, ARRAY_SIZE(columns) - (consolidates ? 0 : 1));
	return 0;
}

/* --- token ----------------------------------------------------------------- */

/* What is put on the new host; the comments go to its file as well. */
static void print_token(const json_t *answer)
{
	char text[CLOCK_TEXT_SIZE];
	int64_t expires = json_integer_value(json_object_get(answer, "expires_at"));
	int64_t uses = json_integer_value(json_object_get(answer, "uses"));
	text_print_name(stdout, wire_text_at(answer, "token"));
	printf("\n\nGood until %.19sZ", clock_format(expires, text));
	if (uses)
		printf(", for %lld %s", (long long)uses, uses == 1 ? "host" : "hosts");
	printf(". On the new host put it into /etc/elsa/join.token\n"
	       "(for root's eyes only), and into /etc/elsa/elsa.toml:\n\n"
	       "[node]\n"
	       "controller = \"");
	text_print_name(stdout, wire_text_at(answer, "url"));
	printf("\"\n");
}

int cmd_node_token(struct cli *cli, struct error *e)
{
	json_t *body = json_pack("{s:I, s:I}", "ttl_ms", (json_int_t)cli->ttl_ms, "uses",
				 (json_int_t)cli->uses);
	cleanup_json json_t *answer = NULL;
	int r = api_post(cli, "/v1/nodes/token", body, &answer, e);
	r = r < 0 ? r : api_check_object(answer, "token", e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, answer);
	else
		print_token(answer);
	return 0;
}

/* --- drain, undrain, remove ------------------------------------------------ */

int node_tell(struct cli *cli, const char *path, json_t *body, const char *said, struct error *e)
{
	cleanup_json json_t *answer = NULL;
	json_object_set_new(body, "node", json_string(cli->argument));
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

static int act(struct cli *cli, const char *path, const char *done, struct error *e)
{
	json_t *body = json_object();
	if (cli->force)
		json_object_set_new(body, "force", json_true());
	return node_tell(cli, path, body, done, e);
}

int cmd_node_drain(struct cli *cli, struct error *e)
{
	return act(cli, "/v1/nodes/drain", "nothing new is placed there", e);
}

int cmd_node_undrain(struct cli *cli, struct error *e)
{
	return act(cli, "/v1/nodes/undrain", "takes sessions", e);
}

int cmd_node_remove(struct cli *cli, struct error *e)
{
	return act(cli, "/v1/nodes/remove", "removed", e);
}
