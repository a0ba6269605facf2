/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/pages_record.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	ROOM = 1 << 18, /* entries for what is told */
};

struct header {
	char magic[8];
	uint64_t pages, frames;
	_Atomic uint32_t complete;
	_Atomic uint32_t turn;
	_Atomic int32_t next_child; /* 0: in a record of an older elsa-node */
	_Atomic uint32_t torn;
};
static const char magic[8] = "elsapg1";

static size_t frames_size(size_t frames)
{
	return (frames / 8 + 8 + PAGE - 1) / PAGE * PAGE;
}

static struct header *header(const struct pages_record *r)
{
	return r->at;
}

static struct pages_entry *entries(const struct pages_record *r)
{
	return (struct pages_entry *)((char *)r->at + PAGE + frames_size(header(r)->frames));
}

static _Atomic uint64_t *frames_word(const struct pages_record *r, uint32_t frame)
{
	return (_Atomic uint64_t *)((char *)r->at + PAGE) + frame / 64;
}

static int map(struct pages_record *r, struct error *e)
{
	r->at = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->at != MAP_FAILED)
		return 0;
	r->at = NULL;
	return error_errno(e, "cannot map the record of a session's pages");
}

static size_t size_for(size_t frames, size_t maps)
{
	return PAGE + frames_size(frames) + (maps + ROOM) * sizeof(struct pages_entry);
}

/* How many entries there are. */
static size_t room(const struct pages_record *r)
{
	size_t head = PAGE + frames_size(header(r)->frames);
	return (r->size - head) / sizeof(struct pages_entry);
}

int pages_record_make(struct pages_record *r, uint64_t pages, size_t frames, size_t maps,
		      struct error *e)
{
	*r = (struct pages_record) { .size = size_for(frames, maps) };
	/* Sparse: memory is used as entries are. */
	r->fd = memfd_create("elsa-pages", MFD_CLOEXEC);
	if (r->fd < 0 || ftruncate(r->fd, (off_t)r->size) < 0) {
		int code = error_errno(e, "cannot make the record of a session's pages");
		pages_record_close(r);
		return code;
	}
	int code = map(r, e);
	if (code < 0) {
		pages_record_close(r);
		return code;
	}
	struct header *h = header(r);
	memcpy(h->magic, magic, sizeof(magic));
	h->pages = pages;
	h->frames = frames;
	return 0;
}

int pages_record_open(struct pages_record *r, int fd, uint64_t pages, size_t frames,
		      struct error *e)
{
	struct stat st;
	*r = (struct pages_record) { .fd = fd };
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (size_t)st.st_size < size_for(frames, 0)) {
		pages_record_close(r);
		return error_set(e, EBADMSG,
				 "the record of the session's pages is of another checkpoint");
	}
	r->size = (size_t)st.st_size;
	int code = map(r, e);
	if (code == 0 && (memcmp(header(r)->magic, magic, sizeof(magic)) != 0 ||
			  header(r)->pages != pages || header(r)->frames != frames))
		code = error_set(e, EBADMSG,
				 "the record of the session's pages is of another checkpoint");
	if (code < 0)
		pages_record_close(r);
	return code;
}

void pages_record_close(struct pages_record *r)
{
	if (r->at)
		munmap(r->at, r->size);
	cleanup_close_fd(&r->fd);
	*r = PAGES_RECORD_INIT;
}

struct pages_entry *pages_record_next(struct pages_record *r)
{
	/* The last one stays free: it is the end. */
	return r->used < room(r) - 1 ? &entries(r)[r->used] : NULL;
}

void pages_record_count(struct pages_record *r)
{
	r->used++;
}

uint32_t pages_record_turn(const struct pages_record *r)
{
	return atomic_load(&header(r)->turn);
}

void pages_record_take_turn(struct pages_record *r)
{
	atomic_fetch_add(&header(r)->turn, 1);
}

int pages_record_peek(int fd, uint64_t offset, struct pages_entry *entry, uint32_t *turn)
{
	/* The turn last: whoever has taken it over since may have written the entry. */
	long n = syscall(SYS_pread64, fd, entry, sizeof(*entry), offset);
	if (n != sizeof(*entry))
		return -EIO;
	n = syscall(SYS_pread64, fd, turn, sizeof(*turn), offsetof(struct header, turn));
	return n == sizeof(*turn) ? 0 : -EIO;
}

void pages_record_set_child(struct pages_record *r, int32_t next)
{
	atomic_store(&header(r)->next_child, next);
}

int32_t pages_record_child(const struct pages_record *r)
{
	int32_t next = atomic_load(&header(r)->next_child);
	return next < 0 ? next : -1;
}

uint64_t pages_record_offset(const struct pages_record *r)
{
	return (uint64_t)((char *)&entries(r)[r->used] - (char *)r->at);
}

size_t pages_record_needs(const struct pages_map *m)
{
	return m->count + 1;
}

int pages_record_space(struct pages_record *r, int32_t number, const struct pages_map *m)
{
	for (size_t i = 0; i <= m->count; i++) {
		struct pages_entry *entry = pages_record_next(r);
		if (!entry)
			return -ENOSPC;
		*entry = (struct pages_entry) { .kind = PAGES_ENTRY_SPACE, .number = number };
		if (i > 0) {
			entry->kind = PAGES_ENTRY_RANGE;
			entry->range = m->by_address[i - 1];
		}
		pages_record_count(r);
	}
	return 0;
}

static bool is_end(const struct pages_entry *entry)
{
	return entry->kind == PAGES_ENTRY_EVENT &&
	       (entry->message.event == 0 || entry->message.event == UFFD_EVENT_PAGEFAULT);
}

int pages_record_replay(struct pages_record *r,
			int (*each)(const struct pages_entry *entry, void *arg), void *arg)
{
	struct pages_entry *entry;
	r->used = 0;
	while ((entry = pages_record_next(r)) && !is_end(entry)) {
		int code = each(entry, arg);
		if (code)
			return code;
		pages_record_count(r);
	}
	return 0;
}

bool pages_record_has(const struct pages_record *r, uint32_t frame)
{
	return atomic_load_explicit(frames_word(r, frame), memory_order_acquire) &
	       UINT64_C(1) << frame % 64;
}

bool pages_record_set(struct pages_record *r, uint32_t frame)
{
	uint64_t bit = UINT64_C(1) << frame % 64;
	return !(atomic_fetch_or_explicit(frames_word(r, frame), bit, memory_order_acq_rel) & bit);
}

void pages_record_copy_frames(struct pages_record *to, const struct pages_record *from)
{
	for (uint64_t f = 0; f < header(from)->frames; f += 64)
		atomic_store(frames_word(to, (uint32_t)f),
			     atomic_load(frames_word(from, (uint32_t)f)));
}

bool pages_record_is_complete(const struct pages_record *r)
{
	return atomic_load(&header(r)->complete);
}

void pages_record_complete(struct pages_record *r)
{
	atomic_store(&header(r)->complete, 1);
}

bool pages_record_is_torn(const struct pages_record *r)
{
	return atomic_load(&header(r)->torn);
}

void pages_record_tear(struct pages_record *r)
{
	atomic_store(&header(r)->torn, 1);
}
