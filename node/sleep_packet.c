/* SPDX-License-Identifier: Apache-2.0 */
#include "node/sleep_packet.h"

#include <arpa/inet.h>
#include <string.h>

enum {
	HEAD_IP = 20,
	HEAD_TCP = 20,
	TIME_OPTION = 12, /* with two bytes of padding before it */
	AT_IP_LENGTH = 2,
	AT_IP_FRAGMENT = 6,
	AT_IP_PROTOCOL = 9,
	AT_IP_CHECKSUM = 10,
	AT_IP_FROM = 12,
	AT_IP_TO = 16,
	AT_TCP_CHECKSUM = 16,
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_TIME = 8,
	OPTION_TIME_LENGTH = 10,
};

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

/* --- reading ------------------------------------------------------------------- */

static void parse_options(const uint8_t *at, const uint8_t *end, struct packet *to)
{
	while (at < end && *at != OPTION_END) {
		if (*at == OPTION_NOP) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return;
		if (*at == OPTION_TIME && at[1] == OPTION_TIME_LENGTH) {
			to->has_time = true;
			to->time = get32(at + 2);
			to->echo = get32(at + 6);
		}
		at += at[1];
	}
}

static bool parse_tcp(const uint8_t *tcp, size_t len, struct packet *to)
{
	size_t head = len < HEAD_TCP ? 0 : (size_t)(tcp[12] >> 4) * 4;
	if (head < HEAD_TCP || head > len)
		return false;
	to->from_port = get16(tcp);
	to->to_port = get16(tcp + 2);
	to->seq = get32(tcp + 4);
	to->ack = get32(tcp + 8);
	to->flags = tcp[13] & 0x1f;
	to->payload = tcp + head;
	to->len = len - head;
	parse_options(tcp + HEAD_TCP, tcp + head, to);
	return true;
}

bool packet_parse(const void *data, size_t len, struct packet *to)
{
	const uint8_t *ip = data;
	*to = (struct packet) { 0 };
	if (len < HEAD_IP || ip[0] >> 4 != 4)
		return false;
	size_t head = (size_t)(ip[0] & 0xf) * 4, all = get16(ip + AT_IP_LENGTH);
	bool fragment = get16(ip + AT_IP_FRAGMENT) & 0x3fff;
	if (head < HEAD_IP || all < head || all > len || fragment ||
	    ip[AT_IP_PROTOCOL] != IPPROTO_TCP)
		return false;
	memcpy(&to->from, ip + AT_IP_FROM, sizeof(to->from));
	memcpy(&to->to, ip + AT_IP_TO, sizeof(to->to));
	return parse_tcp(ip + head, all - head, to);
}

/* --- meaning ------------------------------------------------------------------- */

/* RFC 6455, 5.2: a masked control frame from a client has two bytes, four of mask, and up to 125 of
 * what it says. Its length, or 0 when it is not a whole one. */
static size_t control_frame(const uint8_t *at, size_t len)
{
	enum { HEAD = 6, CLOSE = 0x88, PING = 0x89, PONG = 0x8a, MASKED = 0x80, MOST = 125 };
	if (len < HEAD || (at[0] != CLOSE && at[0] != PING && at[0] != PONG) || !(at[1] & MASKED))
		return 0;
	size_t size = HEAD + (at[1] & ~MASKED);
	return (at[1] & ~MASKED) <= MOST && size <= len ? size : 0;
}

bool packet_is_idle(const uint8_t *payload, size_t len)
{
	size_t frame = 1;
	while (len && (frame = control_frame(payload, len))) {
		payload += frame;
		len -= frame;
	}
	return frame != 0;
}

/* Numbers go around. */
static bool is_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

enum packet_meaning packet_meaning(const struct packet *p, const struct packet_connection *c)
{
	/* RFC 1122, 4.2.3.6: a probe is about the byte before the next, with or without it. Whoever
	 * has not heard that the session has got something says it again. */
	bool old =
		is_before(p->seq, c->expects) && !is_before(c->expects, p->seq + (uint32_t)p->len);
	if (p->flags & PACKET_SYN || !(p->flags & (PACKET_ACK | PACKET_RST)))
		return PACKET_NOBODY;
	bool end = p->flags & (PACKET_FIN | PACKET_RST);
	if (old && !end)
		return PACKET_PROBE;
	if (old || p->len == 0 || p->flags & PACKET_RST)
		return end ? PACKET_KEEP : PACKET_NOBODY;
	return packet_is_idle(p->payload, p->len) ? PACKET_KEEP : PACKET_TOUCH;
}

/* --- answering ----------------------------------------------------------------- */

static uint32_t sum(const uint8_t *at, size_t len)
{
	uint32_t total = 0;
	for (size_t i = 0; i + 1 < len; i += 2)
		total += get16(at + i);
	return total;
}

static uint16_t checksum(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

static void put_ip(uint8_t *ip, size_t len, const struct packet *p)
{
	enum { DONT_FRAGMENT = 0x4000, TTL = 64 };
	memset(ip, 0, HEAD_IP);
	ip[0] = 0x45;
	put16(ip + AT_IP_LENGTH, (uint32_t)len);
	put16(ip + AT_IP_FRAGMENT, DONT_FRAGMENT);
	ip[8] = TTL;
	ip[AT_IP_PROTOCOL] = IPPROTO_TCP;
	memcpy(ip + AT_IP_FROM, &p->to, sizeof(p->to));
	memcpy(ip + AT_IP_TO, &p->from, sizeof(p->from));
	put16(ip + AT_IP_CHECKSUM, checksum(sum(ip, HEAD_IP)));
}

/* The time is the last that the peer has seen of the session's, so that nothing looks older than
 * that (RFC 7323, 5), now or when the session goes on. */
static size_t put_time(uint8_t *tcp, const struct packet *p)
{
	if (!p->has_time)
		return 0;
	uint8_t *option = tcp + HEAD_TCP;
	option[0] = option[1] = OPTION_NOP;
	option[2] = OPTION_TIME;
	option[3] = OPTION_TIME_LENGTH;
	put32(option + 4, p->echo);
	put32(option + 8, p->time);
	return TIME_OPTION;
}

size_t packet_answer(const struct packet *p, const struct packet_connection *c,
		     uint8_t to[PACKET_ANSWER_MOST])
{
	uint8_t *tcp = to + HEAD_IP;
	memset(tcp, 0, HEAD_TCP);
	size_t head = HEAD_TCP + put_time(tcp, p);
	put16(tcp, p->to_port);
	put16(tcp + 2, p->from_port);
	put32(tcp + 4, p->ack);
	put32(tcp + 8, c->expects);
	tcp[12] = (uint8_t)(head / 4 << 4);
	tcp[13] = PACKET_ACK;
	put16(tcp + 14, c->window);
	put_ip(to, HEAD_IP + head, p);
	/* With the addresses, the protocol and the length (RFC 9293, 3.1). */
	uint32_t total = sum(to + AT_IP_FROM, 8) + IPPROTO_TCP + (uint32_t)head + sum(tcp, head);
	put16(tcp + AT_TCP_CHECKSUM, checksum(total));
	return HEAD_IP + head;
}
