/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/lease_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/job_spawn.h"
#include "node/cgroup.h"
#include "node/program.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char *page_path(const struct node *node)
{
	return fs_join(node->config->node.run_dir, GUARD_FILE);
}

/* --- the page ------------------------------------------------------------------------- */

/* One of an earlier boot says nothing: no process of then lives. */
int lease_map(struct lease *l, struct error *e)
{
	cleanup_free char *path = page_path(l->node);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	l->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->file < 0 || ftruncate(l->file, sizeof(*l->page)) < 0)
		return error_errno(e, "cannot open %s", path);
	void *at = mmap(NULL, sizeof(*l->page), PROT_READ | PROT_WRITE, MAP_SHARED, l->file, 0);
	if (at == MAP_FAILED)
		return error_errno(e, "cannot map %s", path);
	l->page = at;
	if (l->page->magic != GUARD_MAGIC ||
	    strncmp(l->page->boot_id, l->node->boot_id, sizeof(l->page->boot_id)) != 0) {
		memset(l->page, 0, sizeof(*l->page));
		snprintf(l->page->boot_id, sizeof(l->page->boot_id), "%s", l->node->boot_id);
		l->page->magic = GUARD_MAGIC;
	}
	if (atomic_load(&l->page->change) % 2) /* cut off in the middle: it counts for nothing */
		atomic_fetch_add(&l->page->change, 1);
	else
		guard_page_get(l->page, &l->time);
	l->freezes_seen = atomic_load(&l->page->freezes);
	return 0;
}

void lease_unmap(struct lease *l)
{
	if (l->page)
		munmap(l->page, sizeof(*l->page));
	l->page = NULL;
	cleanup_close_fd(&l->file);
	l->file = -1;
}

/* --- the guard ------------------------------------------------------------------------ */

static bool is_guarded(int file)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	return fcntl(file, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

static void __attribute__((noreturn)) become_guard(int program, char *const *argv)
{
	static char *const no_env[] = { NULL };
	job_reset_signals();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	/* Its own session, and nobody's child that would have to be waited for. */
	setsid();
	if (fork() != 0)
		_exit(0);
	fexecve(program, argv, no_env);
	_exit(127);
}

static int spawn(const struct lease *l, struct error *e)
{
	struct cgroup top;
	cleanup_free char *path = page_path(l->node);
	cleanup_fd int program = program_open(GUARD_PROGRAM, e);
	if (program < 0)
		return program;
	int r = cgroup_init(&top, l->node->config->node.cgroup, NULL, e);
	if (r < 0 || !path)
		return r < 0 ? r : error_set(e, ENOMEM, "out of memory");
	char name[] = GUARD_PROGRAM;
	char *const argv[] = { name, path, (char *)cgroup_freezer(&top), NULL };
	pid_t pid = fork();
	if (pid == 0)
		become_guard(program, argv);
	if (pid < 0)
		r = error_errno(e, "cannot start " GUARD_PROGRAM);
	else
		waitpid(pid, NULL, 0);
	cgroup_deinit(&top);
	return r;
}

int lease_ensure_guard(struct lease *l, struct error *e)
{
	enum { TRIES = 200, PAUSE_US = 5000 };
	if (is_guarded(l->file))
		return 0;
	if (atomic_load(&l->page->lease_us) == 0)
		return 0; /* it would end at once */
	int r = spawn(l, e);
	for (int i = 0; r == 0 && i < TRIES; i++) {
		if (is_guarded(l->file))
			return 0;
		usleep(PAUSE_US);
	}
	return r < 0 ? r : error_fault(e, FAULT_UNAVAILABLE, GUARD_PROGRAM " does not start");
}

void lease_dismiss_guard(const struct node *node)
{
	struct lease l = { .node = (struct node *)node, .file = -1 };
	cleanup_free char *path = page_path(node);
	if (!path || access(path, F_OK) < 0)
		return;
	if (lease_map(&l, NULL) == 0) {
		const struct lease_time none = { 0 };
		guard_page_put(l.page, &none);
		unlink(path);
	}
	lease_unmap(&l);
	if (lease_is_frozen_together(node) && lease_thaw_together(node, NULL) == 0)
		log_info("sessions that a guard had frozen go on: this node needs no lease");
}

/* --- the group of all sessions -------------------------------------------------------- */

int lease_thaw_together(const struct node *node, struct error *e)
{
	struct cgroup top;
	int r = cgroup_init(&top, node->config->node.cgroup, NULL, e);
	if (r == 0 && cgroup_exists(&top))
		r = cgroup_thaw(&top, e);
	cgroup_deinit(&top);
	return r;
}

bool lease_is_frozen_together(const struct node *node)
{
	struct cgroup top;
	bool asked = cgroup_init(&top, node->config->node.cgroup, NULL, NULL) == 0 &&
		     cgroup_freeze_asked(&top);
	cgroup_deinit(&top);
	return asked;
}
