/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "store/writing.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

int write_check(struct store_write *w, struct error *e)
{
	if (w->tried)
		return error_set(e, EINVAL, "the checkpoint has been committed");
	return failure_check(&w->failure, e);
}

int write_fail(struct store_write *w, int r, struct error *e)
{
	struct error unknown = ERROR_INIT;
	if (!e) {
		error_set(&unknown, -r, "storing the checkpoint failed before");
		e = &unknown;
	}
	return failure_note(&w->failure, r, e);
}

/* --- beginning ---------------------------------------------------------------------- */

static int check_new(struct store *store, const char *session, int64_t generation, struct error *e)
{
	struct object_stat st;
	cleanup_free char *key = NULL;
	int r = store_key(session, generation, STORE_MANIFEST, &key, e);
	if (r == 0)
		r = object_stat(store->objects, key, &st, e);
	if (r == 0)
		return store_refuse_taken(store, session, generation, e);
	return r == -ENOENT ? 0 : r;
}

static int make_pipe(struct store_write *w, struct error *e)
{
	for (size_t i = 0; i < GATHER_KINDS; i++)
		if (!(w->gathers[i].data = malloc(STORE_FRAME_BYTES)))
			return store_oom(e);
	int r = packer_new(w->store, w->session, w->generation, w->id, &w->failure, &w->packer, e);
	if (r == 0) {
		w->piping = true;
		r = pipe_start(w, e);
	}
	return r;
}

/* The mark first: from then on nothing that the basis names, nor the key, is removed. */
static int prepare(struct store_write *w, struct error *e)
{
	int64_t basis;
	int r = store_mark(w->store, w->session, w->generation, &w->writer, e);
	memcpy(w->id, w->writer.id, sizeof(w->id));
	if (r == 0)
		r = basis_find(w->store, w->session, w->generation, &basis, e);
	if (r == 0)
		r = store_keys_get(w->store, w->session, true, &w->keys, e);
	if (r == 0)
		r = store_writer_key(&w->keys, w->session, w->generation, w->id, &w->frame_key, e);
	if (r == 0)
		r = basis_open(w->store, &w->keys, w->session, basis, &w->basis, e);
	if (r == 0)
		r = make_pipe(w, e);
	return r;
}

int store_write_begin(struct store *store, const char *session, int64_t generation,
		      struct store_write **write, struct error *e)
{
	int r = check_new(store, session, generation, e);
	if (r < 0)
		return r;
	cleanup(store_write_freep) struct store_write *w = calloc(1, sizeof(*w));
	if (!w)
		return store_oom(e);
	w->store = store;
	w->generation = generation;
	memcpy(w->session, session, sizeof(w->session));
	pthread_mutex_init(&w->lock, NULL);
	for (size_t i = 0; i < GATHER_KINDS; i++)
		pthread_mutex_init(&w->gathers[i].lock, NULL);
	failure_init(&w->failure);
	r = prepare(w, e);
	if (r == 0)
		*write = steal_ptr(&w);
	return r;
}

/* --- files -------------------------------------------------------------------------- */

static void file_free(struct file_write *f)
{
	if (f) {
		free(f->name);
		free(f->frames);
		free(f->digests);
	}
	free(f);
}

static int add_file(struct store_write *w, struct file_write *f, struct error *e)
{
	int r = 0;
	pthread_mutex_lock(&w->lock);
	if (w->file_count == INDEX_MAX_FILES)
		r = error_set(e, E2BIG, "more than %d files", INDEX_MAX_FILES);
	if (r == 0 && w->file_count == w->file_room) {
		size_t room = w->file_room ? w->file_room * 2 : 64;
		struct file_write **list = realloc(w->files, room * sizeof(*list));
		if (list) {
			w->files = list;
			w->file_room = room;
		} else {
			r = store_oom(e);
		}
	}
	if (r == 0)
		w->files[w->file_count++] = f;
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int make_file(struct store_write *w, const char *name, uint32_t mode,
		     struct file_write **file, struct error *e)
{
	if (!index_name_valid(name))
		return error_set(e, EINVAL, "\"%.100s\" cannot be the name of a file", name);
	struct file_write *f = calloc(1, sizeof(*f));
	if (!f)
		return store_oom(e);
	f->mode = mode & 07777;
	f->basis = basis_file(w->basis, name);
	f->name = strdup(name);
	int r = f->name ? add_file(w, f, e) : store_oom(e);
	if (r < 0)
		file_free(f);
	else
		*file = f;
	return r;
}

static int read_batch(int fd, struct batch *b, const char *name, struct error *e)
{
	ssize_t n = fs_read_up_to(fd, b->data + b->len, STORE_FILL_MOST - b->len);
	if (n < 0)
		return error_errno(e, "cannot read %s", name);
	b->len += (size_t)n;
	return 0;
}

static int extend(struct store_write *w, struct file_write *f, struct batch *b, struct error *e)
{
	size_t more = (b->len + STORE_FILE_FRAME - 1) / STORE_FILE_FRAME;
	int r = 0;
	if (f->size + b->len > INDEX_MAX_FILE_SIZE)
		return error_set(e, EFBIG, "%s is too large", f->name);
	pthread_mutex_lock(&w->lock);
	if (f->frame_count + more > f->room) {
		size_t room = f->room * 2 + more;
		uint32_t *frames = realloc(f->frames, room * sizeof(*frames));
		f->frames = frames ? frames : f->frames;
		unsigned char *digests = realloc(f->digests, room * SEAL_DIGEST);
		f->digests = digests ? digests : f->digests;
		if (frames && digests)
			f->room = room;
		else
			r = store_oom(e);
	}
	pthread_mutex_unlock(&w->lock);
	b->file = f;
	b->first = f->frame_count;
	if (r == 0) {
		f->frame_count += more;
		f->size += b->len;
	}
	return r;
}

int store_write_file(struct store_write *w, const char *name, uint32_t mode, int fd,
		     struct error *e)
{
	struct file_write *f = NULL;
	bool more = true;
	int r = write_check(w, e);
	if (r == 0)
		r = make_file(w, name, mode, &f, e);
	while (r == 0 && more) {
		struct batch *b;
		r = pipe_take(w, &b, e);
		if (r < 0)
			break;
		r = read_batch(fd, b, name, e);
		more = b->len == STORE_FILL_MOST;
		if (r == 0 && b->len)
			r = extend(w, f, b, e);
		if (r == 0 && b->len)
			pipe_queue(w, b);
		else
			pipe_give_back(w, b);
	}
	return r < 0 ? write_fail(w, r, e) : r;
}

struct tree {
	struct store_write *w;
	const char *prefix;
	struct error *e;
};

static int write_found(const struct walk_file *found, void *arg)
{
	const struct tree *t = arg;
	cleanup_free char *name = fs_join(t->prefix, found->name);
	if (!name)
		return store_oom(t->e);
	cleanup_fd int fd = open(found->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(t->e, "cannot open %s", found->path);
	return store_write_file(t->w, name, found->st.st_mode & 07777, fd, t->e);
}

int store_write_tree(struct store_write *w, const char *prefix, const char *dir, struct error *e)
{
	struct tree t = { w, prefix, e };
	int r = store_walk(dir, true, write_found, &t, e);
	return r < 0 ? write_fail(w, r, e) : r;
}

void store_write_progress(const struct store_write *write, uint64_t *done, uint64_t *total)
{
	struct store_write *w = (struct store_write *)write;
	pthread_mutex_lock(&w->lock);
	*total = w->total;
	*done = w->spared + (w->packer ? packer_durable(w->packer) : w->durable);
	pthread_mutex_unlock(&w->lock);
	if (*done > *total) /* the index is in packs too */
		*done = *total;
}

/* --- ending ------------------------------------------------------------------------- */

void write_stop(struct store_write *w)
{
	for (size_t i = 0; w->piping && i < w->memory_count; i++)
		if (w->memories[i]->batch)
			pipe_give_back(w, steal_ptr(&w->memories[i]->batch));
	if (w->piping)
		pipe_stop(w);
	w->piping = false;
	pthread_mutex_lock(&w->lock);
	struct packer *packer = steal_ptr(&w->packer);
	if (packer) {
		w->durable = packer_durable(packer);
		w->pack_count = packer_count(packer);
	}
	pthread_mutex_unlock(&w->lock);
	packer_free(packer);
}

static int remove_pack(const struct store_write *w, size_t number)
{
	struct manifest_pack pack = { .generation = w->generation, .number = (uint32_t)number };
	cleanup_free char *key = NULL;
	memcpy(pack.writer, w->id, sizeof(pack.writer));
	int r = store_pack_key(w->session, &pack, &key, NULL);
	return r < 0 ? r : object_remove(w->store->objects, key, NULL);
}

/* What cannot be removed now is found by store_gc(). Where one cannot be, the store is not asked
 * for the others: the session is busy meanwhile, and may have to leave its machine. */
void write_take_back(struct store_write *w)
{
	int r = 0;
	if (!w->writer.id[0])
		return;
	for (size_t i = 0; i < w->pack_count && !w->keep && r == 0; i++)
		r = remove_pack(w, i);
	if (r == 0)
		store_unmark(w->store, w->session, w->generation, &w->writer);
	else
		store_leave_mark(w->store, &w->writer);
}

static void free_lists(struct store_write *w)
{
	for (size_t i = 0; i < w->file_count; i++)
		file_free(w->files[i]);
	for (size_t i = 0; i < w->memory_count; i++)
		memory_free(w->memories[i]);
	while (w->hot_lists) {
		struct hot_list *next = w->hot_lists->next;
		free(w->hot_lists->memory);
		free(w->hot_lists->pages);
		free(w->hot_lists);
		w->hot_lists = next;
	}
	free(w->files);
	free(w->memories);
	free(w->frames);
}

void *store_write_free(struct store_write *w)
{
	struct error abandoned = ERROR_INIT;
	if (!w)
		return NULL;
	if (!w->committed)
		failure_note(&w->failure,
			     error_set(&abandoned, ECANCELED, "the checkpoint was abandoned"),
			     &abandoned);
	write_stop(w);
	if (!w->committed)
		write_take_back(w);
	else
		store_unmark(w->store, w->session, w->generation, &w->writer);
	basis_free(w->basis);
	free_lists(w);
	for (size_t i = 0; i < GATHER_KINDS; i++) {
		free(w->gathers[i].data);
		pthread_mutex_destroy(&w->gathers[i].lock);
	}
	failure_deinit(&w->failure);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}
