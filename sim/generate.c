/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/generate.h"

#include "base/cleanup.h"
#include "sim/queue.h"
#include "sim/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_SIZE = 24, SLOTS = 2, MEMORY_LEAST_MIB = 128, MEMORY_MOST_MIB = 16384 };
#define MIB         ((int64_t)1 << 20)
#define SECOND      ((int64_t)1000)
#define HOUR        (3600 * SECOND)
#define DAY         (24 * HOUR)
#define WEEK_H      168.0
#define BUSY_MOST   0.6 /* of all time */
#define TASK_MOST_S (12 * 3600.0)

/* A working day: people come in the morning and after lunch. Assumptions, as is all of it. */
static const struct {
	double hour, sigma;
} slots[SLOTS] = { { 10.0, 1.3 }, { 14.5, 1.8 } };
#define WEEKEND      0.2 /* of a weekday's visits */
#define SLOTS_A_WEEK (SLOTS * (5 + 2 * WEEKEND))
#define VISIT_TASKS  8.0  /* of somebody who works little; who works more stays longer */
#define VISITS_MOST  10.0 /* a week */
#define FIRST_TASK_S 20.0

enum { USER_VISIT, USER_TASK, POOL_TAKEN, POOL_STORM, POOL_WAVE };

struct user {
	struct rng rng;
	double visit_chance; /* of a weekday's slot */
	double tasks;        /* of a visit, in the mean */
	int64_t memory_bytes;
	int64_t slot; /* next one to be tried */
	uint32_t tasks_left;
	bool opened;
};

struct pool {
	struct rng rng;
	uint32_t waves_left;
	char name[NAME_SIZE];
};

struct making {
	const struct generate_shape *shape;
	wall_ms begin;
	int64_t end_ms;
	struct queue queue;
	struct user *users;
	struct pool *pools;
	generate_sink sink;
	void *arg;
};

void generate_shape_init(struct generate_shape *shape)
{
	*shape = (struct generate_shape) {
		.seed = 1,
		.users = 10000,
		.days = 90,
		.task_median_s = 120,
		.task_sigma = 1.6,
		.busy_median = 0.02,
		.busy_sigma = 1.2,
		.think_median_s = 180,
		.think_sigma = 1.0,
		.memory_median_mib = 600,
		.memory_sigma = 0.8,
		.pools = 3,
		.taken_per_day = 0.10,
		.storm_days = 30,
		.notice_ms = 120 * SECOND,
		.dry_ms = 1800 * SECOND,
		.silent_share = 0.02,
	};
}

static double clamp(double value, double least, double most)
{
	return value < least ? least : value > most ? most : value;
}

/* --- users ------------------------------------------------------------------------------------ */

static void make_user(const struct generate_shape *shape, uint32_t number, struct user *u)
{
	u->rng = rng_stream(shape->seed, number);
	double busy =
		clamp(rng_lognormal(&u->rng, shape->busy_median, shape->busy_sigma), 0, BUSY_MOST);
	double task_h =
		shape->task_median_s * exp(shape->task_sigma * shape->task_sigma / 2) / 3600;
	double tasks = busy * WEEK_H / task_h;
	double visits = clamp(tasks / VISIT_TASKS, 0, VISITS_MOST);
	double mib = clamp(rng_lognormal(&u->rng, shape->memory_median_mib, shape->memory_sigma),
			   MEMORY_LEAST_MIB, MEMORY_MOST_MIB);
	u->visit_chance = visits / SLOTS_A_WEEK;
	u->tasks = visits > 0 ? tasks / visits : 0;
	u->memory_bytes = (int64_t)mib * MIB;
}

/* Trace time of the next visit at `from` or later; negative: there is none. */
static int64_t next_visit(const struct making *m, struct user *u, int64_t from)
{
	for (; u->slot / SLOTS < m->shape->days; u->slot++) {
		int64_t day = u->slot / SLOTS;
		bool weekend = (day + m->begin / DAY + 3) % 7 >= 5; /* 1970-01-01: Thursday */
		double chance = u->visit_chance * (weekend ? WEEKEND : 1);
		if (rng_uniform(&u->rng) >= chance)
			continue;
		size_t i = (size_t)(u->slot % SLOTS);
		double hour = slots[i].hour + slots[i].sigma * rng_normal(&u->rng);
		int64_t at = day * DAY + (int64_t)(clamp(hour, 0, 23.9) * HOUR);
		u->slot++;
		return at > from ? at : from;
	}
	return -1;
}

/* Geometric, at least one. */
static uint32_t count_tasks(struct user *u)
{
	double n = u->tasks > 1 ? rng_exponential(&u->rng, u->tasks - 0.5) : 0;
	return 1 + (uint32_t)clamp(n, 0, 100000);
}

static int plan_visit(struct making *m, uint32_t number, int64_t from)
{
	int64_t at = next_visit(m, &m->users[number], from);
	return at < 0 ? 0 : queue_push(&m->queue, at, USER_VISIT, number, 0);
}

static const char *user_name(uint32_t number, char to[NAME_SIZE])
{
	snprintf(to, NAME_SIZE, "u%u", number + 1);
	return to;
}

static int give(struct making *m, const struct trace_record *record, const char *name)
{
	return m->sink(record, name, m->arg);
}

static int visit(struct making *m, int64_t at, uint32_t number)
{
	char name[NAME_SIZE];
	struct user *u = &m->users[number];
	const struct trace_record record = { .kind = TRACE_OPEN,
					     .at = m->begin + at,
					     .session = number,
					     .memory_bytes = u->opened ? 0 : u->memory_bytes };
	u->opened = true;
	u->tasks_left = count_tasks(u);
	int64_t first = at + 1 + (int64_t)(rng_exponential(&u->rng, FIRST_TASK_S) * SECOND);
	int r = give(m, &record, user_name(number, name));
	return r < 0 ? r : queue_push(&m->queue, first, USER_TASK, number, 0);
}

static int task(struct making *m, int64_t at, uint32_t number)
{
	char name[NAME_SIZE];
	const struct generate_shape *shape = m->shape;
	struct user *u = &m->users[number];
	double seconds = clamp(rng_lognormal(&u->rng, shape->task_median_s, shape->task_sigma), 0.1,
			       TASK_MOST_S);
	const struct trace_record record = { .kind = TRACE_BUSY,
					     .at = m->begin + at,
					     .session = number,
					     .duration_ms = (int64_t)(seconds * 10) * 100 };
	double think = rng_lognormal(&u->rng, shape->think_median_s, shape->think_sigma);
	int64_t next = at + record.duration_ms + (int64_t)(think * SECOND);
	int r = give(m, &record, user_name(number, name));
	if (r < 0)
		return r;
	if (--u->tasks_left)
		return queue_push(&m->queue, next, USER_TASK, number, 0);
	return plan_visit(m, number, next);
}

/* --- clouds ------------------------------------------------------------------------------------
 */

/* Now and then some machines, so that in a day it comes to the share that is taken. */
#define TAKEN_EVERY_S 3600.0
enum { STORM_WAVES = 3, WAVE_MS = 60000 };
#define WAVE_SHARE 0.7 /* of what is left, three times within three minutes: 97 % */

static int plan_pool(struct making *m, uint32_t number, unsigned kind, int64_t from, double mean_s)
{
	if (mean_s <= 0)
		return 0;
	double wait = rng_exponential(&m->pools[number].rng, mean_s);
	return queue_push(&m->queue, from + (int64_t)(wait * SECOND), kind, number, 0);
}

static int interrupt(struct making *m, int64_t at, uint32_t number, double share, int64_t dry_ms)
{
	struct pool *p = &m->pools[number];
	bool silent = rng_uniform(&p->rng) < m->shape->silent_share;
	const struct trace_record record = { .kind = TRACE_INTERRUPT,
					     .at = m->begin + at,
					     .pool = number,
					     .share = share,
					     .notice_ms = silent ? 0 : m->shape->notice_ms,
					     .dry_ms = dry_ms };
	return give(m, &record, p->name);
}

static double storm_mean_s(const struct making *m)
{
	return m->shape->storm_days * 86400;
}

static int wave(struct making *m, int64_t at, uint32_t number)
{
	struct pool *p = &m->pools[number];
	int r = interrupt(m, at, number, WAVE_SHARE, m->shape->dry_ms);
	if (r < 0)
		return r;
	if (--p->waves_left)
		return queue_push(&m->queue, at + WAVE_MS, POOL_WAVE, number, 0);
	return plan_pool(m, number, POOL_STORM, at, storm_mean_s(m));
}

static int taken(struct making *m, int64_t at, uint32_t number)
{
	double share = m->shape->taken_per_day * TAKEN_EVERY_S / 86400;
	int r = interrupt(m, at, number, share, 0);
	return r < 0 ? r : plan_pool(m, number, POOL_TAKEN, at, TAKEN_EVERY_S);
}

/* --- all of it ------------------------------------------------------------------------------ */

static int happens(struct making *m, const struct queue_item *item)
{
	switch (item->kind) {
	case USER_VISIT:
		return visit(m, item->at, item->subject);
	case USER_TASK:
		return task(m, item->at, item->subject);
	case POOL_TAKEN:
		return taken(m, item->at, item->subject);
	case POOL_STORM:
		m->pools[item->subject].waves_left = STORM_WAVES;
		return wave(m, item->at, item->subject);
	default:
		return wave(m, item->at, item->subject);
	}
}

static int make_users(struct making *m, int (*user)(const char *name, void *arg))
{
	char name[NAME_SIZE];
	int r = 0;
	for (uint32_t i = 0; r >= 0 && i < m->shape->users; i++) {
		make_user(m->shape, i, &m->users[i]);
		r = user(user_name(i, name), m->arg);
		if (r >= 0)
			r = plan_visit(m, i, 0);
	}
	return r;
}

static int make_pools(struct making *m)
{
	int r = 0;
	for (uint32_t i = 0; r >= 0 && i < m->shape->pools; i++) {
		struct pool *p = &m->pools[i];
		const struct trace_record record = { .kind = TRACE_POOL, .pool = i };
		p->rng = rng_stream(m->shape->seed, UINT64_C(1) << 40 | i);
		snprintf(p->name, sizeof(p->name), "spot-%c", 'a' + (int)(i % 26));
		r = give(m, &record, p->name);
		if (r >= 0 && m->shape->taken_per_day > 0)
			r = plan_pool(m, i, POOL_TAKEN, 0, TAKEN_EVERY_S);
		if (r >= 0)
			r = plan_pool(m, i, POOL_STORM, 0, storm_mean_s(m));
	}
	return r;
}

int generate(const struct generate_shape *shape, wall_ms begin,
	     int (*user)(const char *name, void *arg), generate_sink sink, void *arg)
{
	struct making m = { .shape = shape,
			    .begin = begin,
			    .end_ms = shape->days * DAY,
			    .users = calloc(shape->users + 1, sizeof(*m.users)),
			    .pools = calloc(shape->pools + 1, sizeof(*m.pools)),
			    .sink = sink,
			    .arg = arg };
	int r = m.users && m.pools ? make_users(&m, user) : -ENOMEM;
	if (r >= 0)
		r = make_pools(&m);
	const struct queue_item *first;
	while (r >= 0 && (first = queue_first(&m.queue)) && first->at < m.end_ms) {
		struct queue_item item = queue_pop(&m.queue);
		r = happens(&m, &item);
	}
	const struct trace_record end = { .kind = TRACE_END, .at = begin + m.end_ms };
	if (r >= 0)
		r = give(&m, &end, "");
	queue_deinit(&m.queue);
	free(m.users);
	free(m.pools);
	return r;
}
