/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/tar.h"

#include "base/cleanup.h"
#include "io/job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LAYER                                                                                      \
	"--xattrs", "--xattrs-include=*", "--xattrs-exclude=trusted.overlay.origin",               \
		"--xattrs-exclude=trusted.overlay.impure",                                         \
		"--xattrs-exclude=trusted.overlay.nlink",                                          \
		"--xattrs-exclude=trusted.overlay.upper", "--xattrs-exclude=trusted.overlay.uuid", \
		"--acls", "--numeric-owner", "--sparse"

const char *const tar_layer[] = { LAYER, NULL };
const char *const tar_live[] = { LAYER, "--ignore-failed-read", "--warning=no-file-changed", NULL };

enum { PIPE_BYTES = 1 << 20, ARGS_MOST = 40 };

struct tar {
	const char *argv[ARGS_MOST];
	size_t count;
	char file[32]; /* the pipe's end that is tar's, as a file name */
	int end;       /* ... as a descriptor */
	int timeout_ms;
	bool live;
	pthread_t thread;
	int result;
	struct error error;
};

/* --- its arguments ------------------------------------------------------------- */

static void add(struct tar *t, const char *arg)
{
	if (t->count + 1 < ARGS_MOST)
		t->argv[t->count++] = arg;
}

static void add_all(struct tar *t, const char *const *args)
{
	while (args && *args)
		add(t, *args++);
}

/* Options stand before the names, which they are about. */
static void set_packing(struct tar *t, const char *file, const char *const *how,
			const char *const *args)
{
	add(t, "tar");
	add(t, "-cf");
	add(t, file);
	add_all(t, how);
	add_all(t, args);
}

static void set_unpacking(struct tar *t, const char *file, const char *const *how, const char *to)
{
	add(t, "tar");
	add(t, "-xpf");
	add(t, file);
	add_all(t, how);
	add(t, "-C");
	add(t, to);
}

/* --- through a pipe -------------------------------------------------------------- */

/* Status 1: something was not as it had been a moment before. */
static int run_live(const struct job_options *options, struct error *e)
{
	struct job_result result;
	int r = job_run(options, &result, e);
	if (r == 0 && result.status > 1)
		r = error_set(e, EIO, "tar: %.500s", buf_text(&result.err));
	job_result_deinit(&result);
	return r;
}

/* The end is closed with tar's own, or whoever is at the other would wait for ever. */
static void *run(void *arg)
{
	struct tar *t = arg;
	const struct job_options options = JOB_OPTIONS(.argv = t->argv, .timeout_ms = t->timeout_ms,
						       .keep_fds = &t->end, .keep_fd_count = 1);
	t->result = t->live ? run_live(&options, &t->error) : job_check(&options, &t->error);
	cleanup_close_fd(&t->end);
	return NULL;
}

/* `which`: the pipe's end that tar gets, 0 for reading. The other is *ours. */
static int make_pipe(struct tar *t, int which, int *ours, struct error *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, "cannot make a pipe for tar");
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);
	t->end = fcntl(ends[which], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(ends[which]);
	*ours = ends[!which];
	snprintf(t->file, sizeof(t->file), "/proc/self/fd/%d", t->end);
	return t->end < 0 ? error_errno(e, "cannot make a pipe for tar") : 0;
}

static int begin(struct tar *t, struct tar **to, int *ours, struct error *e)
{
	int code = pthread_create(&t->thread, NULL, run, t);
	if (code == 0) {
		*to = t;
		return 0;
	}
	cleanup_close_fd(&t->end);
	close(steal_fd(ours));
	return error_set(e, code, "cannot start a thread for tar: %s", strerror(code));
}

static struct tar *new_tar(int timeout_ms)
{
	struct tar *t = calloc(1, sizeof(*t));
	if (t)
		*t = (struct tar) { .end = -1, .timeout_ms = timeout_ms };
	return t;
}

int tar_pack(const char *const *how, const char *const *args, int timeout_ms, struct tar **tar,
	     int *from, struct error *e)
{
	cleanup_free struct tar *t = new_tar(timeout_ms);
	*from = -1;
	int r = t ? make_pipe(t, 1, from, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	set_packing(t, t->file, how, args);
	t->live = how == tar_live;
	r = begin(t, tar, from, e);
	if (r == 0)
		steal_ptr(&t);
	return r;
}

int tar_unpack(const char *const *how, const char *to, int timeout_ms, struct tar **tar, int *into,
	       struct error *e)
{
	cleanup_free struct tar *t = new_tar(timeout_ms);
	*into = -1;
	int r = t ? make_pipe(t, 0, into, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	set_unpacking(t, t->file, how, to);
	r = begin(t, tar, into, e);
	if (r == 0)
		steal_ptr(&t);
	return r;
}

/* A failure on our side makes tar fail, too, for want of a reader or of the rest. A tar that fails
 * first leaves us an archive that is cut short, or a pipe that nobody reads. */
int tar_end(struct tar *t, int result, struct error *e)
{
	pthread_join(t->thread, NULL);
	if (t->result < 0 && (result == 0 || result == -EPIPE)) {
		if (e)
			*e = t->error;
		result = t->result;
	}
	free(t);
	return result;
}

/* --- in a file --------------------------------------------------------------------- */

int tar_pack_file(const char *const *how, const char *const *args, const char *file, int timeout_ms,
		  struct error *e)
{
	struct tar t = { .end = -1 };
	set_packing(&t, file, how, args);
	return job_check(&JOB_OPTIONS(.argv = t.argv, .timeout_ms = timeout_ms), e);
}

int tar_unpack_file(const char *const *how, const char *to, const char *file, int timeout_ms,
		    struct error *e)
{
	struct tar t = { .end = -1 };
	set_unpacking(&t, file, how, to);
	return job_check(&JOB_OPTIONS(.argv = t.argv, .timeout_ms = timeout_ms), e);
}
