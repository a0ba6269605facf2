/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_CONN_H
#define ELSA_NODE_MOVE_CONN_H

/*
 * A move connection (node/move_wire.h): TLS with both sides' certificates of
 * elsad's authority; and messages over it. Blocking, one thread at a time;
 * move_conn_hang_up() from any.
 */

#include "node/identity.h"
#include "node/move_wire.h"

struct move_conn;

/* Files are read when this is made. `name`: this node's. */
struct move_tls;
int move_tls_new(const struct identity *id, struct move_tls **tls, struct error *e);
void *move_tls_free(struct move_tls *tls); /* returns NULL; connections keep what they need of it */

/* To node `node` at "address:port": it must show that node's certificate. */
int move_connect(struct move_tls *tls, const char *at, const char *node, int timeout_ms,
		 struct move_conn **conn, struct error *e);
/* A connection that was accepted: takes `fd` over, also when it fails. The peer's name is in
 * move_conn_peer(). */
int move_accept(struct move_tls *tls, int fd, int timeout_ms, struct move_conn **conn,
		struct error *e);
/* Without TLS, over a socket pair, for unit tests. Takes `fd` over. */
int move_conn_plain(int fd, const char *peer, struct move_conn **conn, struct error *e);
const char *move_conn_peer(const struct move_conn *conn);
void move_conn_hang_up(struct move_conn *conn); /* whoever is in a call returns soon */
void *move_conn_free(struct move_conn *conn);   /* returns NULL */

/* --- node/move_rate.c -------------------------------------------------------------- */

/* What has come to the other end so far, and the time in which it was under way; of that, in which
 * the other end had no room. */
struct move_sent {
	uint64_t bytes, busy_us, full_us;
};
void move_conn_sent(const struct move_conn *conn, struct move_sent *to);
/* Between the two; 0: not known. Pure. */
uint64_t move_sent_per_s(const struct move_sent *from, const struct move_sent *to);

/* --- node/move_message.c ----------------------------------------------------------- */

int move_send(struct move_conn *conn, enum move_type type, const void *body, size_t len,
	      struct error *e);
int move_send_text(struct move_conn *conn, enum move_type type, const struct wire_struct *what,
		   const void *of, struct error *e);
int move_send_error(struct move_conn *conn, const struct error *why);
/* `body` is emptied first. -ETIMEDOUT: nothing came, the connection can go on; -ECONNRESET: it has
 * ended. */
int move_recv(struct move_conn *conn, enum move_type *type, struct buf *body, int timeout_ms,
	      struct error *e);
/* What a MOVE_ERROR that was received says: its errno. */
int move_failure_read(const struct move_conn *conn, const struct buf *body, struct error *e);
/* Sends, and receives an answer of type `want`; MOVE_ERROR becomes *e and its errno. */
int move_ask(struct move_conn *conn, enum move_type type, const void *body, size_t len,
	     enum move_type want, struct buf *answer, int timeout_ms, struct error *e);

#endif
