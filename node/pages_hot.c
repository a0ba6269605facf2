/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The working set of this wake, for the next one: the pages themselves, not all
 * that came with them. So while it is recorded only the page that is wanted is
 * put into place, and the rest of its frame is withheld: who wants that gets it
 * from there, and is noted.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RECORD_MS = 500,        /* of a session that runs and does not wait for pages, */
	RECORD_MOST_MS = 10000, /* ... or in all */
	WITHHELD_MOST = 64 << 20,
};

bool pages_keep(struct pages *p, uint32_t frame, const void *data, size_t len)
{
	pthread_mutex_lock(&p->lock);
	bool kept = p->faults && !p->hurry && p->total * STORE_PAGE > p->hold_back;
	if (kept && !pages_kept_find(&p->early, frame) && !pages_kept_find(&p->withheld, frame))
		kept = p->withheld.bytes + len <= WITHHELD_MOST &&
		       pages_kept_add(&p->withheld, frame, data, len) == 0;
	pthread_mutex_unlock(&p->lock);
	return kept;
}

/* From near the frame around what is wanted costs less than the faults that it spares. */
bool pages_withhold(struct pages *p, uint32_t frame, const void *data, size_t len)
{
	return !p->source.near && pages_keep(p, frame, data, len);
}

bool pages_find_kept(struct pages *p, uint32_t frame, unsigned char data[STORE_FRAME_BYTES],
		     size_t *len)
{
	pthread_mutex_lock(&p->lock);
	const struct pages_kept_frame *f = pages_kept_find(&p->early, frame);
	if (!f)
		f = pages_kept_find(&p->withheld, frame);
	if (f)
		memcpy(data, f->data, *len = f->len);
	pthread_mutex_unlock(&p->lock);
	return f;
}

/* A fork's memory is nobody's at the next wake: it is called otherwise then. What is read from one
 * end to the other is wanted once, and more of it than would fit; read-ahead is enough for that. */
void pages_note_fault(struct pages *p, const struct pages_fault *fault,
		      const struct pages_window *w)
{
	if (p->faults && p->fault_count < PAGES_NOTED_MOST && fault->number > 0 && !w->scans)
		p->faults[p->fault_count++] = (struct pages_noted) {
			.page = { .pid = fault->number, .address = fault->address },
			.start = w->follows ? w->start : fault->address,
			.end = w->follows ? w->end : fault->address,
		};
	if (p->waiting++ == 0)
		p->waiting_since = clock_mono();
}

void pages_note_served(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	if (--p->waiting == 0)
		p->waited += clock_mono() - p->waiting_since;
	pthread_mutex_unlock(&p->lock);
}

/* Lock held. How long the session has run by itself since `begun`: what it wants while it waits for
 * a bucket far away it wants sooner from a near one. */
static mono_us has_run(const struct pages *p, mono_us begun)
{
	mono_us now = clock_mono(), waited = p->waited;
	if (p->waiting > 0)
		waited += now - p->waiting_since;
	return now - begun - waited;
}

struct set {
	struct working_set_page *list;
	size_t count;
	uint32_t *table; /* index + 1 by hash; open addressing */
};
enum { TABLE = 4 * WORKING_SET_MOST };

static void add_once(struct set *set, struct working_set_page page)
{
	uint64_t key = page.address / STORE_PAGE * 31 + (uint64_t)page.pid;
	size_t at = (key * UINT64_C(0x9e3779b97f4a7c15) >> 40) % TABLE;
	for (; set->table[at]; at = (at + 1) % TABLE) {
		const struct working_set_page *other = &set->list[set->table[at] - 1];
		if (other->address == page.address && other->pid == page.pid)
			return;
	}
	if (set->count < WORKING_SET_MOST) {
		set->list[set->count++] = page;
		set->table[at] = (uint32_t)set->count;
	}
}

/* Does a process still have that page? */
static bool is_there(struct pages *p, const struct working_set_page *page)
{
	struct pages_space *s = pages_space_find(p, page->pid);
	return s && pages_map_at(&s->map->map, page->address);
}

static void add_range(struct pages *p, struct set *set, int32_t pid, uint64_t start, uint64_t end)
{
	struct working_set_page page = { .pid = pid, .address = start };
	for (; page.address < end && set->count < WORKING_SET_MOST; page.address += STORE_PAGE)
		if (is_there(p, &page))
			add_once(set, page);
}

/* This wake's faults, with what they were to be followed by, and the last set, which did not fault
 * because it was there. */
static void join(struct pages *p, struct set *set, const struct pages_noted *faults, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_once(set, faults[i].page);
	for (size_t i = 0; i < count; i++) {
		const struct pages_noted *n = &faults[i];
		uint64_t near = n->page.address / PAGES_NEAR * PAGES_NEAR;
		add_range(p, set, n->page.pid, near, near + PAGES_NEAR);
		add_range(p, set, n->page.pid, n->start, n->end);
	}
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->last_set_count; i++)
		if (is_there(p, &p->last_set[i]))
			add_once(set, p->last_set[i]);
	pthread_mutex_unlock(&p->lock);
}

/* Not durable: it is only good for speed. */
static void write_set(struct pages *p, const struct set *set)
{
	cleanup_buf struct buf text = BUF_INIT(WORKING_SET_BYTES);
	cleanup_free char *path = fs_join(p->dir, WORKING_SET_FILE);
	cleanup_free char *tmp = fs_join(p->dir, WORKING_SET_FILE ".new");
	if (!path || !tmp || working_set_encode(set->list, set->count, &text) < 0)
		return;
	cleanup_fd int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0 && fs_write_all(fd, buf_text(&text), text.len) == 0)
		rename(tmp, path);
}

static void *record_main(void *arg)
{
	struct pages *p = arg;
	struct set set = { .list = calloc(WORKING_SET_MOST, sizeof(*set.list)),
			   .table = calloc(TABLE, sizeof(*set.table)) };
	mono_us begun = clock_mono(), until = begun + RECORD_MOST_MS * 1000LL, left;
	pthread_mutex_lock(&p->lock);
	begun -= p->waited;
	while (!p->stop && atomic_load(&p->missing) > 0 && !p->hurry && clock_mono() < until &&
	       (left = RECORD_MS * 1000 - has_run(p, begun)) > 0)
		pages_wait_for(&p->changed, &p->lock, left);
	struct pages_noted *faults = steal_ptr(&p->faults);
	size_t count = p->fault_count;
	bool write = !p->stop && set.list && set.table;
	pthread_mutex_unlock(&p->lock);
	if (write) {
		pthread_rwlock_rdlock(&p->spaces_lock);
		join(p, &set, faults, count);
		pthread_rwlock_unlock(&p->spaces_lock);
		write_set(p, &set);
	}
	pages_place_kept(p, &p->withheld, INT64_MAX);
	pthread_mutex_lock(&p->lock);
	p->recording = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	free(set.list);
	free(set.table);
	free(faults);
	pages_unref(p);
	return NULL;
}

/* What CRIU touches while it restores is wanted at the next wake, too. */
int pages_record_set_begin(struct pages *p, struct error *e)
{
	p->faults = calloc(PAGES_NOTED_MOST, sizeof(*p->faults));
	return p->faults ? 0 : error_set(e, ENOMEM, "out of memory");
}

void pages_record_set_go(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	p->recording = true;
	pthread_mutex_unlock(&p->lock);
	if (pages_thread(p, record_main, p, NULL) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	p->recording = false;
	pthread_mutex_unlock(&p->lock);
}

void pages_record_wait(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	while (p->recording && !p->let_go && p->total * STORE_PAGE > p->hold_back)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}
