/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/unseen.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/depart_memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LEAST = 64 << 10, /* bytes of a piece that is worth it */
	TEXT_MOST = 64 << 20,
};

struct stacks {
	uint64_t *at;
	size_t count;
};

static int no_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

/* --- what the kernel says of it -------------------------------------------------------- */

static bool is_anonymous(const char *name)
{
	return !*name || strcmp(name, "[heap]") == 0 || strncmp(name, "[anon:", 6) == 0;
}

/* Memory files, devices and huge pages have an inode. */
bool unseen_line(const char *line, struct unseen_range *to)
{
	unsigned long long start, end, inode;
	char mode[5];
	int name = 0;
	if (sscanf(line, "%llx-%llx %4s %*x %*x:%*x %llu %n", &start, &end, mode, &inode, &name) <
		    4 ||
	    name == 0)
		return false;
	if (inode || mode[3] != 'p' || end <= start || end - start < LEAST ||
	    !is_anonymous(line + name))
		return false;
	*to = (struct unseen_range) { .start = start, .end = end };
	return true;
}

/* "NUMBER ARGUMENT... STACK INSTRUCTION", "-1 STACK INSTRUCTION", or "running". */
uint64_t unseen_stack(const char *syscall)
{
	const char *last = strrchr(syscall, ' ');
	const char *at = last;
	while (at && at > syscall && at[-1] != ' ')
		at--;
	return at && at > syscall ? strtoull(at, NULL, 16) : 0;
}

static bool says(const char *status, const char *name, const char *value)
{
	const char *at = strstr(status, name);
	size_t len = strlen(name);
	if (!at)
		return true;
	at += len + strspn(at + len, "\t ");
	return strncmp(at, value, strlen(value)) == 0;
}

bool unseen_is_plain(const char *status)
{
	return says(status, "\nVmLck:", "0 kB\n") && says(status, "\nx86_Thread_features:", "\n");
}

/* --- one process ------------------------------------------------------------------------ */

static int read_proc(pid_t pid, const char *name, struct buf *to)
{
	char path[96];
	buf_reset(to);
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fs_read(path, to, NULL);
}

/* -ENOENT: where one ends is not told. */
static int add_stack(struct stacks *s, pid_t pid, const char *thread)
{
	char name[64];
	cleanup_buf struct buf text = BUF_INIT(4096);
	snprintf(name, sizeof(name), "task/%.20s/syscall", thread);
	uint64_t at = read_proc(pid, name, &text) == 0 ? unseen_stack(buf_text(&text)) : 0;
	uint64_t *more = at ? realloc(s->at, (s->count + 1) * sizeof(*more)) : NULL;
	if (!more)
		return at ? -ENOMEM : -ENOENT;
	s->at = more;
	s->at[s->count++] = at / STORE_PAGE * STORE_PAGE;
	return 0;
}

static int find_stacks(pid_t pid, struct stacks *s)
{
	int r = 0;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	cleanup_dir DIR *dir = opendir(path);
	if (!dir)
		return -ENOENT;
	for (const struct dirent *d; r == 0 && (d = readdir(dir));)
		if (d->d_name[0] != '.')
			r = add_stack(s, pid, d->d_name);
	return r;
}

static int add_range(struct unseen *u, const struct unseen_range *r)
{
	/* Room grows by doubling. */
	if ((u->range_count & (u->range_count + 1)) == 0) {
		void *more = realloc(u->ranges, (2 * u->range_count + 1) * sizeof(*u->ranges));
		if (!more)
			return -ENOMEM;
		u->ranges = more;
	}
	u->ranges[u->range_count++] = *r;
	return 0;
}

/* But for pages that CRIU restores itself. */
static int add_but_stacks(struct unseen *u, const struct unseen_range *whole,
			  const struct stacks *s)
{
	int r = 0;
	struct unseen_range piece = *whole;
	for (uint64_t next; r == 0 && piece.start < whole->end; piece.start = next) {
		piece.end = next = whole->end;
		for (size_t i = 0; i < s->count; i++) {
			if (s->at[i] < piece.start || s->at[i] >= piece.end)
				continue;
			piece.end = s->at[i];
			next = s->at[i] + STORE_PAGE;
		}
		if (piece.end > piece.start)
			r = add_range(u, &piece);
	}
	return r;
}

static int add_maps(struct unseen *u, pid_t pid, char *maps, const struct stacks *stacks)
{
	struct unseen_range range;
	char *rest;
	int r = 0;
	for (char *line = strtok_r(maps, "\n", &rest); r == 0 && line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (!unseen_line(line, &range))
			continue;
		range.pid = pid;
		r = add_but_stacks(u, &range, stacks);
	}
	return r;
}

static int add_process(struct unseen *u, pid_t inside, pid_t outside, size_t first)
{
	void *more = realloc(u->processes, (u->process_count + 1) * sizeof(*u->processes));
	if (!more)
		return -ENOMEM;
	u->processes = more;
	u->processes[u->process_count++] = (struct unseen_process) {
		.inside = inside,
		.outside = outside,
		.first = first,
		.count = u->range_count - first,
	};
	return 0;
}

static int find_in(struct unseen *u, pid_t pid, struct buf *text)
{
	struct stacks stacks = { 0 };
	size_t first = u->range_count;
	long inside =
		read_proc(pid, "status", text) == 0 ? depart_memory_inside(buf_text(text)) : 0;
	if (inside <= 0 || !unseen_is_plain(buf_text(text)))
		return -ENOENT;
	int r = u->whole ? 0 : find_stacks(pid, &stacks);
	if (r == 0)
		r = read_proc(pid, "maps", text) == 0 && text->data ? 0 : -ENOENT;
	if (r == 0)
		r = add_maps(u, pid, text->data, &stacks);
	free(stacks.at);
	if (r == 0 && u->range_count > first)
		r = add_process(u, (pid_t)inside, pid, first);
	return r;
}

static int find_one(pid_t pid, void *arg)
{
	struct unseen *u = arg;
	cleanup_buf struct buf text = BUF_INIT(TEXT_MOST);
	int r = find_in(u, pid, &text);
	u->partly |= r == -ENOENT;
	return r == -ENOENT ? 0 : r;
}

static int find_all(const struct cgroup *cg, struct unseen *to, struct error *e)
{
	int r = cgroup_processes(cg, find_one, to, e);
	return r == -ENOMEM ? no_memory(e) : r;
}

int unseen_find(const struct cgroup *cg, struct unseen *to, struct error *e)
{
	*to = (struct unseen) { 0 };
	return find_all(cg, to, e);
}

int unseen_find_running(const struct cgroup *cg, struct unseen *to, struct error *e)
{
	*to = (struct unseen) { .whole = true };
	return find_all(cg, to, e);
}

void unseen_deinit(struct unseen *u)
{
	for (size_t i = 0; i < u->process_count; i++)
		free(u->processes[i].extents);
	free(u->processes);
	free(u->ranges);
	*u = (struct unseen) { 0 };
}

int unseen_write(const struct unseen *u, const char *path, struct error *e)
{
	return fs_replace_soon(path, u->ranges, u->range_count * sizeof(*u->ranges), 0600, e);
}
