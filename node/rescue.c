/* SPDX-License-Identifier: Apache-2.0 */
#include "node/rescue.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/cgroup.h"
#include "node/hold.h"
#include "node/rescue_notices.h"
#include "policies/rescue.h"

#include <errno.h>
#include <stdlib.h>

enum {
	LOOK_MS = 250,
	GROWTH_MS = 200,   /* what it grows in less says little of a second */
	HELD_MS = 120000,  /* that one stands still waiting for help */
	PAUSE_MS = 600000, /* before it does so again */
	RAISED_MS = 100,   /* what was seen to wait after a raise may have been woken by it */
};

struct rescue {
	struct event *look;
	struct rescue_notices *notices; /* NULL: the kernel tells of none */
	struct rescue_rules rules;
};

/* One that is here, and what it uses. */
struct patient {
	struct session *session;
	struct cgroup cgroup;
	struct session_limits limits;
	int64_t used, out; /* in memory; paged out */
	bool treated;      /* it may be given more, or stand still; else it only takes up room */
	bool lent_to;      /* ... or given more for as long as an effect has its journal */
	bool waits;        /* at its limit, and is not ended */
	bool waiting;      /* ... it does */
};

static int64_t ms(mono_us t)
{
	return t / 1000;
}

/* Only processes that run use more, and the worker of an effect has the session's journal. Under
 * the lock. */
static bool is_looked_at(struct node *node, struct session *s)
{
	bool stands = hold_any(node, s) && !hold_has(node, s, HOLD_MEMORY);
	return !s->effect && !s->journal.effect && !stands && !s->journal.given_to &&
	       s->journal.session.limits.memory_bytes > 0;
}

/* One that runs while an effect is under way, which may wait for it: for what is missing of its
 * memory to find room. Under the lock. */
static bool is_lent_to(struct node *node, const struct session *s)
{
	return s->effect && !hold_is_owned(node, s) && !hold_any(node, s) && !s->journal.given_to &&
	       s->journal.session.limits.memory_bytes > 0;
}

/* --- what it uses ------------------------------------------------------------------------- */

static void see_growth(struct session *s, int64_t used)
{
	mono_us now = clock_mono();
	double seconds = (double)(now - s->memory.at) / 1e6;
	if (s->memory.at && now - s->memory.at < GROWTH_MS * 1000LL)
		return;
	if (s->memory.at) {
		double growth = (double)(used - s->memory.used) / seconds;
		/* What begins to grow is believed at once. */
		double old = s->memory.growth;
		s->memory.growth = growth > old ? growth : 0.7 * old + 0.3 * growth;
	}
	s->memory.used = used;
	s->memory.at = now;
}

/* What it waits for may be there, and nobody tells it (cgroup_wake()). */
static void see_waiting(struct patient *p)
{
	int64_t since = ms(clock_mono()) - ms(p->session->memory.raised);
	p->waiting = since >= RAISED_MS;
	cgroup_wake(&p->cgroup);
}

/* An effect may be at its journal. False: it is not here. */
static bool admit(struct node *node, struct session *s, struct patient *p)
{
	pthread_mutex_lock(&node->lock);
	bool alive = session_alive(node, s);
	*p = (struct patient) { .session = s, .limits = s->journal.session.limits };
	p->treated = alive && is_looked_at(node, s);
	p->lent_to = alive && is_lent_to(node, s);
	if (s->journal.given_to)
		p->limits.memory_bytes = 0; /* it will take no more here */
	pthread_mutex_unlock(&node->lock);
	return alive;
}

static int examine(struct node *node, struct patient *p, struct error *e)
{
	struct cgroup_usage usage = { 0 };
	int r = cgroup_init(&p->cgroup, node->config->node.cgroup, p->session->id, e);
	if (r == 0)
		r = cgroup_usage(&p->cgroup, &usage, e);
	p->used = usage.memory_bytes;
	p->out = usage.out_bytes;
	p->waits = usage.waits;
	if (r == 0 && (p->treated || p->lent_to))
		see_growth(p->session, p->used);
	else if (r < 0)
		cgroup_deinit(&p->cgroup);
	if (r == 0 && usage.waiting)
		see_waiting(p);
	return r;
}

/* --- what can be done --------------------------------------------------------------------- */

/* The group first: recorded as raised and not so it would not be looked at again in time. */
static int raise_limit(struct node *node, struct patient *p, int64_t bytes, struct error *e)
{
	struct session *s = p->session;
	struct session_limits limits = p->limits;
	limits.memory_bytes = bytes;
	int r = cgroup_create(&p->cgroup, &limits, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&node->lock);
	s->journal.session.limits = limits;
	pthread_mutex_unlock(&node->lock);
	s->memory.raised = clock_mono();
	s->memory.until = s->memory.again = 0;
	log_info("session %s uses %lld MiB: its limit is raised from %lld to %lld MiB", s->id,
		 (long long)p->used >> 20, (long long)p->limits.memory_bytes >> 20,
		 (long long)bytes >> 20);
	p->limits = limits;
	return journal_note(node, &s->journal, e);
}

static int let_go_on(struct node *node, struct session *s, struct error *e)
{
	s->memory.wanted = 0;
	return hold_has(node, s, HOLD_MEMORY) ? hold_drop(node, s, HOLD_MEMORY, e) : 0;
}

static int stand_still(struct node *node, struct patient *p, int64_t wanted, struct error *e)
{
	struct session *s = p->session;
	mono_us now = clock_mono();
	if (!hold_has(node, s, HOLD_MEMORY)) {
		s->memory.until = now + HELD_MS * 1000LL;
		log_warning("session %s stands still: it uses %lld of %lld MiB, and this node has "
			    "no more for it",
			    s->id, (long long)p->used >> 20,
			    (long long)p->limits.memory_bytes >> 20);
	} else if (s->memory.until == 0) {
		s->memory.until = now + HELD_MS * 1000LL; /* since before this program began */
	} else if (now >= s->memory.until) {
		s->memory.again = now + PAUSE_MS * 1000LL;
		log_warning("session %s goes on without more memory: there was none for it "
			    "anywhere",
			    s->id);
		return let_go_on(node, s, e);
	}
	s->memory.wanted = wanted;
	return hold_take(node, s, HOLD_MEMORY, e);
}

static int let_wait(struct patient *p, bool waits, struct error *e)
{
	if (p->waits == waits)
		return 0;
	if (p->waiting)
		log_warning("session %s waits for memory, and may have no more: the kernel ends "
			    "one of its processes",
			    p->session->id);
	return cgroup_at_limit(&p->cgroup, &p->limits, waits ? CGROUP_WAITS : CGROUP_ENDS, e);
}

/* What it uses of that is put on record when the effect has ended. Not once that is at its
 * processes (sandbox_ease()). */
static int lend(struct node *node, struct patient *p, const struct rescue_decision *d,
		struct error *e)
{
	int r = 0;
	pthread_mutex_lock(&node->hold_lock);
	bool may = !p->session->freezer_owned;
	if (may && d->act == RESCUE_RAISE) {
		p->limits.memory_bytes = d->limit_bytes;
		r = cgroup_create(&p->cgroup, &p->limits, e);
	}
	if (may && r == 0)
		r = let_wait(p, d->waits, e);
	pthread_mutex_unlock(&node->hold_lock);
	return r;
}

static int help(struct node *node, struct patient *p, const struct rescue_decision *d,
		struct error *e)
{
	int r;
	if (d->act == RESCUE_HOLD) {
		r = stand_still(node, p, d->wanted_bytes, e);
	} else {
		r = d->act == RESCUE_RAISE ? raise_limit(node, p, d->limit_bytes, e) : 0;
		if (r == 0)
			r = let_go_on(node, p->session, e);
	}
	if (r == 0)
		r = let_wait(p, d->waits, e);
	if (r == 0 && node->rescue->notices)
		r = rescue_notices_hear(node->rescue->notices, p->session, &p->cgroup,
					p->limits.memory_bytes, &node->rescue->rules, e);
	return r;
}

static struct rescue_decision decide(struct node *node, const struct patient *p, int64_t room)
{
	const struct session *s = p->session;
	/* What its own limit leaves it is its own. */
	int64_t spare = p->limits.memory_bytes - p->used;
	const struct rescue_facts facts = {
		.used_bytes = p->used,
		.limit_bytes = p->limits.memory_bytes,
		.growth = (int64_t)s->memory.growth,
		.room_bytes = room + (spare > 0 ? spare : 0),
		.held = hold_has(node, s, HOLD_MEMORY),
		.waiting = p->waiting,
		.given_up = clock_mono() < s->memory.again,
	};
	return rescue_decide(&node->rescue->rules, &facts);
}

/* `room`: what nobody was promised; less by what is given. */
static void treat(struct node *node, struct patient *p, int64_t *room)
{
	struct session *s = p->session;
	struct error e = ERROR_INIT;
	const struct rescue_decision d = decide(node, p, *room);
	int64_t before = p->limits.memory_bytes;
	int r = p->lent_to ? lend(node, p, &d, &e) : help(node, p, &d, &e);
	*room -= p->limits.memory_bytes - before;
	if (r < 0)
		log_warning("session %s is near its memory's limit: %s", s->id, e.text);
}

/* --- a look ------------------------------------------------------------------------------- */

/* What is free, but for what limits have promised to those who do not use it yet. What is set aside
 * for sessions may be less than what the machine has. */
static int64_t room_of(struct node *node, const struct patient *patients, size_t count)
{
	int64_t most = node->config->node.memory_bytes;
	int64_t total, room, used = 0, promised = 0;
	if (node_memory(node, &total, &room, NULL) < 0)
		return 0;
	for (size_t i = 0; i < count; i++) {
		int64_t spare = patients[i].limits.memory_bytes - patients[i].used;
		promised += spare > 0 ? spare : 0;
		used += patients[i].used;
	}
	if (most > 0 && most - used < room)
		room = most - used;
	return room - promised - node->config->nodes.reserve_bytes;
}

/* Allocated; NULL, and none, when out of memory. */
static struct patient *examine_all(struct node *node, size_t *count)
{
	size_t most = 0;
	*count = 0;
	for (struct session *s = node->sessions; s; s = s->next)
		most++;
	struct patient *patients = calloc(most + 1, sizeof(*patients));
	for (struct session *s = node->sessions; patients && s; s = s->next)
		if (admit(node, s, &patients[*count]) &&
		    examine(node, &patients[*count], NULL) == 0)
			++*count;
	return patients;
}

int64_t rescue_room(struct node *node)
{
	size_t count;
	cleanup_free struct patient *patients = examine_all(node, &count);
	int64_t room = patients ? room_of(node, patients, count) : 0;
	for (size_t i = 0; i < count; i++)
		cgroup_deinit(&patients[i].cgroup);
	return room;
}

int rescue_check(struct node *node, struct session *s, int64_t limit, struct error *e)
{
	struct patient p;
	if (!admit(node, s, &p))
		return error_fault(e, FAULT_CONFLICT, "it does not run");
	int r = examine(node, &p, e);
	if (r < 0)
		return r;
	cgroup_deinit(&p.cgroup);
	/* What is paged out comes in with the first touch, and goes out no more. */
	int64_t used = p.used + p.out;
	const struct rescue_facts facts = { .used_bytes = used,
					    .limit_bytes = limit,
					    .growth = (int64_t)s->memory.growth };
	if (rescue_decide(&node->rescue->rules, &facts).reason == RESCUE_FAR)
		return 0;
	return error_fault(e, FAULT_CONFLICT,
			   "it uses %lld MiB, and grows by %lld MiB a second: it would soon have "
			   "no more than the %lld MiB that it is to get",
			   (long long)used >> 20, (long long)s->memory.growth >> 20,
			   (long long)limit >> 20);
}

static void look(void *arg)
{
	struct node *node = arg;
	size_t count;
	cleanup_free struct patient *patients = examine_all(node, &count);
	int64_t room = count ? room_of(node, patients, count) : 0;
	for (size_t i = 0; i < count; i++) {
		if (patients[i].treated || patients[i].lent_to)
			treat(node, &patients[i], &room);
		cgroup_deinit(&patients[i].cgroup);
	}
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
}

/* --- beginning and ending -------------------------------------------------------------------- */

void rescue_begin(struct effect *ef)
{
	struct error e = ERROR_INIT;
	if (ef->node->config->session.memory_most_bytes > 0 &&
	    cgroup_at_limit(&ef->sandbox.cgroup, &ef->request.session.limits, CGROUP_WAITS, &e) < 0)
		log_warning("session %s: %s", ef->session->id, e.text);
}

/* No limit is raised, any more: nobody would let go on who was held for that, or waits for it. */
static int leave_alone(struct node *node, struct session *s, struct error *e)
{
	struct patient p;
	struct cgroup_usage usage = { 0 };
	int r = let_go_on(node, s, e);
	if (r < 0 || !admit(node, s, &p))
		return r;
	r = cgroup_init(&p.cgroup, node->config->node.cgroup, s->id, e);
	if (r == 0)
		r = cgroup_usage(&p.cgroup, &usage, e);
	if (r == 0 && usage.waits)
		r = cgroup_at_limit(&p.cgroup, &p.limits, CGROUP_ENDS, e);
	cgroup_deinit(&p.cgroup);
	return r;
}

/* Without them it is looked four times a second, and what it comes too late for waits. */
static void listen_to_kernel(struct node *node)
{
	struct error e = ERROR_INIT;
	if (rescue_notices_new(node, look, node, &node->rescue->notices, &e) < 0)
		log_warning("%s", e.text);
}

int rescue_init(struct node *node, struct error *e)
{
	static const struct timeval pause = { .tv_usec = LOOK_MS * 1000 };
	node->rescue = calloc(1, sizeof(*node->rescue));
	if (!node->rescue)
		return error_set(e, ENOMEM, "out of memory");
	node->rescue->rules = rescue_defaults;
	node->rescue->rules.most_bytes = node->config->session.memory_most_bytes;
	if (node->rescue->rules.most_bytes <= 0) {
		int r = 0;
		for (struct session *s = node->sessions; s && r == 0; s = s->next)
			r = leave_alone(node, s, e);
		return r;
	}
	listen_to_kernel(node);
	node->rescue->look = event_new(node->base, -1, EV_PERSIST, on_look, node);
	if (!node->rescue->look || event_add(node->rescue->look, &pause) < 0)
		return error_set(e, ENOMEM, "cannot make a timer");
	return 0;
}

void rescue_free(struct node *node)
{
	if (!node->rescue)
		return;
	if (node->rescue->look)
		event_free(node->rescue->look);
	rescue_notices_free(node->rescue->notices);
	free(node->rescue);
	node->rescue = NULL;
}
