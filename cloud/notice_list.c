/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/notice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ids are "KEY.N", N being when it was seen first: a notice that comes back after it was cancelled
 * is another one. */
static bool is_same(const struct node_notice *notice, const char *source, const char *key)
{
	size_t len = strlen(key);
	return strcmp(notice->source, source) == 0 && strncmp(notice->id, key, len) == 0 &&
	       notice->id[len] == '.' && !strchr(notice->id + len + 1, '.');
}

static struct node_notice *find(struct notice_list *list, const char *source, const char *key)
{
	for (size_t i = 0; i < list->count; i++)
		if (is_same(&list->items[i], source, key))
			return &list->items[i];
	return NULL;
}

static bool has_key(const struct notice_items *items, const struct node_notice *notice)
{
	for (size_t i = 0; i < items->count; i++)
		if (is_same(notice, notice->source, items->items[i].key))
			return true;
	return false;
}

/* What has passed is now; what is counted from now again and again must not move on with it. */
static wall_ms time_of(const struct notice_item *item, const struct node_notice *known, wall_ms now)
{
	enum { JITTER_MS = 1000 };
	wall_ms before = known ? known->at : 0;
	if (!item->at)
		return before;
	if (before && item->is_relative && item->at > before - JITTER_MS)
		return before;
	if (item->at > now)
		return item->at;
	return before && before <= now ? before : now;
}

static int add(struct notice_list *list, const char *source, const struct notice_item *item,
	       wall_ms now)
{
	struct node_notice *more = realloc(list->items, (list->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	list->items = more;
	struct node_notice notice = {
		.id = str_printf("%s.%llx", item->key, (unsigned long long)now),
		.kind = item->kind,
		.source = strdup(source),
		.at = time_of(item, NULL, now),
		.seen_at = now,
		.detail = strdup(item->detail),
	};
	if (!notice.id || !notice.source || !notice.detail) {
		wire_free(&wire_node_notice, &notice);
		return -ENOMEM;
	}
	list->items[list->count++] = notice;
	return 0;
}

static int update(struct node_notice *known, const struct notice_item *item, wall_ms now,
		  notice_told told, void *arg)
{
	wall_ms at = time_of(item, known, now);
	bool detail_changed = !known->detail || strcmp(known->detail, item->detail) != 0;
	bool changed = known->kind != item->kind || known->at != at;
	if (detail_changed) {
		char *detail = strdup(item->detail);
		if (!detail)
			return -ENOMEM;
		free(known->detail);
		known->detail = detail;
	}
	known->kind = item->kind;
	known->at = at;
	if (changed)
		told(NOTICE_CHANGED, known, arg);
	return 0;
}

static void drop(struct notice_list *list, size_t i, notice_told told, void *arg)
{
	struct node_notice notice = list->items[i];
	list->count--;
	memmove(&list->items[i], &list->items[i + 1], (list->count - i) * sizeof(notice));
	told(NOTICE_CANCELLED, &notice, arg);
	wire_free(&wire_node_notice, &notice);
}

int notice_list_put(struct notice_list *list, const char *source, const struct notice_items *items,
		    wall_ms now, notice_told told, void *arg)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < items->count; i++) {
		const struct notice_item *item = &items->items[i];
		struct node_notice *known = find(list, source, item->key);
		r = known ? update(known, item, now, told, arg) : add(list, source, item, now);
		if (r == 0 && !known)
			told(NOTICE_APPEARED, &list->items[list->count - 1], arg);
	}
	for (size_t i = list->count; r == 0 && i-- > 0;)
		if (strcmp(list->items[i].source, source) == 0 && !has_key(items, &list->items[i]))
			drop(list, i, told, arg);
	return r;
}

void notice_list_deinit(struct notice_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		wire_free(&wire_node_notice, &list->items[i]);
	free(list->items);
	*list = (struct notice_list) { 0 };
}

static int copy(const struct node_notice *from, struct node_notice *to)
{
	*to = *from;
	to->id = strdup(from->id);
	to->source = strdup(from->source);
	to->detail = from->detail ? strdup(from->detail) : NULL;
	return to->id && to->source && (!from->detail || to->detail) ? 0 : -ENOMEM;
}

int notice_list_copy(const struct notice_list *list, struct node_notice **items, size_t *count)
{
	struct notice_list made = { .items = calloc(list->count + 1, sizeof(*made.items)) };
	int r = made.items ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < list->count; i++) {
		r = copy(&list->items[i], &made.items[i]);
		made.count++;
	}
	if (r < 0) {
		notice_list_deinit(&made);
		return r;
	}
	*items = made.items;
	*count = made.count;
	return 0;
}

wall_ms notice_deadline(const struct node_notice *notice, int64_t default_ms)
{
	return notice->at ? notice->at : notice->seen_at + default_ms;
}
