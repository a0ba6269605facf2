/* SPDX-License-Identifier: Apache-2.0 */
/* The working set: read early at one wake, written at its end for the next. */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	EARLY_THREADS = 2,
	EARLY_BATCH = 32,         /* frames */
	EARLY_BYTES = 16 << 20,   /* before there is a place for them */
	EARLY_WAIT_MS = 20,       /* for what is still being read when the rest is ready, */
	EARLY_WAIT_SLOW_MS = 200, /* ... from afar */
	EARLY_SLOW_US = 10000,
	NICE = 10,
	RECORD_MS = 500,
};

/* --- what to read --------------------------------------------------------------------- */

/* The frame of a page of the set; STORE_ZERO when it needs none. `maps` are made as they are
 * needed. */
static uint32_t frame_of(struct pages *p, struct pages_map *maps,
			 const struct working_set_page *page)
{
	unsigned slot;
	int memory = pages_index_find(&p->index, page->pid);
	if (memory < 0)
		return STORE_ZERO;
	struct pages_map *map = &maps[memory];
	if (map->count == 0 && pages_index_map(&p->index, (size_t)memory, map) < 0)
		return STORE_ZERO;
	const struct pages_range *r = pages_map_at(map, page->address);
	if (!r)
		return STORE_ZERO;
	return pages_index_frame(&p->index, r->page + (page->address - r->start) / STORE_PAGE,
				 &slot);
}

/* Frames of the last working set, most wanted first, and others that the store put aside for us. */
static int choose(struct pages *p)
{
	size_t frames = p->source.frame_count, memories = p->source.memory_count;
	cleanup_free bool *taken = calloc(frames + 1, sizeof(*taken));
	cleanup_free struct pages_map *maps = calloc(memories + 1, sizeof(*maps));
	p->early_frames = calloc(frames + 1, sizeof(*p->early_frames));
	if (!taken || !maps || !p->early_frames)
		return -ENOMEM;
	for (size_t i = 0; i < p->last_set_count; i++) {
		uint32_t frame = frame_of(p, maps, &p->last_set[i]);
		if (frame != STORE_ZERO && !taken[frame])
			p->early_frames[p->early_frame_count++] = frame;
		if (frame != STORE_ZERO)
			taken[frame] = true;
	}
	for (uint32_t f = 0; f < frames; f++)
		if (p->source.frames[f].hot && !taken[f])
			p->early_frames[p->early_frame_count++] = f;
	for (size_t i = 0; i < memories; i++)
		pages_map_deinit(&maps[i]);
	return 0;
}

/* --- reading --------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* True when it was kept for later; otherwise there is a place for it now, or all is over. */
static bool keep(struct pages *p, uint32_t frame, const void *data, size_t len)
{
	bool kept = false;
	pthread_mutex_lock(&p->lock);
	while (!p->early_over && !p->let_go && p->early_bytes + len > EARLY_BYTES) {
		p->early_full = true;
		pthread_cond_broadcast(&p->changed);
		pthread_cond_wait(&p->changed, &p->lock);
	}
	if (!p->early_over && !p->let_go) {
		unsigned char *copy = malloc(len);
		struct pages_early *more = realloc(p->early, (p->early_count + 1) * sizeof(*more));
		if (more)
			p->early = more;
		if (copy && more) {
			memcpy(copy, data, len);
			more[p->early_count++] =
				(struct pages_early) { .frame = frame, .data = copy };
			p->early_bytes += len;
		} else {
			free(copy);
		}
		kept = true;
	}
	pthread_mutex_unlock(&p->lock);
	return kept;
}

static void put(struct pages *p, uint32_t frame, const void *data)
{
	int r = -EAGAIN;
	while (r < 0 && !pages_over(p)) {
		pthread_rwlock_rdlock(&p->spaces_lock);
		r = pages_put_frame(p, frame, data, NULL);
		pthread_rwlock_unlock(&p->spaces_lock);
		if (r < 0)
			usleep(50);
	}
}

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	struct pages *p = arg;
	if (!keep(p, frame, data, len))
		put(p, frame, data);
	return pages_over(p) ? -ECANCELED : 0;
}

static size_t take_batch(struct pages *p, uint32_t *batch)
{
	size_t count = 0;
	pthread_mutex_lock(&p->lock);
	while (!p->let_go && count < EARLY_BATCH && p->early_next < p->early_frame_count) {
		uint32_t frame = p->early_frames[p->early_next++];
		batch[count++] = frame;
	}
	pthread_mutex_unlock(&p->lock);
	qsort(batch, count, sizeof(*batch), ascending);
	return count;
}

static void *early_main(void *arg)
{
	struct pages *p = arg;
	uint32_t batch[EARLY_BATCH];
	size_t count;
	/* Of this thread only: CRIU goes first. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	/* What cannot be read now will be wanted again, and is told then. */
	while ((count = take_batch(p, batch)) > 0) {
		mono_us begun = clock_mono();
		if (p->source.read(p->source.from, batch, count, on_frame, p, NULL) < 0)
			break;
		atomic_store(&p->early_us, clock_mono() - begun);
	}
	pthread_mutex_lock(&p->lock);
	p->early_threads--;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pages_unref(p);
	return NULL;
}

int pages_early_start(struct pages *p, struct error *e)
{
	/* Without one, nothing is known to come first. */
	if (working_set_read(p->dir, &p->last_set, &p->last_set_count, NULL) < 0)
		p->last_set_count = 0;
	if (choose(p) < 0)
		return error_set(e, ENOMEM, "out of memory");
	int r = 0;
	p->early_threads = p->early_frame_count > 0 ? EARLY_THREADS : 0;
	for (int i = 0; i < EARLY_THREADS && p->early_frame_count > 0 && r == 0; i++)
		r = pages_thread(p, early_main, p, e);
	return r;
}

void pages_early_settled(struct pages *p)
{
	/* Nothing read yet is slow, too. */
	int64_t took = atomic_load(&p->early_us);
	bool slow = took == 0 || took > EARLY_SLOW_US;
	mono_us until = clock_mono() + (slow ? EARLY_WAIT_SLOW_MS : EARLY_WAIT_MS) * 1000;
	pthread_mutex_lock(&p->lock);
	while (p->early_threads > 0 && !p->early_full && clock_mono() < until && !p->let_go)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	p->early_over = true;
	struct pages_early *list = steal_ptr(&p->early);
	size_t count = p->early_count;
	p->early_count = 0;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < count; i++) {
		put(p, list[i].frame, list[i].data);
		free(list[i].data);
	}
	free(list);
}

/* --- recording -------------------------------------------------------------------------- */

/* A fork's memory is nobody's at the next wake: it is called otherwise then. */
void pages_note_fault(struct pages *p, const struct pages_fault *fault)
{
	pthread_mutex_lock(&p->lock);
	if (p->faults && p->fault_count < WORKING_SET_MOST && fault->number > 0)
		p->faults[p->fault_count++] =
			(struct working_set_page) { .pid = fault->number,
						    .address = fault->address };
	pthread_mutex_unlock(&p->lock);
}

struct set {
	struct working_set_page *list;
	size_t count;
	uint16_t *table; /* index + 1 by hash; open addressing */
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
		set->table[at] = (uint16_t)set->count;
	}
}

/* Does a process still have that page? */
static bool is_there(struct pages *p, const struct working_set_page *page)
{
	struct pages_space *s = pages_space_find(p, page->pid);
	return s && pages_map_at(&s->map->map, page->address);
}

/* What came with a fault is near to it, and was perhaps wanted as well. */
static void add_around(struct pages *p, struct set *set, struct working_set_page page)
{
	enum { AROUND = STORE_FRAME_BYTES };
	page.address -= page.address % AROUND;
	for (unsigned i = 0; i < AROUND / STORE_PAGE; i++, page.address += STORE_PAGE)
		if (is_there(p, &page))
			add_once(set, page);
}

/* This wake's faults, the last set (which did not fault, because it was there), and what is around.
 */
static void join(struct pages *p, struct set *set, const struct working_set_page *faults,
		 size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_once(set, faults[i]);
	for (size_t i = 0; i < p->last_set_count; i++)
		if (is_there(p, &p->last_set[i]))
			add_once(set, p->last_set[i]);
	for (size_t i = 0; i < count && set->count < WORKING_SET_MOST; i++)
		add_around(p, set, faults[i]);
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
	mono_us until = clock_mono() + RECORD_MS * 1000;
	pthread_mutex_lock(&p->lock);
	while (!p->stop && !p->all_in && clock_mono() < until)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	struct working_set_page *faults = steal_ptr(&p->faults);
	size_t count = p->fault_count;
	bool write = !p->stop && set.list && set.table;
	pthread_mutex_unlock(&p->lock);
	if (write) {
		pthread_rwlock_rdlock(&p->spaces_lock);
		join(p, &set, faults, count);
		pthread_rwlock_unlock(&p->spaces_lock);
		write_set(p, &set);
	}
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

int pages_record_set_start(struct pages *p, struct error *e)
{
	pthread_mutex_lock(&p->lock);
	p->faults = calloc(WORKING_SET_MOST, sizeof(*p->faults));
	p->recording = p->faults;
	pthread_mutex_unlock(&p->lock);
	int r = p->recording ? pages_thread(p, record_main, p, e)
			     : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		p->recording = false;
	return r;
}
