/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a fork is to find empty (MADV_WIPEONFORK). The child has no page
 * there, and would ask us for what its parent was restored with: of such marks
 * nothing is told. So these pages, few if any, are put into place before the
 * session runs, and are no longer known as wanted anywhere.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/mm_image.h"

#include <errno.h>
#include <stdlib.h>

enum { IMAGE_MOST = 64 << 20, AT_ONCE = 256 };

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	(void)len;
	return pages_place(arg, frame, data);
}

/* The frames of up to AT_ONCE pages from *at on, each once; *at moves on. */
static size_t choose(struct pages *p, int32_t number, uint64_t *at, uint64_t end, uint32_t *frames)
{
	size_t count = 0;
	pthread_rwlock_rdlock(&p->spaces_lock);
	struct pages_space *s = pages_space_find(p, number);
	for (; *at < end && count < AT_ONCE; *at += STORE_PAGE) {
		const struct pages_range *r = s ? pages_map_at(&s->map->map, *at) : NULL;
		unsigned slot;
		uint32_t frame =
			r ? pages_index_frame(&p->index, r->page + (*at - r->start) / STORE_PAGE,
					      &slot)
			  : STORE_ZERO;
		if (frame != STORE_ZERO && !pages_record_has(&p->record, frame))
			frames[count++] = frame;
	}
	pthread_rwlock_unlock(&p->spaces_lock);
	return pages_frames_tidy(frames, count);
}

static int bring_range(struct pages *p, int32_t number, const struct mm_range *range,
		       struct error *e)
{
	uint32_t frames[AT_ONCE];
	int r = 0;
	for (uint64_t at = range->start; at < range->end && r == 0;) {
		size_t count = choose(p, number, &at, range->end, frames);
		if (count)
			r = p->source.read(p->source.from, frames, count, on_frame, p, e);
	}
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&p->spaces_lock);
	struct pages_space *s = pages_space_find(p, number);
	if (s && pages_take_off(p, s, range->start, range->end) < 0)
		r = error_set(e, ENOMEM, "out of memory");
	pthread_rwlock_unlock(&p->spaces_lock);
	return r;
}

static int bring_all_of(struct pages *p, int32_t number, const char *images, struct error *e)
{
	cleanup_buf struct buf image = BUF_INIT(IMAGE_MOST);
	cleanup_free char *path = str_printf("%s/mm-%d.img", images, (int)number);
	cleanup_free struct mm_range *ranges = NULL;
	size_t count = 0;
	int r = path ? fs_read(path, &image, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = error_wrap(e, mm_image_wiped(buf_text(&image), image.len, &ranges, &count, e),
			       "mm-%d.img", (int)number);
	for (size_t i = 0; i < count && r == 0; i++)
		r = bring_range(p, number, &ranges[i], e);
	return r;
}

/* The session does not run: which spaces there are stays as it is. */
int pages_bring_wiped(struct pages *p, const char *images, struct error *e)
{
	pthread_rwlock_rdlock(&p->spaces_lock);
	size_t count = p->space_count;
	cleanup_free int32_t *numbers = calloc(count + 1, sizeof(*numbers));
	for (size_t i = 0; numbers && i < count; i++)
		numbers[i] = p->spaces[i]->number;
	pthread_rwlock_unlock(&p->spaces_lock);
	int r = numbers ? 0 : error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < count && r == 0; i++)
		if (numbers[i] > 0)
			r = bring_all_of(p, numbers[i], images, e);
	return r;
}
