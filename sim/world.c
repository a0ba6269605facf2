/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_MS ((int64_t)3600 * 1000)
#define HOUR_MS   3600000.0
#define GIB       1073741824.0

/* The pools of this way: spot ones, and those on demand behind them for when none is to be had. */
static void choose_pools(struct world *w)
{
	const struct prices *prices = &w->setup->prices;
	for (int spot = w->strategy->spot; spot >= 0; spot--) {
		for (size_t i = 0; i < prices->pool_count; i++) {
			const struct price_pool *p = &prices->pools[i];
			if (p->spot != spot)
				continue;
			w->pools[w->pool_count++] = (struct world_pool) {
				.price = p,
				.memory_bytes = prices->types[p->type].memory_bytes -
						w->setup->reserve_bytes,
			};
		}
	}
}

struct world *world_new(const struct sim_setup *setup, enum strategy_id strategy, struct error *e)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!w) {
		error_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	w->setup = setup;
	w->strategy = &setup->strategies[strategy];
	w->idle = (struct idle_policy) { .rules = &setup->idle,
					 .rule_count = 1,
					 .concurrency = setup->idle_concurrency };
	w->emptying = NONE;
	w->result.strategy = w->strategy;
	w->result.awake.step_ms = w->result.machines.step_ms = SAMPLE_MS;
	choose_pools(w);
	if (setup->sizes.count && w->strategy->limits && sizes_new(w) < 0) {
		error_set(e, ENOMEM, "out of memory");
		return world_free(w);
	}
	return w;
}

struct world *world_free(struct world *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < w->machine_numbers; i++)
		machine_free(w->machines[i]);
	free(w->machines);
	free(w->live);
	free(w->nodes);
	sizes_free(w);
	free(w->sessions);
	free(w->wanted);
	free(w->sleepy);
	free(w->moves);
	free(w->scratch);
	queue_deinit(&w->queue);
	free(w);
	return NULL;
}

void world_failed(struct world *w)
{
	w->failed = -ENOMEM;
}

void world_at(struct world *w, wall_ms at, enum world_event kind, uint32_t subject, uint32_t tag)
{
	if (queue_push(&w->queue, at > w->now ? at : w->now, kind, subject, tag) < 0)
		world_failed(w);
}

void *world_scratch(struct world *w, size_t size)
{
	if (size > w->scratch_size) {
		free(w->scratch);
		w->scratch = malloc(size * 2);
		w->scratch_size = w->scratch ? size * 2 : 0;
	}
	if (!w->scratch)
		world_failed(w);
	else
		memset(w->scratch, 0, size);
	return w->scratch;
}

/* --- time ------------------------------------------------------------------------------------ */

static void pass_time(struct world *w, wall_ms to)
{
	double ms = (double)(to - w->counted_at);
	w->byte_ms += w->stored_bytes * ms;
	w->awake_ms += (double)w->awake * ms;
	if (w->sizes)
		w->sizes->promised_byte_ms += w->sizes->promised_bytes * ms;
	w->counted_at = to;
	w->now = to;
}

static void sample(struct world *w)
{
	course_add(&w->result.awake, (double)w->awake);
	course_add(&w->result.machines, (double)w->live_count);
	world_at(w, w->now + SAMPLE_MS, ON_SAMPLE, 0, 0);
}

static void on_session(struct world *w, const struct queue_item *item)
{
	struct sim_session *s = &w->sessions[item->subject];
	if (item->kind == ON_IDLE_LOOK)
		idle_look(w, s);
	else if (item->kind == ON_SIZE_LOOK)
		size_look(w, s);
	else if (item->kind == ON_EFFECT_END && item->tag == s->epoch)
		session_effect_end(w, s);
	else if (item->kind == ON_SAVED && item->tag == s->saving)
		evict_saved(w, s);
}

static void on_machine(struct world *w, const struct queue_item *item)
{
	struct machine *m = w->machines[item->subject];
	if (!m)
		return;
	if (item->kind == ON_JOIN)
		machine_joined(w, m);
	else if (item->kind == ON_GONE)
		evict_gone(w, m);
	else if (item->kind == ON_EVACUATE && item->tag == m->evict_turn)
		evict_look(w, m);
	else if (item->kind == ON_PROTECT && item->tag == m->protect_turn)
		protect_look(w, m);
}

static void happens(struct world *w, const struct queue_item *item)
{
	switch ((enum world_event)item->kind) {
	case ON_EFFECT_END:
	case ON_IDLE_LOOK:
	case ON_SIZE_LOOK:
	case ON_SAVED:
		on_session(w, item);
		return;
	case ON_JOIN:
	case ON_GONE:
	case ON_EVACUATE:
	case ON_PROTECT:
		on_machine(w, item);
		return;
	case ON_CAPACITY:
		if (w->capacity_at && w->now >= w->capacity_at)
			capacity_pass(w);
		return;
	case ON_CONSOLIDATE:
		if (w->consolidate_at && w->now >= w->consolidate_at)
			consolidate_pass(w);
		return;
	case ON_SAMPLE:
		sample(w);
		return;
	}
}

static void advance(struct world *w, wall_ms to)
{
	const struct queue_item *first;
	while (!w->failed && (first = queue_first(&w->queue)) && first->at <= to) {
		struct queue_item item = queue_pop(&w->queue);
		pass_time(w, item.at);
		happens(w, &item);
	}
	pass_time(w, to);
}

/* --- records --------------------------------------------------------------------------------- */

/* A pool of the trace has the name of one of the catalogue's; else it is a mistake. */
static int know_pool(struct world *w, const struct trace_record *record, struct error *e)
{
	const struct prices *prices = &w->setup->prices;
	bool known = false;
	w->trace_pools[record->pool] = SIZE_MAX;
	for (size_t i = 0; i < prices->pool_count; i++)
		known |= strcmp(prices->pools[i].name, record->name) == 0;
	for (size_t i = 0; i < w->pool_count; i++)
		if (w->pools[i].price->spot && strcmp(w->pools[i].price->name, record->name) == 0)
			w->trace_pools[record->pool] = i;
	if (known)
		return 0;
	int r = error_fault(e, FAULT_BAD_INPUT, "the catalogue of prices has no pool %s",
			    record->name);
	return error_remedy(e, r, "call the trace's pools as the catalogue does");
}

static void begin(struct world *w, wall_ms at)
{
	w->begun_at = w->counted_at = w->now = at;
	capacity_soon(w, 0);
	consolidate_soon(w, 0);
	sample(w);
}

static void finish(struct world *w)
{
	struct sim_result *r = &w->result;
	machines_settle(w);
	sizes_finish(w);
	r->sessions = w->session_count;
	r->awake_hours = w->awake_ms / HOUR_MS;
	r->stored_gib_months = w->byte_ms / HOUR_MS / GIB / PRICES_MONTH_HOURS;
	r->storage = r->stored_gib_months * w->setup->prices.store_gib_month +
		     (double)w->puts / 1000 * w->setup->prices.put_thousand +
		     (double)w->gets / 1000 * w->setup->prices.get_thousand;
	for (size_t i = 0; i < w->session_count; i++) {
		const struct sim_session *s = &w->sessions[i];
		int64_t done = work_done(w, s);
		r->work.kept_ms += done;
		r->work.pending_ms += s->assigned_ms - done;
		r->waiting += s->asked_at || s->evicted_at;
		r->evicted -= s->evicted; /* what comes of it is not known any more */
	}
	w->ended = true;
}

int world_take(struct world *w, const struct trace_record *record, struct error *e)
{
	if (record->kind == TRACE_POOL)
		return know_pool(w, record, e);
	if (!w->begun_at)
		begin(w, record->at);
	advance(w, record->at);
	switch (record->kind) {
	case TRACE_OPEN:
		session_opened(w, record);
		break;
	case TRACE_BUSY:
		session_busy(w, record);
		break;
	case TRACE_STOP:
		session_stop(w, &w->sessions[record->session]);
		break;
	case TRACE_INTERRUPT:
		evict_interrupt(w, record);
		break;
	case TRACE_END:
		finish(w);
		break;
	case TRACE_POOL:
		break;
	}
	return w->failed ? error_set(e, -w->failed, "out of memory") : 0;
}

const struct sim_result *world_result(const struct world *w)
{
	return &w->result;
}
