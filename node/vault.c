/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/vault.h"

#include "base/cleanup.h"
#include "init/init.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A message of ours, and nothing else, has this form: one number and one descriptor. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int vault_open(pid_t init, struct vault *v, struct error *e)
{
	*v = VAULT_INIT;
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, init, 0);
	if (pidfd < 0)
		return error_errno(e, "cannot open the session's init");
	v->in = (int)syscall(SYS_pidfd_getfd, pidfd, INIT_VAULT_IN, 0);
	v->out = v->in < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, INIT_VAULT_OUT, 0);
	if (v->in >= 0 && v->out >= 0)
		return 0;
	int r = error_errno(e, "cannot get at the descriptors of the session's init");
	vault_close(v);
	return r;
}

void vault_close(struct vault *v)
{
	cleanup_close_fd(&v->in);
	cleanup_close_fd(&v->out);
	*v = VAULT_INIT;
}

/* Frozen, init does not mind: nothing is asked of it. */
static int send_message(const struct vault *v, int32_t number, int fd)
{
	union control control = { 0 };
	struct iovec data = { .iov_base = &number, .iov_len = sizeof(number) };
	struct msghdr m = { .msg_iov = &data,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return syscall(SYS_sendmsg, v->in, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int vault_put(const struct vault *v, int32_t number, int fd, struct error *e)
{
	int r = send_message(v, number, fd);
	if (r == -EAGAIN) {
		const int room = 8 << 20;
		syscall(SYS_setsockopt, v->in, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
		r = send_message(v, number, fd);
	}
	if (r == -EAGAIN)
		return error_set(e, ENOBUFS, "the session's init holds no more descriptors");
	if (r < 0)
		return error_set(e, -r, "cannot leave a descriptor with the session's init: %s",
				 strerror(-r));
	return 0;
}

/* -1 unless it is exactly one: a session could have put anything in. */
static int only_descriptor(struct msghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -1;
	int fds[sizeof(union control) / sizeof(int)];
	size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	if (count == 1)
		return fds[0];
	while (count-- > 0)
		close(fds[count]);
	return -1;
}

/* 1 and the message, or 0 when there is none. A message that is not ours gives fd -1. */
static int peek(const struct vault *v, int32_t *number, int *fd, struct error *e)
{
	union control control;
	struct iovec data = { .iov_base = number, .iov_len = sizeof(*number) };
	struct msghdr m = { .msg_iov = &data,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(v->out, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return error_errno(e, "cannot read what the session's init holds");
	/* There is one, and no room for it here: that is not to be taken for none. */
	if (m.msg_flags & MSG_CTRUNC && !CMSG_FIRSTHDR(&m))
		return error_set(e, EMFILE, "no room for what the session's init holds");
	*fd = only_descriptor(&m);
	if (*fd < 0 || n != sizeof(*number))
		*number = 0;
	return 1;
}

/* The first one, without a look at what it is. 0: there is none. */
static int take_out(const struct vault *v, struct error *e)
{
	int32_t number;
	ssize_t n = recv(v->out, &number, sizeof(number), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return 0;
	return n < 0 ? error_errno(e, "cannot take out what the session's init holds") : 1;
}

/* A peek begins at this many bytes of the queue and moves it on (socket(7)); -1 turns that off. */
static int set_peek_offset(const struct vault *v, int offset, struct error *e)
{
	if (setsockopt(v->out, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0)
		return error_errno(e, "cannot look at what the session's init holds");
	return 0;
}

int vault_each(const struct vault *v, int (*each)(int32_t number, int fd, void *arg), void *arg,
	       struct error *e)
{
	int32_t number;
	int fd;
	int r = set_peek_offset(v, 0, e);
	while (r == 0) {
		int got = peek(v, &number, &fd, e);
		if (got <= 0) {
			r = got;
			break;
		}
		if (fd >= 0)
			r = each(number, fd, arg);
	}
	int off = set_peek_offset(v, -1, r < 0 ? NULL : e);
	return r ? r : off;
}

static int count_one(int32_t number, int fd, void *arg)
{
	(void)number;
	close(fd);
	++*(size_t *)arg;
	return 0;
}

int vault_keep(const struct vault *v, bool (*keep)(int32_t number, void *arg), void *arg,
	       struct error *e)
{
	size_t count = 0;
	int r = vault_each(v, count_one, &count, e);
	while (r == 0 && count-- > 0) {
		int32_t number;
		cleanup_fd int fd = -1;
		r = peek(v, &number, &fd, e);
		if (r <= 0)
			break;
		r = fd >= 0 && keep(number, arg) ? vault_put(v, number, fd, e) : 0;
		if (r == 0)
			r = take_out(v, e) < 0 ? -EIO : 0;
	}
	return r < 0 ? r : 0;
}

int vault_empty(const struct vault *v, struct error *e)
{
	int r;
	while ((r = take_out(v, e)) > 0)
		;
	return r;
}
