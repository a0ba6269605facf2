/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/criu_run.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/proc.h"
#include "node/program.h"
#include "preload/criu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

void criu_args_add(struct criu_args *args, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	char *text = NULL;
	if (args->count + 1 >= CRIU_ARGS || vasprintf(&text, format, list) < 0)
		args->failed = true;
	else
		args->items[args->count++] = text;
	va_end(list);
}

void criu_args_deinit(struct criu_args *args)
{
	for (size_t i = 0; i < args->count; i++)
		free(args->items[i]);
	*args = (struct criu_args) { 0 };
}

/* For both directions: of "told" the end is then never seen, and what is said into "verdict" stays
 * there until CRIU comes to read it. */
static int open_fifo(const char *work, const char *name, int *fd, struct error *e)
{
	cleanup_free char *path = fs_join(work, name);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	/* A fresh one: nothing of an earlier run is in it, and nobody of then reads it. */
	if ((unlink(path) < 0 && errno != ENOENT) || mkfifo(path, 0600) < 0)
		return error_errno(e, "cannot make the fifo %s", path);
	*fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return *fd < 0 ? error_errno(e, "cannot open the fifo %s", path) : 0;
}

static int open_fifos(struct criu_run *run, struct error *e)
{
	int r = open_fifo(run->options.work, "told", &run->told, e);
	if (r == 0)
		r = open_fifo(run->options.work, "verdict", &run->verdict, e);
	if (r < 0)
		return r;
	run->over = eventfd(0, EFD_CLOEXEC);
	return run->over < 0 ? error_errno(e, "cannot listen to CRIU") : 0;
}

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int set_environment(struct criu_run *run, const char *freezer, struct error *e)
{
	const char *path = getenv("PATH");
	const struct criu_options *o = &run->options;
	cleanup_free char *library = NULL;
	int r = program_path(CRIU_LIBRARY, &library, e);
	if (r < 0)
		return r;
	criu_args_add(&run->env, "PATH=%s", path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
	criu_args_add(&run->env, "LC_ALL=C");
	criu_args_add(&run->env, "LD_PRELOAD=%s", library);
	criu_args_add(&run->env, CRIU_WORK "=%s", o->work);
	criu_args_add(&run->env, CRIU_FREEZER "=%s", freezer);
	if (o->unseen)
		criu_args_add(&run->env, CRIU_UNSEEN "=%s", o->unseen);
	return 0;
}

static int prepare(struct criu_run *run, const char *freezer, struct error *e)
{
	const char *work = run->options.work;
	int r = criu_ensure_cache(run->options.program, e);
	if (r == 0)
		r = fs_mkdirs(work, 0700, e);
	if (r == 0)
		r = open_fifos(run, e);
	return r < 0 ? r : set_environment(run, freezer, e);
}

int criu_run_new(const struct criu_options *options, const char *freezer, struct criu_run **to,
		 struct error *e)
{
	struct criu_run *run = malloc(sizeof(*run));
	if (!run)
		return error_set(e, ENOMEM, "out of memory");
	*run = (struct criu_run) {
		.options = *options, .told = -1, .verdict = -1, .over = -1, .inherited = -1
	};
	run->options.images = copy_of(options->images);
	run->options.unseen = copy_of(options->unseen);
	int r = run->options.images && !run->options.unseen == !options->unseen
			? prepare(run, freezer, e)
			: error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		run = criu_run_free(run);
	*to = run;
	return r;
}

static void *thread_main(void *arg)
{
	struct criu_run *run = arg;
	run->status = job_run(&run->job, &run->result, &run->error);
	eventfd_write(run->over, 1);
	return NULL;
}

int criu_run_load(struct criu_run *run, const char *log_name, struct error *e)
{
	run->log_name = log_name;
	if (run->args.failed || run->env.failed)
		return error_set(e, ENOMEM, "too many arguments for CRIU");
	run->job.argv = (const char *const *)run->args.items;
	run->job.env = (const char *const *)run->env.items;
	run->job.netns_fd = -1;
	run->job.pid_out = &run->pid;
	/* Its time is kept by criu_run_next(): a dump is held for as long as the commit takes. */
	run->job.timeout_ms = INT32_MAX;
	if (run->inherited >= 0) {
		run->kept = run->inherited;
		run->job.keep_fds = &run->kept;
		run->job.keep_fd_count = 1;
	}
	cleanup_free char *log = fs_join(run->options.work, log_name);
	if (log)
		unlink(log);
	int code = pthread_create(&run->thread, NULL, thread_main, run);
	if (code)
		return error_set(e, code, "cannot start a thread for CRIU: %s", strerror(code));
	run->started = true;
	return 0;
}

/* A line is short and written at once, so it comes whole; the next one may be behind it. */
static bool read_line(struct criu_run *run, char *line, size_t size)
{
	size_t len = 0;
	while (len + 1 < size && read(run->told, line + len, 1) == 1 && line[len] != '\n')
		len++;
	line[len] = '\0';
	return len > 0;
}

static pid_t pid_of(const struct criu_run *run)
{
	return __atomic_load_n(&run->pid, __ATOMIC_SEQ_CST);
}

bool criu_run_alive(const struct criu_run *run)
{
	pid_t pid = pid_of(run);
	uint64_t ticks;
	return proc_start_time(pid, &ticks) == 0 && proc_is(pid, ticks);
}

/* Killed by somebody, it leaves children behind that wait for it, and with them its output open. */
static void kill_if_dead(struct criu_run *run)
{
	pid_t pid = pid_of(run);
	uint64_t ticks;
	/* One that is not even a zombie has ended by itself. */
	if (pid > 0 && proc_start_time(pid, &ticks) == 0 && !proc_is(pid, ticks))
		criu_run_kill(run);
}

int criu_run_next(struct criu_run *run, char *line, size_t size, struct error *e)
{
	enum { SLICE_MS = 500 };
	struct pollfd fds[] = {
		{ .fd = run->told, .events = POLLIN },
		{ .fd = run->over, .events = POLLIN },
	};
	mono_us deadline = clock_mono() + run->options.timeout_ms * 1000LL;
	while (clock_mono() < deadline) {
		int n = poll(fds, ARRAY_SIZE(fds), SLICE_MS);
		if (n < 0 && errno != EINTR)
			return error_errno(e, "cannot wait for CRIU");
		if (n > 0 && fds[0].revents && read_line(run, line, size))
			return 1;
		if (n > 0)
			return 0;
		if (run->options.is_vain && run->options.is_vain(run->options.arg))
			return error_set(e, ECANCELED, "nobody waits for it any more");
		kill_if_dead(run);
	}
	return error_set(e, ETIMEDOUT, "CRIU did not end within %d s",
			 run->options.timeout_ms / 1000);
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool criu_run_fits(const struct criu_run *run, const char *log_name,
		   const struct criu_options *options)
{
	const struct criu_options *o = &run->options;
	return strcmp(run->log_name, log_name) == 0 && same(o->images, options->images) &&
	       same(o->unseen, options->unseen) && o->lazy == options->lazy &&
	       o->page_socket == options->page_socket;
}

/* 1, or 0 when it has ended instead. */
static int expect(struct criu_run *run, const char *wanted, struct error *e)
{
	char line[64];
	int r = criu_run_next(run, line, sizeof(line), e);
	if (r > 0 && strcmp(line, wanted) != 0)
		return error_set(e, EPROTO, "CRIU says \"%s\"", line);
	return r;
}

int criu_run_go(struct criu_run *run, const struct criu_options *options, struct error *e)
{
	run->options.give_up = options->give_up;
	run->options.is_vain = options->is_vain;
	run->options.arg = options->arg;
	int r = expect(run, "loaded", e);
	if (r <= 0)
		return r;
	r = criu_run_answer(run, "yes", e);
	return r < 0 ? r : expect(run, "begun", e);
}

int criu_run_answer(struct criu_run *run, const char *word, struct error *e)
{
	return dprintf(run->verdict, "%s\n", word) < 0 ? error_errno(e, "cannot answer CRIU") : 0;
}

void criu_run_kill(struct criu_run *run)
{
	pid_t pid = pid_of(run);
	if (pid > 0)
		kill(-pid, SIGKILL);
	/* A half-restored init leads a group of its own. */
	criu_kill_orphans(run->options.work);
}

void criu_run_join(struct criu_run *run)
{
	if (run->started)
		pthread_join(run->thread, NULL);
	run->started = false;
}

void *criu_run_free(struct criu_run *run)
{
	if (!run)
		return NULL;
	criu_run_join(run);
	job_result_deinit(&run->result);
	cleanup_close_fd(&run->told);
	cleanup_close_fd(&run->verdict);
	cleanup_close_fd(&run->over);
	cleanup_close_fd(&run->inherited);
	criu_args_deinit(&run->args);
	criu_args_deinit(&run->env);
	free((char *)run->options.images);
	free((char *)run->options.unseen);
	free(run);
	return NULL;
}

char *criu_run_log(const struct criu_run *run)
{
	cleanup_free char *path = fs_join(run->options.work, run->log_name);
	struct buf text = BUF_INIT(64 << 20);
	if (!path || fs_read(path, &text, NULL) < 0) {
		buf_deinit(&text);
		return NULL;
	}
	return buf_steal(&text);
}
