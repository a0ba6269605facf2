/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/dirty.h"

#include "base/cleanup.h"
#include "store/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Documentation/admin-guide/mm/pagemap.rst */
#define WRITTEN (UINT64_C(1) << 55)
#define FILED   (UINT64_C(1) << 61)
#define THERE   (UINT64_C(1) << 63)

enum { AT_ONCE = DIRTY_RUNS_MOST, FIRST_ROOM = 1024 };

/* A run as it was seen last. */
struct seen {
	uint64_t address;
	pid_t inside; /* 0: none is here */
	uint16_t pages;
	bool untouched; /* since, by what the kernel has noted */
	unsigned char tag[SEAL_TAG];
};

struct dirty {
	const char *proc;
	enum dirty_means means;
	struct sealer *sealer;
	struct seen *table; /* by hash; open addressing, at most three quarters full */
	size_t size, count;
};

/* --- what was seen ----------------------------------------------------------------------- */

static size_t hash(pid_t inside, uint64_t address)
{
	uint64_t key =
		(address / STORE_PAGE * 31 + (uint64_t)inside) * UINT64_C(0x9e3779b97f4a7c15);
	return (size_t)(key >> 24);
}

/* Its place, or the one where it would be. */
static struct seen *place_of(struct seen *table, size_t size, pid_t inside, uint64_t address)
{
	size_t at = hash(inside, address) & (size - 1);
	while (table[at].inside && (table[at].inside != inside || table[at].address != address))
		at = (at + 1) & (size - 1);
	return &table[at];
}

static struct seen *find(const struct dirty *d, pid_t inside, const struct dirty_run *run)
{
	struct seen *s = place_of(d->table, d->size, inside, run->address);
	return s->inside && s->pages == run->pages ? s : NULL;
}

static int grow(struct dirty *d)
{
	size_t size = 2 * d->size;
	struct seen *table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < d->size; i++)
		if (d->table[i].inside)
			*place_of(table, size, d->table[i].inside, d->table[i].address) =
				d->table[i];
	free(d->table);
	d->table = table;
	d->size = size;
	return 0;
}

int dirty_new(const char *proc, enum dirty_means means, struct dirty **to, struct error *e)
{
	struct seal_key key;
	struct dirty *d = calloc(1, sizeof(*d));
	if (!d)
		return error_set(e, ENOMEM, "out of memory");
	*d = (struct dirty) { .proc = proc,
			      .means = means,
			      .size = FIRST_ROOM,
			      .table = calloc(FIRST_ROOM, sizeof(*d->table)) };
	int r = d->table ? seal_random(&key, sizeof(key), e)
			 : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = sealer_new(&key, &d->sealer, e);
	if (r < 0) {
		dirty_free(d);
		return r;
	}
	*to = d;
	return 0;
}

void *dirty_free(struct dirty *d)
{
	if (!d)
		return NULL;
	sealer_free(d->sealer);
	free(d->table);
	free(d);
	return NULL;
}

/* --- what the kernel says ---------------------------------------------------------------- */

static bool is_there(uint64_t word)
{
	return (word & (THERE | FILED)) == THERE;
}

size_t dirty_runs_of(const uint64_t *words, size_t count, uint64_t address, struct dirty_run *to)
{
	size_t n = 0;
	bool goes_on = false;
	for (size_t i = 0; i < count; i++, address += STORE_PAGE) {
		if (!is_there(words[i])) {
			goes_on = false;
			continue;
		}
		if (!goes_on || address % STORE_FRAME_BYTES == 0)
			to[n++] = (struct dirty_run) { .address = address };
		to[n - 1].pages++;
		to[n - 1].written |= (words[i] & WRITTEN) != 0;
		goes_on = true;
	}
	return n;
}

static int open_proc(const struct dirty *d, pid_t outside, const char *name, int flags,
		     struct error *e)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%d/%s", d->proc, (int)outside, name);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOENT || errno == ESRCH ? error_set(e, ENOENT, "a process has ended")
						 : error_errno(e, "cannot open %s", path);
}

static int read_runs(int fd, uint64_t address, uint64_t end, struct dirty_run *to, uint64_t *next,
		     struct error *e)
{
	uint64_t words[AT_ONCE];
	size_t count = (size_t)((end - address) / STORE_PAGE);
	/* Frames are looked at whole. */
	if (count > AT_ONCE)
		count = AT_ONCE - address / STORE_PAGE % STORE_FRAME_PAGES;
	ssize_t n = pread(fd, words, count * sizeof(*words),
			  (off_t)(address / STORE_PAGE * sizeof(*words)));
	if (n < 0)
		return error_errno(e, "cannot see which memory a process has");
	/* Nothing: its memory is gone with it. */
	if (n < (ssize_t)sizeof(*words))
		return error_set(e, ENOENT, "a process has ended");
	count = (size_t)n / sizeof(*words);
	*next = address + count * STORE_PAGE;
	return (int)dirty_runs_of(words, count, address, to);
}

int dirty_runs(struct dirty *d, pid_t outside, uint64_t address, uint64_t end,
	       struct dirty_run to[DIRTY_RUNS_MOST], uint64_t *next, struct error *e)
{
	cleanup_fd int fd = open_proc(d, outside, "pagemap", O_RDONLY, e);
	return fd < 0 ? fd : read_runs(fd, address, end, to, next, e);
}

static int take_bits(struct dirty *d, int fd, pid_t inside, const struct store_extent *x,
		     struct error *e)
{
	struct dirty_run runs[DIRTY_RUNS_MOST];
	uint64_t end = x->vaddr + x->pages * STORE_PAGE;
	for (uint64_t at = x->vaddr, next; at < end; at = next) {
		int n = read_runs(fd, at, end, runs, &next, e);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			struct seen *s = find(d, inside, &runs[i]);
			if (s)
				s->untouched = !runs[i].written;
		}
	}
	return 0;
}

static void forget_bits(struct dirty *d, pid_t inside)
{
	for (size_t i = 0; i < d->size; i++)
		if (d->table[i].inside == inside)
			d->table[i].untouched = false;
}

int dirty_begin(struct dirty *d, pid_t inside, pid_t outside, const struct store_extent *extents,
		size_t count, struct error *e)
{
	int r = 0;
	if (d->means != DIRTY_BY_BITS)
		return 0;
	forget_bits(d, inside);
	cleanup_fd int map = open_proc(d, outside, "pagemap", O_RDONLY, e);
	cleanup_fd int clear = map < 0 ? map : open_proc(d, outside, "clear_refs", O_WRONLY, e);
	if (clear < 0)
		return clear;
	for (size_t i = 0; r == 0 && i < count; i++)
		r = take_bits(d, map, inside, &extents[i], e);
	if (r == 0 && write(clear, "4", 1) != 1)
		r = errno == ESRCH ? error_set(e, ENOENT, "a process has ended")
				   : error_errno(e, "cannot have it noted what a process writes");
	return r;
}

bool dirty_may_have_changed(const struct dirty *d, pid_t inside, const struct dirty_run *run)
{
	const struct seen *s = find(d, inside, run);
	return !s || !s->untouched;
}

int dirty_see(struct dirty *d, pid_t inside, const struct dirty_run *run, const void *content,
	      struct error *e)
{
	unsigned char tag[SEAL_TAG];
	if (seal_tag(d->sealer, content, run->pages * (size_t)STORE_PAGE, tag) < 0)
		return error_set(e, EIO, "a digest cannot be made");
	if (4 * d->count >= 3 * d->size && grow(d) < 0)
		return error_set(e, ENOMEM, "out of memory");
	struct seen *s = place_of(d->table, d->size, inside, run->address);
	bool same = s->inside && s->pages == run->pages && memcmp(s->tag, tag, sizeof(tag)) == 0;
	d->count += !s->inside;
	*s = (struct seen) { .address = run->address,
			     .inside = inside,
			     .pages = (uint16_t)run->pages };
	memcpy(s->tag, tag, sizeof(tag));
	return !same;
}
