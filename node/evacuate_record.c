/* SPDX-License-Identifier: Apache-2.0 */
#include "node/evacuate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "cloud/notice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What the file holds. */
struct evacuation_file {
	char *boot_id;
	struct node_notice *notices;
	size_t notice_count;
	struct evacuation evacuation;
};

#define AT(member) .offset = offsetof(struct evacuation_file, member)

static const struct wire_field fields[] = {
	{ "boot_id", WIRE_STRING, AT(boot_id), .required = true },
	{ "notices", WIRE_LIST, AT(notices), .nested = &wire_node_notice,
	  .count_offset = offsetof(struct evacuation_file, notice_count) },
	{ "evacuation", WIRE_STRUCT, AT(evacuation), .required = true, .nested = &wire_evacuation },
};
static const struct wire_struct wire_file = { "evacuation_file", sizeof(struct evacuation_file),
					      fields, ARRAY_SIZE(fields) };

bool evacuate_is_open(const struct evacuate *ev)
{
	return ev->record.begun_at && !ev->record.ended_at;
}

/* --- sessions ------------------------------------------------------------------------- */

int evacuate_find(const struct evacuate *ev, const char *id)
{
	for (size_t i = 0; i < ev->record.session_count; i++)
		if (strcmp(ev->record.sessions[i].session, id) == 0)
			return (int)i;
	return -1;
}

static int grow_more(struct evacuate *ev, size_t count, struct error *e)
{
	struct evacuee_more *more = realloc(ev->more, (count + 1) * sizeof(*more));
	if (!more)
		return error_set(e, ENOMEM, "out of memory");
	ev->more = more;
	return 0;
}

int evacuate_add(struct evacuate *ev, const char *id, struct error *e)
{
	struct evacuation *rec = &ev->record;
	size_t n = rec->session_count;
	int r = grow_more(ev, n + 1, e);
	if (r < 0)
		return r;
	struct evacuee *list = realloc(rec->sessions, (n + 1) * sizeof(*list));
	if (list)
		rec->sessions = list;
	char *copy = list ? strdup(id) : NULL;
	if (!copy)
		return error_set(e, ENOMEM, "out of memory");
	list[n] = (struct evacuee) { .session = copy };
	ev->more[n] = (struct evacuee_more) { 0 };
	rec->session_count++;
	return 0;
}

void evacuate_remove(struct evacuate *ev, size_t i)
{
	struct evacuation *rec = &ev->record;
	free(rec->sessions[i].session);
	free(rec->sessions[i].why);
	free(rec->sessions[i].to);
	free(ev->more[i].told_why);
	size_t behind = --rec->session_count - i;
	memmove(&rec->sessions[i], &rec->sessions[i + 1], behind * sizeof(rec->sessions[0]));
	memmove(&ev->more[i], &ev->more[i + 1], behind * sizeof(ev->more[0]));
}

void evacuate_drop_more(struct evacuate *ev)
{
	for (size_t i = 0; ev->more && i < ev->record.session_count; i++)
		free(ev->more[i].told_why);
	free(ev->more);
	ev->more = NULL;
}

void evacuate_say(struct evacuee *to, const char *why)
{
	journal_set(&to->why, why, NULL);
}

/* --- notices ---------------------------------------------------------------------------- */

wall_ms evacuate_deadline(const struct evacuate *ev, const struct node_notice **notice)
{
	wall_ms earliest = 0;
	for (size_t i = 0; i < ev->notice_count; i++) {
		wall_ms at = notice_deadline(&ev->notices[i], ev->node->config->spot.notice_ms);
		if (earliest && at >= earliest)
			continue;
		earliest = at;
		if (notice)
			*notice = &ev->notices[i];
	}
	return earliest;
}

static struct node_notice *find_notice(struct evacuate *ev, const char *id)
{
	for (size_t i = 0; i < ev->notice_count; i++)
		if (strcmp(ev->notices[i].id, id) == 0)
			return &ev->notices[i];
	return NULL;
}

int evacuate_copy_notice(struct node_notice *to, const struct node_notice *from, struct error *e)
{
	cleanup_json json_t *json = wire_encode(&wire_node_notice, from);
	if (!json)
		return error_set(e, ENOMEM, "out of memory");
	return wire_decode(&wire_node_notice, json, to, e);
}

int evacuate_put_notice(struct evacuate *ev, const struct node_notice *notice, struct error *e)
{
	struct node_notice copy, *known = find_notice(ev, notice->id);
	if (known && known->at == notice->at && known->kind == notice->kind)
		return 0;
	int r = evacuate_copy_notice(&copy, notice, e);
	if (r < 0)
		return r;
	if (known) {
		wire_free(&wire_node_notice, known);
		*known = copy;
		return 1;
	}
	struct node_notice *more = realloc(ev->notices, (ev->notice_count + 1) * sizeof(*more));
	if (!more) {
		wire_free(&wire_node_notice, &copy);
		return error_set(e, ENOMEM, "out of memory");
	}
	ev->notices = more;
	more[ev->notice_count++] = copy;
	return 1;
}

bool evacuate_drop_notice(struct evacuate *ev, const char *id)
{
	struct node_notice *known = find_notice(ev, id);
	if (!known)
		return false;
	wire_free(&wire_node_notice, known);
	*known = ev->notices[--ev->notice_count];
	return true;
}

/* --- the file ------------------------------------------------------------------------------ */

static char *file_of(const struct node *node)
{
	return fs_join(node->config->node.state_dir, "evacuation.json");
}

void evacuate_save(struct evacuate *ev, bool durable)
{
	struct error e = ERROR_INIT;
	const struct evacuation_file file = { ev->node->boot_id, ev->notices, ev->notice_count,
					      ev->record };
	cleanup_free char *path = file_of(ev->node);
	cleanup_json json_t *json = wire_encode(&wire_file, &file);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	if (!path || !text || (!durable && ev->written && strcmp(text, ev->written) == 0))
		return;
	int r = (durable ? fs_replace : fs_replace_soon)(path, text, strlen(text), 0600, &e);
	if (r < 0) {
		/* The sessions matter more; the next change tries again. */
		log_error("how far the evacuation is cannot be recorded: %s", e.text);
		return;
	}
	free(ev->written);
	ev->written = steal_ptr(&text);
}

static void free_notices(struct evacuate *ev)
{
	for (size_t i = 0; i < ev->notice_count; i++)
		wire_free(&wire_node_notice, &ev->notices[i]);
	free(ev->notices);
	ev->notices = NULL;
	ev->notice_count = 0;
}

int evacuate_read(struct evacuate *ev, bool *same_boot, struct error *e)
{
	struct evacuation_file file;
	cleanup_free char *path = file_of(ev->node);
	cleanup_buf struct buf text = BUF_INIT(16 << 20);
	*same_boot = false;
	int r = path ? fs_read(path, &text, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = wire_decode_text(&wire_file, buf_text(&text), text.len, &file, e);
	if (r != 0)
		return r == -ENOENT ? 0 : error_wrap(e, r, "%s", path ? path : "");
	*same_boot = strcmp(file.boot_id, ev->node->boot_id) == 0;
	free(file.boot_id);
	ev->record = file.evacuation;
	ev->notices = file.notices;
	ev->notice_count = file.notice_count;
	if (!*same_boot)
		free_notices(ev);
	r = grow_more(ev, ev->record.session_count, e);
	for (size_t i = 0; r == 0 && i < ev->record.session_count; i++)
		ev->more[i] = (struct evacuee_more) {
			.over = ev->record.sessions[i].state == EVACUEE_MOVED,
			.waited = ev->record.sessions[i].to_move,
		};
	return r;
}

void evacuate_deinit(struct evacuate *ev)
{
	if (ev->look)
		event_free(ev->look);
	free_notices(ev);
	evacuate_drop_more(ev);
	wire_free(&wire_evacuation, &ev->record);
	free(ev->written);
}
