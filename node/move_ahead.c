/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_ahead.h"

#include "base/cleanup.h"
#include "store/page_cipher.h"
#include "store/seal.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert((int)MOVE_KEY == SEAL_KEY && (int)MOVE_TAG == SEAL_TAG, "as sealed");

enum { FIRST_ROOM = 1024 };

/* A frame, at its number's place in the file. */
struct move_copy {
	uint64_t frame; /* address / STORE_FRAME_BYTES */
	int32_t pid;    /* 0: none is here */
	uint32_t number;
	uint16_t pages; /* a bit for each that is there */
};

/* --- which there are --------------------------------------------------------------- */

/* Its place in the table, or the one where it would be. */
static struct move_copy *place_of(struct move_copy *table, size_t size, int32_t pid, uint64_t frame)
{
	uint64_t key = (frame * 31 + (uint64_t)pid) * UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (size_t)(key >> 24) & (size - 1);
	while (table[at].pid && (table[at].pid != pid || table[at].frame != frame))
		at = (at + 1) & (size - 1);
	return &table[at];
}

static int grow(struct move_ahead *a)
{
	size_t size = 2 * a->size;
	struct move_copy *table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < a->size; i++)
		if (a->table[i].pid)
			*place_of(table, size, a->table[i].pid, a->table[i].frame) = a->table[i];
	free(a->table);
	a->table = table;
	a->size = size;
	return 0;
}

static uint16_t bits_of(uint64_t address, uint32_t pages)
{
	return (uint16_t)(((1u << pages) - 1) << address / STORE_PAGE % STORE_FRAME_PAGES);
}

/* --- the file ---------------------------------------------------------------------- */

int move_ahead_new(const char *dir, uint64_t most, struct move_ahead **to, struct error *e)
{
	struct move_ahead *a = calloc(1, sizeof(*a));
	if (!a)
		return error_set(e, ENOMEM, "out of memory");
	*a = (struct move_ahead) { .fd = -1,
				   .most = most,
				   .size = FIRST_ROOM,
				   .table = calloc(FIRST_ROOM, sizeof(*a->table)),
				   .sealed = malloc(STORE_FRAME_BYTES) };
	int r = a->table && a->sealed ? seal_random(a->key, sizeof(a->key), e)
				      : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = page_cipher_new(&a->cipher, e);
	if (r == 0) {
		a->fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (a->fd < 0)
			r = error_errno(e, "cannot make a file without a name in %s", dir);
	}
	if (r < 0) {
		move_ahead_free(a);
		return r;
	}
	*to = a;
	return 0;
}

void *move_ahead_free(struct move_ahead *a)
{
	if (!a)
		return NULL;
	cleanup_close_fd(&a->fd);
	page_cipher_free(a->cipher);
	free(a->sealed);
	free(a->table);
	free(a);
	return NULL;
}

static off_t place_in_file(const struct move_copy *c, uint64_t address)
{
	return (off_t)c->number * STORE_FRAME_BYTES + (off_t)(address % STORE_FRAME_BYTES);
}

static uint64_t page_in_file(const struct move_copy *c, uint64_t address)
{
	return (uint64_t)place_in_file(c, address) / STORE_PAGE;
}

static int write_at(int fd, const unsigned char *from, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, from, len, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static bool read_at(int fd, char *to, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pread(fd, to, len, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		to += n;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static int copy_for(struct move_ahead *a, int32_t pid, uint64_t address, struct move_copy **to,
		    struct error *e)
{
	uint64_t frame = address / STORE_FRAME_BYTES;
	if (4 * a->count >= 3 * a->size && grow(a) < 0)
		return error_set(e, ENOMEM, "out of memory");
	struct move_copy *c = *to = place_of(a->table, a->size, pid, frame);
	if (c->pid)
		return 0;
	if (a->bytes + STORE_FRAME_BYTES > a->most)
		return error_set(e, ENOSPC, "there is no room for more memory ahead");
	*c = (struct move_copy) { .frame = frame, .pid = pid, .number = (uint32_t)a->count++ };
	a->bytes += STORE_FRAME_BYTES;
	return 0;
}

/* Half written is not there. */
static int put_piece(struct move_ahead *a, const struct move_range *piece, const char *from,
		     struct error *e)
{
	struct move_copy *c = NULL;
	int r = copy_for(a, piece->pid, piece->address, &c, e);
	if (r < 0)
		return r;
	uint16_t bits = bits_of(piece->address, piece->pages);
	c->pages &= (uint16_t)~bits;
	r = page_cipher_seal(a->cipher, page_in_file(c, piece->address), from, piece->pages,
			     a->sealed);
	if (r == 0)
		r = write_at(a->fd, a->sealed, piece->pages * (size_t)STORE_PAGE,
			     place_in_file(c, piece->address));
	if (r < 0)
		return error_set(e, -r, "cannot keep memory that came ahead");
	c->pages |= bits;
	return 0;
}

int move_ahead_put(struct move_ahead *a, const struct move_range *range, const void *pages,
		   struct error *e)
{
	const char *from = pages;
	int r = 0;
	for (uint32_t n = 0; r == 0 && n < range->pages;) {
		uint64_t address = range->address + (uint64_t)n * STORE_PAGE;
		uint32_t most = STORE_FRAME_PAGES - address / STORE_PAGE % STORE_FRAME_PAGES;
		uint32_t left = range->pages - n;
		const struct move_range piece = { .pid = range->pid,
						  .pages = left < most ? left : most,
						  .address = address };
		r = put_piece(a, &piece, from + (size_t)n * STORE_PAGE, e);
		n += piece.pages;
	}
	return r;
}

bool move_ahead_get(const struct move_ahead *a, const struct move_range *range, void *to)
{
	uint64_t frame = range->address / STORE_FRAME_BYTES;
	const struct move_copy *c = place_of(a->table, a->size, range->pid, frame);
	uint64_t last = range->address + (uint64_t)(range->pages - 1) * STORE_PAGE;
	if (range->pages == 0 || last / STORE_FRAME_BYTES != frame || !c->pid)
		return false;
	uint16_t bits = bits_of(range->address, range->pages);
	return (c->pages & bits) == bits &&
	       read_at(a->fd, to, range->pages * (size_t)STORE_PAGE,
		       place_in_file(c, range->address)) &&
	       page_cipher_open(a->cipher, page_in_file(c, range->address), to, range->pages, to) ==
		       0;
}
