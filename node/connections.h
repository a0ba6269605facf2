/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CONNECTIONS_H
#define ELSA_NODE_CONNECTIONS_H

/*
 * The connections to a session's server that were open when it fell asleep, and
 * what its kernel would say to their peers: from CRIU's images, where they are
 * kept for the session, into a file of lines
 *
 *	PEER PORT EXPECTS WINDOW
 *
 * beside what answers for it while it sleeps. Thread-safe.
 */

#include "base/error.h"
#include "node/sleep_packet.h"

#include <stddef.h>

enum { CONNECTIONS_MOST = 512 };

struct connections {
	struct packet_connection *items; /* owned */
	size_t count;
};

#define CONNECTIONS_FILE "connections"

/* Those in CRIU's images in the directory `images` whose own port is `port`, to DIR/connections. */
int connections_keep(const char *images, int64_t port, const char *dir, struct error *e);

/* None when there is no such file, or nothing that can be read. */
void connections_load(const char *dir, struct connections *to);
void connections_deinit(struct connections *c);

/* Of the peer of a packet; NULL: not one of these. */
struct packet_connection *connections_find(const struct connections *c, const struct packet *p);

/* Pure. -EBADMSG. Appends to `to`, up to CONNECTIONS_MOST. */
int connections_parse(const char *text, struct connections *to);

/* Pure: one socket of files.img, as CRIU has it: *inode is what its tcp-stream image is called by.
 * `each` ends it with a negative return; -EBADMSG. */
int connections_of_files(const void *data, size_t len, int64_t port,
			 int (*each)(const struct packet_connection *c, uint32_t inode, void *arg),
			 void *arg);
/* Pure: the rest, from tcp-stream-INODE.img. */
int connections_of_stream(const void *data, size_t len, struct packet_connection *c);

#endif
