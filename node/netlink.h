/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NETLINK_H
#define ELSA_NODE_NETLINK_H

/*
 * Changes to a network namespace as netlink messages (linux/netlink.h), put
 * together one after the other and sent at once: a few hundred microseconds,
 * where a program that says the same takes some milliseconds to start.
 *
 *	netlink_begin(&n, "give it its address", RTM_NEWADDR, flags, &head, sizeof(head));
 *	netlink_put(&n, IFA_LOCAL, &address, sizeof(address));
 *	...
 *	r = netlink_send(&n, fd, e);
 */

#include "base/error.h"

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_MESSAGES 16

struct netlink {
	_Alignas(struct nlmsghdr) char data[2048]; /* ample for all that node/net*.c says */
	size_t len;
	size_t message;                      /* where the one being put together begins */
	const char *whats[NETLINK_MESSAGES]; /* of each message; borrowed */
	uint32_t count;
	uint32_t answers; /* that will come: to each message with NLM_F_ACK one */
};

#define NETLINK_INIT ((struct netlink) { .len = 0 })

/* A socket of the namespace `netns_fd`, or of ours when that is negative; or a negative errno. */
int netlink_open(int netns_fd, int protocol, struct error *e);

/* Of an interface in the namespace of the socket; 0 when there is none of that name. */
uint32_t netlink_index(int fd, const char *name);

/* A message with the fixed head of its type. `what` is for "cannot WHAT: ...". */
void netlink_begin(struct netlink *n, const char *what, int type, int flags, const void *head,
		   size_t len);

/* Attributes of the message begun last. */
void netlink_put(struct netlink *n, int type, const void *data, size_t len);
void netlink_put_text(struct netlink *n, int type, const char *text);
void netlink_put_u32(struct netlink *n, int type, uint32_t value); /* as this machine has it */
void netlink_put_be32(struct netlink *n, int type, uint32_t value);

/* An attribute of attributes, ended with what netlink_nest() returned; `head` comes before them. */
size_t netlink_nest(struct netlink *n, int type, const void *head, size_t len);
void netlink_nest_end(struct netlink *n, size_t nest);

/* Whole messages about a link. No IPv6 address of its own: to be said before it comes up. */
void netlink_link_plain(struct netlink *n, const char *what, uint32_t index);
void netlink_link_up(struct netlink *n, const char *what, uint32_t index);

/* Sends all of it and waits for the answers. The first failure is returned, with what it was about
 * in *e; what comes behind it has been done all the same, except in a batch of netfilter's. */
int netlink_send(struct netlink *n, int fd, struct error *e);

/* For many changes one after the other, of rtnetlink, each with NLM_F_ACK: sends what there is and
 * empties `n`, and all answers are read, so that the socket can be used on. A failure with `fine`
 * (a positive errno; 0: none) is none. Returns the first. */
int netlink_flush(struct netlink *n, int fd, int fine, struct error *e);
/* Is there no room for another message of up to 128 bytes? */
bool netlink_full(const struct netlink *n);

/* A question: the one message in `n`, a dump (NLM_F_DUMP) or one thing (NLM_F_ACK). `each` gets
 * what comes, and may end it with a negative errno; -EAGAIN when a dump was overtaken by changes.
 */
int netlink_ask(struct netlink *n, int fd, int (*each)(const struct nlmsghdr *m, void *arg),
		void *arg, struct error *e);

/* The attributes in `len` bytes, by type: to[type] is NULL where there is none. `to` has `count`.
 */
void netlink_parse(const void *attributes, size_t len, const struct nlattr **to, size_t count);
/* In an attribute of attributes; none when that is NULL. */
void netlink_parse_nested(const struct nlattr *nest, const struct nlattr **to, size_t count);
/* Of a message behind its fixed head of `head` bytes. */
void netlink_attributes(const struct nlmsghdr *m, size_t head, const struct nlattr **to,
			size_t count);
/* Copies up to `len` bytes of one, the rest zeroed; false when there is none. */
bool netlink_get(const struct nlattr *a, void *to, size_t len);

#endif
