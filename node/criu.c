/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/criu.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/criu_run.h"
#include "preload/criu.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DUMP_LOG    "dump.log"
#define RESTORE_LOG "restore.log"

enum { LOG_TAIL_LINES = 60 };

/* What both directions need. Cgroups are ours, and so is holding packets back: the programs CRIU
 * does that with refuse to run when the real uid is not root's. */
static void add_common(struct criu_run *run, const char *command, const char *log_name)
{
	const struct criu_options *o = &run->options;
	struct criu_args *a = &run->args;
	criu_args_add(a, "%s", o->program);
	criu_args_add(a, "%s", command);
	criu_args_add(a, "--images-dir");
	criu_args_add(a, "%s", o->images);
	criu_args_add(a, "--work-dir");
	criu_args_add(a, "%s", o->work);
	criu_args_add(a, "--log-file");
	criu_args_add(a, "%s", log_name);
	criu_args_add(a, "-v2");
	criu_args_add(a, "--no-default-config");
	criu_args_add(a, "--tcp-established");
	criu_args_add(a, "--file-locks");
	criu_args_add(a, "--manage-cgroups=ignore");
	criu_args_add(a, "--action-script");
	criu_args_add(a, CRIU_LIBRARY); /* which does it itself: preload/script.c */
}

/* docs/criu.md, "prlimit without CAP_SYS_RESOURCE". */
static void use_ids(struct criu_run *run, const struct sandbox *sb)
{
	if (run->options.features->needs_real_ids)
		criu_args_add(&run->env, CRIU_IDS "=%lld %lld", (long long)sb->spec->uid,
			      (long long)sb->spec->gid);
}

/* What CRIU said, what it means, what can be done. */
static int refuse(struct criu_run *run, const char *what, char **log_tail, struct error *e)
{
	cleanup_free char *log = criu_run_log(run);
	if (run->status < 0) {
		*e = run->error;
		return error_wrap(e, run->status, "%s", what);
	}
	if (run->result.status > 128) {
		int r = error_fault(e, FAULT_UNAVAILABLE, "%s: CRIU was killed by signal %d", what,
				    run->result.status - 128);
		return error_remedy(e, r,
				    "If the machine was out of memory, make room and try again.");
	}
	cleanup_free char *said = log ? criu_first_error(log) : NULL;
	cleanup_free char *means = log ? criu_explain(log) : NULL;
	if (log_tail)
		*log_tail = log ? strdup(criu_log_tail(log, LOG_TAIL_LINES)) : NULL;
	if (!said)
		return error_fault(e, FAULT_REFUSED,
				   "%s: CRIU ended with status %d and no reason: %s", what,
				   run->result.status, buf_text(&run->result.err));
	bool full = strstr(said, strerror(ENOSPC)) || strstr(said, strerror(ENOMEM));
	int r = error_fault(e, full ? FAULT_FULL : FAULT_REFUSED, "%s: CRIU says \"%s\"", what,
			    said);
	return means ? error_remedy(e, r, "%s", means) : r;
}

/* --- dump ----------------------------------------------------------------- */

/* A task in a stop by signal does not get out of it while version 1's freezer has it, not even for
 * ptrace: CRIU would hang in seizing it. (State 'T' in /proc hides behind the freezer's 'D'.)
 * Neither does one that an earlier CRIU held when it was frozen, in a session that has stood still
 * since. */
static int is_stopped(pid_t pid, void *arg)
{
	char path[64];
	cleanup_buf struct buf where = BUF_INIT(128);
	snprintf(path, sizeof(path), "/proc/%d/wchan", (int)pid);
	if (fs_read(path, &where, NULL) < 0)
		return 0;
	/* "0" where the kernel does not tell. */
	static const char *const stops[] = { "do_signal_stop", "ptrace_stop", "0" };
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (strcmp(buf_text(&where), stops[i]) == 0)
			*(bool *)arg = true;
	return *(bool *)arg;
}

int criu_stays_frozen(const struct sandbox *sb, bool *frozen, struct error *e)
{
	bool stopped = false;
	cleanup_free char *freezer = sandbox_freezer_path(sb);
	cleanup_free char *v1 = freezer ? fs_join(freezer, "freezer.state") : NULL;
	if (!v1)
		return error_set(e, ENOMEM, "out of memory");
	int r = access(v1, F_OK) < 0 ? 0 : cgroup_processes(&sb->cgroup, is_stopped, &stopped, e);
	*frozen = !stopped;
	return r < 0 ? r : 0;
}

static int add_dump(struct criu_run *run, struct sandbox *sb, pid_t init, struct error *e)
{
	struct criu_args *a = &run->args;
	struct stat st;
	cleanup_free char *net = str_printf("/proc/%d/ns/net", init);
	if (!net || stat(net, &st) < 0)
		return error_errno(e, "the session's init is gone");
	add_common(run, "dump", DUMP_LOG);
	criu_args_add(a, "--network-lock");
	criu_args_add(a, "skip");
	criu_args_add(a, "--tree");
	criu_args_add(a, "%d", init);
	criu_args_add(a, "--external");
	criu_args_add(a, "net[%lu]:sess", (unsigned long)st.st_ino);
	for (const struct sandbox_mount_pair *m = sandbox_external_mounts(sb); m && m->inside;
	     m++) {
		criu_args_add(a, "--external");
		criu_args_add(a, "mnt[%s]:%s", m->inside, m->key);
	}
	/* Were it not for this, CRIU would take what a terminal has not read yet and not put it
	 * back. */
	criu_args_add(a, "--leave-running");
	/* Files that were deleted while open: with no name left they go into the images whole, with
	 * another name left they get a link for the time of the hibernation. */
	criu_args_add(a, "--ghost-limit");
	criu_args_add(a, "4G");
	criu_args_add(a, "--link-remap");
	/* A connection not yet accepted cannot be dumped. Who waits there is told by a reset. */
	criu_args_add(a, "--skip-in-flight");
	if (run->inherited >= 0) {
		criu_args_add(a, "%s", run->options.lazy ? "--lazy-pages" : "--page-server");
		criu_args_add(a, "--ps-socket");
		criu_args_add(a, "%d", run->inherited);
	}
	return 0;
}

static int load_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
		     bool frozen, int *page_socket, struct criu_run **to, struct error *e)
{
	struct criu_run *run = NULL;
	cleanup_free char *freezer = sandbox_freezer_path(sb);
	int r = freezer ? criu_run_new(options, freezer, &run, e)
			: error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	run->inherited = steal_fd(page_socket);
	r = add_dump(run, sb, init, e);
	/* Frozen is best: then nothing forks while CRIU collects the processes. */
	if (frozen) {
		run->freezes = true;
		criu_args_add(&run->args, "--freeze-cgroup");
		criu_args_add(&run->args, "%s", freezer);
	}
	use_ids(run, sb);
	if (r == 0)
		r = criu_run_load(run, DUMP_LOG, e);
	if (r < 0)
		run = criu_run_free(run);
	*to = run;
	return r;
}

int criu_load_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
		   struct criu_run **loaded, struct error *e)
{
	bool frozen;
	int none = -1;
	*loaded = NULL;
	int r = criu_stays_frozen(sb, &frozen, e);
	return r == 0 && frozen ? load_dump(sb, init, options, true, &none, loaded, e) : r;
}

/* It holds nothing. One that is not even a process yet finds the word when it comes to ask. */
void *criu_unload(struct criu_run *run)
{
	if (run) {
		criu_run_answer(run, "no", NULL);
		criu_run_kill(run);
	}
	return criu_run_free(run);
}

/* NULL: there is none that can do it; somebody may have killed it. */
static struct criu_run *go_loaded(const struct criu_options *options, const char *log_name,
				  bool freezes)
{
	struct criu_run *run = options->loaded ? steal_ptr(options->loaded) : NULL;
	if (!run)
		return NULL;
	bool fits = criu_run_fits(run, log_name, options) && run->freezes == freezes;
	return fits && criu_run_go(run, options, NULL) > 0 ? run : criu_unload(run);
}

/* 1, or 0 when it has ended instead. */
static int begin_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
		      struct criu_run **to, struct error *e)
{
	bool frozen;
	cleanup_fd int page_socket = options->page_socket ? options->page_socket : -1;
	*to = NULL;
	int r = criu_stays_frozen(sb, &frozen, e);
	if (r == 0 && !frozen)
		r = sandbox_thaw(sb, e);
	if (r < 0)
		return r;
	*to = go_loaded(options, DUMP_LOG, frozen);
	if (*to)
		return 1;
	r = load_dump(sb, init, options, frozen, &page_socket, to, e);
	return r < 0 ? r : criu_run_go(*to, options, e);
}

static int wait_for_images(struct criu_run *run, struct error *e)
{
	char line[128] = "";
	int r = criu_run_next(run, line, sizeof(line), e);
	if (r != -ETIMEDOUT || !run->options.give_up)
		return r;
	run->options.give_up(run->options.arg);
	return criu_run_next(run, line, sizeof(line), e);
}

int criu_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
	      struct criu_run **dump, char **log_tail, struct error *e)
{
	struct criu_run *run = NULL;
	int r = begin_dump(sb, init, options, &run, e);
	if (!run)
		return r;
	if (r > 0)
		r = wait_for_images(run, e);
	/* What CRIU holds now it held when it froze them. Killed before that, it let go of
	 * processes that have run on since their images were made. */
	if (r > 0 && criu_run_alive(run)) {
		/* Ours; were it open, a CRIU that dies would not be noticed at the other end. */
		cleanup_close_fd(&run->inherited);
		run->inherited = -1;
		*dump = run;
		return 0;
	}
	if (r < 0)
		criu_run_kill(run);
	criu_run_join(run);
	if (r >= 0)
		r = refuse(run, "the session cannot be checkpointed", log_tail, e);
	criu_run_free(run);
	return r;
}

void *criu_dump_keep(struct criu_run *dump)
{
	/* A word would make CRIU kill the processes, which a frozen cgroup does not let die. */
	if (dump)
		criu_run_kill(dump);
	return criu_run_free(dump);
}

void *criu_dump_abandon(struct criu_run *dump)
{
	if (dump && criu_run_answer(dump, "no", NULL) < 0)
		criu_run_kill(dump);
	return criu_run_free(dump);
}

/* --- restore -------------------------------------------------------------- */

static int add_restore(struct criu_run *run, struct sandbox *sb, struct error *e)
{
	struct criu_args *a = &run->args;
	run->inherited = open(sb->netns, O_RDONLY | O_CLOEXEC);
	if (run->inherited < 0)
		return error_errno(e, "cannot open the session's network namespace %s", sb->netns);
	add_common(run, "restore", RESTORE_LOG);
	criu_args_add(a, "--restore-detached");
	criu_args_add(a, "--pidfile");
	criu_args_add(a, "%s/pid", run->options.work);
	criu_args_add(a, "--root");
	criu_args_add(a, "%s", sb->root);
	/* What a user may do to the mode of a file in the home while the session sleeps does no
	 * harm. */
	criu_args_add(a, "--skip-file-rwx-check");
	if (run->options.lazy)
		criu_args_add(a, "--lazy-pages");
	criu_args_add(a, "--inherit-fd");
	criu_args_add(a, "fd[%d]:sess", run->inherited);
	for (const struct sandbox_mount_pair *m = sandbox_external_mounts(sb); m && m->inside;
	     m++) {
		criu_args_add(a, "--external");
		criu_args_add(a, "mnt[%s]:%s", m->key, m->outside);
	}
	return 0;
}

/* CRIU refuses to write over an old one. */
static int remove_pidfile(const struct criu_options *options, struct error *e)
{
	cleanup_free char *path = fs_join(options->work, "pid");
	if (!path || (unlink(path) < 0 && errno != ENOENT))
		return error_errno(e, "cannot remove CRIU's old pid file");
	return 0;
}

static int read_pidfile(const struct criu_options *options, pid_t *pid, struct error *e)
{
	cleanup_free char *path = fs_join(options->work, "pid");
	cleanup_buf struct buf text = BUF_INIT(32);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, &text, e);
	if (r < 0)
		return r;
	*pid = (pid_t)strtol(buf_text(&text), NULL, 10);
	return *pid > 0 ? 0 : error_set(e, EIO, "CRIU wrote no pid to %s", path);
}

/* Bytes of what is in the session's tmpfs mounts, as CRIU keeps it. */
static int64_t tmpfs_bytes(const char *images)
{
	int64_t sum = 0;
	struct stat st;
	cleanup_dir DIR *dir = opendir(images);
	for (struct dirent *d; dir && (d = readdir(dir));)
		if (strncmp(d->d_name, "tmpfs-", 6) == 0 &&
		    fstatat(dirfd(dir), d->d_name, &st, 0) == 0)
			sum += st.st_size;
	return sum;
}

/* A process's first way into a cgroup waits for all CPUs to have passed through the scheduler, 10
 * to 30 ms. CRIU makes the mounts in that time; but what it fills a tmpfs with is charged to the
 * cgroup that its init is in then, so with more than a little of that it waits. */
static int adopt(struct criu_run *run, struct sandbox *sb, pid_t pid, struct error *e)
{
	enum { LITTLE = 4 << 20 };
	bool beside = tmpfs_bytes(run->options.images) <= LITTLE;
	int r = beside ? criu_run_answer(run, "yes", e) : 0;
	if (r == 0)
		r = sandbox_adopt(sb, pid, e);
	return r == 0 && !beside ? criu_run_answer(run, "yes", e) : r;
}

/* Answers what its actions ask until CRIU has ended. */
static int talk(struct criu_run *run, struct sandbox *sb, struct error *e)
{
	char line[128];
	int r;
	while ((r = criu_run_next(run, line, sizeof(line), e)) > 0) {
		int pid = 0;
		if (strcmp(line, "adopted") == 0)
			r = criu_run_answer(run, "yes", e);
		else if (sscanf(line, "adopt %d", &pid) == 1 && pid > 0)
			r = adopt(run, sb, pid, e);
		else
			r = error_set(e, EPROTO, "CRIU says \"%s\"", line);
		if (r < 0)
			return r;
	}
	return r;
}

int criu_load_restore(struct sandbox *sb, const struct criu_options *options, struct criu_run **to,
		      struct error *e)
{
	struct criu_run *run = NULL;
	cleanup_free char *freezer = sandbox_freezer_path(sb);
	int r = freezer ? criu_run_new(options, freezer, &run, e)
			: error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = add_restore(run, sb, e);
	if (r == 0)
		r = remove_pidfile(options, e);
	if (r == 0) {
		use_ids(run, sb);
		r = criu_run_load(run, RESTORE_LOG, e);
	}
	if (r < 0)
		run = criu_run_free(run);
	*to = run;
	return r;
}

static int begin_restore(struct sandbox *sb, const struct criu_options *options,
			 struct criu_run **to, struct error *e)
{
	*to = go_loaded(options, RESTORE_LOG, false);
	if (*to)
		return 1;
	int r = criu_load_restore(sb, options, to, e);
	return r < 0 ? r : criu_run_go(*to, options, e);
}

static int run_restore(struct sandbox *sb, const struct criu_options *options, char **log_tail,
		       struct error *e)
{
	struct criu_run *run = NULL;
	int r = begin_restore(sb, options, &run, e);
	if (!run)
		return r;
	if (r > 0)
		r = talk(run, sb, e);
	if (r < 0)
		criu_run_kill(run);
	criu_run_join(run);
	if (r == 0 && (run->status < 0 || run->result.status != 0))
		r = refuse(run, "the session cannot be restored", log_tail, e);
	criu_run_free(run);
	return r;
}

int criu_restore(struct sandbox *sb, const struct criu_options *options, pid_t *init,
		 char **log_tail, struct error *e)
{
	bool frozen = false;
	int r = run_restore(sb, options, log_tail, e);
	if (r == 0)
		r = read_pidfile(options, init, e);
	if (r == 0)
		r = sandbox_frozen(sb, &frozen, e);
	if (r == 0 && !frozen)
		r = error_set(e, EIO, "the restored session is not frozen");
	return r;
}
