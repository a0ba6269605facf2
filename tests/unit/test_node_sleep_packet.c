/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/connections.h"
#include "node/sleep_packet.h"
#include "node/unread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 2048, HEAD = 40, SERVER = 8888, CALLER = 40000 };

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

/* Of 10.99.0.1:40000 to 10.99.0.2:8888. */
static size_t make(uint8_t to[MOST], uint8_t flags, uint32_t seq, const void *options,
		   size_t options_len, const void *payload, size_t len)
{
	size_t all = HEAD + options_len + len;
	memset(to, 0, MOST);
	to[0] = 0x45;
	put16(to + 2, (uint32_t)all);
	to[9] = IPPROTO_TCP;
	inet_pton(AF_INET, "10.99.0.1", to + 12);
	inet_pton(AF_INET, "10.99.0.2", to + 16);
	put16(to + 20, CALLER);
	put16(to + 22, SERVER);
	put32(to + 24, seq);
	put32(to + 28, 777);
	to[32] = (uint8_t)((20 + options_len) / 4 << 4);
	to[33] = flags;
	if (options_len)
		memcpy(to + HEAD, options, options_len);
	if (len)
		memcpy(to + HEAD + options_len, payload, len);
	return all;
}

static const uint8_t timestamps[] = { 1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9 };

static void test_parse(void **state)
{
	(void)state;
	uint8_t data[MOST];
	struct packet p;
	size_t len = make(data, PACKET_ACK, 5, timestamps, sizeof(timestamps), "hello", 5);
	assert_true(packet_parse(data, len, &p));
	assert_int_equal(p.from_port, CALLER);
	assert_int_equal(p.to_port, SERVER);
	assert_int_equal(p.seq, 5);
	assert_int_equal(p.ack, 777);
	assert_true(p.has_time && p.time == 7 && p.echo == 9);
	assert_int_equal(p.len, 5);
	assert_memory_equal(p.payload, "hello", 5);
	/* What an Ethernet card has filled up to its least is not the packet's. */
	assert_true(packet_parse(data, len + 6, &p) && p.len == 5);
	for (size_t cut = 0; cut < len; cut++)
		assert_false(packet_parse(data, cut, &p));
}

static void test_garbage(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {
		{ 0, 0x65 }, /* IPv6 */ { 0, 0x44 }, { 0, 0x4f },  { 2, 0xff },
		{ 6, 0x20 }, /* fragment */
		{ 7, 0x01 }, { 9, IPPROTO_UDP },     { 32, 0x40 }, { 32, 0xf0 },
	};
	uint8_t data[MOST];
	struct packet p;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		size_t len = make(data, PACKET_ACK, 5, NULL, 0, "x", 1);
		data[wrong[i].at] = wrong[i].value;
		assert_false(packet_parse(data, len, &p));
	}
}

static void test_meaning(void **state)
{
	(void)state;
	static const char ping[] = "\x89\x80mask", pong[] = "\x8a\x82maskhi",
			  text[] = "\x81\x82maskhi";
	static const struct {
		uint8_t flags;
		uint32_t seq;
		const char *payload;
		size_t len;
		enum packet_meaning meaning;
	} cases[] = {
		{ PACKET_SYN, 1000, "", 0, PACKET_NOBODY },
		{ PACKET_ACK, 1000, "", 0, PACKET_NOBODY },
		{ PACKET_ACK, 999, "", 0, PACKET_PROBE },
		{ PACKET_ACK, 999, "x", 1, PACKET_PROBE },
		/* it has not heard that this has come */
		{ PACKET_ACK | PACKET_PSH, 990, "0123456789", 10, PACKET_PROBE },
		{ PACKET_ACK | PACKET_PSH, 991, "0123456789", 10, PACKET_TOUCH },
		{ PACKET_ACK | PACKET_PSH, 1000, "l", 1, PACKET_TOUCH },
		{ PACKET_ACK | PACKET_PSH, 1000, text, 8, PACKET_TOUCH },
		{ PACKET_ACK | PACKET_PSH, 1000, ping, 6, PACKET_KEEP },
		{ PACKET_ACK | PACKET_PSH, 1000, pong, 8, PACKET_KEEP },
		{ PACKET_ACK | PACKET_PSH, 1000, pong, 7, PACKET_TOUCH },
		{ PACKET_ACK | PACKET_FIN, 1000, "", 0, PACKET_KEEP },
		{ PACKET_ACK | PACKET_FIN, 1000, "GET", 3, PACKET_TOUCH },
		{ PACKET_RST, 1000, "", 0, PACKET_KEEP },
		{ 0, 1000, "x", 1, PACKET_NOBODY },
		{ PACKET_FIN, 1000, "x", 1, PACKET_NOBODY },
	};
	const struct packet_connection c = { .expects = 1000 };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t data[MOST];
		struct packet p;
		size_t len = make(data, cases[i].flags, cases[i].seq, NULL, 0, cases[i].payload,
				  cases[i].len);
		assert_true(packet_parse(data, len, &p));
		if (packet_meaning(&p, &c) != cases[i].meaning)
			fail_msg("case %zu: %d", i, packet_meaning(&p, &c));
	}
}

static void test_numbers_go_around(void **state)
{
	(void)state;
	const struct packet_connection c = { .expects = 2 };
	uint8_t data[MOST];
	struct packet p;
	assert_true(packet_parse(data, make(data, PACKET_ACK, UINT32_MAX, NULL, 0, "abc", 3), &p));
	assert_int_equal(packet_meaning(&p, &c), PACKET_PROBE);
	assert_true(packet_parse(data, make(data, PACKET_ACK, UINT32_MAX, NULL, 0, "abcd", 4), &p));
	assert_int_equal(packet_meaning(&p, &c), PACKET_TOUCH);
}

static uint32_t sum(const uint8_t *at, size_t len)
{
	uint32_t total = 0;
	for (size_t i = 0; i + 1 < len; i += 2)
		total += (uint32_t)(at[i] << 8 | at[i + 1]);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

static void test_answer(void **state)
{
	(void)state;
	const struct packet_connection c = { .expects = 1000, .window = 502 };
	uint8_t data[MOST], to[PACKET_ANSWER_MOST], pseudo[64] = { 0 };
	struct packet p, said;
	for (int timed = 0; timed < 2; timed++) {
		size_t len = make(data, PACKET_ACK, 999, timestamps, timed ? sizeof(timestamps) : 0,
				  "", 0);
		assert_true(packet_parse(data, len, &p));
		len = packet_answer(&p, &c, to);
		assert_int_equal(len, timed ? 52 : 40);
		assert_true(packet_parse(to, len, &said));
		assert_int_equal(said.seq, 777);
		assert_int_equal(said.ack, 1000);
		assert_int_equal(said.flags, PACKET_ACK);
		assert_int_equal(said.from_port, SERVER);
		assert_int_equal(said.from.s_addr, p.to.s_addr);
		assert_int_equal(said.to.s_addr, p.from.s_addr);
		assert_int_equal(to[34] << 8 | to[35], 502);
		assert_int_equal(said.has_time, timed);
		if (timed)
			assert_true(said.time == 9 && said.echo == 7);
		assert_int_equal(sum(to, 20), 0xffff);
		memcpy(pseudo, to + 12, 8);
		pseudo[9] = IPPROTO_TCP;
		put16(pseudo + 10, (uint32_t)len - 20);
		memcpy(pseudo + 12, to + 20, len - 20);
		assert_int_equal(sum(pseudo, 12 + len - 20), 0xffff);
	}
}

/* --- connections -------------------------------------------------------------------------- */

static void test_lines(void **state)
{
	(void)state;
	static const char *const wrong[] = { "10.99.0.1 1 2\n", "10.99.0.1 1 2 3", "x 1 2 3\n",
					     "10.99.0.1 65536 2 3\n", "10.99.0.1 1 2 3 4\n" };
	struct connections c = { 0 };
	struct packet p = { .from_port = 40000 };
	assert_int_equal(
		connections_parse("10.99.0.1 40000 4294967295 502\n10.99.0.1 40001 1 1\n", &c), 0);
	assert_int_equal(c.count, 2);
	inet_pton(AF_INET, "10.99.0.1", &p.from);
	assert_ptr_equal(connections_find(&c, &p), &c.items[0]);
	assert_int_equal(c.items[0].expects, UINT32_MAX);
	assert_int_equal(c.items[0].window, 502);
	p.from_port = 40002;
	assert_null(connections_find(&c, &p));
	connections_deinit(&c);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(connections_parse(wrong[i], &c), -EBADMSG);
		connections_deinit(&c);
	}
}

static const uint8_t stream[] = {
	0x19, 0x43, 0x56, 0x54, 0x06, 0x55, 0x46, 0x51, 12, 0, 0, 0, 0x08, 0x00, /* inq_len */
	0x10, 0xe8, 0x07,                                                        /* inq_seq 1000 */
	0x40, 0x07,                                                              /* rcv_wscale 7 */
	0x80, 0x01, 0x80, 0x80, 0x04,                                            /* rcv_wnd 65536 */
};

static void test_stream(void **state)
{
	(void)state;
	struct packet_connection c = { 0 };
	assert_int_equal(connections_of_stream(stream, sizeof(stream), &c), 0);
	assert_int_equal(c.expects, 1000);
	assert_int_equal(c.window, 512);
	for (size_t cut = 0; cut < sizeof(stream); cut++)
		assert_int_equal(connections_of_stream(stream, cut, &c), -EBADMSG);
}

/* --- what was not read ---------------------------------------------------------------------- */

static void test_unread(void **state)
{
	(void)state;
	static const char head[] =
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n";
	static const struct {
		const char *line;
		bool unread;
	} cases[] = {
		{ "", false },
		{ "   0: 00000000:22B8 00000000:0000 0A 00000000:00000000 00:00000000\n", false },
		{ "   0: 00000000:22B8 00000000:0000 0A 00000000:00000001 00:00000000\n", true },
		{ "  10: 0200630A:22B8 0100630A:9C40 01 00000000:00000000 00:00000000\n", false },
		{ "  10: 0200630A:22B8 0100630A:9C40 01 00000000:0000000A 00:00000000\n", true },
		{ "  10: 0200630A:22B8 0100630A:9C40 03 00000000:00000000 01:00000063\n", true },
		{ "  10: 0200630A:22B9 0100630A:9C40 03 00000000:00000000 01:00000063\n", false },
		{ "  10: 0200630A:22B8 0100630A:9C40 06 00000000:00000000 03:00000063\n", false },
		{ "  10: 0200630A:22B9 0100630A:22B8 01 00000000:0000000A 00:00000000\n", false },
		{ "  10: 00000000000000000000000000000000:22B8 "
		  "00000000000000000000000000000000:0000 0A 00000000:00000002 00:00000000\n",
		  true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512];
		snprintf(text, sizeof(text), "%s%s", head, cases[i].line);
		assert_int_equal(unread_in(text, SERVER), cases[i].unread);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),   cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_meaning), cmocka_unit_test(test_numbers_go_around),
		cmocka_unit_test(test_answer),  cmocka_unit_test(test_lines),
		cmocka_unit_test(test_stream),  cmocka_unit_test(test_unread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
