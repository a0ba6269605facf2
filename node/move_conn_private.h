/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_CONN_PRIVATE_H
#define ELSA_NODE_MOVE_CONN_PRIVATE_H

/* What node/move_conn.c, which carries bytes, and node/move_message.c share. */

#include "node/move_conn.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct move_conn {
	int fd;
	SSL *ssl; /* NULL: plain */
	char *peer;
	bool broken; /* nothing can be said over it any more */
	atomic_bool hung_up;
};

/* -ECONNRESET: it has ended, or is of no use from here on. */
int move_conn_ended(struct move_conn *c, struct error *e);
/* Some bytes, at least one, within so long; -ETIMEDOUT. */
int move_conn_read(struct move_conn *c, void *to, size_t len, size_t *got, int timeout_ms,
		   struct error *e);
int move_conn_write(struct move_conn *c, const void *from, size_t len, size_t *done, int timeout_ms,
		    struct error *e);

#endif
