/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* What objects there are. */
#include "base/fs.h"
#include "base/id.h"
#include "store/internal.h"
#include "store/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void store_scan_deinit(struct store_scan *scan)
{
	for (size_t i = 0; i < scan->count; i++)
		free(scan->list[i].key);
	free(scan->list);
	*scan = (struct store_scan) { 0 };
}

static int note(const char *key, const struct object_stat *st, void *arg)
{
	struct store_scan *scan = arg;
	struct store_object found;
	store_key_parse(key, &found);
	if (!found.session[0])
		return 0;
	if (scan->count == scan->room) {
		size_t room = scan->room ? scan->room * 2 : 64;
		struct store_object *list = realloc(scan->list, room * sizeof(*list));
		if (!list)
			return -ENOMEM;
		scan->list = list;
		scan->room = room;
	}
	found.st = *st;
	found.key = strdup(key);
	if (!found.key)
		return -ENOMEM;
	scan->list[scan->count++] = found;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct store_object *oa = a;
	const struct store_object *ob = b;
	int order = strcmp(oa->session, ob->session);
	if (order == 0)
		order = (oa->generation > ob->generation) - (oa->generation < ob->generation);
	return order ? order : strcmp(oa->key, ob->key);
}

int store_scan(struct store *store, const char *session, int64_t generation,
	       struct store_scan *scan, struct error *e)
{
	cleanup_free char *prefix = NULL;
	if (session && !id_valid(session))
		return error_set(e, EINVAL, "\"%.40s\" is not a session", session);
	if (!session)
		prefix = strdup("s/");
	else if (generation < 0)
		prefix = str_printf("s/%s/", session);
	else
		prefix = str_printf("s/%s/%" PRId64 "/", session, generation);
	if (!prefix)
		return store_oom(e);
	struct error why = ERROR_INIT;
	int r = object_list(store->objects, prefix, note, scan, &why);
	if (r < 0)
		return why.fault == FAULT_NONE ? store_oom(e) : (e ? (*e = why, r) : r);
	if (scan->count)
		qsort(scan->list, scan->count, sizeof(*scan->list), compare);
	return 0;
}

static int compare_wanted(const struct store_object *o, const struct store_object *wanted)
{
	int order = strcmp(o->session, wanted->session);
	if (order == 0)
		order = (o->generation > wanted->generation) - (o->generation < wanted->generation);
	return order;
}

const struct store_object *store_scan_find(const struct store_scan *scan, const char *session,
					   int64_t generation, enum store_kind kind,
					   const char *writer, uint32_t number)
{
	struct store_object wanted = { .generation = generation };
	size_t low = 0;
	size_t high = scan->count;
	memcpy(wanted.session, session, sizeof(wanted.session));
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (compare_wanted(&scan->list[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < scan->count && compare_wanted(&scan->list[low], &wanted) == 0; low++) {
		const struct store_object *o = &scan->list[low];
		if (o->kind == kind && (!writer || strcmp(o->writer, writer) == 0) &&
		    (kind != STORE_KIND_PACK || o->number == number))
			return o;
	}
	return NULL;
}

struct check {
	struct store *store;
	const struct manifest *m;
	const struct store_scan *found;
};

static int check_pack(void *arg, size_t i, struct error *e)
{
	const struct check *c = arg;
	const struct manifest_pack *pack = &c->m->packs[i];
	const struct store_object *o = NULL;
	struct object_stat st;
	cleanup_free char *key = NULL;
	int r = store_pack_key(c->m->meta.session, pack, &key, e);
	if (r < 0)
		return r;
	if (c->found)
		o = store_scan_find(c->found, c->m->meta.session, pack->generation, STORE_KIND_PACK,
				    pack->writer, pack->number);
	if (o)
		st = o->st;
	else
		r = object_stat(c->store->objects, key, &st, e);
	if (r < 0)
		return store_damage(e, r);
	if (st.size == pack->size)
		return 0;
	return error_set(e, EBADMSG,
			 "object %s: has %" PRIu64 " bytes, and %" PRIu64 " in the manifest", key,
			 st.size, pack->size);
}

int store_check_packs(struct store *store, const struct manifest *m, const struct store_scan *found,
		      struct error *e)
{
	struct check c = { .store = store, .m = m, .found = found };
	return parallel(found || store->local ? 1 : STORE_REQUESTS, m->pack_count, check_pack, &c,
			e);
}
