/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/pages_keeper.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SESSIONS = 4096 };

/* Shared by both processes. What a field says of our descriptors is true in both. */
struct pages_keeper {
	_Atomic int used;
	_Atomic int vault_in;
	_Atomic int record;
	_Atomic uint64_t entry; /* offset in the record */
	_Atomic uint32_t turn;  /* ours, of that record */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pages_keeper *board;
static pid_t process, owner;
static int own_pidfd = -1;

/* --- the process: only system calls, since it is a copy of a program with other threads --- */

static void save_fork(const struct pages_keeper *k)
{
	struct pages_entry entry;
	uint32_t turn;
	struct vault v = { .in = atomic_load(&k->vault_in), .out = -1 };
	int r = pages_record_peek(atomic_load(&k->record), atomic_load(&k->entry), &entry, &turn);
	/* We may be so late that the next program is at work: what is written there is its own, and
	 * so is the number of its descriptor. */
	if (r == 0 && turn == atomic_load(&k->turn) && entry.kind == PAGES_ENTRY_EVENT &&
	    entry.message.event == UFFD_EVENT_FORK)
		vault_put(&v, entry.child, (int)entry.message.arg.fork.ufd, NULL);
}

static void __attribute__((noreturn)) keep(void)
{
	struct pollfd p = { .fd = own_pidfd, .events = POLLIN };
	uint64_t all = ~UINT64_C(0);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	syscall(SYS_prctl, PR_SET_NAME, "elsa-keeper", 0, 0, 0);
	while (syscall(SYS_ppoll, &p, 1, NULL, NULL, 0) <= 0)
		;
	for (size_t i = 0; i < MAX_SESSIONS; i++)
		if (atomic_load(&board[i].used))
			save_fork(&board[i]);
	for (;;)
		syscall(SYS_exit_group, 0);
}

/* --- our side ---------------------------------------------------------------------------- */

static int prepare(struct error *e)
{
	/* A fork of this program has nothing of what was here. */
	if (owner != getpid()) {
		board = NULL;
		own_pidfd = -1;
		owner = getpid();
	}
	if (!board) {
		void *at = mmap(NULL, MAX_SESSIONS * sizeof(*board), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED)
			return error_errno(e, "cannot map memory");
		board = at;
	}
	if (own_pidfd < 0)
		own_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return own_pidfd < 0 ? error_errno(e, "cannot open a pidfd") : 0;
}

static int start(struct error *e)
{
	/* Of no signal at its end, it is no child that others here wait for by chance. */
	if (process > 0 && owner == getpid() &&
	    syscall(SYS_wait4, process, NULL, WNOHANG | __WALL, NULL) == 0)
		return 0;
	int r = prepare(e);
	if (r < 0)
		return r;
	process = (pid_t)syscall(SYS_clone, CLONE_FILES, NULL, NULL, NULL, NULL);
	if (process == 0)
		keep();
	return process < 0 ? error_errno(e, "cannot start the keeper of descriptors") : 0;
}

int pages_keeper_start(struct error *e)
{
	pthread_mutex_lock(&lock);
	int r = start(e);
	pthread_mutex_unlock(&lock);
	return r;
}

void pages_keeper_stop(void)
{
	pthread_mutex_lock(&lock);
	if (process > 0 && owner == getpid()) {
		kill(process, SIGKILL);
		syscall(SYS_wait4, process, NULL, __WALL, NULL);
	}
	process = 0;
	pthread_mutex_unlock(&lock);
}

int pages_keeper_watch(const struct vault *v, struct pages_keeper **keeper, struct error *e)
{
	pthread_mutex_lock(&lock);
	int r = start(e);
	size_t i = 0;
	while (r == 0 && i < MAX_SESSIONS && atomic_load(&board[i].vault_in))
		i++;
	if (i == MAX_SESSIONS)
		r = error_set(e, EAGAIN, "too many sessions wait for their memory");
	if (r == 0) {
		atomic_store(&board[i].vault_in, v->in);
		*keeper = &board[i];
	}
	pthread_mutex_unlock(&lock);
	return r;
}

void *pages_keeper_unwatch(struct pages_keeper *keeper)
{
	if (keeper) {
		atomic_store(&keeper->used, 0);
		atomic_store(&keeper->vault_in, 0);
	}
	return NULL;
}

void pages_keeper_expect(struct pages_keeper *keeper, const struct pages_record *r)
{
	atomic_store_explicit(&keeper->record, r->fd, memory_order_relaxed);
	atomic_store_explicit(&keeper->entry, pages_record_offset(r), memory_order_relaxed);
	atomic_store_explicit(&keeper->turn, pages_record_turn(r), memory_order_relaxed);
	atomic_store_explicit(&keeper->used, 1, memory_order_release);
}
