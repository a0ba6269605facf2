/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_wire_private.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * part	u32 round, u32 flags, i64 left_ms, i64 took_us, u64 seen, u64 all, u64 sent,
 *		u64 link, u32 ranges, u32 pages, the ranges, and their pages as in every answer
 * tags	u32 flags, key, and for each: a range, u32 whether there is a copy, its tag
 * same	a bit for each tag, and the pages of those without
 */
enum {
	PART_BYTES = 64,
	TOOK_AT = 16,
	PART_LAST = 1,
	PART_TRACKED = 2,
	TAGS_HEAD = 4 + MOVE_KEY,
	TAG_BYTES = MOVE_RANGE_BYTES + 4 + MOVE_TAG,
};

static int damaged(struct error *e)
{
	return error_set(e, EBADMSG, "what the other node says of memory is damaged");
}

/* --- ahead ------------------------------------------------------------------------- */

void move_ahead_question(bool squeeze, unsigned char to[4])
{
	move_put_u32(to, squeeze ? MOVE_SQUEEZE_ALLOWED : 0);
}

int move_ahead_question_read(const void *from, size_t len, bool *squeeze, struct error *e)
{
	if (len != 4)
		return error_set(e, EBADMSG, "the other node asks for memory in an unknown way");
	*squeeze = move_get_u32(from) & MOVE_SQUEEZE_ALLOWED;
	return 0;
}

static void put_part(unsigned char *p, const struct move_part *part, size_t count)
{
	move_put_u32(p, part->round);
	move_put_u32(p + 4, (part->last ? PART_LAST : 0u) | (part->tracked ? PART_TRACKED : 0u));
	move_put_u64(p + 8, (uint64_t)part->left_ms);
	move_put_u64(p + TOOK_AT, (uint64_t)part->took_us);
	move_put_u64(p + 24, part->seen_bytes);
	move_put_u64(p + 32, part->all_bytes);
	move_put_u64(p + 40, part->sent_bytes);
	move_put_u64(p + 48, part->link_per_s);
	move_put_u32(p + 56, (uint32_t)count);
	move_put_u32(p + 60, part->pages);
}

int move_part_write(const struct move_part *part, const struct move_range *ranges, size_t count,
		    const void *pages, bool squeeze, struct buf *to, struct error *e)
{
	void *at;
	int r = buf_extend(to, PART_BYTES + count * MOVE_RANGE_BYTES, &at);
	if (r < 0)
		return error_set(e, -r, "no memory for pages");
	unsigned char *p = at;
	put_part(p, part, count);
	p += PART_BYTES;
	for (size_t i = 0; i < count; i++, p += MOVE_RANGE_BYTES)
		move_range_put(p, &ranges[i]);
	return part->pages ? move_pages_write(pages, part->pages, squeeze, to, e) : 0;
}

void move_part_set_took(struct buf *written, int64_t took_us)
{
	move_put_u64((unsigned char *)written->data + TOOK_AT, (uint64_t)took_us);
}

static size_t get_part(const unsigned char *p, struct move_part *part)
{
	uint32_t flags = move_get_u32(p + 4);
	*part = (struct move_part) {
		.round = move_get_u32(p),
		.last = flags & PART_LAST,
		.tracked = flags & PART_TRACKED,
		.left_ms = (int64_t)move_get_u64(p + 8),
		.took_us = (int64_t)move_get_u64(p + TOOK_AT),
		.seen_bytes = move_get_u64(p + 24),
		.all_bytes = move_get_u64(p + 32),
		.sent_bytes = move_get_u64(p + 40),
		.link_per_s = move_get_u64(p + 48),
		.pages = move_get_u32(p + 60),
	};
	return move_get_u32(p + 56);
}

static int get_ranges(const unsigned char *p, struct move_range *to, size_t count, uint32_t pages)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++, p += MOVE_RANGE_BYTES)
		if (!move_range_get(p, &to[i], &sum))
			return -EBADMSG;
	return sum == pages ? 0 : -EBADMSG;
}

int move_part_read(const void *from, size_t len, struct move_part *part, struct move_range **ranges,
		   size_t *count, void *pages, struct error *e)
{
	const unsigned char *p = from;
	size_t n = len < PART_BYTES ? SIZE_MAX : get_part(p, part);
	if (n > MOVE_PAGES_MOST || len - PART_BYTES < n * MOVE_RANGE_BYTES)
		return damaged(e);
	size_t head = PART_BYTES + n * MOVE_RANGE_BYTES;
	cleanup_free struct move_range *list = calloc(n + 1, sizeof(*list));
	if (!list)
		return error_set(e, ENOMEM, "out of memory");
	if (get_ranges(p + PART_BYTES, list, n, part->pages) < 0 || (n == 0 && len != head))
		return damaged(e);
	int r = n ? move_pages_read(p + head, len - head, pages, part->pages, e) : 0;
	if (r < 0)
		return r;
	*ranges = steal_ptr(&list);
	*count = n;
	return 0;
}

/* --- what may be known already ------------------------------------------------------ */

int move_tags_write(const unsigned char key[MOVE_KEY], const struct move_tag *tags, size_t count,
		    bool squeeze, struct buf *to, struct error *e)
{
	void *at;
	int r = buf_extend(to, TAGS_HEAD + count * TAG_BYTES, &at);
	if (r < 0)
		return error_set(e, -r, "too many pages are asked for at once");
	unsigned char *p = at;
	move_put_u32(p, squeeze ? MOVE_SQUEEZE_ALLOWED : 0);
	memcpy(p + 4, key, MOVE_KEY);
	p += TAGS_HEAD;
	for (size_t i = 0; i < count; i++, p += TAG_BYTES) {
		move_range_put(p, &tags[i].range);
		move_put_u32(p + MOVE_RANGE_BYTES, tags[i].has);
		memcpy(p + MOVE_RANGE_BYTES + 4, tags[i].tag, MOVE_TAG);
	}
	return 0;
}

static int get_tags(const unsigned char *p, struct move_tag *to, size_t count)
{
	uint64_t pages = 0;
	for (size_t i = 0; i < count; i++, p += TAG_BYTES) {
		uint32_t has = move_get_u32(p + MOVE_RANGE_BYTES);
		if (!move_range_get(p, &to[i].range, &pages) || has > 1)
			return -EBADMSG;
		to[i].has = has;
		memcpy(to[i].tag, p + MOVE_RANGE_BYTES + 4, MOVE_TAG);
	}
	return 0;
}

int move_tags_read(const void *from, size_t len, unsigned char key[MOVE_KEY],
		   struct move_tag **tags, size_t *count, bool *squeeze, struct error *e)
{
	const unsigned char *p = from;
	size_t n = len < TAGS_HEAD ? 0 : (len - TAGS_HEAD) / TAG_BYTES;
	if (n == 0 || n > MOVE_PAGES_MOST || len != TAGS_HEAD + n * TAG_BYTES)
		return error_set(e, EBADMSG, "the other node asks for pages in an unknown way");
	cleanup_free struct move_tag *list = calloc(n, sizeof(*list));
	if (!list)
		return error_set(e, ENOMEM, "out of memory");
	if (get_tags(p + TAGS_HEAD, list, n) < 0)
		return error_set(e, EBADMSG, "the other node asks for pages that cannot be");
	*squeeze = move_get_u32(p) & MOVE_SQUEEZE_ALLOWED;
	memcpy(key, p + 4, MOVE_KEY);
	*tags = steal_ptr(&list);
	*count = n;
	return 0;
}

int move_same_write(const bool *same, size_t count, const void *pages, size_t page_count,
		    bool squeeze, struct buf *to, struct error *e)
{
	unsigned char map[MOVE_PAGES_MOST / 8] = { 0 };
	if (count > MOVE_PAGES_MOST)
		return error_set(e, EINVAL, "too many pages at once");
	for (size_t i = 0; i < count; i++)
		map[i / 8] |= (unsigned char)(same[i] << i % 8);
	int r = buf_append(to, map, (count + 7) / 8);
	if (r < 0)
		return error_set(e, -r, "no memory for pages");
	return page_count ? move_pages_write(pages, page_count, squeeze, to, e) : 0;
}

int move_same_read(const void *from, size_t len, const struct move_tag *tags, size_t count,
		   bool *same, void *pages, size_t *page_count, struct error *e)
{
	const unsigned char *map = from;
	size_t head = (count + 7) / 8;
	*page_count = 0;
	if (count > MOVE_PAGES_MOST || len < head)
		return damaged(e);
	for (size_t i = 0; i < count; i++) {
		same[i] = map[i / 8] >> i % 8 & 1;
		if (same[i] && !tags[i].has)
			return damaged(e);
		*page_count += same[i] ? 0 : tags[i].range.pages;
	}
	if (*page_count == 0)
		return len == head ? 0 : damaged(e);
	return move_pages_read(map + head, len - head, pages, *page_count, e);
}
