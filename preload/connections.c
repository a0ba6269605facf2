/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CRIU that dumps asks, twice, which connections are tracked in the session's network. For an
 * answer the kernel walks a table that is the whole machine's, some milliseconds long. No rule in a
 * session's network tracks any: those that are about to be forgotten, which is asked in its place,
 * are none either, and soon found.
 */
#define _GNU_SOURCE
#include "preload/parts.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	TRACKED = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
	DYING = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_DYING,
};

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

INTERPOSED ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct nlmsghdr *h = message->msg_iovlen == 1 ? message->msg_iov->iov_base : NULL;
	if (h && message->msg_iov->iov_len >= sizeof(*h) && h->nlmsg_type == TRACKED &&
	    h->nlmsg_flags & NLM_F_DUMP && option(fd, SO_DOMAIN) == AF_NETLINK &&
	    option(fd, SO_PROTOCOL) == NETLINK_NETFILTER)
		h->nlmsg_type = DYING;
	return syscall(SYS_sendmsg, fd, message, flags);
}
