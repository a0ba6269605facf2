/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Removing what crashed writers left: their directories, and objects that no
 * manifest names. A writer at work is known by the lock on its directory, which
 * it holds from before it puts the first object until after its manifest.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "store/house.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

typedef bool live_function(const char *session, int64_t generation, void *arg);

enum { TEMP_AGE_S = 3600 }; /* a put takes seconds; its file older than this was left */

static int for_each_entry(const char *dir,
			  int (*each)(const char *path, const char *name, void *arg), void *arg,
			  struct error *e)
{
	cleanup_dir DIR *d = opendir(dir);
	struct dirent *entry;
	int r = 0;
	if (!d)
		return error_errno(e, "cannot list %s", dir);
	while (r == 0 && (errno = 0, entry = readdir(d))) {
		cleanup_free char *path = fs_join(dir, entry->d_name);
		if (!path)
			return error_set(e, ENOMEM, "out of memory");
		r = each(path, entry->d_name, arg);
	}
	return r;
}

struct sweep {
	live_function *live;
	void *arg;
	struct error *e;
};

static int sweep_entry(const char *path, const char *name, void *arg)
{
	const struct sweep *s = arg;
	char session[17];
	int64_t generation;
	struct stat st;
	if (strncmp(name, OBJECT_STAGING_TEMP, strlen(OBJECT_STAGING_TEMP)) == 0) {
		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_mtim.tv_sec + TEMP_AGE_S < clock_wall() / 1000)
			unlink(path);
		return 0;
	}
	if (!store_staging_split(name, session, &generation) || store_staging_locked(path) ||
	    (s->live && s->live(session, generation, s->arg)))
		return 0;
	return fs_remove_tree(path, s->e);
}

static int find_writer(const char *path, const char *name, void *arg)
{
	const struct generation *wanted = arg;
	char session[17];
	int64_t generation;
	return store_staging_split(name, session, &generation) && generation == wanted->number &&
	       strcmp(session, wanted->session) == 0 && store_staging_locked(path);
}

/* Whether the manifest, if there is one, names the object; `m` is sorted by files' names, not
 * objects'. */
static bool is_named(const struct manifest *m, const char *rest)
{
	if (strcmp(rest, STORE_MANIFEST) == 0)
		return true;
	if (strcmp(rest, STORE_ASIDE) == 0)
		return m != NULL;
	for (size_t i = 0; m && i < m->count; i++)
		if (strcmp(m->files[i].object, rest) == 0)
			return true;
	return false;
}

/* First the objects, then whether somebody writes, then the manifest: a writer whose objects are
 * seen either still holds its lock or has put its manifest or failed. */
static int sweep_generation(struct store *store, const char *staging, struct generation *g,
			    struct error *e)
{
	cleanup(keys_deinit) struct keys keys = { 0 };
	cleanup(manifest_deinit) struct manifest m = { 0 };
	int r = store_keys(store, g->session, g->number, &keys, e);
	if (r == 0)
		r = for_each_entry(staging, find_writer, g, e);
	if (r != 0)
		return r < 0 ? r : 0;
	int found = store_manifest_read(store, g->session, g->number, &m, NULL);
	if (found < 0 && found != -ENOENT)
		return 0; /* damaged: nothing of it may go, it may be of use to somebody */
	for (size_t i = 0; i < keys.count && r == 0; i++) {
		char session[17];
		int64_t number;
		const char *rest;
		if (store_key_split(keys.list[i], session, &number, &rest) &&
		    !is_named(found == 0 ? &m : NULL, rest))
			r = object_remove(store->objects, keys.list[i], e);
	}
	return r;
}

int store_sweep(struct store *store, live_function *live, void *arg, struct error *e)
{
	struct sweep s = { .live = live, .arg = arg, .e = e };
	cleanup(generations_deinit) struct generations g = { 0 };
	cleanup_free char *staging = NULL;
	int r = object_staging(store->objects, &staging, e);
	if (r == 0)
		r = for_each_entry(staging, sweep_entry, &s, e);
	if (r == 0)
		r = store_generations(store, NULL, &g, e);
	for (size_t i = 0; i < g.count && r == 0; i++)
		if (!live || !live(g.list[i].session, g.list[i].number, arg))
			r = sweep_generation(store, staging, &g.list[i], e);
	return r;
}
