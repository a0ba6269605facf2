/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/commit.h"

#include "base/clock.h"
#include "base/fs.h"
#include "store/digest.h"
#include "store/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

enum {
	BIG_FILE = 1 << 20, /* from here on fsync takes its time: begin with it */
	EXTRA_THREADS = 2,  /* fsync waits for the disk and leaves a processor to hashing */
};

/* One file as it was when the commit began, and what remains to be done to it. */
struct part {
	size_t file;
	struct stat st;
	size_t hashed; /* chunks done while it grew */
};

struct job {
	const struct part *part;
	size_t chunk; /* JOB_SYNC: fsync the file */
};
#define JOB_SYNC SIZE_MAX

struct commit {
	struct store_write *w;
	struct error *e;
	struct part *parts;
	size_t room;
	struct job *jobs;
	size_t job_count;
};

static void commit_deinit(struct commit *c)
{
	free(c->parts);
	free(c->jobs);
}

static int fail_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

static int make_room(struct commit *c)
{
	struct manifest *m = &c->w->m;
	if (m->count < c->room)
		return 0;
	size_t room = c->room ? c->room * 2 : 64;
	struct manifest_file *files = realloc(m->files, room * sizeof(*files));
	if (files)
		m->files = files;
	struct part *parts = realloc(c->parts, room * sizeof(*parts));
	if (parts)
		c->parts = parts;
	if (!files || !parts)
		return fail_memory(c->e);
	c->room = room;
	return 0;
}

/* Objects have their files' names where an object may be called so. */
static char *object_name(const struct store_write *w, const char *name, size_t i)
{
	char *object = fs_join(w->id, name);
	if (object && (!object_key_valid(object) || strlen(object) > OBJECT_KEY_MAX / 2)) {
		free(object);
		object = str_printf("%s-x/%zu", w->id, i);
	}
	return object;
}

static int add_file(const struct walk_file *found, void *arg)
{
	struct commit *c = arg;
	struct manifest *m = &c->w->m;
	int r = make_room(c);
	if (r < 0)
		return r;
	if (m->count == MANIFEST_MAX_FILES || !manifest_name_valid(found->name) ||
	    (uint64_t)found->st.st_size > MANIFEST_MAX_FILE_SIZE)
		return error_set(c->e, E2BIG, "%s: too many files, too long a name or too large",
				 found->path);
	struct manifest_file *file = &m->files[m->count];
	*file = (struct manifest_file) {
		.name = strdup(found->name),
		.object = object_name(c->w, found->name, m->count),
		.size = (uint64_t)found->st.st_size,
		.mode = found->st.st_mode & 07777,
		.chunks = manifest_chunks((uint64_t)found->st.st_size, m->chunk),
	};
	c->parts[m->count] = (struct part) { .file = m->count, .st = found->st };
	m->count++;
	return file->name && file->object ? 0 : fail_memory(c->e);
}

static int by_name(const void *a, const void *b, void *arg)
{
	const struct manifest_file *files = arg;
	const struct part *pa = a;
	const struct part *pb = b;
	return strcmp(files[pa->file].name, files[pb->file].name);
}

/* The manifest wants its files in order; parts go along. */
static int sort_files(struct commit *c)
{
	struct manifest *m = &c->w->m;
	struct manifest_file *sorted = calloc(m->count + 1, sizeof(*sorted));
	if (!sorted)
		return fail_memory(c->e);
	if (m->count)
		qsort_r(c->parts, m->count, sizeof(*c->parts), by_name, m->files);
	for (size_t i = 0; i < m->count; i++) {
		sorted[i] = m->files[c->parts[i].file];
		c->parts[i].file = i;
	}
	free(m->files);
	m->files = sorted;
	return 0;
}

/* Takes what was hashed while the file grew, and makes room for the rest. */
static int take_digests(struct commit *c, struct part *part)
{
	struct manifest_file *file = &c->w->m.files[part->file];
	file->digests = grow_take(c->w->grow, &part->st, &part->hashed);
	unsigned char *digests = realloc(file->digests, file->chunks * DIGEST_SIZE + 1);
	if (!digests)
		return fail_memory(c->e);
	file->digests = digests;
	c->job_count += 1 + file->chunks - part->hashed;
	c->w->total += file->size;
	c->w->done += part->hashed * c->w->m.chunk;
	return 0;
}

static int list_files(struct commit *c)
{
	int r = store_walk(c->w->dir, true, add_file, c, c->e);
	if (r == 0)
		r = sort_files(c);
	pthread_mutex_lock(&c->w->progress_lock);
	for (size_t i = 0; i < c->w->m.count && r == 0; i++)
		r = take_digests(c, &c->parts[i]);
	pthread_mutex_unlock(&c->w->progress_lock);
	return r;
}

/* Syncs of big files come first and go on while the rest is hashed; those of small ones come last,
 * for then the kernel has written most of them. */
static int list_jobs(struct commit *c)
{
	const struct manifest *m = &c->w->m;
	c->jobs = calloc(c->job_count + 1, sizeof(*c->jobs));
	if (!c->jobs)
		return fail_memory(c->e);
	struct job *job = c->jobs;
	for (size_t i = 0; i < m->count; i++)
		if (m->files[i].size >= BIG_FILE)
			*job++ = (struct job) { &c->parts[i], JOB_SYNC };
	for (size_t i = 0; i < m->count; i++)
		for (size_t k = c->parts[i].hashed; k < m->files[i].chunks; k++)
			*job++ = (struct job) { &c->parts[i], k };
	for (size_t i = 0; i < m->count; i++)
		if (m->files[i].size < BIG_FILE)
			*job++ = (struct job) { &c->parts[i], JOB_SYNC };
	return 0;
}

static int run_job(void *arg, size_t i, struct error *e)
{
	struct commit *c = arg;
	const struct job *job = &c->jobs[i];
	struct manifest_file *file = &c->w->m.files[job->part->file];
	cleanup_free char *path = fs_join(c->w->dir, file->name);
	if (!path)
		return fail_memory(e);
	cleanup_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "cannot open %s", path);
	if (job->chunk == JOB_SYNC) {
		if (fsync(fd) == 0)
			return 0;
		int r = error_errno(e, "cannot write %s to disk", path);
		return error_remedy(e, r, "see that the store's disk is neither full nor failing");
	}
	size_t len = manifest_chunk_size(file, c->w->m.chunk, job->chunk);
	int r = digest_fd(fd, path, job->chunk * c->w->m.chunk, len,
			  file->digests + job->chunk * DIGEST_SIZE, e);
	pthread_mutex_lock(&c->w->progress_lock);
	c->w->done += len;
	pthread_mutex_unlock(&c->w->progress_lock);
	return r;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int check_unchanged(struct commit *c)
{
	for (size_t i = 0; i < c->w->m.count; i++) {
		struct stat now;
		const struct stat *then = &c->parts[i].st;
		cleanup_free char *path = fs_join(c->w->dir, c->w->m.files[i].name);
		if (!path)
			return fail_memory(c->e);
		if (lstat(path, &now) < 0 || now.st_ino != then->st_ino ||
		    now.st_size != then->st_size || !same_time(now.st_mtim, then->st_mtim))
			return error_set(c->e, EBUSY, "%s was changed while it was stored", path);
	}
	return 0;
}

static int put_objects(struct commit *c)
{
	const struct manifest *m = &c->w->m;
	struct object_file *files = calloc(m->count + 1, sizeof(*files));
	if (!files)
		return fail_memory(c->e);
	int r = 0;
	for (size_t i = 0; i < m->count && r == 0; i++) {
		char *key = NULL;
		r = store_object_key(m, &m->files[i], &key, c->e);
		files[i].key = key;
		files[i].path = fs_join(c->w->dir, m->files[i].name);
		if (r == 0 && !files[i].path)
			r = fail_memory(c->e);
	}
	if (r == 0)
		r = object_put_files(c->w->store->objects, files, m->count, c->e);
	for (size_t i = 0; i < m->count; i++) {
		free((char *)files[i].key);
		free((char *)files[i].path);
	}
	free(files);
	return r;
}

/* Puts the manifest and reads it back. Only -EEXIST says that it is somebody else's. */
static int put_manifest(struct commit *c, const char *key, const struct buf *text)
{
	struct object_store *objects = c->w->store->objects;
	cleanup_buf struct buf back = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = object_put(objects, key, text->data, text->len, true, c->e);
	if (r == -EEXIST)
		return error_set(c->e, EEXIST,
				 "another writer has stored checkpoint %" PRId64
				 " of session %s meanwhile",
				 c->w->m.meta.generation, c->w->m.meta.session);
	if (r == 0)
		r = object_read_all(objects, key, &back, c->e);
	if (r == 0 && (back.len != text->len || memcmp(back.data, text->data, text->len) != 0))
		r = error_set(c->e, EBADMSG, "object %s: read back, it is not what was written",
			      key);
	return r;
}

/* A put that failed may have put all the same. */
static void take_back_manifest(struct commit *c, const char *key, const struct buf *text)
{
	struct object_store *objects = c->w->store->objects;
	cleanup_buf struct buf back = BUF_INIT(MANIFEST_MAX_BYTES);
	if (object_read_all(objects, key, &back, NULL) < 0 || back.len != text->len ||
	    memcmp(back.data, text->data, text->len) != 0)
		return;
	object_remove(objects, key, NULL);
}

static void take_back_objects(struct commit *c)
{
	for (size_t i = 0; i < c->w->m.count; i++) {
		cleanup_free char *key = NULL;
		if (store_object_key(&c->w->m, &c->w->m.files[i], &key, NULL) == 0)
			object_remove(c->w->store->objects, key, NULL);
	}
}

static int publish(struct commit *c, enum store_verify verify)
{
	const struct store_meta *meta = &c->w->m.meta;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	cleanup_free char *key = NULL;
	int r = store_key(meta->session, meta->generation, STORE_MANIFEST, &key, c->e);
	if (r == 0)
		r = manifest_encode(&c->w->m, &text, c->e);
	if (r == 0)
		r = put_objects(c);
	if (r == 0)
		r = store_verify_objects(c->w->store->objects, &c->w->m, verify, NULL, NULL, c->e);
	if (r == 0) {
		r = put_manifest(c, key, &text);
		if (r < 0 && r != -EEXIST)
			take_back_manifest(c, key, &text);
	}
	if (r < 0)
		take_back_objects(c);
	return r;
}

/* The manifest borrows the caller's strings while it is written. */
static void borrow_meta(struct store_write *w, struct store_meta *meta)
{
	memcpy(meta->session, w->m.meta.session, sizeof(meta->session));
	meta->generation = w->m.meta.generation;
	meta->objects = (int64_t)w->m.count;
	meta->stored_bytes = 0;
	for (size_t i = 0; i < w->m.count; i++)
		meta->stored_bytes += (int64_t)w->m.files[i].size;
	meta->aside = false;
	if (!meta->created_at)
		meta->created_at = clock_wall();
	w->m.meta = *meta;
}

static void return_meta(struct store_write *w, const struct store_meta *meta)
{
	w->m.meta = (struct store_meta) { .generation = meta->generation };
	memcpy(w->m.meta.session, meta->session, sizeof(meta->session));
}

int store_write_commit(struct store_write *w, struct store_meta *meta, enum store_verify verify,
		       struct error *e)
{
	cleanup(commit_deinit) struct commit c = { .w = w, .e = e };
	if (w->tried)
		return error_set(e, EINVAL, "a checkpoint can be committed only once");
	w->tried = true;
	grow_stop(w->grow);
	int r = list_files(&c);
	if (r == 0)
		r = list_jobs(&c);
	if (r == 0)
		r = parallel(parallel_threads() + EXTRA_THREADS, c.job_count, run_job, &c, e);
	if (r == 0)
		r = check_unchanged(&c);
	if (r == 0) {
		borrow_meta(w, meta);
		r = publish(&c, verify);
		return_meta(w, meta);
	}
	return r;
}
