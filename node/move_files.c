/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_files.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	BODY = 256 << 10, /* while the other node writes one, the next is on its way */
	LEAST = 4096,     /* for less no piece is begun in what is left of it */
	SECOND = 1000000000,
};

int move_files_each(const char *path, const char *name,
		    int (*each)(const char *path, const char *name, void *arg, struct error *e),
		    void *arg, struct error *e)
{
	int r = 0;
	cleanup_dir DIR *d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : error_errno(e, "cannot read directory %s", path);
	for (const struct dirent *at; r == 0 && (at = readdir(d));) {
		if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0)
			continue;
		cleanup_free char *file = fs_join(path, at->d_name);
		cleanup_free char *as = fs_join(name, at->d_name);
		r = file && as ? each(file, as, arg, e) : error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

static void describe(struct move_piece *p, const char *name, const struct stat *st)
{
	*p = (struct move_piece) {
		.size = (uint64_t)st->st_size,
		.changed_ns = (int64_t)st->st_mtim.tv_sec * SECOND + st->st_mtim.tv_nsec,
	};
	snprintf(p->name, sizeof(p->name), "%s", name);
}

int move_files_note(const char *path, const char *name, void *to, struct error *e)
{
	void *nothing;
	struct stat st;
	struct move_piece piece;
	if (lstat(path, &st) < 0)
		return error_errno(e, "cannot look at %s", path);
	describe(&piece, name, &st);
	return move_piece_write(&piece, to, &nothing, e);
}

/* --- to the other node ------------------------------------------------------------------ */

void move_sending_deinit(struct move_sending *s)
{
	buf_deinit(&s->body);
}

int move_sending_end(struct move_sending *s, struct error *e)
{
	if (s->body.len == 0)
		return 0;
	int r = move_send(s->conn, MOVE_DATA, s->body.data, s->body.len, e);
	buf_reset(&s->body);
	return r;
}

struct sent_file {
	int fd;
	struct move_piece piece; /* the next */
};

static int read_piece(const struct sent_file *f, unsigned char *to, struct error *e)
{
	const struct move_piece *p = &f->piece;
	for (size_t done = 0; done < p->len;) {
		ssize_t n = pread(f->fd, to + done, p->len - done, (off_t)(p->offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot read the session's file %s", p->name);
		if (n == 0)
			return error_set(e, EIO, "the session's file %s becomes shorter", p->name);
		done += (size_t)n;
	}
	return 0;
}

/* As much of it as goes into a body. */
static int add_piece(struct move_sending *s, struct sent_file *f, uint64_t end, struct error *e)
{
	void *to;
	struct move_piece *p = &f->piece;
	p->len = 0;
	size_t head = move_piece_bytes(p);
	uint64_t left = end - p->offset;
	size_t least = head + (left < LEAST ? (size_t)left : LEAST);
	int r = s->body.len + least > BODY ? move_sending_end(s, e) : 0;
	if (r < 0)
		return r;
	uint64_t room = BODY - s->body.len - head;
	p->len = (uint32_t)(left < room ? left : room);
	r = move_piece_write(p, &s->body, &to, e);
	if (r == 0)
		r = read_piece(f, to, e);
	p->offset += p->len;
	return r;
}

/* From there on: what is no hole, up to *end. A file system that does not know has none. */
static uint64_t find_data(const struct sent_file *f, uint64_t *end)
{
	const struct move_piece *p = &f->piece;
	off_t data = lseek(f->fd, (off_t)p->offset, SEEK_DATA);
	*end = p->size;
	if (data < 0)
		return errno == ENXIO ? p->size : p->offset;
	off_t hole = lseek(f->fd, data, SEEK_HOLE);
	if (hole > data && (uint64_t)hole < p->size)
		*end = (uint64_t)hole;
	return (uint64_t)data < p->size ? (uint64_t)data : p->size;
}

/* The last piece ends where the file does, though it be empty. */
static int add_file(struct move_sending *s, struct sent_file *f, const struct stat *st,
		    struct error *e)
{
	bool dense = st->st_blocks * 512 >= st->st_size;
	struct move_piece *p = &f->piece;
	int r = 0;
	do {
		uint64_t end = p->size;
		if (!dense)
			p->offset = find_data(f, &end);
		do {
			r = add_piece(s, f, end, e);
		} while (r == 0 && p->offset < end);
	} while (r == 0 && p->offset < p->size);
	return r;
}

static bool is_there(const struct buf *has, const struct move_piece *p)
{
	struct move_piece there;
	for (size_t at = 0; has && at < has->len; at += move_piece_bytes(&there)) {
		if (move_piece_read(has->data + at, has->len - at, &there, NULL) < 0)
			return false;
		if (there.size == p->size && there.changed_ns == p->changed_ns &&
		    strcmp(there.name, p->name) == 0)
			return true;
	}
	return false;
}

int move_sending_file(struct move_sending *s, const char *path, const char *name, struct error *e)
{
	struct stat st;
	struct sent_file f;
	cleanup_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, "cannot read %s", path);
	if (!S_ISREG(st.st_mode) || strlen(name) > MOVE_NAME_MOST)
		return error_set(e, EINVAL, "%s cannot be sent", path);
	f.fd = fd;
	describe(&f.piece, name, &st);
	return is_there(s->has, &f.piece) ? 0 : add_file(s, &f, &st, e);
}

static int send_one(const char *path, const char *name, void *arg, struct error *e)
{
	return move_sending_file(arg, path, name, e);
}

int move_sending_dir(struct move_sending *s, const char *path, const char *name, struct error *e)
{
	return move_files_each(path, name, send_one, s, e);
}

/* --- from it ---------------------------------------------------------------------------- */

int move_taking_begin(struct move_taking *t, const char *dir, struct error *e)
{
	*t = (struct move_taking) { .fd = -1 };
	t->dir = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return t->dir < 0 ? error_errno(e, "cannot open directory %s", dir) : 0;
}

void move_taking_deinit(struct move_taking *t)
{
	cleanup_close_fd(&t->fd);
	cleanup_close_fd(&t->dir);
	t->fd = t->dir = -1;
}

static int make_file(struct move_taking *t, struct error *e)
{
	const char *name = t->piece.name;
	struct open_how how = {
		.flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
		.mode = 0600,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	const char *slash = strchr(name, '/');
	cleanup_free char *dir = slash ? strndup(name, (size_t)(slash - name)) : NULL;
	if (slash && (!dir || (mkdirat(t->dir, dir, 0700) < 0 && errno != EEXIST)))
		return error_errno(e, "cannot make a directory for %s", name);
	t->fd = (int)syscall(SYS_openat2, t->dir, name, &how, sizeof(how));
	return t->fd < 0 ? error_errno(e, "cannot make the session's file %s", name) : 0;
}

static int write_piece(const struct move_taking *t, struct error *e)
{
	const struct move_piece *p = &t->piece;
	for (size_t done = 0; done < p->len;) {
		ssize_t n = pwrite(t->fd, (const char *)p->data + done, p->len - done,
				   (off_t)(p->offset + done));
		if (n < 0 && errno != EINTR)
			return error_errno(e, "cannot write the session's file %s", p->name);
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* It may end with a hole. */
static int end_file(struct move_taking *t, struct error *e)
{
	const struct move_piece *p = &t->piece;
	int64_t s = p->changed_ns / SECOND, ns = p->changed_ns % SECOND;
	const struct timespec changed = { .tv_sec = ns < 0 ? s - 1 : s,
					  .tv_nsec = ns < 0 ? ns + SECOND : ns };
	const struct timespec times[2] = { changed, changed };
	bool hole = p->len == 0 && p->size > 0;
	if ((hole && ftruncate(t->fd, (off_t)p->size) < 0) || futimens(t->fd, times) < 0)
		return error_errno(e, "cannot write the session's file %s", p->name);
	close(steal_fd(&t->fd));
	return 0;
}

static int out_of_order(const struct move_piece *p, struct error *e)
{
	return error_set(e, EBADMSG, "file %s comes in pieces that do not fit", p->name);
}

static int take_piece(struct move_taking *t, const struct move_piece *next, struct error *e)
{
	const struct move_piece *last = &t->piece;
	bool goes_on = t->fd >= 0;
	if (goes_on && (strcmp(last->name, next->name) != 0 || last->size != next->size ||
			next->offset < last->offset + last->len))
		return out_of_order(next, e);
	t->piece = *next;
	int r = goes_on ? 0 : make_file(t, e);
	if (r == 0)
		r = write_piece(t, e);
	return r < 0 || next->offset + next->len < next->size ? r : end_file(t, e);
}

int move_taking_body(struct move_taking *t, const struct buf *body, struct error *e)
{
	struct move_piece next;
	int r = 0;
	for (size_t at = 0; r == 0 && at < body->len; at += move_piece_bytes(&next)) {
		r = move_piece_read(body->data + at, body->len - at, &next, e);
		if (r == 0)
			r = take_piece(t, &next, e);
	}
	t->piece.data = NULL; /* the body's */
	return r;
}

int move_taking_end(const struct move_taking *t, struct error *e)
{
	return t->fd < 0 ? 0 : out_of_order(&t->piece, e);
}
