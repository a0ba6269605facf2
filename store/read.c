/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "store/digest.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

struct store_read {
	struct store *store;
	struct manifest m;
};

int store_read_open(struct store *store, const char *session, int64_t generation,
		    struct store_read **read, struct error *e)
{
	struct store_read *r = calloc(1, sizeof(*r));
	if (!r)
		return error_set(e, ENOMEM, "out of memory");
	r->store = store;
	int result = store_manifest_read(store, session, generation, &r->m, e);
	if (result < 0) {
		free(r);
		return result;
	}
	*read = r;
	return 0;
}

void *store_read_free(struct store_read *read)
{
	if (read)
		manifest_deinit(&read->m);
	free(read);
	return NULL;
}

const struct store_meta *store_read_meta(const struct store_read *read)
{
	return &read->m.meta;
}

/* Again and again until it holds: a crashed restore may have left files in the directory. */
static int link_file(const char *from, const char *to, struct error *e)
{
	if (unlink(to) < 0 && errno != ENOENT)
		return error_errno(e, "cannot replace %s", to);
	/* A hard link outlives store_remove(); a symbolic one works on other file systems too. */
	if (link(from, to) == 0 || symlink(from, to) == 0)
		return 0;
	return error_errno(e, "cannot make a link %s to %s", to, from);
}

static int write_at(int fd, const char *path, const char *data, size_t len, uint64_t offset,
		    struct error *e)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, data + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot write %s", path);
		done += (size_t)n;
	}
	return 0;
}

/* A copy is checked while it is made: store_read_verify() looks only at the store's own. */
static int fetch_file(struct store_read *read, const struct manifest_file *file, const char *key,
		      const char *path, struct error *e)
{
	unsigned char digest[DIGEST_SIZE];
	cleanup_free char *data = malloc(read->m.chunk);
	if (!data)
		return error_set(e, ENOMEM, "out of memory");
	unlink(path);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, file->mode) < 0)
		return error_errno(e, "cannot create %s", path);
	for (size_t i = 0; i < file->chunks; i++) {
		uint64_t offset = i * read->m.chunk;
		size_t len = manifest_chunk_size(file, read->m.chunk, i);
		int r = object_read(read->store->objects, key, offset, data, len, e);
		if (r < 0)
			return r;
		if (digest_bytes(data, len, digest) < 0 ||
		    memcmp(digest, file->digests + i * DIGEST_SIZE, DIGEST_SIZE) != 0)
			return error_set(e, EBADMSG,
					 "object %s: %zu bytes at offset %" PRIu64
					 " differ from the manifest's SHA-256",
					 key, len, offset);
		r = write_at(fd, path, data, len, offset, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_parent(const char *dir, const char *name, struct error *e)
{
	const char *slash = strrchr(name, '/');
	cleanup_free char *parent =
		slash ? str_printf("%s/%.*s", dir, (int)(slash - name), name) : strdup(dir);
	if (!parent)
		return error_set(e, ENOMEM, "out of memory");
	return fs_mkdirs(parent, 0700, e);
}

static int lay_out_file(struct store_read *read, const struct manifest_file *file, const char *dir,
			struct error *e)
{
	cleanup_free char *key = NULL;
	cleanup_free char *local = NULL;
	cleanup_free char *path = fs_join(dir, file->name);
	int r = path ? store_object_key(&read->m, file, &key, e)
		     : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = make_parent(dir, file->name, e);
	if (r < 0)
		return r;
	r = object_local_path(read->store->objects, key, &local, e);
	if (r == 0)
		r = link_file(local, path, e);
	else if (r == -ENOTSUP)
		r = fetch_file(read, file, key, path, e);
	if (r == -ENOENT) {
		r = -EBADMSG; /* the manifest names it, so this is damage */
		if (e)
			e->fault = FAULT_CORRUPT;
	}
	return r;
}

int store_read_lay_out(struct store_read *read, const char *dir, struct error *e)
{
	/* CRIU reads for ever at the end of a file that is too short. */
	int r = store_verify_sizes(read->store->objects, &read->m, e);
	if (r == 0)
		r = fs_mkdirs(dir, 0700, e);
	for (size_t i = 0; i < read->m.count && r == 0; i++)
		r = lay_out_file(read, &read->m.files[i], dir, e);
	return r;
}

int store_read_verify(struct store_read *read,
		      void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		      struct error *e)
{
	return store_verify_objects(read->store->objects, &read->m, STORE_VERIFY_ALL, progress, arg,
				    e);
}
