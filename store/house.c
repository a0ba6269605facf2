/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/house.h"

#include "base/fs.h"
#include "base/id.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void generations_deinit(struct generations *g)
{
	free(g->list);
}

void keys_deinit(struct keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		free(keys->list[i]);
	free(keys->list);
}

/* Keys come in order, so those of one generation come together. */
static struct generation *generation_of(struct generations *g, const struct generation *wanted)
{
	struct generation *last = g->count ? &g->list[g->count - 1] : NULL;
	if (last && last->number == wanted->number && strcmp(last->session, wanted->session) == 0)
		return last;
	if (!g->list || g->count == g->room) {
		size_t room = g->room ? g->room * 2 : 32;
		struct generation *list = realloc(g->list, room * sizeof(*list));
		if (!list)
			return NULL;
		g->list = list;
		g->room = room;
	}
	g->list[g->count] = *wanted;
	return &g->list[g->count++];
}

static int note_key(const char *key, const struct object_stat *st, void *arg)
{
	(void)st;
	struct generation found = { 0 };
	const char *rest;
	if (!store_key_split(key, found.session, &found.number, &rest))
		return 0;
	struct generation *g = generation_of(arg, &found);
	if (!g)
		return -ENOMEM;
	g->manifest |= strcmp(rest, STORE_MANIFEST) == 0;
	g->aside |= strcmp(rest, STORE_ASIDE) == 0;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct generation *ga = a;
	const struct generation *gb = b;
	int order = strcmp(ga->session, gb->session);
	return order ? order : (ga->number > gb->number) - (ga->number < gb->number);
}

int store_generations(struct store *store, const char *session, struct generations *g,
		      struct error *e)
{
	if (session && !id_valid(session))
		return error_set(e, EINVAL, "\"%.40s\" is not a session", session);
	cleanup_free char *prefix = session ? str_printf("s/%s/", session) : strdup("s/");
	if (!prefix)
		return error_set(e, ENOMEM, "out of memory");
	int r = object_list(store->objects, prefix, note_key, g, e);
	if (r == -ENOMEM)
		return error_set(e, ENOMEM, "out of memory");
	if (g->count)
		qsort(g->list, g->count, sizeof(*g->list), compare);
	return r;
}

static int keep_key(const char *key, const struct object_stat *st, void *arg)
{
	(void)st;
	struct keys *keys = arg;
	if (keys->count == keys->room) {
		size_t room = keys->room ? keys->room * 2 : 64;
		char **list = realloc(keys->list, room * sizeof(*list));
		if (!list)
			return -ENOMEM;
		keys->list = list;
		keys->room = room;
	}
	keys->list[keys->count] = strdup(key);
	return keys->list[keys->count] ? (keys->count++, 0) : -ENOMEM;
}

int store_keys(struct store *store, const char *session, int64_t generation, struct keys *keys,
	       struct error *e)
{
	cleanup_free char *prefix = NULL;
	int r = store_key(session, generation, "", &prefix, e);
	if (r == 0)
		r = object_list(store->objects, prefix, keep_key, keys, e);
	return r == -ENOMEM ? error_set(e, ENOMEM, "out of memory") : r;
}

/* One bad manifest must not hide the others: it is told at the end. */
int store_list(struct store *store, const char *session,
	       int (*each)(const struct store_meta *meta, void *arg), void *arg, struct error *e)
{
	struct error first = ERROR_INIT;
	int failed = 0;
	cleanup(generations_deinit) struct generations g = { 0 };
	int r = store_generations(store, session, &g, e);
	for (size_t i = 0; i < g.count && r == 0; i++) {
		struct manifest m;
		struct error one = ERROR_INIT;
		if (!g.list[i].manifest)
			continue;
		int bad = store_manifest_read(store, g.list[i].session, g.list[i].number, &m, &one);
		if (bad == -ENOENT)
			continue; /* removed meanwhile */
		if (bad < 0) {
			if (failed == 0)
				first = one;
			failed = failed ? failed : bad;
			continue;
		}
		r = each(&m.meta, arg);
		manifest_deinit(&m);
	}
	if (r == 0 && failed && e)
		*e = first;
	return r ? r : failed;
}

int store_newest(struct store *store, const char *session, int64_t *generation, struct error *e)
{
	cleanup(generations_deinit) struct generations g = { 0 };
	int r = session ? store_generations(store, session, &g, e)
			: error_set(e, EINVAL, "no session given");
	if (r < 0)
		return r;
	for (size_t i = g.count; i-- > 0;) {
		if (!g.list[i].manifest || g.list[i].aside)
			continue;
		*generation = g.list[i].number;
		return 0;
	}
	return error_set(e, ENOENT, "session %s has no checkpoint", session);
}

int store_set_aside(struct store *store, const char *session, int64_t generation, struct error *e)
{
	struct object_stat st;
	cleanup_free char *manifest = NULL;
	cleanup_free char *aside = NULL;
	int r = store_key(session, generation, STORE_MANIFEST, &manifest, e);
	if (r == 0)
		r = store_key(session, generation, STORE_ASIDE, &aside, e);
	if (r == 0)
		r = object_stat(store->objects, manifest, &st, e);
	if (r == -ENOENT)
		return error_set(e, ENOENT, "session %s has no checkpoint %" PRId64, session,
				 generation);
	return r < 0 ? r : object_put(store->objects, aside, "", 0, false, e);
}

int store_remove(struct store *store, const char *session, int64_t generation, struct error *e)
{
	cleanup_free char *manifest = NULL;
	cleanup(keys_deinit) struct keys keys = { 0 };
	int r = store_key(session, generation, STORE_MANIFEST, &manifest, e);
	if (r == 0)
		r = object_remove(store->objects, manifest, e);
	if (r == 0)
		r = store_keys(store, session, generation, &keys, e);
	for (size_t i = 0; i < keys.count && r == 0; i++)
		r = object_remove(store->objects, keys.list[i], e);
	return r;
}
