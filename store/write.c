/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "base/id.h"
#include "store/commit.h"
#include "store/grow.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

static int check_new(struct store *store, const char *session, int64_t generation, struct error *e)
{
	struct object_stat st;
	cleanup_free char *key = NULL;
	int r = store_key(session, generation, STORE_MANIFEST, &key, e);
	if (r == 0)
		r = object_stat(store->objects, key, &st, e);
	if (r == 0)
		return error_set(e, EEXIST, "session %s already has a checkpoint %" PRId64, session,
				 generation);
	return r == -ENOENT ? 0 : r;
}

static int make_dir(struct store_write *w, struct error *e)
{
	cleanup_free char *staging = NULL;
	int r = object_staging(w->store->objects, &staging, e);
	if (r < 0)
		return r;
	cleanup_free char *name =
		store_staging_name(w->m.meta.session, w->m.meta.generation, w->id);
	char *dir = name ? fs_join(staging, name) : NULL;
	if (!dir)
		return error_set(e, ENOMEM, "out of memory");
	if (mkdir(dir, 0700) < 0) {
		r = error_errno(e, "cannot create directory %s", dir);
		free(dir);
		return error_remedy(e, r,
				    "make the store's directory writable for elsa-node and "
				    "see that its disk is not full");
	}
	w->dir = dir;
	w->lock = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->lock < 0 || flock(w->lock, LOCK_EX | LOCK_NB) < 0)
		return error_errno(e, "cannot lock directory %s", w->dir);
	return grow_start(w->dir, &w->grow, e);
}

int store_write_begin(struct store *store, const char *session, int64_t generation,
		      struct store_write **write, struct error *e)
{
	int r = check_new(store, session, generation, e);
	if (r < 0)
		return r;
	cleanup(store_write_freep) struct store_write *w = calloc(1, sizeof(*w));
	if (!w)
		return error_set(e, ENOMEM, "out of memory");
	w->store = store;
	w->lock = -1;
	w->m.chunk = GROW_CHUNK;
	memcpy(w->m.meta.session, session, sizeof(w->m.meta.session));
	w->m.meta.generation = generation;
	id_new(w->id);
	pthread_mutex_init(&w->progress_lock, NULL);
	r = make_dir(w, e);
	if (r < 0)
		return r;
	*write = steal_ptr(&w);
	return 0;
}

const char *store_write_dir(const struct store_write *write)
{
	return write->dir;
}

void store_write_progress(const struct store_write *write, uint64_t *done, uint64_t *total)
{
	struct store_write *w = (struct store_write *)write;
	pthread_mutex_lock(&w->progress_lock);
	*done = w->done;
	*total = w->total;
	bool growing = w->total == 0;
	pthread_mutex_unlock(&w->progress_lock);
	if (growing)
		grow_progress(w->grow, done, total);
}

void *store_write_free(struct store_write *w)
{
	if (!w)
		return NULL;
	grow_free(w->grow);
	if (w->dir)
		fs_remove_tree(w->dir, NULL);
	if (w->lock >= 0)
		close(w->lock);
	manifest_deinit(&w->m);
	pthread_mutex_destroy(&w->progress_lock);
	free(w->dir);
	free(w);
	return NULL;
}
