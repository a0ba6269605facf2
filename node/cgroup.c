/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/cgroup.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "node/cgroup_ops.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REMOVE_TIMEOUT_US 5000000
#define MAX_PROCS_TEXT    ((size_t)4 << 20)

int cgroup_write(const char *dir, const char *file, const char *text, struct error *e)
{
	cleanup_free char *path = fs_join(dir, file);
	return path ? fs_write(path, text, e) : error_set(e, ENOMEM, "out of memory");
}

int cgroup_read(const char *dir, const char *file, struct buf *to, struct error *e)
{
	cleanup_free char *path = fs_join(dir, file);
	return path ? fs_read(path, to, e) : error_set(e, ENOMEM, "out of memory");
}

int64_t cgroup_stat(const char *text, const char *key)
{
	size_t len = strlen(key);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoll(line + len, NULL, 10);
	}
	return 0;
}

int64_t cgroup_taken(const char *text, int64_t mapped)
{
	int64_t taken = cgroup_stat(text, "active_anon") + cgroup_stat(text, "inactive_anon");
	return taken > mapped ? taken : mapped;
}

int64_t cgroup_read_number(const char *dir, const char *file)
{
	cleanup_buf struct buf text = BUF_INIT(256);
	char *end;
	if (cgroup_read(dir, file, &text, NULL) < 0)
		return -1;
	int64_t value = strtoll(buf_text(&text), &end, 10);
	return end == buf_text(&text) ? -1 : value;
}

int64_t cgroup_parse_stall(const char *text)
{
	const char *line = strncmp(text, "some ", 5) == 0 ? text : strstr(text, "\nsome ");
	const char *total = line ? strstr(line, "total=") : NULL;
	if (!total || memchr(line + 1, '\n', (size_t)(total - line - 1)))
		return -1;
	char *end;
	int64_t value = strtoll(total + 6, &end, 10);
	return end == total + 6 || value < 0 ? -1 : value;
}

int64_t cgroup_read_stall(const char *dir, const char *file)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	/* Where it is compiled in and switched off, reading it fails. */
	return cgroup_read(dir, file, &text, NULL) < 0 ? -1 : cgroup_parse_stall(buf_text(&text));
}

/* --- the group as a set of directories ------------------------------------- */

int cgroup_init_at(struct cgroup *cg, const struct cgroup_mounts *mounts, const char *name,
		   const char *id, struct error *e)
{
	*cg = (struct cgroup) { .ops = mounts->version == 2 ? &cgroup_v2 : &cgroup_v1 };
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		if (!mounts->paths[i])
			continue;
		cg->dirs[i] = id ? str_printf("%s/%s/%s", mounts->paths[i], name, id)
				 : fs_join(mounts->paths[i], name);
		if (!cg->dirs[i]) {
			cgroup_deinit(cg);
			return error_set(e, ENOMEM, "out of memory");
		}
	}
	return 0;
}

int cgroup_init(struct cgroup *cg, const char *name, const char *id, struct error *e)
{
	struct cgroup_mounts mounts;
	*cg = (struct cgroup) { 0 };
	int r = cgroup_find(&mounts, e);
	if (r < 0)
		return r;
	r = cgroup_init_at(cg, &mounts, name, id, e);
	cgroup_mounts_deinit(&mounts);
	return r;
}

void cgroup_deinit(struct cgroup *cg)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
		free(cg->dirs[i]);
	*cg = (struct cgroup) { 0 };
}

/* The i-th directory, or NULL when it is missing or the same as one before it. */
static const char *distinct_dir(const struct cgroup *cg, int i)
{
	for (int k = 0; k < i; k++)
		if (cg->dirs[i] && cg->dirs[k] && strcmp(cg->dirs[i], cg->dirs[k]) == 0)
			return NULL;
	return cg->dirs[i];
}

static int make_dirs(const struct cgroup *cg, struct error *e)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		const char *dir = distinct_dir(cg, i);
		if (dir && mkdir(dir, 0755) < 0 && errno != EEXIST)
			return error_errno(e, "cannot create the cgroup %s", dir);
	}
	return 0;
}

/* A process leaves its group at the very end of its exit, later than it is waited for. */
static int remove_dir(const char *dir, mono_us deadline)
{
	while (rmdir(dir) < 0) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY || clock_mono() > deadline)
			return -errno;
		usleep(1000);
	}
	return 0;
}

int cgroup_remove(const struct cgroup *cg, struct error *e)
{
	mono_us deadline = clock_mono() + REMOVE_TIMEOUT_US;
	int result = 0;
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		const char *dir = distinct_dir(cg, i);
		int r = dir ? remove_dir(dir, deadline) : 0;
		if (r < 0 && result == 0)
			result = error_set(e, -r, "cannot remove the cgroup %s: %s", dir,
					   strerror(-r));
	}
	return result;
}

bool cgroup_exists(const struct cgroup *cg)
{
	return cg->dirs[CGROUP_FREEZER] && access(cg->dirs[CGROUP_FREEZER], F_OK) == 0;
}

int cgroup_host_setup(const char *name, struct error *e)
{
	struct cgroup top;
	int r = cgroup_init(&top, name, NULL, e);
	if (r == 0)
		r = make_dirs(&top, e);
	if (r == 0)
		r = top.ops->host_setup(&top, e);
	cgroup_deinit(&top);
	return r;
}

int cgroup_host_teardown(const char *name, struct error *e)
{
	struct cgroup top;
	int r = cgroup_init(&top, name, NULL, e);
	if (r == 0)
		r = cgroup_remove(&top, e);
	cgroup_deinit(&top);
	return r;
}

int cgroup_each(const char *name, int (*each)(const char *id, void *arg), void *arg,
		struct error *e)
{
	struct cgroup top;
	int r = cgroup_init(&top, name, NULL, e);
	if (r < 0)
		return r;
	cleanup_dir DIR *dir = opendir(top.dirs[CGROUP_FREEZER]);
	if (!dir && errno != ENOENT)
		r = error_errno(e, "cannot read %s", top.dirs[CGROUP_FREEZER]);
	cgroup_deinit(&top);
	struct dirent *entry;
	while (r == 0 && dir && (entry = readdir(dir)))
		if (id_valid(entry->d_name))
			r = each(entry->d_name, arg);
	return r;
}

/* --- limits ------------------------------------------------------------------ */

static int need(const struct cgroup *cg, enum cgroup_controller c, bool wanted, struct error *e)
{
	if (!wanted || cg->dirs[c])
		return 0;
	const char *name = cgroup_controller_names[c];
	int r = error_fault(e, FAULT_UNAVAILABLE,
			    "the session's %s limit cannot be set: this machine "
			    "has no %s cgroup controller",
			    name, name);
	return error_remedy(e, r, "enable the controller, or set the limit to 0 (no limit)");
}

int cgroup_create(const struct cgroup *cg, const struct session_limits *limits, struct error *e)
{
	int r = need(cg, CGROUP_MEMORY, limits->memory_bytes > 0, e);
	if (r == 0)
		r = need(cg, CGROUP_CPU, limits->cpus > 0, e);
	if (r == 0)
		r = need(cg, CGROUP_PIDS, limits->pids > 0, e);
	if (r == 0)
		r = make_dirs(cg, e);
	return r == 0 ? cg->ops->limit(cg, limits, e) : r;
}

int cgroup_adopt(const struct cgroup *cg, pid_t pid, struct error *e)
{
	cleanup_free char *text = str_printf("%d", (int)pid);
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		const char *dir = distinct_dir(cg, i);
		int r = dir ? cgroup_write(dir, "cgroup.procs", text, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- freezer ----------------------------------------------------------------- */

int cgroup_freeze_soon(const struct cgroup *cg, struct error *e)
{
	return cg->ops->ask_freeze(cg, true, e);
}

int cgroup_thaw(const struct cgroup *cg, struct error *e)
{
	return cg->ops->ask_freeze(cg, false, e);
}

int cgroup_frozen(const struct cgroup *cg, bool *frozen, struct error *e)
{
	*frozen = false;
	return cgroup_exists(cg) ? cg->ops->frozen(cg, frozen, e) : 0;
}

bool cgroup_freeze_asked(const struct cgroup *cg)
{
	const char *file = cg->ops->version == 2 ? "cgroup.freeze" : "freezer.self_freezing";
	return cgroup_exists(cg) && cgroup_read_number(cg->dirs[CGROUP_FREEZER], file) == 1;
}

int cgroup_freeze(const struct cgroup *cg, int timeout_ms, struct error *e)
{
	mono_us deadline = clock_mono() + (mono_us)timeout_ms * 1000;
	bool frozen = false;
	int r = cg->ops->ask_freeze(cg, true, e);
	useconds_t pause = 50;
	while (r == 0) {
		r = cg->ops->frozen(cg, &frozen, e);
		if (r < 0 || frozen)
			break;
		if (clock_mono() > deadline) {
			cgroup_thaw(cg, NULL);
			return error_fault(
				e, FAULT_TIMEOUT,
				"the session's processes did not stop "
				"within %d ms: one may be waiting for a disk or a network "
				"file system",
				timeout_ms);
		}
		usleep(pause);
		pause = pause < 2000 ? pause * 2 : pause;
	}
	return r;
}

const char *cgroup_freezer(const struct cgroup *cg)
{
	return cg->dirs[CGROUP_FREEZER];
}

/* --- processes --------------------------------------------------------------- */

int cgroup_processes(const struct cgroup *cg, int (*each)(pid_t pid, void *arg), void *arg,
		     struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(MAX_PROCS_TEXT);
	if (!cgroup_exists(cg))
		return 0;
	int r = cgroup_read(cgroup_freezer(cg), "cgroup.procs", &text, e);
	if (r < 0)
		return r == -ENOENT || r == -ENODEV ? 0 : r;
	char *save = NULL;
	char *p = text.data ? strtok_r(text.data, "\n", &save) : NULL;
	for (; p && r == 0; p = strtok_r(NULL, "\n", &save))
		r = each((pid_t)strtol(p, NULL, 10), arg);
	return r;
}

/* --- at the limit ------------------------------------------------------------ */

int cgroup_at_limit(const struct cgroup *cg, const struct session_limits *limits,
		    enum cgroup_at_limit what, struct error *e)
{
	if (!cg->dirs[CGROUP_MEMORY] || limits->memory_bytes <= 0)
		return 0;
	return cg->ops->at_limit(cg, limits->memory_bytes, what, e);
}

int cgroup_ease(const struct cgroup *cg, const struct session_limits *limits, bool eased,
		struct error *e)
{
	if (!cg->dirs[CGROUP_MEMORY] || limits->memory_bytes <= 0)
		return 0;
	return cg->ops->ease(cg, limits->memory_bytes, eased, e);
}

void cgroup_wake(const struct cgroup *cg)
{
	if (cg->dirs[CGROUP_MEMORY])
		cg->ops->wake(cg);
}

int cgroup_notices_open(const struct cgroup *any, struct error *e)
{
	int fd = any->ops->notices_open();
	return fd < 0 ? error_errno(e, "cannot be told of groups near their limit") : fd;
}

int cgroup_notices_add(const struct cgroup *cg, int fd, const int64_t *marks, size_t count,
		       struct error *e)
{
	return cg->dirs[CGROUP_MEMORY] ? cg->ops->notices_add(cg, fd, marks, count, e) : 0;
}

void cgroup_notices_clear(int fd)
{
	char some[4096];
	while (read(fd, some, sizeof(some)) == (ssize_t)sizeof(some))
		;
}

uint64_t cgroup_identity(const struct cgroup *cg)
{
	struct stat st;
	const char *dir = cg->dirs[CGROUP_MEMORY];
	return dir && stat(dir, &st) == 0 ? st.st_ino : 0;
}

int cgroup_set_swap(const struct cgroup *cg, enum cgroup_swap what, struct error *e)
{
	return cg->dirs[CGROUP_MEMORY] ? cg->ops->swap(cg, what, e) : 0;
}

int cgroup_reclaim(const struct cgroup *cg, int64_t bytes, struct error *e)
{
	if (!cg->dirs[CGROUP_MEMORY])
		return error_set(e, EAGAIN, "this machine has no memory cgroup controller");
	return cg->ops->reclaim(cg, bytes, e);
}

static int count_process(pid_t pid, void *arg)
{
	(void)pid;
	++*(int64_t *)arg;
	return 0;
}

int cgroup_usage(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e)
{
	*usage = (struct cgroup_usage) { 0 };
	if (!cgroup_exists(cg))
		return 0;
	int r = cg->ops->usage(cg, usage, e);
	return r < 0 ? r : cgroup_processes(cg, count_process, &usage->processes, e);
}
