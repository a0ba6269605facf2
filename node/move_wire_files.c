/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_wire_private.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* piece	u32 bytes of the name, u32 bytes, u64 size, u64 offset, i64 changed_ns, the name,
 * the bytes
 */
enum { HEAD = 32, PART_MOST = 255 /* NAME_MAX */ };

static int damaged(struct error *e)
{
	return error_set(e, EBADMSG, "what the other node says of files is damaged");
}

/* Nothing that leads elsewhere. */
static bool is_part(const char *name, size_t len)
{
	bool dots = (len == 1 || len == 2) && memcmp(name, "..", len) == 0;
	return len > 0 && len <= PART_MOST && !dots && !memchr(name, '/', len) &&
	       !memchr(name, '\0', len);
}

static bool is_name(const char *name, size_t len)
{
	const char *slash = memchr(name, '/', len);
	if (!slash)
		return is_part(name, len);
	size_t dir = (size_t)(slash - name);
	return is_part(name, dir) && is_part(slash + 1, len - dir - 1);
}

size_t move_piece_bytes(const struct move_piece *p)
{
	return HEAD + strlen(p->name) + p->len;
}

int move_piece_write(const struct move_piece *p, struct buf *to, void **data, struct error *e)
{
	void *at;
	size_t len = strlen(p->name);
	int r = buf_extend(to, move_piece_bytes(p), &at);
	if (r < 0)
		return error_set(e, -r, "no memory for files");
	unsigned char *head = at;
	move_put_u32(head, (uint32_t)len);
	move_put_u32(head + 4, p->len);
	move_put_u64(head + 8, p->size);
	move_put_u64(head + 16, p->offset);
	move_put_u64(head + 24, (uint64_t)p->changed_ns);
	memcpy(head + HEAD, p->name, len);
	*data = head + HEAD + len;
	return 0;
}

int move_piece_read(const void *from, size_t len, struct move_piece *p, struct error *e)
{
	const unsigned char *head = from;
	if (len < HEAD)
		return damaged(e);
	size_t name = move_get_u32(head);
	*p = (struct move_piece) {
		.len = move_get_u32(head + 4),
		.size = move_get_u64(head + 8),
		.offset = move_get_u64(head + 16),
		.changed_ns = (int64_t)move_get_u64(head + 24),
	};
	if (name > MOVE_NAME_MOST || name + p->len > len - HEAD ||
	    !is_name((const char *)head + HEAD, name))
		return damaged(e);
	if (p->size > INT64_MAX || p->offset > p->size || p->len > p->size - p->offset)
		return damaged(e);
	memcpy(p->name, head + HEAD, name);
	p->data = head + HEAD + name;
	return 0;
}
