/* SPDX-License-Identifier: Apache-2.0 */
/* Work on the store, asked for and followed; and which checkpoints a command line means. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/bar.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <string.h>
#include <unistd.h>

#define PAUSE_US       (100 * 1000)
#define WAIT_DEFAULT_S 86400

/* --- work --------------------------------------------------------------------- */

int store_task_begin(struct cli *cli, const char *kind, json_t *body, json_t **task,
		     struct error *e)
{
	cleanup_free char *path = str_printf("/v1/store/%s", kind);
	json_object_set_new(body, "who", json_string("elsa"));
	int r = api_post(cli, path, body, task, e);
	return r < 0 ? r : api_check_object(*task, "state", e);
}

static int task_failure(const json_t *task, struct error *e)
{
	struct error told = ERROR_INIT;
	if (strcmp(wire_text_at(task, "state"), "failed") != 0)
		return 0;
	wire_decode_error(task, 500, &told);
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

static int too_late(const char *kind, int64_t seconds, struct error *e)
{
	int r = error_fault(e, FAULT_TIMEOUT, "store %s is not done after %lld s", kind,
			    (long long)seconds);
	return error_remedy(e, r, "it goes on without us; wait longer with --timeout");
}

int store_task_follow(struct cli *cli, const char *kind, const char *id, json_t **end,
		      struct error *e)
{
	struct bar bar = { .title = kind };
	cleanup_free char *path = str_printf("/v1/store/task?id=%s", id);
	int64_t seconds = cli->timeout_s ? cli->timeout_s : WAIT_DEFAULT_S;
	mono_us deadline = clock_mono() + seconds * 1000000;
	bar.counts = strcmp(kind, "gc") == 0 || strcmp(kind, "rekey") == 0;
	int r;
	for (;;) {
		json_decref(*end);
		*end = NULL;
		r = api_get(cli, path, end, e);
		r = r < 0 ? r : api_check_object(*end, "state", e);
		if (r < 0 || strcmp(wire_text_at(*end, "state"), "running") != 0)
			break;
		bar_show(&bar, wire_number_at(*end, "done"), wire_number_at(*end, "total"));
		if (clock_mono() >= deadline) {
			r = too_late(kind, seconds, e);
			break;
		}
		usleep(PAUSE_US);
	}
	bar_end(&bar);
	return r < 0 ? r : task_failure(*end, e);
}

int store_task_run(struct cli *cli, const char *kind, json_t *body, json_t **end, struct error *e)
{
	cleanup_json json_t *task = NULL;
	int r = store_task_begin(cli, kind, body, &task, e);
	if (r < 0)
		return r;
	/* Done at once: a dry run. */
	if (strcmp(wire_text_at(task, "state"), "done") == 0) {
		*end = steal_ptr(&task);
		return 0;
	}
	const char *id = wire_text_at(task, "id");
	if (strspn(id, "0123456789abcdef") != strlen(id) || !*id)
		return api_check_object(NULL, NULL, e);
	return store_task_follow(cli, kind, id, end, e);
}

/* --- which -------------------------------------------------------------------- */

static bool is_asked_for(const struct cli *cli, const json_t *checkpoint)
{
	if (cli->user && strcmp(wire_text_at(checkpoint, "user"), cli->user) != 0)
		return false;
	return !cli->generation || wire_number_at(checkpoint, "generation") == cli->generation;
}

/* One session's by its name, a user's by looking through all. */
static int list_of(struct cli *cli, bool fences, json_t **list, struct error *e)
{
	const char *more = fences ? "&fences=yes" : "";
	cleanup_free char *path =
		cli->server_given ? api_session_path(cli, "/v1/checkpoints", more)
				  : str_printf("/v1/checkpoints%s", *more ? "?fences=yes" : "");
	cleanup_json json_t *all = NULL;
	json_t *one;
	size_t i;
	int r = api_get_list(cli, path, "checkpoints", &all, e);
	if (r < 0)
		return r;
	*list = json_array();
	json_array_foreach (all, i, one)
		if (is_asked_for(cli, one) && (*wire_text_at(one, "fence") != '\0') == fences)
			json_array_append(*list, one);
	return 0;
}

int store_checkpoints(struct cli *cli, json_t **list, struct error *e)
{
	return list_of(cli, false, list, e);
}

int store_fences(struct cli *cli, json_t **list, struct error *e)
{
	return list_of(cli, true, list, e);
}

static bool is_usable(const json_t *checkpoint)
{
	return !json_is_true(json_object_get(checkpoint, "aside")) &&
	       !*wire_text_at(checkpoint, "damaged");
}

static int none_found(const struct cli *cli, struct error *e)
{
	int r;
	if (cli->generation)
		r = error_fault(e, FAULT_NOT_FOUND, "%s%s%s has no checkpoint %lld in the store",
				cli->user, *cli->server ? "/" : "", cli->server,
				(long long)cli->generation);
	else
		r = error_fault(e, FAULT_NOT_FOUND, "%s%s%s has no checkpoint that can be used",
				cli->user, *cli->server ? "/" : "", cli->server);
	return error_remedy(e, r, "see elsa store ls");
}

int store_checkpoint(struct cli *cli, json_t **checkpoint, struct error *e)
{
	cleanup_json json_t *list = NULL;
	json_t *candidate;
	json_t *found = NULL;
	size_t i;
	int r = store_checkpoints(cli, &list, e);
	if (r < 0)
		return r;
	json_array_foreach (list, i, candidate) {
		if (strcmp(wire_text_at(candidate, "server"), cli->server) != 0)
			continue;
		if (cli->generation || (is_usable(candidate) &&
					(!found || wire_number_at(candidate, "generation") >
							   wire_number_at(found, "generation"))))
			found = candidate;
	}
	if (!found)
		return none_found(cli, e);
	*checkpoint = json_incref(found);
	return 0;
}

json_t *store_checkpoint_body(struct cli *cli, const json_t *checkpoint)
{
	static const char *const keys[] = { "user", "server", "session", "generation" };
	json_t *body = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(body, keys[i], json_object_get(checkpoint, keys[i]));
	if (cli->force)
		json_object_set_new(body, "force", json_true());
	if (cli->dry_run)
		json_object_set_new(body, "dry_run", json_true());
	return body;
}
