/* SPDX-License-Identifier: Apache-2.0 */
#include "node/owed.h"

#include "base/cleanup.h"
#include "node/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

/* linux/net/tcp_states.h is not for programs: an end that may still be answered. */
enum { ESTABLISHED = 1 << 1, CLOSE_WAIT = 1 << 8 };

struct search {
	int64_t port;
	bool owed;
};

bool owed_by(const struct owed_line *line)
{
	if (!line->came || line->came_ms >= OWED_MOST_MS)
		return false;
	return !line->went ||
	       (line->went_ms > line->came_ms && line->went_ms - line->came_ms > OWED_ANSWER_MS);
}

static int look_at(const struct nlmsghdr *m, void *arg)
{
	struct search *s = arg;
	struct tcp_info info;
	const struct inet_diag_msg *c = NLMSG_DATA(m);
	const struct nlattr *a[INET_DIAG_INFO + 1];
	if (m->nlmsg_len < NLMSG_LENGTH(sizeof(*c)) || ntohs(c->id.idiag_sport) != s->port)
		return 0;
	netlink_attributes(m, sizeof(*c), a, INET_DIAG_INFO + 1);
	if (!netlink_get(a[INET_DIAG_INFO], &info, sizeof(info)))
		return 0;
	const struct owed_line line = { .came = info.tcpi_bytes_received,
					.went = info.tcpi_bytes_sent,
					.came_ms = info.tcpi_last_data_recv,
					.went_ms = info.tcpi_last_data_sent };
	s->owed |= owed_by(&line);
	return 0;
}

static int search(struct search *s, int fd, uint8_t family, struct error *e)
{
	const struct inet_diag_req_v2 request = { .sdiag_family = family,
						  .sdiag_protocol = IPPROTO_TCP,
						  .idiag_ext = 1 << (INET_DIAG_INFO - 1),
						  .idiag_states = ESTABLISHED | CLOSE_WAIT };
	struct netlink n = NETLINK_INIT;
	netlink_begin(&n, "look at its connections", SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request,
		      sizeof(request));
	return netlink_ask(&n, fd, look_at, s, e);
}

int owed_is_there(pid_t pid, int64_t port, bool *owed, struct error *e)
{
	struct search s = { .port = port };
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	cleanup_fd int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return error_errno(e, "cannot open %s", path);
	cleanup_fd int fd = netlink_open(netns, NETLINK_SOCK_DIAG, e);
	if (fd < 0)
		return fd;
	int r = search(&s, fd, AF_INET, e);
	if (r == 0)
		r = search(&s, fd, AF_INET6, e);
	*owed = s.owed;
	return r;
}
