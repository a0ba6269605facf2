/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/layers_ahead.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
	PAYS = 16 << 20,
	NAMES_MOST = 1 << 30,
	DEPTH_MOST = 512,
	COARSE_MS = 2000, /* change times come in steps, and clocks may be set */
};

/* --- going through a layer --------------------------------------------------------------- */

struct entry {
	char *name; /* below the layer; owned */
	mode_t mode;
	ino_t ino;
	int64_t size, changed_ns;
};

struct layers_seen {
	struct entry *items; /* by name */
	size_t count, room;
	int64_t since_ns;
};

typedef int visit(const char *name, const struct stat *st, void *arg, struct error *e);

/* Directories before what is in them. */
static int walk(const char *dir, const char *below, int depth, visit *each, void *arg,
		struct error *e)
{
	if (depth > DEPTH_MOST)
		return error_set(e, ELOOP, "directories in %s are too deep", dir);
	cleanup_dir DIR *d = opendir(dir);
	if (!d)
		return error_errno(e, "cannot read directory %s", dir);
	for (struct dirent *at; (at = readdir(d));) {
		struct stat st;
		if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0)
			continue;
		cleanup_free char *path = fs_join(dir, at->d_name);
		cleanup_free char *name = *below ? fs_join(below, at->d_name) : strdup(at->d_name);
		if (!path || !name)
			return error_set(e, ENOMEM, "out of memory");
		if (lstat(path, &st) < 0)
			return error_errno(e, "cannot look at %s", path);
		int r = each(name, &st, arg, e);
		if (r == 0 && S_ISDIR(st.st_mode))
			r = walk(path, name, depth + 1, each, arg, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int64_t in_ns(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

/* --- what was seen ------------------------------------------------------------------------- */

bool layers_ahead_pays(const char *upper)
{
	struct statfs fs;
	uint64_t bytes = 0;
	/* Pages of a tmpfs are written to without a trace. */
	return statfs(upper, &fs) == 0 && fs.f_type != TMPFS_MAGIC &&
	       fs_tree_bytes(upper, &bytes, NULL) == 0 && bytes >= PAYS;
}

int layers_sync(const char *upper, int64_t *since_ns, struct error *e)
{
	struct timespec now;
	cleanup_fd int fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	clock_gettime(CLOCK_REALTIME, &now);
	*since_ns = in_ns(&now) - (int64_t)COARSE_MS * 1000000;
	if (fd < 0 || syncfs(fd) < 0)
		return error_errno(e, "cannot write back what is in %s", upper);
	return 0;
}

static int note(const char *name, const struct stat *st, void *arg, struct error *e)
{
	struct layers_seen *seen = arg;
	if (seen->count == seen->room) {
		size_t room = 2 * seen->room + 64;
		void *more = realloc(seen->items, room * sizeof(*seen->items));
		if (!more)
			return error_set(e, ENOMEM, "out of memory");
		seen->items = more;
		seen->room = room;
	}
	char *copy = strdup(name);
	if (!copy)
		return error_set(e, ENOMEM, "out of memory");
	seen->items[seen->count++] = (struct entry) {
		.name = copy,
		.mode = st->st_mode,
		.ino = st->st_ino,
		.size = st->st_size,
		.changed_ns = in_ns(&st->st_ctim),
	};
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void sort(struct layers_seen *seen)
{
	if (seen->count)
		qsort(seen->items, seen->count, sizeof(*seen->items), compare);
}

static const struct entry *find(const struct layers_seen *seen, const char *name)
{
	const struct entry key = { .name = (char *)(uintptr_t)name };
	return seen->count ? bsearch(&key, seen->items, seen->count, sizeof(key), compare) : NULL;
}

int layers_see(const char *upper, int64_t since_ns, struct layers_seen **to, struct error *e)
{
	struct layers_seen *seen = calloc(1, sizeof(*seen));
	if (!seen)
		return error_set(e, ENOMEM, "out of memory");
	seen->since_ns = since_ns;
	int r = walk(upper, "", 0, note, seen, e);
	if (r < 0) {
		layers_seen_free(seen);
		return r;
	}
	sort(seen);
	*to = seen;
	return 0;
}

void *layers_seen_free(struct layers_seen *seen)
{
	if (!seen)
		return NULL;
	for (size_t i = 0; i < seen->count; i++)
		free(seen->items[i].name);
	free(seen->items);
	free(seen);
	return NULL;
}

/* --- what has changed ------------------------------------------------------------------------ */

struct changes {
	const struct layers_seen *seen;
	struct buf list, names; /* each name ended by NUL */
};

static bool is_as_seen(const struct layers_seen *seen, const char *name, const struct stat *st)
{
	const struct entry *was = find(seen, name);
	return was && was->mode == st->st_mode && was->ino == st->st_ino &&
	       was->size == st->st_size && was->changed_ns == in_ns(&st->st_ctim) &&
	       was->changed_ns < seen->since_ns;
}

/* 'd', 'f' or whatever it is: two of a kind can be unpacked one over the other. */
static char kind_of(mode_t mode)
{
	return S_ISDIR(mode) ? 'd' : S_ISREG(mode) ? 'f' : S_ISLNK(mode) ? 'l' : 'o';
}

static int add(struct buf *to, const char *prefix, const char *name, struct error *e)
{
	if (buf_append(to, prefix, strlen(prefix)) < 0 ||
	    buf_append(to, name, strlen(name) + 1) < 0)
		return error_set(e, ENOMEM, "too many files");
	return 0;
}

/* A device or a fifo costs nothing, and may be a whiteout. Directories are all there, for what is
 * put into the copy's and taken out of them changes their times. */
static int look(const char *name, const struct stat *st, void *arg, struct error *e)
{
	struct changes *c = arg;
	const char kind[] = { kind_of(st->st_mode), '\0' };
	int r = add(&c->names, kind, name, e);
	bool same = *kind != 'o' && *kind != 'd' && is_as_seen(c->seen, name, st);
	return r < 0 || same ? r : add(&c->list, "./", name, e);
}

static int write_list(const char *path, const struct buf *list, struct error *e)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fs_write_all(fd, buf_text(list), list->len) < 0)
		return error_errno(e, "cannot write %s", path);
	return 0;
}

static int pack(const char *upper, const char *list, const char *file, int timeout_ms,
		struct error *e)
{
	/* The layer's own directory is always among them: owner, mode, attributes. */
	const char *const args[] = { "--no-recursion",
				     "-C",
				     upper,
				     "--null",
				     "--verbatim-files-from",
				     "-T",
				     list,
				     ".",
				     NULL };
	return tar_pack_file(tar_layer, args, file, timeout_ms, e);
}

int layers_pack_since(const char *upper, const struct layers_seen *seen, const char *file,
		      const char *names, int timeout_ms, struct error *e)
{
	struct changes c = { seen, BUF_INIT(NAMES_MOST), BUF_INIT(NAMES_MOST) };
	cleanup_free char *list = str_printf("%s.list", file);
	int r = list ? walk(upper, "", 0, look, &c, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = write_list(names, &c.names, e);
	if (r == 0)
		r = write_list(list, &c.list, e);
	if (r == 0)
		r = pack(upper, list, file, timeout_ms, e);
	if (list)
		unlink(list);
	buf_deinit(&c.list);
	buf_deinit(&c.names);
	return error_wrap(e, r, "cannot save what changed in the session's own layer of files");
}

/* --- the copy -------------------------------------------------------------------------------- */

struct prune {
	const char *upper;
	const struct layers_seen *wanted; /* names and, in `mode`, kinds */
	struct buf gone;                  /* directories are named before what is in them */
};

static int read_names(const struct buf *text, struct layers_seen *to, struct error *e)
{
	const char *end = text->data + text->len;
	for (const char *at = text->data; at && at < end; at += strlen(at) + 1) {
		const struct stat st = { .st_mode = (mode_t)(unsigned char)*at };
		if (!*at)
			return error_set(e, EBADMSG, "that is no list of a layer's names");
		int r = note(at + 1, &st, to, e);
		if (r < 0)
			return r;
	}
	sort(to);
	return 0;
}

static int look_if_gone(const char *name, const struct stat *st, void *arg, struct error *e)
{
	struct prune *p = arg;
	const struct entry *wanted = find(p->wanted, name);
	if (wanted && (char)wanted->mode == kind_of(st->st_mode))
		return 0;
	return add(&p->gone, "", name, e);
}

static int remove_gone(const struct prune *p, struct error *e)
{
	const char *end = p->gone.data + p->gone.len;
	int r = 0;
	for (const char *at = p->gone.data; r == 0 && at && at < end; at += strlen(at) + 1) {
		cleanup_free char *path = fs_join(p->upper, at);
		r = path ? fs_remove_tree(path, e) : error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

int layers_prune(const char *upper, const char *names, struct error *e)
{
	struct layers_seen wanted = { 0 };
	struct prune p = { upper, &wanted, BUF_INIT(NAMES_MOST) };
	cleanup_buf struct buf text = BUF_INIT(NAMES_MOST);
	int r = fs_read(names, &text, e);
	if (r == 0)
		r = read_names(&text, &wanted, e);
	if (r == 0)
		r = walk(upper, "", 0, look_if_gone, &p, e);
	if (r == 0)
		r = remove_gone(&p, e);
	for (size_t i = 0; i < wanted.count; i++)
		free(wanted.items[i].name);
	free(wanted.items);
	buf_deinit(&p.gone);
	return error_wrap(e, r, "cannot take out of the session's layer what is gone");
}
