/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/netlink.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* --- sockets --------------------------------------------------------------------- */

struct socket_request {
	int netns_fd;
	int protocol;
	int fd; /* or a negative errno */
};

static void *open_socket(void *arg)
{
	struct socket_request *q = arg;
	if (q->netns_fd >= 0 && setns(q->netns_fd, CLONE_NEWNET) < 0)
		q->fd = -errno;
	else if ((q->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, q->protocol)) < 0)
		q->fd = -errno;
	return NULL;
}

int netlink_open(int netns_fd, int protocol, struct error *e)
{
	struct socket_request q = { .netns_fd = netns_fd, .protocol = protocol };
	pthread_t thread;
	/* A socket belongs to the namespace it was made in; this thread is only for that. */
	int code = netns_fd >= 0 ? pthread_create(&thread, NULL, open_socket, &q) : 0;
	if (code)
		return error_set(e, code, "cannot start a thread: %s", strerror(code));
	if (netns_fd >= 0)
		pthread_join(thread, NULL);
	else
		open_socket(&q);
	if (q.fd < 0)
		return error_set(e, -q.fd, "cannot open a netlink socket: %s", strerror(-q.fd));
	return q.fd;
}

/* --- messages -------------------------------------------------------------------- */

static void put(struct netlink *n, const void *data, size_t len)
{
	assert(n->len + NLMSG_ALIGN(len) <= sizeof(n->data));
	if (len)
		memcpy(n->data + n->len, data, len);
	memset(n->data + n->len + len, 0, NLMSG_ALIGN(len) - len);
	n->len += NLMSG_ALIGN(len);
	struct nlmsghdr *header = (void *)(n->data + n->message);
	header->nlmsg_len = (uint32_t)(n->len - n->message);
}

void netlink_begin(struct netlink *n, const char *what, int type, int flags, const void *head,
		   size_t len)
{
	assert(n->count < NETLINK_MESSAGES);
	struct nlmsghdr header = { .nlmsg_type = (uint16_t)type,
				   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
				   .nlmsg_seq = n->count };
	n->whats[n->count++] = what;
	n->answers += (flags & NLM_F_ACK) != 0;
	n->message = n->len;
	put(n, &header, sizeof(header));
	put(n, head, len);
}

void netlink_put(struct netlink *n, int type, const void *data, size_t len)
{
	struct nlattr a = { (uint16_t)(NLA_HDRLEN + len), (uint16_t)type };
	put(n, &a, sizeof(a));
	put(n, data, len);
}

void netlink_put_text(struct netlink *n, int type, const char *text)
{
	netlink_put(n, type, text, strlen(text) + 1);
}

void netlink_put_u32(struct netlink *n, int type, uint32_t value)
{
	netlink_put(n, type, &value, sizeof(value));
}

void netlink_put_be32(struct netlink *n, int type, uint32_t value)
{
	netlink_put_u32(n, type, htonl(value));
}

size_t netlink_nest(struct netlink *n, int type, const void *head, size_t len)
{
	size_t nest = n->len;
	netlink_put(n, type | NLA_F_NESTED, head, len);
	return nest;
}

void netlink_nest_end(struct netlink *n, size_t nest)
{
	((struct nlattr *)(void *)(n->data + nest))->nla_len = (uint16_t)(n->len - nest);
}

/* --- sending --------------------------------------------------------------------- */

/* Of an answer only the code matters; 0 is the acknowledgement. */
static int read_answer(const struct netlink *n, int fd, struct error *e)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[2048];
	} answer;
	ssize_t len = recv(fd, &answer, sizeof(answer), 0);
	if (len < 0)
		return error_errno(e, "no answer from the kernel's network");
	if ((size_t)len < sizeof(answer.header) + sizeof(answer.error) ||
	    answer.header.nlmsg_type != NLMSG_ERROR || answer.error.msg.nlmsg_seq >= n->count)
		return error_set(e, EPROTO, "an answer that is none from the kernel's network");
	int code = -answer.error.error;
	if (code == 0)
		return 0;
	return error_set(e, code, "cannot %s: %s", n->whats[answer.error.msg.nlmsg_seq],
			 strerror(code));
}

int netlink_send(struct netlink *n, int fd, struct error *e)
{
	static const struct timeval patience = { .tv_sec = 10 };
	int r = 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, n->data, n->len, 0) < 0)
		return error_errno(e, "cannot speak to the kernel's network");
	for (uint32_t i = 0; r == 0 && i < n->answers; i++)
		r = read_answer(n, fd, e);
	return r;
}
