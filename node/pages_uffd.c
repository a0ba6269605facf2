/* SPDX-License-Identifier: Apache-2.0 */
/* The page service's ears: address spaces, and what the kernel tells of them. */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* --- spaces ------------------------------------------------------------------------- */

struct pages_space *pages_space_find(struct pages *p, int32_t number)
{
	for (size_t i = 0; i < p->space_count; i++)
		if (p->spaces[i]->number == number)
			return p->spaces[i];
	return NULL;
}

static int grow(struct pages *p)
{
	if (p->space_count < p->space_size)
		return 0;
	size_t size = p->space_size * 2 + 16;
	struct pages_space **more = realloc(p->spaces, size * sizeof(*more));
	if (!more)
		return -ENOMEM;
	p->spaces = more;
	p->space_size = size;
	return 0;
}

static void unref_map(struct pages_shared_map *map)
{
	if (map && --map->references == 0) {
		pages_map_deinit(&map->map);
		free(map);
	}
}

static struct pages_shared_map *share_map(struct pages_map *map)
{
	struct pages_shared_map *shared = calloc(1, sizeof(*shared));
	if (!shared) {
		pages_map_deinit(map);
		return NULL;
	}
	shared->references = 1;
	shared->map = *map;
	*map = (struct pages_map) { 0 };
	return shared;
}

/* A reference is taken over. */
static int add(struct pages *p, int32_t number, int fd, struct pages_shared_map *map)
{
	struct pages_space *s = map && grow(p) == 0 ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		cleanup_close_fd(&fd);
		unref_map(map);
		return -ENOMEM;
	}
	s->number = number;
	s->fd = fd;
	s->map = map;
	p->spaces[p->space_count++] = s;
	atomic_fetch_add(&p->spaces_version, 1);
	eventfd_write(p->wake, 1);
	return 0;
}

int pages_space_add(struct pages *p, int32_t number, int fd, struct pages_map *map, struct error *e)
{
	return add(p, number, fd, share_map(map)) < 0 ? error_set(e, ENOMEM, "out of memory") : 0;
}

/* Forks share a map until it changes. */
static int own_map(struct pages_space *s)
{
	struct pages_map copy;
	if (s->map->references == 1)
		return 0;
	struct pages_shared_map *own =
		pages_map_copy(&copy, &s->map->map) == 0 ? share_map(&copy) : NULL;
	if (!own)
		return -ENOMEM;
	unref_map(s->map);
	s->map = own;
	return 0;
}

static void free_space(struct pages_space *s)
{
	cleanup_close_fd(&s->fd);
	unref_map(s->map);
	free(s);
}

/* Nothing is told when a process ends; this fails in one way or the other. The page is the last one
 * below the end of what a process can have. */
static void look_if_gone(struct pages_space *s)
{
	struct uffdio_zeropage last = { .range = { .start = UINT64_C(0x7fffffffe000),
						   .len = STORE_PAGE } };
	if (!pages_map_at(&s->map->map, last.range.start) &&
	    ioctl(s->fd, UFFDIO_ZEROPAGE, &last) < 0 && errno == ESRCH)
		atomic_store(&s->gone, true);
}

/* Those whose processes have ended. */
static void drop_gone(struct pages *p)
{
	size_t kept = 0;
	for (size_t i = 0; i < p->space_count; i++) {
		look_if_gone(p->spaces[i]);
		if (atomic_load(&p->spaces[i]->gone))
			free_space(p->spaces[i]);
		else
			p->spaces[kept++] = p->spaces[i];
	}
	if (kept == p->space_count)
		return;
	p->space_count = kept;
	atomic_fetch_add(&p->spaces_version, 1);
	eventfd_write(p->wake, 1);
}

void pages_drop_all(struct pages *p)
{
	while (p->space_count)
		free_space(p->spaces[--p->space_count]);
	atomic_fetch_add(&p->spaces_version, 1);
	eventfd_write(p->wake, 1);
}

/* --- the vault and the record -------------------------------------------------------- */

enum { RECORD_NUMBER = 0 };

static void put_into_vault(struct pages *p, struct pages_space *s, struct error *e)
{
	if (p->vault.in >= 0 && !s->in_vault && vault_put(&p->vault, s->number, s->fd, e) == 0)
		s->in_vault = true;
}

struct keep {
	struct pages *p;
	size_t records_left; /* older than the last one */
};

static bool is_current(int32_t number, void *arg)
{
	struct keep *k = arg;
	if (number == RECORD_NUMBER)
		return k->records_left-- == 0;
	return pages_space_find(k->p, number);
}

static int count_record(int32_t number, int fd, void *arg)
{
	close(fd);
	*(size_t *)arg += number == RECORD_NUMBER;
	return 0;
}

/* The new record is in the vault before anything is written to it that is not in the old one, and
 * of two the later one counts. */
int pages_save(struct pages *p, struct error *e)
{
	struct pages_record fresh = PAGES_RECORD_INIT;
	struct keep keep = { .p = p };
	size_t records = 0, maps = 0;
	drop_gone(p);
	for (size_t i = 0; i < p->space_count; i++)
		maps += pages_record_needs(&p->spaces[i]->map->map);
	int r = pages_record_make(&fresh, pages_index_total(&p->source), p->source.frame_count,
				  maps, e);
	if (r < 0)
		return r;
	pages_record_set_child(&fresh, p->next_child);
	if (p->record.at)
		pages_record_copy_frames(&fresh, &p->record);
	for (size_t i = 0; i < p->space_count && r == 0; i++)
		r = pages_record_space(&fresh, p->spaces[i]->number, &p->spaces[i]->map->map);
	if (r < 0)
		r = error_set(e, ENOSPC, "the session's memory is in too many pieces to record");
	if (r == 0)
		r = vault_put(&p->vault, RECORD_NUMBER, fresh.fd, e);
	if (r < 0) {
		pages_record_close(&fresh);
		return r;
	}
	struct pages_record old = p->record;
	p->record = fresh;
	for (size_t i = 0; i < p->space_count && r == 0; i++) {
		struct error why = ERROR_INIT;
		put_into_vault(p, p->spaces[i], &why);
		if (!p->spaces[i]->in_vault) {
			r = -ENOBUFS;
			if (e)
				*e = why;
		}
	}
	pages_keeper_expect(p->keeper, &p->record);
	pages_record_close(&old);
	/* Where not even that can be seen all of it stays. */
	if (vault_each(&p->vault, count_record, &records, NULL) < 0 || records == 0)
		return r;
	keep.records_left = records - 1;
	vault_keep(&p->vault, is_current, &keep, NULL);
	return r;
}

/* --- events -------------------------------------------------------------------------- */

/* Every so often, and more rarely the more there are. */
static void tidy_forks(struct pages *p)
{
	enum { FORKS = 256 };
	if (++p->forks < FORKS + p->lived)
		return;
	if (p->settled && p->vault.in >= 0)
		pages_save(p, NULL);
	else
		drop_gone(p);
	p->forks = 0;
	p->lived = p->space_count;
}

static int on_fork(struct pages *p, struct pages_space *s, int32_t child, int fd)
{
	bool broken = s->broken;
	s->map->references++;
	int r = add(p, child, fd, s->map);
	if (r == 0) {
		struct pages_space *new = p->spaces[p->space_count - 1];
		new->broken = broken;
		if (fd >= 0)
			put_into_vault(p, new, NULL);
	}
	return r;
}

static int on_move(struct pages_space *s, uint64_t from, uint64_t to, uint64_t len)
{
	s->moved_from = from;
	s->moved_to = to;
	s->moved_len = len;
	return pages_map_move(&s->map->map, from, to, len);
}

/* Up to Linux 6.15, mremap(MREMAP_FIXED) to a smaller size tells of a move of the old size, and
 * then that the old range's tail was unmapped: what was moved by mistake is dropped with it. */
static int on_unmap(struct pages_space *s, uint64_t start, uint64_t end, uint64_t moved_len)
{
	uint64_t off = start - s->moved_from;
	int r = pages_map_drop(&s->map->map, start, end);
	if (r == 0 && moved_len && off > 0 && off < moved_len && end == s->moved_from + moved_len)
		r = pages_map_drop(&s->map->map, s->moved_to + off, s->moved_to + moved_len);
	return r;
}

int pages_apply(struct pages *p, struct pages_space *s, const struct uffd_msg *m, int32_t child,
		int child_fd)
{
	uint64_t moved_len = s->moved_len;
	int r = m->event == UFFD_EVENT_FORK ? 0 : own_map(s);
	s->moved_len = 0;
	s->broken |= r < 0;
	switch (r == 0 ? m->event : 0) {
	case UFFD_EVENT_FORK:
		r = on_fork(p, s, child, child_fd);
		break;
	case UFFD_EVENT_REMAP:
		r = on_move(s, m->arg.remap.from, m->arg.remap.to, m->arg.remap.len);
		break;
	case UFFD_EVENT_UNMAP:
		r = on_unmap(s, m->arg.remove.start, m->arg.remove.end, moved_len);
		break;
	case UFFD_EVENT_REMOVE:
		r = pages_map_drop(&s->map->map, m->arg.remove.start, m->arg.remove.end);
		break;
	default:
		break;
	}
	s->broken |= r < 0;
	return r;
}

static struct pages_entry *next_entry(struct pages *p)
{
	struct pages_entry *entry = pages_record_next(&p->record);
	if (!entry && p->settled && pages_save(p, NULL) == 0)
		entry = pages_record_next(&p->record);
	return entry;
}

int pages_take_off(struct pages *p, struct pages_space *s, uint64_t start, uint64_t end)
{
	struct uffd_msg removed = { .event = UFFD_EVENT_REMOVE,
				    .arg.remove = { .start = start, .end = end } };
	struct pages_entry *entry = next_entry(p);
	if (!entry)
		return -ENOMEM;
	*entry = (struct pages_entry) { .number = s->number, .message = removed };
	pages_record_count(&p->record);
	return pages_apply(p, s, &removed, 0, -1);
}

int pages_read_message(struct pages *p, struct pages_space *s, struct pages_fault *fault, bool *any)
{
	/* When there is no record any more there is still the session: it goes on, only that a
	 * kill would be noticed. */
	struct pages_entry spare, *entry = next_entry(p);
	*any = false;
	if (!entry) {
		entry = &spare;
		pages_record_tear(&p->record);
	}
	*entry = (struct pages_entry) { .number = s->number, .child = p->next_child };
	if (p->keeper && entry != &spare)
		pages_keeper_expect(p->keeper, &p->record);
	ssize_t n = read(s->fd, &entry->message, sizeof(entry->message));
	if (n != sizeof(entry->message))
		return 0;
	*any = true;
	if (entry->message.event == UFFD_EVENT_PAGEFAULT) {
		fault->number = s->number;
		fault->address = entry->message.arg.pagefault.address & ~(uint64_t)(STORE_PAGE - 1);
		return 1;
	}
	struct uffd_msg m = entry->message;
	if (entry != &spare)
		pages_record_count(&p->record);
	int32_t child = p->next_child;
	p->next_child -= m.event == UFFD_EVENT_FORK;
	pages_apply(p, s, &m, child, m.event == UFFD_EVENT_FORK ? (int)m.arg.fork.ufd : -1);
	/* What the keeper would do with that entry is done. */
	if (p->keeper && entry != &spare && (entry = pages_record_next(&p->record))) {
		*entry = (struct pages_entry) { 0 };
		pages_keeper_expect(p->keeper, &p->record);
	}
	if (m.event == UFFD_EVENT_FORK)
		tidy_forks(p);
	return 0;
}
