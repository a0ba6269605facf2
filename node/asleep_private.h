/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ASLEEP_PRIVATE_H
#define ELSA_NODE_ASLEEP_PRIVATE_H

/* What node/asleep*.c share. */

#include "node/activator.h"
#include "node/asleep.h"
#include "node/connections.h"
#include "node/doze_watch.h"
#include "node/sleep_net.h"
#include "node/wake_queue.h"

struct kept_packet {
	struct kept_packet *next;
	uint32_t seq;
	uint16_t from_port;
	size_t len;
	unsigned char data[];
};

/* One session that is answered for; or was, and has callers yet. */
struct asleep {
	struct asleep *next; /* in all->first */
	struct asleep_all *all;
	char id[ID_SIZE];
	char address[INET_ADDRSTRLEN];
	struct in_addr in;
	int64_t port;
	enum asleep_kind kind;
	bool leaving; /* its session answers for itself, or is gone: it is not session->asleep */
	struct activator *activator;
	struct event *farewell; /* leaving: until who waited has read why */
	struct connections connections;
	struct doze_watch *watch; /* dozing: over those that it has open */
	int answers;              /* to probes, in the second that began at: */
	mono_us answers_since;

	struct wake_place place;
	bool unsure;    /* whether it is this node's since the lease was asked for first, or */
	unsigned epoch; /* ... since then */
	int unnamed;    /* by elsad, so often one after the other */
	int failures;   /* to be woken, one after the other */
	mono_us not_before;

	/* Under node->lock: */
	bool touched; /* and nothing came of it yet */
	struct kept_packet *kept, **kept_end;
	size_t kept_bytes;
	bool given; /* they were, to the session that was to run */
};

struct asleep_all {
	struct node *node;
	struct activators *activators;
	struct sleep_net *net; /* NULL: `lacks` says why */
	char *lacks;
	struct asleep *first;
	struct wake_queue queue;
};

/* asleep_wake.c. Somebody has come for it. */
void asleep_touch(struct asleep *a, const char *what);
/* It is not to be woken any more, or is. */
void asleep_unqueue(struct asleep *a);
void asleep_wake_next(struct asleep_all *all);

/* asleep_packets.c. A packet of a connection that was open. */
void asleep_packet(const void *data, size_t len, void *all);
/* What is known of its connections, as it is written down. */
void asleep_load(struct asleep *a);
void asleep_drop_packets(struct asleep *a);

#endif
