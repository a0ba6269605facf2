/* SPDX-License-Identifier: Apache-2.0 */
#include "node/page_proto.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* criu/page-xfer.c, PS_IOV_* */
enum {
	WIRE_OPEN2 = 4,
	WIRE_PARENT = 5,
	WIRE_ADD_F = 6,
	WIRE_CLOSE = 0x1023,
	WIRE_FORCE_CLOSE = 0x1024, /* CLOSE on a socket that others may hold open */
	WIRE_COMMAND_BITS = 16,
	WIRE_TYPE_BITS = 8,
};

struct short_header {
	uint32_t command;
	uint32_t pages;
	uint64_t vaddr;
	uint64_t memory;
};

struct long_header {
	uint32_t command;
	uint64_t pages;
	uint64_t vaddr;
	uint64_t memory;
};

_Static_assert(sizeof(struct short_header) == PAGE_PROTO_SHORT, "CRIU 4.1 sends it so");
_Static_assert(sizeof(struct long_header) == PAGE_PROTO_LONG, "CRIU 4.2 sends it so");

/* The first header opens or asks for a memory, whose number is never 0, and its vaddr is 0: what
 * stands at the short one's place for the memory tells them apart. */
static int find_layout(struct page_proto *p, const void *bytes, size_t len)
{
	struct short_header h;
	if (p->header)
		return 1;
	if (len < sizeof(h))
		return 0;
	memcpy(&h, bytes, sizeof(h));
	if (h.command == WIRE_CLOSE || h.command == WIRE_FORCE_CLOSE) {
		/* Nothing was dumped. Both are zeros behind the command. */
		p->header = PAGE_PROTO_SHORT;
		return 1;
	}
	if (h.command != WIRE_OPEN2 && h.command != WIRE_PARENT)
		return -EPROTO;
	p->header = h.memory ? PAGE_PROTO_SHORT : PAGE_PROTO_LONG;
	return 1;
}

static struct long_header read_header(const struct page_proto *p, const void *bytes)
{
	struct long_header h;
	struct short_header s;
	if (p->header == PAGE_PROTO_LONG) {
		memcpy(&h, bytes, sizeof(h));
		return h;
	}
	memcpy(&s, bytes, sizeof(s));
	return (struct long_header) { s.command, s.pages, s.vaddr, s.memory };
}

static bool read_command(uint32_t wire, struct page_message *m)
{
	m->flags = wire >> WIRE_COMMAND_BITS;
	switch (wire & ((1U << WIRE_COMMAND_BITS) - 1)) {
	case WIRE_OPEN2:
		m->command = PAGE_OPEN;
		return true;
	case WIRE_PARENT:
		m->command = PAGE_PARENT;
		return true;
	case WIRE_ADD_F:
		m->command = PAGE_ADD;
		return true;
	case WIRE_CLOSE:
	case WIRE_FORCE_CLOSE:
		m->command = PAGE_CLOSE;
		return true;
	default:
		return false;
	}
}

static bool read_memory(uint64_t wire, struct page_message *m)
{
	unsigned type = wire & ((1U << WIRE_TYPE_BITS) - 1);
	m->memory = (enum page_memory)type;
	m->id = wire >> WIRE_TYPE_BITS;
	return m->command == PAGE_CLOSE || type == PAGE_OF_PROCESS || type == PAGE_OF_SHMEM;
}

/* There is no older memory to CRIU, so pages are never left out as being the same there; and pages
 * kept back are for its own lazy dump, which is not asked for. */
static bool check_add(const struct page_proto *p, const struct page_message *m)
{
	if (!p->open || m->memory != p->memory || m->id != p->id)
		return false;
	if (m->flags != PAGE_PRESENT && m->flags != (PAGE_PRESENT | PAGE_LAZY))
		return false;
	if (m->pages == 0 || m->vaddr % PAGE_PROTO_PAGE != 0 || m->vaddr < p->next)
		return false;
	return m->pages <= (UINT64_MAX - m->vaddr) / PAGE_PROTO_PAGE;
}

int page_proto_parse(struct page_proto *p, const void *bytes, size_t len,
		     struct page_message *message)
{
	struct page_message m = { 0 };
	int r = find_layout(p, bytes, len);
	if (r <= 0)
		return r;
	if (len < p->header)
		return 0;
	struct long_header h = read_header(p, bytes);
	m.pages = h.pages;
	m.vaddr = h.vaddr;
	if (!read_command(h.command, &m) || !read_memory(h.memory, &m))
		return -EPROTO;
	if (m.command == PAGE_ADD && !check_add(p, &m))
		return -EPROTO;
	if (m.command == PAGE_OPEN)
		*p = (struct page_proto) {
			.header = p->header, .open = true, .memory = m.memory, .id = m.id
		};
	if (m.command == PAGE_ADD)
		p->next = m.vaddr + m.pages * PAGE_PROTO_PAGE;
	*message = m;
	return (int)p->header;
}

size_t page_proto_answer(const struct page_message *message, bool failed,
			 uint8_t answer[PAGE_PROTO_ANSWER])
{
	/* A char has_parent, an int has_parent, an int32_t status. */
	static const size_t lengths[] = {
		[PAGE_OPEN] = 1, [PAGE_PARENT] = 4, [PAGE_ADD] = 0, [PAGE_CLOSE] = 4
	};
	int32_t value = message->command == PAGE_CLOSE && failed ? -1 : 0;
	memcpy(answer, &value, sizeof(value));
	return lengths[message->command];
}

void page_proto_name(enum page_memory memory, uint64_t id, char name[PAGE_PROTO_NAME])
{
	snprintf(name, PAGE_PROTO_NAME,
		 memory == PAGE_OF_SHMEM ? "pagemap-shmem-%" PRIu64 ".img"
					 : "pagemap-%" PRIu64 ".img",
		 id);
}
