/* SPDX-License-Identifier: Apache-2.0 */
/* How quick the link is, as TCP sees it: apart from node/move_conn.c, for the C library's tcp_info
 * has no such fields, and the kernel's does not go with it. */
#include "node/move_conn_private.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

enum { LEAST = 512 << 10 }; /* bytes: of fewer it is not known how long they took */

/* By when something was on its way, and there was room for more at the other end: however long
 * either side waits for a processor. */
void move_conn_sent(const struct move_conn *c, struct move_sent *to)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	const size_t end = offsetof(struct tcp_info, tcpi_rwnd_limited) + sizeof(uint64_t);
	*to = (struct move_sent) { 0 };
	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || len < end)
		return;
	to->bytes = info.tcpi_bytes_acked;
	to->busy_us = info.tcpi_busy_time;
	to->full_us = info.tcpi_rwnd_limited;
}

/* While the other end has no room something comes through, too: where that is most of the time, the
 * rest of it says nothing of the link. */
uint64_t move_sent_per_s(const struct move_sent *from, const struct move_sent *to)
{
	if (to->bytes < from->bytes + LEAST || to->busy_us < from->busy_us ||
	    to->full_us < from->full_us)
		return 0;
	uint64_t busy = to->busy_us - from->busy_us, full = to->full_us - from->full_us;
	if (full > busy / 4 * 3)
		return 0;
	return (to->bytes - from->bytes) * 1000000 / (busy > full ? busy - full : 1);
}
