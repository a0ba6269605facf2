/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SLEEP_PACKET_H
#define ELSA_NODE_SLEEP_PACKET_H

/*
 * Packets of connections that were open when their session fell asleep: what
 * they mean, and what may be said to them. Pure: bytes in, bytes out. What comes
 * in is from outside.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole IPv4 packet of TCP. Numbers in the host's order; `payload` is borrowed. */
struct packet {
	struct in_addr from, to;
	uint16_t from_port, to_port;
	uint32_t seq, ack;
	uint8_t flags; /* PACKET_... */
	bool has_time;
	uint32_t time, echo; /* RFC 7323 */
	const uint8_t *payload;
	size_t len;
};

enum { PACKET_FIN = 1, PACKET_SYN = 2, PACKET_RST = 4, PACKET_PSH = 8, PACKET_ACK = 16 };

/* False: something else, a fragment, or garbage. Checksums are not looked at: what is not for us to
 * answer is given to the session's own kernel, which looks. */
bool packet_parse(const void *data, size_t len, struct packet *to);

/* What a session knows of a connection, from its checkpoint (node/connections.h). */
struct packet_connection {
	struct in_addr peer;
	uint16_t peer_port;
	uint16_t window;  /* as it was advertised last, scaled */
	uint32_t expects; /* the number of the next byte from the peer */
	bool polls;       /* what is next is an open page's request, which waits */
};

enum packet_meaning {
	PACKET_NOBODY, /* not of a connection, or it says nothing */
	PACKET_PROBE,  /* keepalive, or what the session has got already: to be answered */
	PACKET_KEEP,   /* it is for the session, and can wait: an end, a ping, a pong */
	PACKET_TOUCH,  /* somebody wants something of the session */
};

/* Of a packet of that connection. */
enum packet_meaning packet_meaning(const struct packet *p, const struct packet_connection *c);

/* What is in a connection's payload is nobody's: nothing but WebSocket pings, pongs and closes. */
bool packet_is_idle(const uint8_t *payload, size_t len);

/* What its peer's kernel hears of the session's to a probe: that all is as it was. Bytes written.
 */
enum { PACKET_ANSWER_MOST = 52 };
size_t packet_answer(const struct packet *p, const struct packet_connection *c,
		     uint8_t to[PACKET_ANSWER_MOST]);

#endif
