/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/layers.h"

#include "base/cleanup.h"
#include "io/job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Left out: what names inodes of the file systems where the layer was made. An overlay with an
 * index is not mounted over that elsewhere. */
static const char *const tar_keeps[] = {
	"--xattrs",
	"--xattrs-include=*",
	"--xattrs-exclude=trusted.overlay.origin",
	"--xattrs-exclude=trusted.overlay.impure",
	"--xattrs-exclude=trusted.overlay.nlink",
	"--xattrs-exclude=trusted.overlay.upper",
	"--xattrs-exclude=trusted.overlay.uuid",
	"--acls",
	"--numeric-owner",
	"--sparse",
};

enum { PIPE_BYTES = 1 << 20 };

struct tar {
	const char *argv[ARRAY_SIZE(tar_keeps) + 8];
	char file[32]; /* the pipe's end that is tar's, as a file name */
	int end;       /* ... as a descriptor */
	int timeout_ms;
	pthread_t thread;
	int result;
	struct error error;
};

/* The end is closed with tar's own, or whoever is at the other would wait for ever. */
static void *run(void *arg)
{
	struct tar *t = arg;
	t->result = job_check(&JOB_OPTIONS(.argv = t->argv, .timeout_ms = t->timeout_ms,
					   .keep_fds = &t->end, .keep_fd_count = 1),
			      &t->error);
	cleanup_close_fd(&t->end);
	return NULL;
}

static void set_arguments(struct tar *t, const char *mode, const char *upper)
{
	size_t n = 0;
	snprintf(t->file, sizeof(t->file), "/proc/self/fd/%d", t->end);
	const char *first[] = { "tar", mode, t->file, "-C", upper };
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		t->argv[n++] = first[i];
	for (size_t i = 0; i < ARRAY_SIZE(tar_keeps); i++)
		t->argv[n++] = tar_keeps[i];
	t->argv[n++] = ".";
}

/* `which`: the pipe's end that tar gets, 0 for reading. The other is *ours. */
static int start(struct tar *t, const char *mode, int which, const char *upper, int *ours,
		 struct error *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, "cannot make a pipe for tar");
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);
	t->end = fcntl(ends[which], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(ends[which]);
	*ours = ends[!which];
	if (t->end < 0)
		return error_errno(e, "cannot make a pipe for tar");
	set_arguments(t, mode, upper);
	int code = pthread_create(&t->thread, NULL, run, t);
	if (code == 0)
		return 0;
	cleanup_close_fd(&t->end);
	return error_set(e, code, "cannot start a thread for tar: %s", strerror(code));
}

/* The store's failure makes tar fail, too, for want of a reader or of the rest. A tar that fails
 * first leaves us a layer that is cut short, or a pipe that nobody reads. */
static int finish(struct tar *t, int stored, struct error *e)
{
	pthread_join(t->thread, NULL);
	if (t->result == 0 || (stored < 0 && stored != -EPIPE))
		return stored;
	*e = t->error;
	return t->result;
}

int layers_save(const char *upper, struct store_write *write, int timeout_ms, struct error *e)
{
	struct tar t = { .timeout_ms = timeout_ms };
	struct error own = ERROR_INIT;
	int ours = -1;
	int r = start(&t, "-cf", 1, upper, &ours, &own);
	if (r == 0) {
		r = store_write_file(write, LAYERS_FILE, 0600, ours, &own);
		close(steal_fd(&ours));
		r = finish(&t, r, &own);
	}
	cleanup_close_fd(&ours);
	if (r < 0 && e)
		*e = own;
	return error_wrap(e, r, "cannot save the session's own layer of files");
}

int layers_load(const char *upper, struct store_read *read, int timeout_ms, struct error *e)
{
	struct tar t = { .timeout_ms = timeout_ms };
	struct error own = ERROR_INIT;
	int ours = -1;
	int r = start(&t, "-xpf", 0, upper, &ours, &own);
	if (r == 0) {
		r = store_read_file(read, LAYERS_FILE, ours, &own);
		close(steal_fd(&ours));
		r = finish(&t, r, &own);
	}
	cleanup_close_fd(&ours);
	if (r < 0 && e)
		*e = own;
	return error_wrap(e, r, "cannot bring back the session's own layer of files");
}
