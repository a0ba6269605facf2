/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_WIRE_PRIVATE_H
#define ELSA_NODE_MOVE_WIRE_PRIVATE_H

/* What node/move_wire.c and node/move_wire_ahead.c share: numbers are little-endian. */

#include "node/move_wire.h"

enum {
	MOVE_PAGE = 4096,
	MOVE_RANGE_BYTES = 16,
	MOVE_SQUEEZE_ALLOWED = 1, /* flags */
};

static inline void move_put_u32(unsigned char *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (unsigned char)(value >> 8 * i);
}

static inline void move_put_u64(unsigned char *to, uint64_t value)
{
	move_put_u32(to, (uint32_t)value);
	move_put_u32(to + 4, (uint32_t)(value >> 32));
}

static inline uint32_t move_get_u32(const unsigned char *from)
{
	uint32_t value = 0;
	for (int i = 0; i < 4; i++)
		value |= (uint32_t)from[i] << 8 * i;
	return value;
}

static inline uint64_t move_get_u64(const unsigned char *from)
{
	return move_get_u32(from) | (uint64_t)move_get_u32(from + 4) << 32;
}

/* i32 pid, u32 pages, u64 address */
void move_range_put(unsigned char to[MOVE_RANGE_BYTES], const struct move_range *r);
/* False: it cannot be. *pages: of all so far, which may not be above MOVE_PAGES_MOST. */
bool move_range_get(const unsigned char from[MOVE_RANGE_BYTES], struct move_range *r,
		    uint64_t *pages);

#endif
