/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elsa-guard LEASE-FILE FREEZER-DIRECTORY: freezes the group of all sessions when
 * the node's lease is about to end, even if elsa-node is dead, hung or stopped.
 *
 * A program of its own and not elsa-node once more: it must not wait for memory,
 * disk or a library that is not there. It is static, has all it needs locked in
 * memory (about 200 KiB), and opens everything before it begins. It makes no
 * decision but one, by a page that it shares with elsa-node (guard/guard.h).
 */
#define _GNU_SOURCE
#include "guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUSY_MS = 10, IDLE_MS = 1000, LONGEST_MS = 60000 };

struct guard {
	struct guard_page *page;
	int file, state, events; /* freezer.state, or cgroup.freeze and cgroup.events */
	bool v2;
	int timer; /* of CLOCK_BOOTTIME: it goes on while the machine is suspended */
	int set;   /* of CLOCK_REALTIME: readable when that is set */
};

static int64_t clock_us(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int open_in(const char *dir, const char *name, int flags)
{
	char path[4096];
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -1;
	return open(path, flags | O_CLOEXEC);
}

static int open_freezer(struct guard *g, const char *dir)
{
	g->state = open_in(dir, "cgroup.freeze", O_WRONLY);
	g->v2 = g->state >= 0;
	if (g->v2)
		g->events = open_in(dir, "cgroup.events", O_RDONLY);
	else
		g->state = g->events = open_in(dir, "freezer.state", O_RDWR);
	return g->state < 0 || g->events < 0 ? -1 : 0;
}

/* 1: there is a guard already. */
static int open_page(struct guard *g, const char *path)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	g->file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (g->file < 0)
		return -1;
	if (fcntl(g->file, F_SETLK, &whole) < 0)
		return errno == EAGAIN || errno == EACCES ? 1 : -1;
	g->page = mmap(NULL, sizeof(*g->page), PROT_READ | PROT_WRITE, MAP_SHARED, g->file, 0);
	if (g->page == MAP_FAILED || g->page->magic != GUARD_MAGIC)
		return -1;
	if (atomic_load(&g->page->freezes) % 2) /* one before us was killed in the middle */
		atomic_fetch_add(&g->page->freezes, 1);
	return 0;
}

/* On v1 it takes a read to get on from FREEZING. */
static bool is_frozen(const struct guard *g)
{
	char text[256];
	ssize_t n = pread(g->events, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return g->v2 ? strstr(text, "frozen 1") != NULL : strncmp(text, "FROZEN", 6) == 0;
}

static bool freeze(const struct guard *g)
{
	const char *word = g->v2 ? "1" : "FROZEN";
	if (is_frozen(g))
		return true;
	atomic_fetch_add(&g->page->freezes, 1);
	ssize_t n = pwrite(g->state, word, strlen(word), 0);
	(void)n; /* what counts is what is seen */
	bool frozen = is_frozen(g);
	atomic_fetch_add(&g->page->freezes, 1);
	return frozen;
}

static void wait_us(const struct guard *g, int64_t us)
{
	const struct itimerspec forever = { .it_value = { .tv_sec = INT64_C(1) << 40 } };
	struct itimerspec at = { .it_value = { us / 1000000, us % 1000000 * 1000 } };
	struct pollfd fds[2] = { { g->timer, POLLIN, 0 }, { g->set, POLLIN, 0 } };
	uint64_t count;
	if (us <= 0)
		return;
	timerfd_settime(g->timer, 0, &at, NULL);
	timerfd_settime(g->set, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &forever, NULL);
	poll(fds, 2, LONGEST_MS);
	ssize_t n = read(g->timer, &count, sizeof(count));
	n += read(g->set, &count, sizeof(count)); /* ECANCELED */
	(void)n;
}

/* Until when there is nothing to do; negative: for good. */
static int64_t look(const struct guard *g)
{
	struct lease_time t;
	if (!guard_page_get(g->page, &t))
		return BUSY_MS * 1000;
	if (t.lease_us == 0)
		return -1;
	int64_t left = lease_guard_at(&t) -
		       lease_now(&t, clock_us(CLOCK_BOOTTIME), clock_us(CLOCK_REALTIME));
	if (left > 0)
		return left;
	if (atomic_load(&g->page->settled_us) == t.sent_us)
		return IDLE_MS * 1000;
	return (freeze(g) ? IDLE_MS : BUSY_MS) * INT64_C(1000);
}

static void prepare_process(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = write(fd, "-1000", 5);
		(void)n;
		close(fd);
	}
	setsid();
	for (int s = 1; s < NSIG; s++)
		if (s != SIGTERM && s != SIGKILL && s != SIGSTOP)
			signal(s, SIG_IGN);
	mlockall(MCL_CURRENT | MCL_FUTURE);
}

int main(int argc, char **argv)
{
	struct guard g = { .timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK),
			   .set = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK) };
	if (argc != 3 || g.timer < 0 || g.set < 0) {
		dprintf(STDERR_FILENO, "usage: elsa-guard LEASE-FILE FREEZER-DIRECTORY\n");
		return 2;
	}
	int r = open_page(&g, argv[1]);
	if (r == 0)
		r = open_freezer(&g, argv[2]);
	if (r) {
		if (r < 0)
			dprintf(STDERR_FILENO, "elsa-guard: cannot open %s or %s: %s\n", argv[1],
				argv[2], strerror(errno));
		return r < 0;
	}
	prepare_process();
	int64_t us;
	while ((us = look(&g)) >= 0)
		wait_us(&g, us);
	return 0;
}
