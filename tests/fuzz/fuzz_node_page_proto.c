/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation of CRIU's with a page server, the pages left out: taken whole, and taken byte by
 * byte, it says the same. */
#include "node/page_proto.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* As from a socket: no more bytes than are asked for. */
static int parse_slowly(struct page_proto *p, const uint8_t *data, size_t size,
			struct page_message *m)
{
	int r = 0;
	for (size_t len = 0; r == 0 && len <= size && len <= PAGE_PROTO_LONG; len++)
		r = page_proto_parse(p, data, len, m);
	return r;
}

static void check(const struct page_proto *p, const struct page_message *m)
{
	char name[PAGE_PROTO_NAME];
	uint8_t answer[PAGE_PROTO_ANSWER];
	FUZZ_CHECK(page_proto_answer(m, false, answer) <= PAGE_PROTO_ANSWER);
	page_proto_name(m->memory, m->id, name);
	FUZZ_CHECK(strlen(name) < sizeof(name) - 1);
	if (m->command != PAGE_ADD)
		return;
	FUZZ_CHECK(p->open && m->pages > 0 && m->vaddr % PAGE_PROTO_PAGE == 0);
	FUZZ_CHECK(p->next > m->vaddr && (p->next - m->vaddr) / PAGE_PROTO_PAGE == m->pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct page_proto p = { 0 }, slow = { 0 };
	struct page_message m = { 0 }, same = { 0 };
	int r;
	while ((r = page_proto_parse(&p, data, size, &m)) > 0) {
		FUZZ_CHECK((size_t)r == p.header && (size_t)r <= size);
		FUZZ_CHECK(parse_slowly(&slow, data, size, &same) == r);
		FUZZ_CHECK(p.header == slow.header && p.open == slow.open && p.next == slow.next);
		FUZZ_CHECK(m.command == same.command && m.id == same.id && m.vaddr == same.vaddr);
		check(&p, &m);
		data += r;
		size -= (size_t)r;
	}
	FUZZ_CHECK(parse_slowly(&slow, data, size, &same) == r);
	return 0;
}
