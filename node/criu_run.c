/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/criu_run.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * -p: CRIU can run with a real uid that is not root's, and the shell would drop
 * to it. Each fifo is opened for both directions: the script does not hang when
 * nobody listens any more, and does not end when nobody is there to give a word.
 *
 * post-dump: the images are complete. CRIU has thawed the cgroup to seize the
 * processes; it is frozen again here, so that they stay still even if CRIU is
 * killed. Any end of this script but 0 makes CRIU let go and clean up.
 * setup-namespaces: the restored init exists and has no child yet.
 * post-setup-namespaces: its mounts are made, its children come next. What has
 * joined the cgroups by now brings all of them with it.
 * pre-resume: the last moment before the processes run. CRIU does not mind a
 * failure here, hence the kill.
 */
static const char script[] = "#!/bin/sh -p\n"
			     "freeze() {\n"
			     "	if [ -e \"$ELSA_FREEZER/cgroup.freeze\" ]; then\n"
			     "		echo 1 >\"$ELSA_FREEZER/cgroup.freeze\"\n"
			     "	else\n"
			     "		echo FROZEN >\"$ELSA_FREEZER/freezer.state\"\n"
			     "	fi\n"
			     "}\n"
			     "ask() {\n"
			     "	echo \"$1\" 1<>\"$ELSA_WORK/told\" || exit 1\n"
			     "	read -r verdict <>\"$ELSA_WORK/verdict\"\n"
			     "	[ \"$verdict\" = yes ] || exit 1\n"
			     "}\n"
			     "case $CRTOOLS_SCRIPT_ACTION in\n"
			     "post-dump)\n"
			     "	freeze && ask dumped ;;\n"
			     "setup-namespaces)\n"
			     "	ask \"adopt $CRTOOLS_INIT_PID\" ;;\n"
			     "post-setup-namespaces)\n"
			     "	ask adopted ;;\n"
			     "pre-resume)\n"
			     "	freeze || kill -KILL \"$CRTOOLS_INIT_PID\" ;;\n"
			     "esac\n";

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

/* CRIU has tar pack what is in a tmpfs, with the gzip of PATH: 26 s for a gigabyte, and three
 * processes for each tmpfs, however small. This one, first in PATH, does not compress. */
static const char tar[] = "#!/bin/sh -p\n"
			  "for word; do\n"
			  "	shift\n"
			  "	[ \"$word\" = --gzip ] || set -- \"$@\" \"$word\"\n"
			  "done\n"
			  "PATH=${PATH#*:}\n"
			  "exec tar \"$@\"\n";

static int make_script(const char *work, const char *name, const char *text, struct error *e)
{
	cleanup_free char *path = fs_join(work, name);
	cleanup_fd int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700) : -1;
	/* Executed with the session's real uid, too. */
	if (fd < 0 || fchmod(fd, 0755) < 0 ||
	    write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return error_errno(e, "cannot write the script %s/%s", work, name);
	return 0;
}

static int make_scripts(const char *work, struct error *e)
{
	cleanup_free char *bin = fs_join(work, "bin");
	int r = bin ? fs_mkdirs(bin, 0755, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = make_script(work, "script", script, e);
	return r < 0 ? r : make_script(bin, "tar", tar, e);
}

/* For both directions: of "told" the end is then never seen, and what is said into "verdict" stays
 * there until the script comes to read it. */
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
	int r = open_fifo(run->options->work, "told", &run->told, e);
	if (r == 0)
		r = open_fifo(run->options->work, "verdict", &run->verdict, e);
	if (r < 0)
		return r;
	run->over = eventfd(0, EFD_CLOEXEC);
	return run->over < 0 ? error_errno(e, "cannot listen to CRIU") : 0;
}

int criu_run_init(struct criu_run *run, const struct criu_options *options, const char *freezer,
		  struct error *e)
{
	*run = (struct criu_run) {
		.options = options, .told = -1, .verdict = -1, .over = -1, .inherited = -1
	};
	const char *work = options->work;
	const char *path = getenv("PATH");
	int r = criu_ensure_cache(options->program, e);
	if (r == 0)
		r = fs_mkdirs(work, 0711, e);
	if (r == 0)
		r = make_scripts(work, e);
	if (r == 0)
		r = open_fifos(run, e);
	criu_args_add(&run->env, "PATH=%s/bin:%s", work,
		      path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
	criu_args_add(&run->env, "LC_ALL=C");
	criu_args_add(&run->env, "ELSA_WORK=%s", work);
	criu_args_add(&run->env, "ELSA_FREEZER=%s", freezer);
	return r;
}

static void *thread_main(void *arg)
{
	struct criu_run *run = arg;
	run->status = job_run(&run->job, &run->result, &run->error);
	eventfd_write(run->over, 1);
	return NULL;
}

int criu_run_start(struct criu_run *run, const char *log_name, struct error *e)
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
	cleanup_free char *log = fs_join(run->options->work, log_name);
	if (log)
		unlink(log);
	int code = pthread_create(&run->thread, NULL, thread_main, run);
	if (code)
		return error_set(e, code, "cannot start a thread for CRIU: %s", strerror(code));
	run->started = true;
	return 0;
}

/* A line is short and written at once, so it comes whole. */
static bool read_line(struct criu_run *run, char *line, size_t size)
{
	ssize_t n = read(run->told, line, size - 1);
	if (n <= 0)
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

bool criu_run_alive(const struct criu_run *run)
{
	pid_t pid = run->pid;
	uint64_t ticks;
	return proc_start_time(pid, &ticks) == 0 && proc_is(pid, ticks);
}

/* Killed by somebody, it leaves children behind that wait for it, and with them its output open. */
static void kill_if_dead(struct criu_run *run)
{
	pid_t pid = run->pid;
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
	mono_us deadline = clock_mono() + run->options->timeout_ms * 1000LL;
	while (clock_mono() < deadline) {
		int n = poll(fds, ARRAY_SIZE(fds), SLICE_MS);
		if (n < 0 && errno != EINTR)
			return error_errno(e, "cannot wait for CRIU");
		if (n > 0 && fds[0].revents && read_line(run, line, size))
			return 1;
		if (n > 0)
			return 0;
		if (run->options->is_vain && run->options->is_vain(run->options->arg))
			return error_set(e, ECANCELED, "nobody waits for it any more");
		kill_if_dead(run);
	}
	return error_set(e, ETIMEDOUT, "CRIU did not end within %d s",
			 run->options->timeout_ms / 1000);
}

int criu_run_answer(struct criu_run *run, const char *word, struct error *e)
{
	return dprintf(run->verdict, "%s\n", word) < 0 ? error_errno(e, "cannot answer CRIU") : 0;
}

void criu_run_kill(struct criu_run *run)
{
	pid_t pid = run->pid;
	if (pid > 0)
		kill(-pid, SIGKILL);
	/* A half-restored init leads a group of its own. */
	criu_kill_orphans(run->options->work);
}

void criu_run_join(struct criu_run *run)
{
	if (run->started)
		pthread_join(run->thread, NULL);
	run->started = false;
}

void criu_run_deinit(struct criu_run *run)
{
	criu_run_join(run);
	job_result_deinit(&run->result);
	cleanup_close_fd(&run->told);
	cleanup_close_fd(&run->verdict);
	cleanup_close_fd(&run->over);
	cleanup_close_fd(&run->inherited);
	criu_args_deinit(&run->args);
	criu_args_deinit(&run->env);
}

char *criu_run_log(const struct criu_run *run)
{
	cleanup_free char *path = fs_join(run->options->work, run->log_name);
	struct buf text = BUF_INIT(64 << 20);
	if (!path || fs_read(path, &text, NULL) < 0) {
		buf_deinit(&text);
		return NULL;
	}
	return buf_steal(&text);
}
