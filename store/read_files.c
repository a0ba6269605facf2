/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "store/reading.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int write_at(int fd, const char *data, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* --- all of them -------------------------------------------------------------------- */

/* A frame's place in the file that is laid out. */
struct part {
	struct piece piece;
	uint64_t at;
	uint32_t file;
};

struct layout {
	struct store_read *read;
	const char *dir;
	struct part *parts;
	size_t count;
	/* The file written to last: */
	int fd;
	uint32_t file;
	struct error *e;
};

static void layout_deinit(struct layout *l)
{
	cleanup_close_fd(&l->fd);
	free(l->parts);
}

static int by_place(const void *a, const void *b)
{
	const struct piece *pa = &((const struct part *)a)->piece;
	const struct piece *pb = &((const struct part *)b)->piece;
	if (pa->pack != pb->pack)
		return pa->pack < pb->pack ? -1 : 1;
	return (pa->offset > pb->offset) - (pa->offset < pb->offset);
}

static int make_parent(const char *path, struct error *e)
{
	cleanup_free char *parent = strndup(path, (size_t)(strrchr(path, '/') - path));
	return parent ? fs_mkdirs(parent, 0700, e) : store_oom(e);
}

/* An empty one in place of what a crashed restore may have left. */
static int make_file(const char *dir, const struct index_file *file, struct error *e)
{
	enum { FLAGS = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC };
	cleanup_free char *path = fs_join(dir, file->name);
	if (!path)
		return store_oom(e);
	unlink(path);
	cleanup_fd int fd = open(path, FLAGS, 0600);
	if (fd < 0 && errno == ENOENT) {
		int r = make_parent(path, e);
		if (r < 0)
			return r;
		fd = open(path, FLAGS, 0600);
	}
	if (fd < 0 || fchmod(fd, file->mode & 07777) < 0 || ftruncate(fd, (off_t)file->size) < 0)
		return error_errno(e, "cannot create %s", path);
	return 0;
}

static int open_file(struct layout *l, uint32_t file)
{
	if (l->fd >= 0 && l->file == file)
		return 0;
	cleanup_close_fd(&l->fd);
	cleanup_free char *path = fs_join(l->dir, l->read->index.files[file].name);
	if (!path)
		return store_oom(l->e);
	l->file = file;
	l->fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	return l->fd < 0 ? error_errno(l->e, "cannot open %s", path) : 0;
}

static int write_part(size_t i, const void *data, size_t len, void *arg)
{
	struct layout *l = arg;
	const struct part *p = &l->parts[i];
	int r = open_file(l, p->file);
	if (r == 0 && write_at(l->fd, data, len, p->at) < 0)
		r = error_errno(l->e, "cannot write %s/%s", l->dir,
				l->read->index.files[p->file].name);
	return r;
}

static size_t most_parts(const struct index *x)
{
	size_t count = 0;
	for (size_t i = 0; i < x->file_count; i++)
		count += x->files[i].frame_count;
	return count;
}

static void add_parts(struct layout *l, uint32_t file)
{
	const struct index *x = &l->read->index;
	uint64_t at = 0;
	for (size_t k = 0; k < x->files[file].frame_count; k++) {
		const struct index_frame *f = &x->frames[x->files[file].frames[k]];
		l->parts[l->count++] =
			(struct part) { .piece = store_piece(f), .at = at, .file = file };
		at += f->len;
	}
}

/* fetch_pieces() wants them in an array, each place once. */
static int write_parts(struct layout *l)
{
	cleanup_free struct piece *pieces = calloc(l->count + 1, sizeof(*pieces));
	if (!pieces)
		return store_oom(l->e);
	if (l->count)
		qsort(l->parts, l->count, sizeof(*l->parts), by_place);
	for (size_t i = 0; i < l->count; i++)
		pieces[i] = l->parts[i].piece;
	return fetch_pieces(l->read->fetch, pieces, l->count, false, write_part, l, l->e);
}

uint64_t store_read_files_bytes(const struct store_read *read,
				bool (*skip)(const char *name, void *arg), void *arg)
{
	const struct index *x = &read->index;
	uint64_t bytes = 0;
	for (size_t i = 0; i < x->file_count; i++)
		if (!skip || !skip(x->files[i].name, arg))
			bytes += x->files[i].size;
	return bytes;
}

int store_read_lay_out(struct store_read *read, const char *dir,
		       bool (*skip)(const char *name, void *arg), void *arg, struct error *e)
{
	const struct index *x = &read->index;
	cleanup(layout_deinit) struct layout l = { .read = read, .dir = dir, .fd = -1, .e = e };
	l.parts = calloc(most_parts(x) + 1, sizeof(*l.parts));
	if (!l.parts)
		return store_oom(e);
	int r = fs_mkdirs(dir, 0700, e);
	for (size_t i = 0; i < x->file_count && r == 0; i++) {
		if (skip && skip(x->files[i].name, arg))
			continue;
		r = make_file(dir, &x->files[i], e);
		add_parts(&l, (uint32_t)i);
	}
	return r < 0 ? r : write_parts(&l);
}

/* --- one ---------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct index_file *)a)->name, ((const struct index_file *)b)->name);
}

struct stream {
	int fd;
	const char *name;
	struct error *e;
};

static int write_on(size_t i, const void *data, size_t len, void *arg)
{
	(void)i;
	const struct stream *s = arg;
	return fs_write_all(s->fd, data, len) < 0 ? error_errno(s->e, "cannot write %s", s->name)
						  : 0;
}

int store_read_file(struct store_read *read, const char *name, int fd, struct error *e)
{
	const struct index *x = &read->index;
	const struct index_file wanted = { .name = (char *)name };
	const struct index_file *file =
		x->file_count ? bsearch(&wanted, x->files, x->file_count, sizeof(wanted), by_name)
			      : NULL;
	if (!file)
		return error_set(e, ENOENT, "the checkpoint has no file %s", name);
	struct stream s = { fd, file->name, e };
	/* In the file's order, which need not be that of the packs. */
	int r = 0;
	for (size_t i = 0, n; i < file->frame_count && r == 0; i += n) {
		struct piece pieces[64];
		for (n = 0; n < ARRAY_SIZE(pieces) && i + n < file->frame_count; n++) {
			pieces[n] = store_piece(&x->frames[file->frames[i + n]]);
			if (n && (pieces[n].pack < pieces[n - 1].pack ||
				  (pieces[n].pack == pieces[n - 1].pack &&
				   pieces[n].offset <= pieces[n - 1].offset)))
				break;
		}
		r = fetch_pieces(read->fetch, pieces, n, false, write_on, &s, e);
	}
	return r;
}
