/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults. One thread leads: it reads from the userfaultfds and, while reading
 * from the source is quick, brings the page itself, which saves a change of
 * threads for each. Should it get stuck with that, the one on standby notices
 * and leads instead, so that forks and further faults do not wait for it. While
 * reading is slow the leader only hands out.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	SPIN_US = 100,   /* how long the leader looks for the next fault before it sleeps */
	HOT_US = 10000,  /* since the last fault: the standby is awake */
	STUCK_US = 1000, /* with one fault: another one leads */
	SLOW_US = 1000,  /* to read a frame: that is not for the leader */
	NO_THREAD = -1,
};

/* What the leader listens to. */
struct watch {
	struct pollfd *fds; /* [0] is the eventfd */
	int32_t *numbers;
	size_t count;
	uint32_t version;
};

struct thread {
	struct pages *p;
	int number;
	struct watch watch;
	/* Of two, since who is in the way of an event serves others meanwhile. */
	unsigned char kept[STORE_FRAME_BYTES], now[STORE_FRAME_BYTES];
};

static bool gather(struct thread *t, int timeout_ms);

/* --- the queue ----------------------------------------------------------------------- */

static void push(struct pages *p, const struct pages_fault *fault)
{
	pthread_mutex_lock(&p->lock);
	bool full = p->queue_count == PAGES_QUEUE;
	if (!full)
		p->queue[(p->queue_head + p->queue_count++) % PAGES_QUEUE] = *fault;
	pthread_mutex_unlock(&p->lock);
	/* Who is woken without its page faults again: we shall be told once more. */
	if (full) {
		pages_wake(p, fault);
		pages_note_served(p);
	}
}

static bool pop(struct pages *p, struct pages_fault *fault)
{
	if (p->queue_count == 0)
		return false;
	*fault = p->queue[p->queue_head];
	p->queue_head = (p->queue_head + 1) % PAGES_QUEUE;
	p->queue_count--;
	return true;
}

/* --- one fault ----------------------------------------------------------------------- */

/* Takes the frame on, unless somebody has. Lock held. */
static bool take_off(struct pages *p, int thread, uint32_t frame)
{
	for (int i = 0; i < PAGES_FAULT_THREADS; i++) {
		if (p->flights[i].busy && p->flights[i].frame == frame) {
			p->flights[i].again = true;
			return false;
		}
	}
	p->flights[thread] = (struct pages_flight) { .frame = frame, .busy = true };
	return true;
}

/* True when it has to be put into place once more. */
static bool land(struct pages *p, int thread)
{
	struct pages_flight *f = &p->flights[thread];
	pthread_mutex_lock(&p->lock);
	bool again = f->again;
	f->again = false;
	f->busy = again;
	pthread_mutex_unlock(&p->lock);
	return again;
}

/* An event has to be read first: by us if we lead. False: not any more. */
static bool make_way(struct thread *t)
{
	struct pages *p = t->p;
	pthread_mutex_lock(&p->lock);
	bool leads = p->leader == t->number, over = p->let_go;
	pthread_mutex_unlock(&p->lock);
	if (leads)
		gather(t, 0);
	usleep(leads ? 5 : 50);
	return !over;
}

struct landing {
	struct thread *thread;
	const struct pages_fault *fault;
};

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	struct landing *l = arg;
	struct pages *p = l->thread->p;
	bool again, whole = !pages_withhold(p, frame, data, len);
	do {
		pthread_rwlock_rdlock(&p->spaces_lock);
		int r = whole ? pages_put_frame(p, frame, data, l->fault)
			      : pages_put_near(p, frame, data, l->fault);
		pthread_rwlock_unlock(&p->spaces_lock);
		again = r < 0 ? make_way(l->thread) : land(p, l->thread->number);
		/* Somebody else wants some other page of it, or has been forked. */
		whole |= r == 0;
	} while (again);
	return 0;
}

static void note_time(struct pages *p, mono_us took)
{
	int64_t before = atomic_load(&p->read_us);
	/* Slow at once, quick again by and by. */
	atomic_store(&p->read_us, took > SLOW_US ? took : (before * 7 + took) / 8);
	pages_note_far(p, took);
}

static int read_frame(struct pages *p, uint32_t frame, struct landing *l, struct error *e)
{
	unsigned char *kept = l->thread->kept;
	size_t len;
	if (pages_find_kept(p, frame, kept, &len))
		return on_frame(frame, kept, len, l);
	mono_us begun = clock_mono();
	int r = p->source.read(p->source.from, &frame, 1, on_frame, l, e);
	if (r == 0)
		note_time(p, clock_mono() - begun);
	return r;
}

/* Until it is there. */
static void fetch(struct thread *t, uint32_t frame, const struct pages_fault *fault)
{
	struct pages *p = t->p;
	struct landing l = { .thread = t, .fault = fault };
	bool failing = false;
	int wait_ms = 50;
	while (!pages_over(p)) {
		struct error e = ERROR_INIT;
		int r = read_frame(p, frame, &l, &e);
		if (r == 0)
			break;
		pages_failing(p, &failing, &e);
		pages_back_off(p, &wait_ms);
	}
	pages_recovered(p, &failing);
	pthread_mutex_lock(&p->lock);
	p->flights[t->number].busy = false;
	pthread_mutex_unlock(&p->lock);
}

enum found { FOUND_FRAME, FOUND_NOTHING, FOUND_LATER };

/* Zeros are put there at once. */
static enum found look_up(struct pages *p, const struct pages_fault *fault, uint32_t *frame)
{
	enum { AROUND = 16 * STORE_PAGE };
	struct pages_space *s = pages_space_find(p, fault->number);
	if (!s)
		return FOUND_NOTHING;
	const struct pages_range *range = pages_map_at(&s->map->map, fault->address);
	uint64_t len = STORE_PAGE;
	if (range) {
		unsigned slot;
		uint64_t page = range->page + (fault->address - range->start) / STORE_PAGE;
		*frame = pages_index_frame(&p->index, page, &slot);
		if (*frame != STORE_ZERO)
			return FOUND_FRAME;
	} else {
		/* What is next is most likely wanted next; it costs no memory. */
		len = AROUND - fault->address % AROUND;
		len = pages_map_gap(&s->map->map, fault->address, len);
	}
	return pages_put_zeros(s, fault->address, len) < 0 ? FOUND_LATER : FOUND_NOTHING;
}

static void serve(struct thread *t, const struct pages_fault *fault)
{
	struct pages *p = t->p;
	uint32_t frame = STORE_ZERO;
	bool ours = false;
	pthread_rwlock_rdlock(&p->spaces_lock);
	enum found found = look_up(p, fault, &frame);
	if (found == FOUND_FRAME) {
		/* With the spaces held still: who forks from here on finds us in flight. */
		pthread_mutex_lock(&p->lock);
		ours = take_off(p, t->number, frame);
		pthread_mutex_unlock(&p->lock);
	}
	pthread_rwlock_unlock(&p->spaces_lock);
	if (ours)
		fetch(t, frame, fault);
	if (found == FOUND_LATER) {
		make_way(t);
		push(p, fault);
	} else {
		pages_note_served(p);
	}
}

/* Of who leads: what needs no reading is quicker done than handed out. False: it is for the queue.
 */
static bool serve_now(struct thread *t, const struct pages_fault *fault)
{
	struct pages *p = t->p;
	uint32_t frame = STORE_ZERO;
	size_t len;
	pthread_rwlock_rdlock(&p->spaces_lock);
	enum found found = look_up(p, fault, &frame);
	bool served = found == FOUND_NOTHING;
	if (found == FOUND_FRAME && pages_find_kept(p, frame, t->now, &len))
		served = (pages_withhold(p, frame, t->now, len)
				  ? pages_put_near(p, frame, t->now, fault)
				  : pages_put_frame(p, frame, t->now, fault)) == 0;
	pthread_rwlock_unlock(&p->spaces_lock);
	if (served)
		pages_note_served(p);
	return served;
}

/* --- the leader ---------------------------------------------------------------------- */

static int watch_update(struct pages *p, struct watch *w)
{
	pthread_rwlock_rdlock(&p->spaces_lock);
	size_t count = p->space_count + 1;
	struct pollfd *fds = realloc(w->fds, count * sizeof(*fds));
	if (fds)
		w->fds = fds;
	int32_t *numbers = realloc(w->numbers, count * sizeof(*numbers));
	if (numbers)
		w->numbers = numbers;
	if (fds && numbers) {
		w->count = count;
		w->version = atomic_load(&p->spaces_version);
		fds[0] = (struct pollfd) { .fd = p->wake, .events = POLLIN };
		for (size_t i = 1; i < count; i++) {
			fds[i] = (struct pollfd) { .fd = p->spaces[i - 1]->fd, .events = POLLIN };
			numbers[i] = p->spaces[i - 1]->number;
		}
	}
	pthread_rwlock_unlock(&p->spaces_lock);
	return fds && numbers ? 0 : -ENOMEM;
}

static void look_ahead(struct pages *p, const struct pages_fault *fault)
{
	bool far = pages_is_far(p);
	pthread_mutex_lock(&p->lock);
	struct pages_window w = pages_ahead(&p->ahead, fault->number, fault->address, far);
	pages_note_fault(p, fault, &w);
	pages_ahead_ask(p, fault->number, &w);
	pthread_mutex_unlock(&p->lock);
}

/* All that one of them has to tell. True when there was a fault. */
static bool read_all(struct thread *t, int32_t number)
{
	struct pages *p = t->p;
	struct pages_fault faults[16];
	size_t count = 0;
	bool any = true;
	pthread_rwlock_wrlock(&p->spaces_lock);
	while (any && count < ARRAY_SIZE(faults)) {
		struct pages_space *s = pages_space_find(p, number);
		if (!s)
			break;
		count += (size_t)pages_read_message(p, s, &faults[count], &any);
	}
	pthread_rwlock_unlock(&p->spaces_lock);
	for (size_t i = 0; i < count; i++) {
		look_ahead(p, &faults[i]);
		if (!serve_now(t, &faults[i]))
			push(p, &faults[i]);
	}
	return count > 0;
}

/* True when there are new faults in the queue. */
static bool gather(struct thread *t, int timeout_ms)
{
	struct pages *p = t->p;
	struct watch *w = &t->watch;
	bool any = false;
	if (w->version != atomic_load(&p->spaces_version) || w->count == 0)
		watch_update(p, w);
	if (poll(w->fds, w->count, timeout_ms) <= 0)
		return false;
	if (w->fds[0].revents) {
		eventfd_t ignored;
		eventfd_read(p->wake, &ignored);
		/* For whoever sleeps next, and he may be us: who asks for the end does so once. */
		if (pages_over(p))
			eventfd_write(p->wake, 1);
	}
	for (size_t i = 1; i < w->count; i++)
		if (w->fds[i].revents & POLLIN)
			any |= read_all(t, w->numbers[i]);
	if (any)
		atomic_store(&p->last_fault, clock_mono());
	return any;
}

/* Lock held. Takes a fault for itself if it may do that. */
static bool share_out(struct pages *p, struct pages_fault *fault)
{
	bool quick = atomic_load(&p->read_us) < SLOW_US;
	bool own = quick && p->idle > 0 && pop(p, fault);
	if (p->queue_count > 0)
		pthread_cond_signal(&p->work);
	if (own && p->standby_asleep)
		pthread_cond_signal(&p->standby_wake);
	return own;
}

/* The next fault mostly comes soon after the last one, and to be woken for it takes long. */
static void listen_to_all(struct thread *t)
{
	struct pages *p = t->p;
	mono_us until = atomic_load(&p->last_fault) + SPIN_US;
	pthread_mutex_lock(&p->lock);
	bool waiting = p->queue_count > 0;
	pthread_mutex_unlock(&p->lock);
	do {
		if (gather(t, 0) || waiting)
			return;
	} while (clock_mono() < until);
	gather(t, -1);
}

/* Lock held; until another one leads, or the end. */
static void lead(struct thread *t)
{
	struct pages *p = t->p;
	while (!p->let_go && p->leader == t->number) {
		struct pages_fault fault;
		pthread_mutex_unlock(&p->lock);
		listen_to_all(t);
		pthread_mutex_lock(&p->lock);
		if (p->let_go || p->leader != t->number)
			break;
		if (!share_out(p, &fault)) {
			/* All are at work; there is nothing to do but to listen. */
			if (p->queue_count > 0)
				pages_wait_for(&p->changed, &p->lock, STUCK_US);
			continue;
		}
		atomic_store(&p->leader_busy, clock_mono());
		pthread_mutex_unlock(&p->lock);
		serve(t, &fault);
		pthread_mutex_lock(&p->lock);
		if (p->leader == t->number)
			atomic_store(&p->leader_busy, 0);
	}
	if (p->leader == t->number)
		p->leader = NO_THREAD;
}

/* --- the others ----------------------------------------------------------------------- */

static bool is_stuck(struct pages *p)
{
	int64_t since = atomic_load(&p->leader_busy);
	return p->leader == NO_THREAD || (since && clock_mono() - since > STUCK_US);
}

static void stand_by(struct pages *p, int thread)
{
	p->standby = thread;
	if (clock_mono() - atomic_load(&p->last_fault) < HOT_US || atomic_load(&p->leader_busy)) {
		pages_wait_for(&p->standby_wake, &p->lock, STUCK_US);
	} else {
		p->standby_asleep = true;
		pthread_cond_wait(&p->standby_wake, &p->lock);
		p->standby_asleep = false;
	}
	p->standby = NO_THREAD;
}

/* Lock held. What this thread has to do next: to lead, to serve *fault, or to look again. */
enum duty { LEAD, SERVE, LOOK_AGAIN };
static enum duty find_duty(struct pages *p, int thread, struct pages_fault *fault)
{
	if (is_stuck(p)) {
		p->leader = thread;
		atomic_store(&p->leader_busy, 0);
		return LEAD;
	}
	if (pop(p, fault))
		return SERVE;
	p->idle++;
	if (p->standby == NO_THREAD)
		stand_by(p, thread);
	else
		pthread_cond_wait(&p->work, &p->lock);
	p->idle--;
	/* There is a standby as long as there is anybody. */
	if (p->standby == NO_THREAD && p->idle > 0)
		pthread_cond_signal(&p->work);
	return LOOK_AGAIN;
}

static void *fault_main(void *arg)
{
	struct thread *t = arg;
	struct pages *p = t->p;
	struct pages_fault fault;
	pthread_mutex_lock(&p->lock);
	while (!p->let_go) {
		enum duty duty = find_duty(p, t->number, &fault);
		if (duty == LEAD)
			lead(t);
		if (duty != SERVE)
			continue;
		pthread_mutex_unlock(&p->lock);
		serve(t, &fault);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	free(t->watch.fds);
	free(t->watch.numbers);
	free(t);
	pages_unref(p);
	return NULL;
}

int pages_fault_start(struct pages *p, struct error *e)
{
	p->leader = p->standby = NO_THREAD;
	int r = 0;
	for (int i = 0; i < PAGES_FAULT_THREADS && r == 0; i++) {
		struct thread *t = calloc(1, sizeof(*t));
		if (!t)
			return error_set(e, ENOMEM, "out of memory");
		t->p = p;
		t->number = i;
		r = pages_thread(p, fault_main, t, e);
		if (r < 0)
			free(t);
	}
	return r;
}
