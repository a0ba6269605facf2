/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a session that still runs, a part at a time, in rounds. */
#define _GNU_SOURCE
#include "node/depart_talk.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/depart_memory.h"
#include "node/dirty.h"
#include "node/evacuate.h"
#include "node/unseen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	GATHER_US = 100000, /* for one part: who waits for it hears of how far it is */
	NICE = 15,
	STATUS_MOST = 64 << 10,
};
/* Where the kernel only tells page by page what is there: more is address space, not memory. */
static const uint64_t whole_most = UINT64_C(64) << 30;

struct depart_ahead {
	struct dirty *dirty;
	uint32_t round;
	struct move_sent sent; /* before the last part */

	/* Of the round that is under way: */
	bool open;
	struct depart_memory *memory;
	struct unseen found;
	bool begun; /* with this process */
	size_t process, extent;
	uint64_t at; /* in the extent; 0: at its beginning */
	uint64_t seen_bytes, all_bytes, sent_bytes;
};

/* --- rounds ------------------------------------------------------------------------ */

static void close_round(struct depart_ahead *a)
{
	a->memory = depart_memory_free(a->memory);
	unseen_deinit(&a->found);
	a->open = a->begun = false;
	a->process = a->extent = 0;
	a->at = a->seen_bytes = a->all_bytes = a->sent_bytes = 0;
}

void *depart_ahead_free(struct depart_ahead *a)
{
	if (!a)
		return NULL;
	close_round(a);
	dirty_free(a->dirty);
	free(a);
	return NULL;
}

static int have_ahead(struct depart_talk *t, struct error *e)
{
	const struct criu_features *kernel = &t->all->node->criu;
	if (t->ahead)
		return 0;
	struct depart_ahead *a = calloc(1, sizeof(*a));
	if (!a)
		return error_set(e, ENOMEM, "out of memory");
	int r = dirty_new("/proc", kernel->mem_dirty_track ? DIRTY_BY_BITS : DIRTY_BY_CONTENT,
			  &a->dirty, e);
	if (r < 0) {
		free(a);
		return r;
	}
	move_conn_sent(t->conn, &a->sent);
	t->ahead = a;
	return 0;
}

static int find_memory(struct depart_talk *t, const struct cgroup *cg, struct error *e)
{
	struct depart_ahead *a = t->ahead;
	int r = depart_memory_open(cg, &a->memory, e);
	if (r == 0)
		r = unseen_find_running(cg, &a->found, e);
	if (r < 0)
		return r;
	return t->all->node->criu.pagemap_scan ? unseen_scan(&a->found, e)
					       : unseen_take_whole(&a->found, whole_most, e);
}

/* With whom there is by now. */
static int open_round(struct depart_talk *t, struct error *e)
{
	struct depart_ahead *a = t->ahead;
	struct cgroup cg;
	if (a->open)
		return 0;
	int r = cgroup_init(&cg, t->all->node->config->node.cgroup, t->d->session, e);
	if (r < 0)
		return r;
	r = find_memory(t, &cg, e);
	cgroup_deinit(&cg);
	if (r < 0) {
		close_round(a);
		return r;
	}
	a->open = true;
	for (size_t i = 0; i < a->found.process_count; i++)
		for (size_t k = 0; k < a->found.processes[i].extent_count; k++)
			a->all_bytes += a->found.processes[i].extents[k].pages * STORE_PAGE;
	return 0;
}

/* --- one part ---------------------------------------------------------------------- */

struct part {
	struct depart_talk *t;
	struct move_range ranges[MOVE_PAGES_MOST];
	size_t count;
	uint32_t pages;
	mono_us until;
	uint64_t link_per_s; /* of the one before */
	bool full;
};

static void leave_process(struct depart_ahead *a)
{
	a->process++;
	a->begun = false;
	a->extent = 0;
	a->at = 0;
}

static void add_range(struct part *part, const struct move_range *range)
{
	struct move_range *last = part->count ? &part->ranges[part->count - 1] : NULL;
	if (last && last->address + (uint64_t)last->pages * STORE_PAGE == range->address)
		last->pages += range->pages;
	else
		part->ranges[part->count++] = *range;
	part->pages += range->pages;
}

/* What is not there any more is nobody's. */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ESRCH;
}

static int take_run(struct part *part, pid_t inside, const struct dirty_run *run, struct error *e)
{
	struct depart_ahead *a = part->t->ahead;
	char *to = (char *)part->t->pages + (size_t)part->pages * STORE_PAGE;
	const struct move_range range = { .pid = inside,
					  .pages = run->pages,
					  .address = run->address };
	if (!dirty_may_have_changed(a->dirty, inside, run))
		return 0;
	int r = depart_memory_read(a->memory, &range, to, e);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	r = dirty_see(a->dirty, inside, run, to, e);
	if (r > 0) {
		add_range(part, &range);
		a->sent_bytes += (uint64_t)run->pages * STORE_PAGE;
	}
	return r < 0 ? r : 0;
}

static void go_on_at(struct depart_ahead *a, uint64_t from, uint64_t to)
{
	a->seen_bytes += to - from;
	a->at = to;
}

static int take_runs(struct part *part, const struct unseen_process *p,
		     const struct store_extent *x, struct error *e)
{
	struct dirty_run runs[DIRTY_RUNS_MOST];
	struct depart_ahead *a = part->t->ahead;
	uint64_t next, from = a->at ? a->at : x->vaddr, end = x->vaddr + x->pages * STORE_PAGE;
	int n = dirty_runs(a->dirty, p->outside, from, end, runs, &next, e);
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		part->full = part->pages + runs[i].pages > MOVE_PAGES_MOST ||
			     clock_mono() >= part->until;
		if (part->full) {
			go_on_at(a, from, runs[i].address);
			return 0;
		}
		int r = take_run(part, p->inside, &runs[i], e);
		if (r < 0)
			return r;
	}
	go_on_at(a, from, next);
	if (next >= end) {
		a->extent++;
		a->at = 0;
	}
	return 0;
}

static int go_on(struct part *part, const struct unseen_process *p, struct error *e)
{
	struct depart_ahead *a = part->t->ahead;
	int r = a->begun ? 0
			 : dirty_begin(a->dirty, p->inside, p->outside, p->extents, p->extent_count,
				       e);
	a->begun = true;
	while (r == 0 && !part->full && a->extent < p->extent_count)
		r = take_runs(part, p, &p->extents[a->extent], e);
	return r;
}

/* Its number may have become another one's between two looks. */
static bool is_itself(const struct unseen_process *p)
{
	char path[64];
	cleanup_buf struct buf status = BUF_INIT(STATUS_MOST);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)p->outside);
	return fs_read(path, &status, NULL) == 0 &&
	       depart_memory_inside(buf_text(&status)) == p->inside;
}

/* Of one process, or of none: then it was only looked at. */
static int gather(struct part *part, struct error *e)
{
	struct depart_ahead *a = part->t->ahead;
	while (a->process < a->found.process_count && part->count == 0 && !part->full) {
		const struct unseen_process *p = &a->found.processes[a->process];
		int r = go_on(part, p, e);
		if (r < 0 && !is_gone(r))
			return r;
		if (!is_itself(p)) {
			part->count = part->pages = 0;
			r = -ENOENT;
		}
		if (r < 0 || a->extent == p->extent_count)
			leave_process(a);
	}
	return 0;
}

/* --- what goes with it --------------------------------------------------------------- */

/* Each session here has as much of it. */
static int64_t left_ms(struct node *node)
{
	int64_t left = evacuate_left_ms(node), sessions = 0;
	pthread_mutex_lock(&node->lock);
	for (const struct session *s = node->sessions; s; s = s->next)
		sessions += s->journal.pid != 0 && !session_is_given(s);
	pthread_mutex_unlock(&node->lock);
	return left < 0 || sessions < 2 ? left : left / sessions;
}

static int write_part(struct part *part, mono_us begun, bool squeeze, struct error *e)
{
	struct depart_talk *t = part->t;
	struct depart_ahead *a = t->ahead;
	const struct move_part head = {
		.round = a->round,
		.last = a->process == a->found.process_count,
		.tracked = t->all->node->criu.mem_dirty_track,
		.left_ms = left_ms(t->all->node),
		.seen_bytes = a->seen_bytes,
		.all_bytes = a->all_bytes,
		.sent_bytes = a->sent_bytes,
		.link_per_s = part->link_per_s,
		.pages = part->pages,
	};
	buf_reset(&t->answer);
	int r = move_part_write(&head, part->ranges, part->count, t->pages, squeeze, &t->answer, e);
	if (r == 0)
		move_part_set_took(&t->answer, clock_mono() - begun);
	if (r == 0 && head.last) {
		close_round(a);
		a->round++;
	}
	return r;
}

/* The other node has what was sent, or it would not ask again. */
static uint64_t look_at_link(struct depart_talk *t)
{
	const struct move_sent before = t->ahead->sent;
	move_conn_sent(t->conn, &t->ahead->sent);
	return move_sent_per_s(&before, &t->ahead->sent);
}

static int next_part(struct depart_talk *t, bool squeeze, struct error *e)
{
	mono_us begun = clock_mono();
	cleanup_free struct part *part = calloc(1, sizeof(*part));
	if (!part)
		return error_set(e, ENOMEM, "out of memory");
	part->t = t;
	part->until = begun + GATHER_US;
	part->link_per_s = look_at_link(t);
	int r = open_round(t, e);
	if (r == 0)
		r = gather(part, e);
	return r < 0 ? r : write_part(part, begun, squeeze, e);
}

/* The session goes first, and whoever else is at work here. */
int depart_ahead_next(struct depart_talk *t, struct error *e)
{
	bool squeeze;
	id_t thread = (id_t)gettid();
	int nice = getpriority(PRIO_PROCESS, thread);
	int r = move_ahead_question_read(buf_text(&t->body), t->body.len, &squeeze, e);
	if (r == 0)
		r = depart_talk_pages(t, e);
	if (r == 0)
		r = have_ahead(t, e);
	if (r < 0)
		return r;
	setpriority(PRIO_PROCESS, thread, NICE);
	r = next_part(t, squeeze, e);
	setpriority(PRIO_PROCESS, thread, nice);
	return r;
}
