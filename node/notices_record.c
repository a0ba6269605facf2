/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/evacuate.h"
#include "node/notices_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MOST = 1 << 20 };

struct record {
	char *boot_id;
	struct node_notice *notices;
	size_t notice_count;
};

static const struct wire_field record_fields[] = {
	{ "boot_id", WIRE_STRING, .offset = offsetof(struct record, boot_id), .required = true },
	{ "notices", WIRE_LIST, .offset = offsetof(struct record, notices),
	  .nested = &wire_node_notice, .count_offset = offsetof(struct record, notice_count) },
};

static const struct wire_struct wire_record = {
	.name = "notices",
	.size = sizeof(struct record),
	.fields = record_fields,
	.field_count = ARRAY_SIZE(record_fields),
};

static char *record_path(const struct notices *n)
{
	return fs_join(n->node->config->node.run_dir, "notices.json");
}

/* The directory is gone with the boot, as are the notices: no need to wait for a disk. */
void notices_save(const struct notices *n)
{
	const struct record record = {
		.boot_id = n->node->boot_id,
		.notices = n->list.items,
		.notice_count = n->list.count,
	};
	cleanup_free char *path = record_path(n);
	cleanup_json json_t *json = wire_encode(&wire_record, &record);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	struct error e = ERROR_INIT;
	int r = path && text ? fs_replace_soon(path, text, strlen(text), 0600, &e)
			     : error_set(&e, ENOMEM, "out of memory");
	if (r < 0)
		log_warning("notices would not be known after a restart: %s", e.text);
}

/* Unlike what is put in it, it may have been written by another version, or by anybody. */
static int read_record(const struct notices *n, struct record *record, struct error *e)
{
	cleanup_free char *path = record_path(n);
	cleanup_buf struct buf text = BUF_INIT(FILE_MOST);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, &text, e);
	if (r == 0)
		r = wire_decode_text(&wire_record, buf_text(&text), text.len, record, e);
	return r;
}

void notices_load_saved(struct notices *n,
			bool (*wanted)(const struct notices *n, const char *source))
{
	struct record record = { 0 };
	struct error e = ERROR_INIT;
	int r = read_record(n, &record, &e);
	if (r < 0 && r != -ENOENT)
		log_warning("notices from before are not known: %s", e.text);
	if (r < 0)
		return;
	struct notice_list *list = &n->list;
	bool same_boot = strcmp(record.boot_id, n->node->boot_id) == 0;
	list->items = calloc(record.notice_count + 1, sizeof(*list->items));
	for (size_t i = 0; list->items && i < record.notice_count; i++) {
		struct node_notice *notice = &record.notices[i];
		if (!same_boot)
			continue;
		if (!wanted(n, notice->source)) {
			evacuate_cancelled(n->node, notice->id);
			continue;
		}
		list->items[list->count++] = *notice;
		*notice = (struct node_notice) { 0 };
	}
	wire_free(&wire_record, &record);
	if (list->count)
		log_info("%zu notices are known from before", list->count);
}
