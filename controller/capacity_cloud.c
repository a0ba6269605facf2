/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the cloud, one thing at a time for each pool, and what its answers mean. */
#include "controller/capacity_private.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/record.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	AGAIN_MS = 60000,  /* a machine that was given back and still is there */
	SETTLE_MS = 20000, /* what was asked for may not show at once */
	FAILURES_MOST = 3, /* to look at a pool, before it is passed over */
	LOOK_LEAST_MS = 1000,
	LOOK_MOST_MS = 5000,
	LOOK_CALM_MS = 60000,
};

struct pool_task {
	struct worker_task base;
	struct capacity *cap;
	enum pool_task_kind kind;
	size_t pool;
	char *name;
	struct cloud_growth growth;
	char *token;
	int64_t lower_to;
	struct cloud_instance instance; /* its strings are ours */
	struct cloud_pool state;
	int result;
	struct error error;
};

static void task_free(struct pool_task *t)
{
	free(t->name);
	free(t->token);
	free(t->instance.id);
	free(t->instance.alias);
	free(t->instance.zone);
	cloud_pool_deinit(&t->state);
	free(t);
}

void capacity_drop_task(struct worker_task *task)
{
	task_free((struct pool_task *)task);
}

/* --- on the worker's thread --------------------------------------------------------------------
 */

static int open_cloud(struct cloud_link *link, struct error *e)
{
	const struct cloud_options options = { .provider = link->provider,
					       .region = link->region,
					       .endpoint = link->endpoint,
					       .command = (const char *const *)link->command,
					       .stop = link->stop,
					       .child = &link->child };
	return link->cloud ? 0 : cloud_capacity_open(&options, &link->cloud, e);
}

static void run_task(struct worker_task *task)
{
	struct pool_task *t = (struct pool_task *)task;
	struct cloud_link *link = &t->cap->link;
	t->result = open_cloud(link, &t->error);
	if (t->result < 0)
		return;
	switch (t->kind) {
	case POOL_DESCRIBE:
		t->result = cloud_capacity_describe(link->cloud, t->name, &t->state, &t->error);
		break;
	case POOL_GROW:
		t->result = cloud_capacity_grow(link->cloud, t->name, &t->growth, &t->error);
		break;
	case POOL_LOWER:
		t->result = cloud_capacity_lower(link->cloud, t->name, t->lower_to, &t->error);
		break;
	case POOL_SHRINK:
		t->result = cloud_capacity_shrink(link->cloud, t->name, &t->instance, &t->error);
		break;
	}
}

/* --- answers -----------------------------------------------------------------------------------
 */

/* Each problem is recorded once, until it is another one or over. */
static void take_problem(struct capacity *cap, struct pool *pool, const char *what,
			 const struct error *e)
{
	if (pool->problem && strcmp(pool->problem, e->text) == 0)
		return;
	replace_text(&pool->problem, e->text);
	capacity_note(cap, what, pool->kept.name, "%s%s%s", e->text, e->remedy[0] ? "; " : "",
		      e->remedy);
	log_warning("%s%s%s", e->text, e->remedy[0] ? "; remedy: " : "", e->remedy);
}

static void save(struct capacity *cap)
{
	struct error e = ERROR_INIT;
	if (capacity_save(cap, &e) < 0)
		log_error("what was asked of the cloud cannot be recorded: %s", e.text);
}

static int copy_instance(struct machine *m, const struct cloud_instance *i)
{
	m->seen = true;
	m->state = i->state;
	replace_text(&m->alias, i->alias);
	replace_text(&m->zone, i->zone);
	replace_text(&m->type, i->type);
	replace_text(&m->price, i->price);
	replace_text(&m->refused, i->refused);
	return 0;
}

/* What is asked for shows late in some clouds: for a while the larger number is believed. */
static int64_t believed(const struct pool *pool, int64_t described, wall_ms now)
{
	const struct pool_kept *k = &pool->kept;
	bool fresh = k->asked_at && now - k->asked_at < SETTLE_MS && k->refused_at < k->asked_at;
	return fresh && k->asked > described ? k->asked : described;
}

static void take_refusal(struct capacity *cap, struct pool *pool, const struct cloud_pool *state,
			 wall_ms now)
{
	wall_ms at = state->refused_at ? state->refused_at : now;
	/* Of what was asked for before it speaks of the past. */
	if (!state->refused || at < pool->kept.asked_at || pool->kept.refused_at >= at ||
	    pool->kept.refused_at >= pool->kept.asked_at)
		return;
	pool->kept.refused_at = at > now ? now : at;
	capacity_note(cap, "capacity-refused", pool->kept.name, "%s", state->refused);
}

static void described(struct capacity *cap, struct pool *pool, const struct pool_task *t,
		      wall_ms now)
{
	struct machine *m;
	const struct cloud_pool *state = &t->state;
	TAILQ_FOREACH(m, &cap->machines, entry)
	if (m->pool == pool)
		m->seen = false;
	for (size_t i = 0; i < state->instance_count; i++) {
		const struct cloud_instance *instance = &state->instances[i];
		m = machine_find(cap, instance->id, instance->alias);
		if (!m && instance->state != CLOUD_ENDING)
			m = machine_new(cap, instance->id, pool, now);
		if (m)
			copy_instance(m, instance);
	}
	/* Somebody else may make it grow, too. */
	if (!pool->kept.asked_at || (pool->described && state->desired > pool->desired &&
				     state->desired > pool->kept.asked)) {
		pool->kept.asked_at = now;
		pool->kept.asked = state->desired;
	}
	pool->desired = believed(pool, state->desired, now);
	pool->most = state->most;
	pool->can_lower = state->can_lower;
	pool->described = true;
	pool->failures = 0;
	take_refusal(cap, pool, state, now);
}

static void not_described(struct capacity *cap, struct pool *pool, const struct pool_task *t)
{
	bool passing = t->error.fault == FAULT_UNAVAILABLE || t->error.fault == FAULT_TIMEOUT;
	if (++pool->failures >= FAILURES_MOST || !passing)
		pool->described = false;
	if (!passing || pool->failures == FAILURES_MOST)
		take_problem(cap, pool, "capacity-failed", &t->error);
}

static void grown(struct capacity *cap, struct pool *pool, const struct pool_task *t, wall_ms now)
{
	replace_text(&pool->kept.token, NULL);
	if (t->result == 0) {
		pool->desired = t->growth.desired;
		replace_text(&pool->problem, NULL);
		return;
	}
	/* Whatever it is: another pool may be better. */
	pool->kept.refused_at = now;
	take_problem(cap, pool,
		     t->error.fault == FAULT_FULL ? "capacity-refused" : "capacity-failed",
		     &t->error);
}

static void lowered(struct capacity *cap, struct pool *pool, const struct pool_task *t)
{
	pool->kept.lower_to = -1;
	if (t->result == 0) {
		pool->desired = pool->kept.asked = t->lower_to;
		return;
	}
	pool->can_lower = false; /* until the next look */
	take_problem(cap, pool, "capacity-failed", &t->error);
}

static void shrunk(struct capacity *cap, struct pool *pool, const struct pool_task *t, wall_ms now)
{
	struct machine *m = machine_find(cap, t->instance.id, NULL);
	bool passing = t->error.fault == FAULT_UNAVAILABLE || t->error.fault == FAULT_TIMEOUT;
	if (t->result == 0) {
		pool->desired -= pool->desired > 0;
		pool->kept.asked -= pool->kept.asked > 0;
		replace_text(&pool->problem, NULL);
		return;
	}
	take_problem(cap, pool, "capacity-failed", &t->error);
	if (passing || !m)
		return; /* asked again later, if it is still there */
	m->kept.giving = false;
	pool->shrink_next_at = now + AGAIN_MS;
	machine_undrain(cap, m);
}

static void task_done(struct worker_task *task)
{
	struct pool_task *t = (struct pool_task *)task;
	struct capacity *cap = t->cap;
	struct pool *pool = &cap->pools[t->pool];
	wall_ms now = clock_wall();
	pool->task = NULL;
	if (t->kind == POOL_DESCRIBE && t->result == 0)
		described(cap, pool, t, now);
	else if (t->kind == POOL_DESCRIBE)
		not_described(cap, pool, t);
	else if (t->kind == POOL_GROW)
		grown(cap, pool, t, now);
	else if (t->kind == POOL_LOWER)
		lowered(cap, pool, t);
	else
		shrunk(cap, pool, t, now);
	if (t->kind != POOL_DESCRIBE)
		pool->look_at = now;
	save(cap);
	task_free(t);
	capacity_changed(cap->controller);
}

/* --- questions ---------------------------------------------------------------------------------
 */

bool pool_is_busy(const struct pool *pool)
{
	return pool->kept.token || pool->kept.lower_to >= 0 ||
	       (pool->task && pool->task->kind != POOL_DESCRIBE);
}

static struct pool_task *task_new(struct capacity *cap, struct pool *pool, enum pool_task_kind kind)
{
	struct pool_task *t = calloc(1, sizeof(*t));
	if (!t)
		abort();
	t->base = (struct worker_task) { .run = run_task, .done = task_done };
	t->cap = cap;
	t->kind = kind;
	t->pool = pool->index;
	replace_text(&t->name, pool->kept.name);
	return t;
}

static void give(struct capacity *cap, struct pool *pool, struct pool_task *t)
{
	pool->task = t;
	worker_give(cap->worker, &t->base);
}

static void ask_growth(struct capacity *cap, struct pool *pool)
{
	struct pool_task *t = task_new(cap, pool, POOL_GROW);
	replace_text(&t->token, pool->kept.token);
	t->growth = (struct cloud_growth) { .desired = pool->kept.asked,
					    .more = pool->kept.more,
					    .token = t->token };
	give(cap, pool, t);
}

/* The next of those being given back that is to be asked for. */
static struct machine *machine_to_give(struct capacity *cap, const struct pool *pool, wall_ms now)
{
	struct machine *m;
	TAILQ_FOREACH(m, &cap->machines, entry)
	if (m->pool == pool && m->kept.giving && m->seen && m->state != CLOUD_ENDING &&
	    (!m->asked_at || now - m->asked_at >= AGAIN_MS))
		return m;
	return NULL;
}

static void ask_shrink(struct capacity *cap, struct pool *pool, struct machine *m, wall_ms now)
{
	struct pool_task *t = task_new(cap, pool, POOL_SHRINK);
	replace_text(&t->instance.id, m->kept.id);
	replace_text(&t->instance.alias, m->alias);
	replace_text(&t->instance.zone, m->zone);
	m->asked_at = now;
	give(cap, pool, t);
}

/* Often while something is expected of it. */
static int64_t look_interval(const struct capacity *cap, const struct pool *pool)
{
	const struct config *config = cap->controller->config;
	const struct machine *m;
	int64_t often = config->capacity.start_timeout_ms / 60;
	int64_t there = 0;
	bool calm = TAILQ_EMPTY(&cap->wants) && pool->described;
	TAILQ_FOREACH(m, &cap->machines, entry)
	{
		if (m->pool != pool)
			continue;
		calm = calm && m->kept.node && !m->kept.giving;
		there += m->seen && m->state != CLOUD_ENDING;
	}
	calm = calm && there >= pool->desired;
	if (calm)
		often = config->capacity.empty_for_ms / 10;
	int64_t most = calm ? LOOK_CALM_MS : LOOK_MOST_MS;
	return often < LOOK_LEAST_MS ? LOOK_LEAST_MS : often > most ? most : often;
}

void capacity_ask(struct capacity *cap, struct pool *pool, wall_ms now)
{
	if (pool->task)
		return;
	/* First of all what is true: what was asked for before elsad's end may have come true. */
	struct machine *m = pool->described ? machine_to_give(cap, pool, now) : NULL;
	if (pool->described && pool->kept.token) {
		ask_growth(cap, pool);
	} else if (pool->described && pool->kept.lower_to >= 0) {
		struct pool_task *t = task_new(cap, pool, POOL_LOWER);
		t->lower_to = pool->kept.lower_to;
		give(cap, pool, t);
	} else if (m) {
		ask_shrink(cap, pool, m, now);
	} else if (pool->look_at <= now) {
		pool->look_at = now + look_interval(cap, pool);
		give(cap, pool, task_new(cap, pool, POOL_DESCRIBE));
	}
}
