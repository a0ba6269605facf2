/* SPDX-License-Identifier: Apache-2.0 */
/* The page service's hands: pages put into place. */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* --- pages --------------------------------------------------------------------------- */

static void wake_range(const struct pages_space *s, uint64_t address, uint64_t len)
{
	struct uffdio_range range = { .start = address, .len = len };
	ioctl(s->fd, UFFDIO_WAKE, &range);
}

void pages_wake_all(struct pages *p)
{
	/* From above what mmap_min_addr(5) can be to the end of what any process has. */
	const uint64_t start = 1 << 20, end = UINT64_C(0x7ffffffff000);
	for (size_t i = 0; i < p->space_count; i++)
		wake_range(p->spaces[i], start, end - start);
}

void pages_wake(struct pages *p, const struct pages_fault *fault)
{
	pthread_rwlock_rdlock(&p->spaces_lock);
	struct pages_space *s = pages_space_find(p, fault->number);
	if (s)
		wake_range(s, fault->address, STORE_PAGE);
	pthread_rwlock_unlock(&p->spaces_lock);
}

/* What came of an ioctl that did not do it all. 0: go on behind *done bytes. */
static int judge(struct pages_space *s, uint64_t address, int64_t result, int code, size_t *done,
		 bool wake)
{
	if (result > 0) {
		*done = (size_t)result;
		return 0;
	}
	if (result < 0)
		code = (int)-result;
	switch (code) {
	case EEXIST:
		/* It is there, but whoever waits for it may have slept through that. */
		if (wake)
			wake_range(s, address, STORE_PAGE);
		*done = STORE_PAGE;
		return 0;
	case ENOENT:
		/* Not registered (any more), or across two mappings: those who ask for more than a
		 * page try each alone. */
		*done = 0;
		return 0;
	case ESRCH:
	case ENOSPC: /* old kernels */
		atomic_store(&s->gone, true);
		return -ESRCH;
	default:
		return -EAGAIN;
	}
}

static int put_once(struct pages_space *s, uint64_t address, const void *data, size_t len,
		    bool wake, size_t *done)
{
	struct uffdio_copy copy = { .dst = address, .src = (uint64_t)(uintptr_t)data, .len = len };
	struct uffdio_zeropage zero = { .range = { .start = address, .len = len } };
	int r = data ? ioctl(s->fd, UFFDIO_COPY, &copy) : ioctl(s->fd, UFFDIO_ZEROPAGE, &zero);
	*done = len;
	if (r == 0)
		return 0;
	return judge(s, address, data ? copy.copy : zero.zeropage, errno, done, wake);
}

/* Since Linux 6.8 a mapping is looked for before it is checked that all events have been read: what
 * moves away in that moment is just not there, and only whoever asks again is told to wait. Events
 * are not read meanwhile. */
static int put_some(struct pages_space *s, uint64_t address, const void *data, size_t len,
		    bool wake, size_t *done)
{
	int r = put_once(s, address, data, len, wake, done);
	return r == 0 && *done == 0 ? put_once(s, address, data, len, wake, done) : r;
}

static int put(struct pages_space *s, uint64_t address, const void *data, size_t len, bool wake)
{
	size_t most = len; /* in one go */
	for (size_t at = 0, done; at < len; at += done) {
		size_t want = len - at < most ? len - at : most;
		int r = put_some(s, address + at, data ? (const char *)data + at : NULL, want, wake,
				 &done);
		if (r < 0)
			return r == -ESRCH ? 0 : r;
		if (done == 0 && want > STORE_PAGE) {
			most = STORE_PAGE;
		} else if (done == 0) {
			/* Whoever waited there finds out for himself. */
			if (wake)
				wake_range(s, address + at, STORE_PAGE);
			done = STORE_PAGE;
		}
	}
	return 0;
}

int pages_put(struct pages_space *s, uint64_t address, const void *data, size_t len, bool wake)
{
	if (s->broken)
		return -EAGAIN;
	return atomic_load(&s->gone) ? 0 : put(s, address, data, len, wake);
}

int pages_put_zeros(struct pages_space *s, uint64_t address, size_t len)
{
	if (s->broken)
		return -EAGAIN;
	return atomic_load(&s->gone) ? 0 : put(s, address, NULL, len, true);
}

/* --- frames -------------------------------------------------------------------------- */

static uint64_t address_of(const struct pages_range *r, uint64_t page)
{
	return r->start + (page - r->page) * STORE_PAGE;
}

/* How many pages from `i` on follow each other in the frame and in the space. */
static uint64_t run_length(struct pages *p, const struct pages_range *r, uint64_t i, uint64_t end)
{
	const uint32_t *pages = p->index.pages;
	unsigned slot, next;
	uint64_t n = 1, most = (r->end - address_of(r, pages[i])) / STORE_PAGE;
	pages_index_frame(&p->index, pages[i], &slot);
	for (; i + n < end && n < most && pages[i + n] == pages[i] + n; n++) {
		pages_index_frame(&p->index, pages[i + n], &next);
		if (next != slot + n)
			break;
	}
	return n;
}

static int put_frame_into(struct pages *p, struct pages_space *s, uint32_t frame, const char *data)
{
	uint64_t end = p->index.start[frame + 1];
	int r = 0;
	for (uint64_t i = p->index.start[frame], n; i < end && r == 0; i += n) {
		unsigned slot;
		uint64_t page = p->index.pages[i];
		const struct pages_range *range = pages_map_of(&s->map->map, page);
		n = 1;
		if (!range)
			continue;
		pages_index_frame(&p->index, page, &slot);
		n = run_length(p, range, i, end);
		r = pages_put(s, address_of(range, page), data + (size_t)slot * STORE_PAGE,
			      n * STORE_PAGE, true);
	}
	return r;
}

/* Who waits there for what has moved away or become zeros meanwhile is woken, and asks again. */
int pages_put_first(struct pages *p, uint32_t frame, const void *data,
		    const struct pages_fault *fault)
{
	struct pages_space *s = pages_space_find(p, fault->number);
	const struct pages_range *r = s ? pages_map_at(&s->map->map, fault->address) : NULL;
	unsigned slot = 0;
	uint64_t page = r ? r->page + (fault->address - r->start) / STORE_PAGE : 0;
	if (!s)
		return 0;
	if (!r || pages_index_frame(&p->index, page, &slot) != frame) {
		wake_range(s, fault->address, STORE_PAGE);
		return 0;
	}
	return pages_put(s, fault->address, (const char *)data + (size_t)slot * STORE_PAGE,
			 STORE_PAGE, true);
}

int pages_put_near(struct pages *p, uint32_t frame, const void *data,
		   const struct pages_fault *fault)
{
	struct pages_fault near = { .number = fault->number };
	uint64_t start = fault->address / PAGES_NEAR * PAGES_NEAR;
	int r = pages_put_first(p, frame, data, fault);
	struct pages_space *s = pages_space_find(p, fault->number);
	for (uint64_t at = start; s && at < start + PAGES_NEAR && r == 0; at += STORE_PAGE) {
		const struct pages_range *range = pages_map_at(&s->map->map, at);
		unsigned slot;
		near.address = at;
		if (range && at != fault->address &&
		    pages_index_frame(&p->index, range->page + (at - range->start) / STORE_PAGE,
				      &slot) == frame)
			r = pages_put_first(p, frame, data, &near);
	}
	return r;
}

int pages_put_frame(struct pages *p, uint32_t frame, const void *data,
		    const struct pages_fault *first)
{
	int r = first ? pages_put_first(p, frame, data, first) : 0;
	for (size_t i = 0; i < p->space_count && r == 0; i++)
		r = put_frame_into(p, p->spaces[i], frame, data);
	if (r == 0)
		pages_frame_done(p, frame);
	return r;
}

int pages_place(struct pages *p, uint32_t frame, const void *data)
{
	int r = -EAGAIN;
	while (r < 0 && !pages_over(p)) {
		pthread_rwlock_rdlock(&p->spaces_lock);
		r = pages_put_frame(p, frame, data, NULL);
		pthread_rwlock_unlock(&p->spaces_lock);
		if (r < 0)
			usleep(50);
	}
	return r < 0 ? -ECANCELED : 0;
}

bool pages_is_wanted(struct pages *p, uint32_t frame)
{
	for (uint64_t i = p->index.start[frame]; i < p->index.start[frame + 1]; i++)
		for (size_t k = 0; k < p->space_count; k++)
			if (!atomic_load(&p->spaces[k]->gone) &&
			    pages_map_of(&p->spaces[k]->map->map, p->index.pages[i]))
				return true;
	return false;
}

/* Before it is settled not all spaces are known, and once it was let go none is any more, while
 * what was being read still comes: the next program goes by the record. */
void pages_frame_done(struct pages *p, uint32_t frame)
{
	if (p->settled && pages_record_set(&p->record, frame))
		atomic_fetch_sub(&p->missing, p->index.start[frame + 1] - p->index.start[frame]);
}
