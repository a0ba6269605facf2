/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net_keep.h"

#include "base/cleanup.h"
#include "node/close_soon.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ROOM = 4 << 20,     /* bytes, as the kernel counts them */
	FRAME = 68 << 10,   /* more than the largest that segmentation offload leaves whole */
	MOST_FRAMES = 8192, /* what still comes while we give is not for us to give */
};

/* Before a frame, what is to be done with it; and its own head. */
struct head {
	struct virtio_net_hdr todo;
	struct ethhdr ether;
} __attribute__((packed));

struct before {
	struct before *next;
	size_t len;
	unsigned char data[];
};

struct net_keep {
	int fd;
	struct sockaddr_ll link;
	struct head head; /* of what comes from the node */
	struct before *first, **end;
};

/* Of the node's end of the link: what it sends into it. Checksums and segments are as yet undone in
 * such packets; the header that comes with each, and goes with it again, says what is to be done.
 */
static int open_link(struct sockaddr_ll *link)
{
	static struct sock_filter outgoing[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { ARRAY_SIZE(outgoing), outgoing };
	const int on = 1, room = ROOM;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)link, sizeof(*link)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void read_mac(const char *text, unsigned char to[ETH_ALEN])
{
	sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to[0], &to[1], &to[2], &to[3], &to[4],
	       &to[5]);
}

static struct head head_for(const char *address)
{
	struct head head = { .ether.h_proto = htons(ETH_P_IP) };
	char mac[NET_MAC_SIZE] = "";
	net_mac(address, mac);
	read_mac(mac, head.ether.h_dest);
	read_mac(NET_NODE_MAC, head.ether.h_source);
	return head;
}

struct net_keep *net_keep_begin(const struct net_session *s)
{
	char name[NET_INTERFACE_SIZE];
	struct net_keep *keep = malloc(sizeof(*keep));
	if (!keep)
		return NULL;
	net_interface(s->id, name);
	/* All kinds: a socket for one kind is told only what comes in. */
	keep->link = (struct sockaddr_ll) { .sll_family = AF_PACKET,
					    .sll_protocol = htons(ETH_P_ALL),
					    .sll_ifindex = (int)if_nametoindex(name) };
	keep->fd = keep->link.sll_ifindex ? open_link(&keep->link) : -1;
	if (keep->fd < 0) {
		free(keep);
		return NULL;
	}
	keep->head = head_for(s->address);
	keep->first = NULL;
	keep->end = &keep->first;
	return keep;
}

void net_keep_put(struct net_keep *keep, const void *packet, size_t len)
{
	size_t all = sizeof(keep->head) + len;
	struct before *b = keep ? malloc(sizeof(*b) + all) : NULL;
	if (!b)
		return;
	*b = (struct before) { .len = all };
	memcpy(b->data, &keep->head, sizeof(keep->head));
	memcpy(b->data + sizeof(keep->head), packet, len);
	*keep->end = b;
	keep->end = &b->next;
}

void net_keep_each(struct net_keep *keep, void (*each)(const void *packet, size_t len, void *arg),
		   void *arg)
{
	cleanup_free unsigned char *frame = keep ? malloc(FRAME) : NULL;
	for (int i = 0; frame && i < MOST_FRAMES; i++) {
		ssize_t n = recv(keep->fd, frame, FRAME, 0);
		if (n < 0)
			break;
		if ((size_t)n > sizeof(struct head))
			each(frame + sizeof(struct head), (size_t)n - sizeof(struct head), arg);
	}
}

void *net_keep_give(struct net_keep *keep)
{
	cleanup_free unsigned char *frame = keep ? malloc(FRAME) : NULL;
	for (const struct before *b = keep ? keep->first : NULL; b; b = b->next)
		send(keep->fd, b->data, b->len, 0);
	for (int i = 0; frame && i < MOST_FRAMES; i++) {
		ssize_t n = recv(keep->fd, frame, FRAME, 0);
		if (n < 0)
			break;
		/* Its own packets are not told to a socket, so none is kept twice. */
		if ((size_t)n > sizeof(struct virtio_net_hdr))
			send(keep->fd, frame, (size_t)n, 0);
	}
	return net_keep_free(keep);
}

void *net_keep_free(struct net_keep *keep)
{
	if (keep) {
		while (keep->first) {
			struct before *next = keep->first->next;
			free(keep->first);
			keep->first = next;
		}
		close_soon(keep->fd);
		free(keep);
	}
	return NULL;
}
