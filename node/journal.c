/* SPDX-License-Identifier: Apache-2.0 */
#include "node/journal.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "node/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(member) .offset = offsetof(struct journal, member)

static const struct wire_field journal_fields[] = {
	{ "session", WIRE_STRUCT, AT(session), .required = true, .nested = &wire_session_spec },
	{ "generation", WIRE_INT, AT(generation) },
	{ "boot_id", WIRE_STRING, AT(boot_id) },
	{ "pid", WIRE_INT, AT(pid), .max = INT32_MAX },
	{ "start_time", WIRE_INT, AT(start_time) },
	{ "started_at", WIRE_INT, AT(started_at) },
	{ "ended", WIRE_STRING, AT(ended) },
	{ "effect", WIRE_STRING, AT(effect) },
	{ "kind", WIRE_ENUM, AT(kind), .names = effect_kind_names,
	  .name_count = EFFECT_KIND_COUNT },
	{ "effect_generation", WIRE_INT, AT(effect_generation) },
	{ "begun_at", WIRE_INT, AT(begun_at) },
	{ "step", WIRE_STRING, AT(step) },
	{ "created_at", WIRE_INT, AT(created_at) },
	{ "released", WIRE_INT, AT(released) },
	{ "fence", WIRE_INT, AT(fence) },
	{ "tried", WIRE_INT, AT(tried) },
	{ "arriving", WIRE_INT, AT(arriving) },
	{ "asleep", WIRE_INT, AT(asleep) },
	{ "asleep_bytes", WIRE_INT, AT(asleep_bytes) },
	{ "given_to", WIRE_STRING, AT(given_to) },
	{ "given_id", WIRE_STRING, AT(given_id) },
	{ "moved_from", WIRE_STRING, AT(moved_from) },
	{ "moved_from_at", WIRE_STRING, AT(moved_from_at) },
	{ "moved_id", WIRE_STRING, AT(moved_id) },
	{ "results", WIRE_LIST, AT(results), .nested = &wire_effect_result,
	  .count_offset = offsetof(struct journal, result_count) },
	{ "interrupted", WIRE_BOOL, AT(interrupted) },
};

const struct wire_struct wire_journal = {
	.name = "journal",
	.size = sizeof(struct journal),
	.fields = journal_fields,
	.field_count = ARRAY_SIZE(journal_fields),
};

int64_t journal_next(const struct journal *j)
{
	int64_t newest = j->generation > j->fence ? j->generation : j->fence;
	return (newest > j->tried ? newest : j->tried) + 1;
}

/* --- the two files ------------------------------------------------------------- */

char *journal_dir(const struct node *node)
{
	return str_printf("%s/journal/%s", node->config->node.run_dir, node->boot_id);
}

static char *noted_path(const struct node *node, const char *id)
{
	return str_printf("%s/journal/%s/%s.json", node->config->node.run_dir, node->boot_id, id);
}

static char *saved_path(const struct node *node, const char *id)
{
	return node_path(node, "journal", id, ".json");
}

typedef int replace(const char *path, const void *data, size_t len, mode_t mode, struct error *e);

static int put(const struct journal *j, char *path, replace *how, struct error *e)
{
	cleanup_free char *to = path;
	cleanup_json json_t *json = wire_encode(&wire_journal, j);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	if (!to || !text)
		return error_set(e, ENOMEM, "out of memory");
	int r = how(to, text, strlen(text), 0600, e);
	return error_wrap(e, r, "cannot record what is done to session %s", j->session.id);
}

int journal_note(const struct node *node, const struct journal *j, struct error *e)
{
	return put(j, noted_path(node, j->session.id), fs_replace_soon, e);
}

/* Noted first: what is noted is never older than what is saved. */
int journal_save(const struct node *node, const struct journal *j, struct error *e)
{
	int r = journal_note(node, j, e);
	return r < 0 ? r : put(j, saved_path(node, j->session.id), fs_replace, e);
}

static int load(char *path, const char *id, struct journal *j, struct error *e)
{
	cleanup_free char *from = path;
	cleanup_buf struct buf text = BUF_INIT(16 << 20);
	*j = (struct journal) { 0 };
	if (!from)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(from, &text, e);
	if (r < 0)
		return r;
	r = wire_decode_text(&wire_journal, buf_text(&text), text.len, j, e);
	if (r == 0 && strcmp(j->session.id, id) != 0) {
		journal_deinit(j);
		r = error_set(e, EBADMSG, "it is another session's");
	}
	return error_wrap(e, r, "%s", from);
}

int journal_load(const struct node *node, const char *id, struct journal *j, struct error *e)
{
	int r = load(noted_path(node, id), id, j, e);
	return r == -ENOENT ? load(saved_path(node, id), id, j, e) : r;
}

static int remove_file(char *path, struct error *e)
{
	cleanup_free char *file = path;
	if (!file)
		return error_set(e, ENOMEM, "out of memory");
	return unlink(file) < 0 && errno != ENOENT ? error_errno(e, "cannot remove %s", file) : 0;
}

/* The older one first: what is left by a kill in between is what is so now. */
int journal_remove(const struct node *node, const char *id, struct error *e)
{
	int r = remove_file(saved_path(node, id), e);
	return r < 0 ? r : remove_file(noted_path(node, id), e);
}

/* With `but`, of sessions only that have no file there. */
static int each_in(const char *path, const char *but, int (*each)(const char *id, void *arg),
		   void *arg, struct error *e)
{
	cleanup_dir DIR *dir = path ? opendir(path) : NULL;
	if (!dir)
		return error_errno(e, "cannot read the directory of journals");
	for (struct dirent *d; (d = readdir(dir));) {
		char id[ID_SIZE];
		/* A file with more behind it is a half-written one. */
		if (strlen(d->d_name) != ID_SIZE - 1 + strlen(".json") ||
		    strcmp(d->d_name + ID_SIZE - 1, ".json") != 0)
			continue;
		cleanup_free char *other = but ? fs_join(but, d->d_name) : NULL;
		if (other && access(other, F_OK) == 0)
			continue;
		snprintf(id, sizeof(id), "%.*s", ID_SIZE - 1, d->d_name);
		int r = id_valid(id) ? each(id, arg) : 0;
		if (r)
			return r;
	}
	return 0;
}

int journal_each(const struct node *node, int (*each)(const char *id, void *arg), void *arg,
		 struct error *e)
{
	cleanup_free char *saved = fs_join(node->config->node.state_dir, "journal");
	cleanup_free char *noted = journal_dir(node);
	int r = each_in(saved, NULL, each, arg, e);
	return r ? r : each_in(noted, saved, each, arg, e);
}

/* --- its parts ----------------------------------------------------------------- */

void journal_deinit(struct journal *j)
{
	wire_free(&wire_journal, j);
}

int journal_set(char **field, const char *value, struct error *e)
{
	char *copy = value ? strdup(value) : NULL;
	if (value && !copy)
		return error_set(e, ENOMEM, "out of memory");
	free(*field);
	*field = copy;
	return 0;
}

static int copy(const struct wire_struct *type, void *to, const void *from, struct error *e)
{
	cleanup_json json_t *json = wire_encode(type, from);
	if (!json)
		return error_set(e, ENOMEM, "out of memory");
	return wire_decode(type, json, to, e);
}

int journal_copy_spec(struct session_spec *to, const struct session_spec *from, struct error *e)
{
	return copy(&wire_session_spec, to, from, e);
}

int journal_copy_result(struct effect_result *to, const struct effect_result *from, struct error *e)
{
	return copy(&wire_effect_result, to, from, e);
}

void journal_drop_results(struct journal *j)
{
	for (size_t i = 0; i < j->result_count; i++)
		wire_free(&wire_effect_result, &j->results[i]);
	free(j->results);
	j->results = NULL;
	j->result_count = 0;
}
