/* SPDX-License-Identifier: Apache-2.0 */
/* The page service taken up after a kill, by what the vault holds. */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEEPER_MS = 15000 }; /* until the last program's keeper has done its work */

struct found {
	int record;
	int32_t *numbers;
	int *fds;
	size_t count;
};

static void found_deinit(struct found *f)
{
	cleanup_close_fd(&f->record);
	for (size_t i = 0; i < f->count; i++)
		cleanup_close_fd(&f->fds[i]);
	free(f->numbers);
	free(f->fds);
	*f = (struct found) { .record = -1 };
}

/* A session could have put anything there. */
static bool is_userfaultfd(int fd)
{
	static const char name[] = "anon_inode:[userfaultfd]";
	char path[64], target[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, sizeof(target));
	return n == (ssize_t)strlen(name) && memcmp(target, name, (size_t)n) == 0;
}

static int note_found(int32_t number, int fd, void *arg)
{
	struct found *f = arg;
	if (number == 0) {
		/* Of several the last one counts. */
		cleanup_close_fd(&f->record);
		f->record = fd;
		return 0;
	}
	int32_t *numbers = realloc(f->numbers, (f->count + 1) * sizeof(*numbers));
	if (numbers)
		f->numbers = numbers;
	int *fds = realloc(f->fds, (f->count + 1) * sizeof(*fds));
	if (fds)
		f->fds = fds;
	if (!numbers || !fds || !is_userfaultfd(fd)) {
		close(fd);
		return numbers && fds ? 0 : -ENOMEM;
	}
	numbers[f->count] = number;
	fds[f->count++] = fd;
	return 0;
}

static int replay_entry(const struct pages_entry *entry, void *arg)
{
	struct pages *p = arg;
	struct pages_map none = { 0 };
	struct pages_space *s = pages_space_find(p, entry->number);
	if (entry->kind == PAGES_ENTRY_SPACE) {
		if (entry->number <= p->next_child)
			p->next_child = entry->number - 1;
		return pages_space_add(p, entry->number, -1, &none, NULL);
	}
	if (!s)
		return -EBADMSG;
	if (entry->kind == PAGES_ENTRY_RANGE)
		return pages_map_add(&s->map->map, entry->range.start, entry->range.end,
				     entry->range.page);
	if (entry->message.event == UFFD_EVENT_FORK)
		p->next_child = entry->child - 1;
	return pages_apply(p, s, &entry->message, entry->child, -1);
}

/* How many spaces have no descriptor. */
static size_t give_out(struct pages *p, struct found *f)
{
	size_t without = 0;
	for (size_t i = 0; i < p->space_count; i++) {
		struct pages_space *s = p->spaces[i];
		for (size_t k = 0; k < f->count && s->fd < 0; k++)
			if (f->numbers[k] == s->number)
				s->fd = steal_fd(&f->fds[k]);
		s->in_vault = s->fd >= 0;
		without += s->fd < 0;
	}
	return without;
}

static int look_into_vault(struct pages *p, struct found *f, struct error *e)
{
	found_deinit(f);
	int r = vault_each(&p->vault, note_found, f, e);
	if (r == -ENOMEM)
		error_set(e, ENOMEM, "out of memory");
	return r;
}

/* The keeper of the program that was killed may still be at it. */
static int find_all(struct pages *p, struct found *f, struct error *e)
{
	mono_us until = clock_mono() + KEEPER_MS * 1000;
	while (give_out(p, f) > 0) {
		if (clock_mono() > until)
			return error_set(e, EIO,
					 "a process of session %s has lost its missing memory",
					 p->session);
		usleep(2000);
		int r = look_into_vault(p, f, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static void count_missing(struct pages *p)
{
	for (uint32_t f = 0; f < p->source.frame_count; f++)
		if (pages_record_has(&p->record, f))
			atomic_fetch_sub(&p->missing, p->index.start[f + 1] - p->index.start[f]);
}

/* -ENOENT when nothing is missing. spaces_lock held, though nobody is there yet. */
static int take_up(struct pages *p, struct found *f, struct error *e)
{
	int r = look_into_vault(p, f, e);
	if (r < 0)
		return r;
	/* The record goes in first, and out first when all is in place. */
	if (f->record < 0) {
		r = vault_empty(&p->vault, e);
		return r < 0 ? r : error_set(e, ENOENT, "no pages are missing");
	}
	r = pages_record_open(&p->record, steal_fd(&f->record), pages_index_total(&p->source),
			      p->source.frame_count, e);
	if (r == 0 && pages_record_is_complete(&p->record)) {
		r = vault_empty(&p->vault, e);
		return r < 0 ? r : error_set(e, ENOENT, "no pages are missing");
	}
	if (r == 0 && pages_record_is_torn(&p->record))
		r = error_set(e, EIO, "what became of the session's missing memory is not known");
	if (r == 0)
		p->next_child = pages_record_child(&p->record);
	if (r == 0 && pages_record_replay(&p->record, replay_entry, p) < 0)
		r = error_set(e, EBADMSG, "the record of the session's pages makes no sense");
	if (r == 0)
		r = find_all(p, f, e);
	if (r == 0)
		r = pages_keeper_watch(&p->vault, &p->keeper, e);
	if (r == 0) {
		pages_record_take_turn(&p->record);
		count_missing(p);
		p->settled = true;
		p->early_over = true;
		/* Who was told about before and has got nothing asks again. */
		pages_wake_all(p);
	}
	return r;
}

int pages_resume(const struct pages_options *options, pid_t init, const struct page_source *source,
		 struct pages **pages, struct error *e)
{
	struct pages *p;
	struct found found = { .record = -1 };
	int r = pages_make(options, source, &p, e);
	if (r < 0)
		return r;
	r = pages_make_index(p, e);
	pthread_rwlock_wrlock(&p->spaces_lock);
	if (r == 0)
		r = vault_open(init, &p->vault, e);
	if (r == 0)
		r = take_up(p, &found, e);
	pthread_rwlock_unlock(&p->spaces_lock);
	found_deinit(&found);
	if (r == 0)
		r = pages_fault_start(p, e);
	if (r == 0)
		r = pages_ahead_start(p, e);
	if (r == 0)
		r = pages_fetch_start(p, e);
	if (r < 0) {
		pages_free(p);
		return r;
	}
	*pages = p;
	return 0;
}
