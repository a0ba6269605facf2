/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `criu restore --lazy-pages` says to its lazy-pages daemon, which we are
 * (criu/uffd.c): over a stream socket in its work directory, for every task its
 * pid inside as an int, then one byte with the userfaultfd; a zombie's pid is
 * negative and has none. When all tasks are restored, a number that is no pid.
 * Nothing is answered. The tasks register their memory between the two, and
 * already fault.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME      "lazy-pages.socket"
#define RESTORE_FINISHED 0x52535446

/* By way of the directory's descriptor: its path may be longer than a socket's can be. */
static int listen_in(const char *work, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int dir = open(work, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (dir < 0 || fd < 0)
		return error_errno(e, "cannot listen to CRIU in %s", work);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, dir);
	if ((unlinkat(dir, SOCKET_NAME, 0) < 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(dir, SOCKET_NAME, 0600, 0) < 0 || listen(fd, 1) < 0)
		return error_errno(e, "cannot listen to CRIU in %s", work);
	return steal_fd(&fd);
}

/* 1 when there is something to read, 0 when all is over. */
static int wait_readable(struct pages *p, int fd, struct error *e)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
				{ .fd = p->hang_up, .events = POLLIN } };
	while (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return error_errno(e, "cannot listen to CRIU");
	return fds[1].revents ? 0 : 1;
}

static int receive(struct pages *p, int from, void *to, size_t len, int *fd, struct error *e)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = { .iov_base = to, .iov_len = len };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1 };
	if (fd) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
	}
	int r = wait_readable(p, from, e);
	if (r <= 0)
		return r < 0 ? r : -ECANCELED;
	ssize_t n = recvmsg(from, &m, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = fd && n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(*fd)))
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	if (n != (ssize_t)len)
		return error_set(e, EPIPE, "CRIU has hung up before all was restored");
	return 0;
}

static int take_space(struct pages *p, int32_t pid, int *fd, struct error *e)
{
	struct pages_map map;
	int memory = pages_index_find(&p->index, pid);
	if (memory < 0)
		return error_set(e, EBADMSG, "the checkpoint has no memory of process %d",
				 (int)pid);
	if (pages_index_map(&p->index, (size_t)memory, &map) < 0)
		return error_set(e, ENOMEM, "out of memory");
	pthread_rwlock_wrlock(&p->spaces_lock);
	int r = pages_space_add(p, pid, steal_fd(fd), &map, e);
	pthread_rwlock_unlock(&p->spaces_lock);
	return r;
}

static int converse(struct pages *p, int from, struct error *e)
{
	for (;;) {
		int32_t pid;
		char byte;
		cleanup_fd int fd = -1;
		int r = receive(p, from, &pid, sizeof(pid), NULL, e);
		if (r < 0)
			return r;
		if (pid == RESTORE_FINISHED)
			return 0;
		if (pid < 0)
			continue;
		r = receive(p, from, &byte, sizeof(byte), &fd, e);
		if (r == 0 && fd < 0)
			r = error_set(e, EPROTO, "CRIU speaks of memory in an unknown way");
		if (r == 0)
			r = take_space(p, pid, &fd, e);
		if (r < 0)
			return r;
	}
}

static int accept_one(struct pages *p, struct error *e)
{
	int r = wait_readable(p, p->listener, e);
	if (r <= 0)
		return r < 0 ? r : -ECANCELED;
	int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	return fd < 0 ? error_errno(e, "cannot listen to CRIU") : fd;
}

static void *listen_main(void *arg)
{
	struct pages *p = arg;
	struct error e = ERROR_INIT;
	cleanup_fd int fd = -1;
	int r = pages_make_index(p, &e);
	if (r == 0)
		r = pages_early_start(p, &e);
	if (r == 0)
		r = fd = accept_one(p, &e);
	if (r >= 0)
		r = converse(p, fd, &e);
	pthread_mutex_lock(&p->lock);
	p->restored = r < 0 ? r : 1;
	p->restore_error = e;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	cleanup_close_fd(&p->listener);
	p->listener = -1;
	pages_unref(p);
	return NULL;
}

int pages_listen_start(struct pages *p, const char *work, struct error *e)
{
	p->listener = listen_in(work, e);
	return p->listener < 0 ? p->listener : pages_thread(p, listen_main, p, e);
}
