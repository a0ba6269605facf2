/* SPDX-License-Identifier: Apache-2.0 */
/* Packets for sleeping sessions: what is answered is a packet, and says what is so. */
#include "node/sleep_packet.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct packet_connection c = { .expects = 1000, .window = 502 };
	uint8_t to[PACKET_ANSWER_MOST];
	struct packet p, said;
	if (!packet_parse(data, size, &p))
		return 0;
	FUZZ_CHECK(p.payload >= data && p.payload + p.len <= data + size);
	enum packet_meaning meaning = packet_meaning(&p, &c);
	FUZZ_CHECK(meaning != PACKET_TOUCH || p.len > 0);
	if (meaning != PACKET_PROBE)
		return 0;
	size_t len = packet_answer(&p, &c, to);
	FUZZ_CHECK(len <= sizeof(to) && packet_parse(to, len, &said));
	FUZZ_CHECK(said.ack == c.expects && said.seq == p.ack && said.len == 0);
	FUZZ_CHECK(said.to.s_addr == p.from.s_addr && said.to_port == p.from_port);
	return 0;
}
