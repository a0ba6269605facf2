/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doze_watch.h"

#include "base/cleanup.h"
#include "node/close_soon.h"
#include "node/sleep_packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	PACKET_ROOM = 4096, /* what is longer is no idle talk */
	AT_ONCE = 64,
	LONE_BYTE = 1, /* of a keepalive: no request is as short */
};

struct doze_watch {
	struct event *event;
	void (*touched)(void *arg, const char *what);
	void *arg;
};

/* What the node sends into the link: first fragments of TCP over IPv4 to `port` that are longer
 * than their headers. */
static int attach_filter(int fd, uint32_t port)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 17),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 15),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 13),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 11, 0),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 8),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 12),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_X, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, PACKET_ROOM),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { ARRAY_SIZE(code), code };
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
}

/* Bound when the filter is there: before, it gets nothing. */
static int open_link(const char *interface, int64_t port, struct error *e)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET,
				    .sll_protocol = htons(ETH_P_ALL),
				    .sll_ifindex = (int)if_nametoindex(interface) };
	cleanup_fd int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link.sll_ifindex == 0)
		return error_set(e, ENODEV, "there is no link %s", interface);
	if (fd < 0 || attach_filter(fd, (uint32_t)port) < 0 ||
	    bind(fd, (struct sockaddr *)&link, sizeof(link)) < 0)
		return error_errno(e, "cannot watch the link %s", interface);
	return steal_fd(&fd);
}

static bool is_touch(const void *data, size_t len)
{
	struct packet p;
	if (len >= PACKET_ROOM || !packet_parse(data, len, &p))
		return true;
	return p.len > LONE_BYTE && !packet_is_idle(p.payload, p.len);
}

static void on_packet(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct doze_watch *w = arg;
	unsigned char packet[PACKET_ROOM];
	for (int i = 0; i < AT_ONCE; i++) {
		ssize_t n = recv(fd, packet, sizeof(packet), 0);
		if (n <= 0)
			return;
		if (is_touch(packet, (size_t)n)) {
			w->touched(w->arg, "data on a connection that was open");
			return;
		}
	}
}

int doze_watch_new(struct event_base *base, const char *interface, int64_t port,
		   void (*touched)(void *arg, const char *what), void *arg, struct doze_watch **to,
		   struct error *e)
{
	int fd = open_link(interface, port, e);
	if (fd < 0)
		return fd;
	struct doze_watch *w = calloc(1, sizeof(*w));
	if (w) {
		*w = (struct doze_watch) { .touched = touched, .arg = arg };
		w->event = event_new(base, fd, EV_READ | EV_PERSIST, on_packet, w);
	}
	if (!w || !w->event || event_add(w->event, NULL) < 0) {
		close(fd);
		if (w && w->event)
			event_free(w->event);
		free(w);
		return error_set(e, ENOMEM, "out of memory");
	}
	*to = w;
	return 0;
}

void *doze_watch_free(struct doze_watch *w)
{
	if (!w)
		return NULL;
	int fd = event_get_fd(w->event);
	event_free(w->event);
	close_soon(fd);
	free(w);
	return NULL;
}
