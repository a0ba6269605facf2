/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/netlink.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

uint32_t netlink_index(int fd, const char *name)
{
	struct ifreq request = { 0 };
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return ioctl(fd, SIOCGIFINDEX, &request) < 0 ? 0 : (uint32_t)request.ifr_ifindex;
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

void netlink_link_plain(struct netlink *n, const char *what, uint32_t index)
{
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index };
	netlink_begin(n, what, RTM_SETLINK, NLM_F_ACK, &head, sizeof(head));
	size_t spec = netlink_nest(n, IFLA_AF_SPEC, NULL, 0);
	size_t inet6 = netlink_nest(n, AF_INET6, NULL, 0);
	netlink_put(n, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	netlink_nest_end(n, inet6);
	netlink_nest_end(n, spec);
}

void netlink_link_up(struct netlink *n, const char *what, uint32_t index)
{
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)index,
				  .ifi_flags = IFF_UP,
				  .ifi_change = IFF_UP };
	netlink_begin(n, what, RTM_SETLINK, NLM_F_ACK, &head, sizeof(head));
}

/* --- sending --------------------------------------------------------------------- */

enum { MESSAGE_ROOM = 128, ANSWER_ROOM = 32 << 10 };

static void set_patience(int fd)
{
	static const struct timeval patience = { .tv_sec = 10 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static int say(const struct netlink *n, int fd, struct error *e)
{
	if (send(fd, n->data, n->len, 0) < 0)
		return error_errno(e, "cannot speak to the kernel's network");
	return 0;
}

static int bad_answer(struct error *e)
{
	return error_set(e, EPROTO, "an answer that is none from the kernel's network");
}

static int failure(const struct netlink *n, const struct nlmsgerr *said, struct error *e)
{
	if (said->msg.nlmsg_seq >= n->count)
		return bad_answer(e);
	return error_set(e, -said->error, "cannot %s: %s", n->whats[said->msg.nlmsg_seq],
			 strerror(-said->error));
}

/* Of an answer only the code matters; 0 is the acknowledgement. A failure with `fine` is none. */
static int read_answer(const struct netlink *n, int fd, int fine, struct error *e)
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
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return bad_answer(e);
	if (answer.error.error == 0 || (fine && answer.error.error == -fine))
		return 0;
	return failure(n, &answer.error, e);
}

int netlink_send(struct netlink *n, int fd, struct error *e)
{
	set_patience(fd);
	int r = say(n, fd, e);
	for (uint32_t i = 0; r == 0 && i < n->answers; i++)
		r = read_answer(n, fd, 0, e);
	return r;
}

bool netlink_full(const struct netlink *n)
{
	return n->count == NETLINK_MESSAGES || n->len + MESSAGE_ROOM > sizeof(n->data);
}

int netlink_flush(struct netlink *n, int fd, int fine, struct error *e)
{
	set_patience(fd);
	int first = n->count ? say(n, fd, e) : 0;
	bool said = first == 0;
	for (uint32_t i = 0; said && i < n->answers; i++) {
		int r = read_answer(n, fd, fine, first < 0 ? NULL : e);
		first = first < 0 ? first : r;
		/* Nothing more will come. */
		said = r != -EAGAIN && r != -EPROTO;
	}
	*n = NETLINK_INIT;
	return first;
}

/* --- asking ---------------------------------------------------------------------- */

/* 1: that was all. */
static int take_messages(const struct netlink *n, const void *data, size_t len,
			 int (*each)(const struct nlmsghdr *m, void *arg), void *arg,
			 struct error *e)
{
	int left = (int)len;
	int r = 0;
	for (const struct nlmsghdr *m = data; r == 0 && NLMSG_OK(m, left);
	     m = NLMSG_NEXT(m, left)) {
		if (m->nlmsg_flags & NLM_F_DUMP_INTR)
			return error_set(e, EAGAIN, "the kernel's network changes too fast");
		if (m->nlmsg_type == NLMSG_DONE)
			return 1;
		if (m->nlmsg_type != NLMSG_ERROR)
			r = each(m, arg);
		else if (m->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
			return bad_answer(e);
		else if (((const struct nlmsgerr *)NLMSG_DATA(m))->error == 0)
			return 1;
		else
			return failure(n, NLMSG_DATA(m), e);
	}
	return r < 0 ? error_set(e, -r, "cannot take the answer of the kernel's network") : r;
}

int netlink_ask(struct netlink *n, int fd, int (*each)(const struct nlmsghdr *m, void *arg),
		void *arg, struct error *e)
{
	cleanup_free char *data = malloc(ANSWER_ROOM);
	if (!data)
		return error_set(e, ENOMEM, "out of memory");
	set_patience(fd);
	int r = say(n, fd, e);
	while (r == 0) {
		ssize_t len = recv(fd, data, ANSWER_ROOM, MSG_TRUNC);
		if (len < 0)
			r = error_errno(e, "no answer from the kernel's network");
		else if (len > ANSWER_ROOM)
			r = bad_answer(e);
		else
			r = take_messages(n, data, (size_t)len, each, arg, e);
	}
	*n = NETLINK_INIT;
	return r < 0 ? r : 0;
}

void netlink_parse(const void *attributes, size_t len, const struct nlattr **to, size_t count)
{
	const char *at = attributes;
	memset(to, 0, count * sizeof(*to));
	while (len >= NLA_HDRLEN) {
		const struct nlattr *a = (const void *)at;
		size_t whole = NLA_ALIGN(a->nla_len);
		if (a->nla_len < NLA_HDRLEN || a->nla_len > len)
			return;
		size_t type = a->nla_type & NLA_TYPE_MASK;
		if (type < count)
			to[type] = a;
		if (whole >= len)
			return;
		at += whole;
		len -= whole;
	}
}

void netlink_parse_nested(const struct nlattr *nest, const struct nlattr **to, size_t count)
{
	netlink_parse(nest ? (const char *)nest + NLA_HDRLEN : NULL,
		      nest ? nest->nla_len - (size_t)NLA_HDRLEN : 0, to, count);
}

void netlink_attributes(const struct nlmsghdr *m, size_t head, const struct nlattr **to,
			size_t count)
{
	size_t before = NLMSG_SPACE(head);
	size_t len = m->nlmsg_len > before ? m->nlmsg_len - before : 0;
	netlink_parse((const char *)m + before, len, to, count);
}

bool netlink_get(const struct nlattr *a, void *to, size_t len)
{
	memset(to, 0, len);
	if (!a)
		return false;
	size_t has = a->nla_len - (size_t)NLA_HDRLEN;
	memcpy(to, (const char *)a + NLA_HDRLEN, has < len ? has : len);
	return true;
}
