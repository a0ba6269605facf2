/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/depart_memory.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_MOST = 64 << 10 };

struct process {
	pid_t inside, outside;
};

struct depart_memory {
	struct process *processes; /* by their pid inside */
	size_t count, room;
	/* Questions about one process come in rows. */
	pid_t opened;
	int fd;
	size_t page;
};

/* --- which processes there are ----------------------------------------------------- */

long depart_memory_inside(const char *status)
{
	static const char name[] = "\nNSpid:";
	const char *at = strstr(status, name);
	char *end;
	if (!at)
		return 0;
	at += strlen(name);
	strtol(at, &end, 10);
	return end > at && *end == '\t' ? strtol(end, NULL, 10) : 0;
}

static int add(struct depart_memory *m, pid_t inside, pid_t outside)
{
	if (m->count == m->room) {
		size_t room = 2 * m->room + 16;
		void *more = realloc(m->processes, room * sizeof(*m->processes));
		if (!more)
			return -ENOMEM;
		m->processes = more;
		m->room = room;
	}
	m->processes[m->count++] = (struct process) { inside, outside };
	return 0;
}

/* One that is gone by now is none of those that stand still. */
static int note(pid_t pid, void *arg)
{
	char path[64];
	cleanup_buf struct buf status = BUF_INIT(STATUS_MOST);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	long inside =
		fs_read(path, &status, NULL) == 0 ? depart_memory_inside(buf_text(&status)) : 0;
	return inside > 0 ? add(arg, (pid_t)inside, pid) : 0;
}

static int compare(const void *a, const void *b)
{
	const struct process *x = a, *y = b;
	return (x->inside > y->inside) - (x->inside < y->inside);
}

int depart_memory_open(const struct cgroup *cg, struct depart_memory **to, struct error *e)
{
	struct depart_memory *m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(e, ENOMEM, "out of memory");
	m->fd = -1;
	m->page = (size_t)sysconf(_SC_PAGESIZE);
	int r = cgroup_processes(cg, note, m, e);
	if (r < 0) {
		depart_memory_free(m);
		return r == -ENOMEM ? error_set(e, ENOMEM, "out of memory") : r;
	}
	if (m->count)
		qsort(m->processes, m->count, sizeof(*m->processes), compare);
	*to = m;
	return 0;
}

void *depart_memory_free(struct depart_memory *m)
{
	if (!m)
		return NULL;
	cleanup_close_fd(&m->fd);
	free(m->processes);
	free(m);
	return NULL;
}

/* --- what is in them --------------------------------------------------------------- */

static int open_process(struct depart_memory *m, pid_t inside, struct error *e)
{
	char path[64];
	const struct process key = { .inside = inside };
	if (m->fd >= 0 && m->opened == inside)
		return 0;
	const struct process *p =
		m->count ? bsearch(&key, m->processes, m->count, sizeof(key), compare) : NULL;
	if (!p)
		return error_set(e, ENOENT, "the session has no process %d", (int)inside);
	cleanup_close_fd(&m->fd);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)p->outside);
	m->fd = open(path, O_RDONLY | O_CLOEXEC);
	m->opened = inside;
	return m->fd < 0 ? error_errno(e, "cannot read the memory of process %d", (int)inside) : 0;
}

/* Of a process whose memory is gone nothing is read; of an address where there is none, EIO. */
int depart_memory_read(struct depart_memory *m, const struct move_range *range, void *to,
		       struct error *e)
{
	size_t len = range->pages * m->page, done = 0;
	int r = open_process(m, range->pid, e);
	if (r < 0)
		return r;
	while (done < len) {
		ssize_t n =
			pread(m->fd, (char *)to + done, len - done, (off_t)(range->address + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EIO)
			return error_errno(e, "cannot read the memory of process %d",
					   (int)range->pid);
		if (n <= 0)
			return error_set(
				e, ENOENT, "process %d of the session has no memory at %#llx",
				(int)range->pid, (unsigned long long)(range->address + done));
		done += (size_t)n;
	}
	return 0;
}
