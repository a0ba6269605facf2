/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions are promised, where they have limits: what they used is kept, and when they have
 * fallen asleep or are started policies/size.h says which limit they get. */
#include "sim/world_private.h"

#include <errno.h>
#include <stdlib.h>

#define HOUR_MS      3600000.0
#define GIB          1073741824.0
#define CHANGED_MS   60000                  /* elsad's pauses: after a change */
#define UNCHANGED_MS ((int64_t)6 * 3600000) /* and otherwise, what it used counts less and less */

struct sim_size *size_of(const struct world *w, const struct sim_session *s)
{
	return &w->sizes->list[session_number(w, s)];
}

/* As elsad counts: by its limit, and by what it holds where it has none. */
int64_t session_room(const struct world *w, const struct sim_session *s)
{
	int64_t limit = w->sizes ? size_of(w, s)->limit_bytes : 0;
	return limit > 0 ? limit : s->memory_bytes;
}

/* --- all of them ------------------------------------------------------------------------------ */

int sizes_new(struct world *w)
{
	w->sizes = calloc(1, sizeof(*w->sizes));
	return w->sizes ? 0 : -ENOMEM;
}

void sizes_free(struct world *w)
{
	for (size_t i = 0; w->sizes && i < w->session_count; i++)
		use_deinit(&w->sizes->list[i].use);
	if (w->sizes) {
		free(w->sizes->list);
		free(w->sizes->samples);
	}
	free(w->sizes);
	w->sizes = NULL;
}

int sizes_more(struct world *w, size_t sessions)
{
	if (!w->sizes)
		return 0;
	struct sim_size *list = reallocarray(w->sizes->list, sessions, sizeof(*list));
	if (!list)
		return -ENOMEM;
	w->sizes->list = list;
	return 0;
}

void size_init(struct world *w, const struct sim_session *s)
{
	const struct sim_sizes *how = &w->setup->sizes;
	*size_of(w, s) = (struct sim_size) { .limit_bytes = how->memory_bytes, .cpus = how->cpus };
}

void sizes_finish(struct world *w)
{
	if (!w->sizes)
		return;
	for (size_t i = 0; i < w->session_count; i++)
		if (w->sessions[i].runs)
			size_seen(w, &w->sessions[i]);
	w->result.sizes.promised_gib_hours = w->sizes->promised_byte_ms / HOUR_MS / GIB;
	w->result.sizes.gib_hours = w->sizes->held_byte_ms / HOUR_MS / GIB;
}

/* --- what it used, and has ---------------------------------------------------------------------
 */

void size_seen(struct world *w, const struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	wall_ms from = z->seen_until;
	z->seen_until = w->now;
	w->sizes->held_byte_ms += (double)s->memory_bytes * (double)(w->now - from);
	if (!w->strategy->one_size &&
	    use_add(&z->use, from, w->now, s->memory_bytes, w->setup->sizes.window_ms) < 0)
		world_failed(w);
}

static int64_t within(const struct sim_size *z)
{
	return z->limit_bytes > 0 && z->wants_bytes > z->limit_bytes ? z->limit_bytes
								     : z->wants_bytes;
}

void size_arm(struct world *w, struct sim_session *s, wall_ms at)
{
	struct sim_size *z = size_of(w, s);
	if (z->look_at && z->look_at <= at)
		return;
	z->look_at = at;
	world_at(w, at, ON_SIZE_LOOK, session_number(w, s), 0);
}

void size_awake(struct world *w, struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	z->seen_until = w->now;
	if (s->memory_bytes != within(z))
		session_resize(w, s, within(z));
	if (z->limit_bytes > 0 || w->setup->sizes.running != SIM_RUNNING_KEEP)
		size_arm(w, s, w->now);
}

/* Of what sleeps the memory is that of its checkpoint; and what runs may get more, soon. */
void size_wants(struct world *w, struct sim_session *s, int64_t bytes)
{
	struct sim_size *z = size_of(w, s);
	z->wants_bytes = bytes;
	if (z->limit_bytes <= 0 || s->runs)
		session_resize(w, s, within(z));
	if (z->limit_bytes > 0 && s->runs)
		size_arm(w, s, w->now);
}

void size_limit(struct world *w, struct sim_session *s, int64_t bytes)
{
	int64_t before = session_room(w, s);
	size_of(w, s)->limit_bytes = bytes;
	if (s->machine != NONE)
		machine_resized(w, machine_of(w, s), session_room(w, s) - before);
}

/* --- decisions ---------------------------------------------------------------------------------
 */

static struct size_sample *room_for(struct sizes *all, size_t count)
{
	if (count <= all->sample_size)
		return all->samples;
	struct size_sample *samples = reallocarray(all->samples, 2 * count, sizeof(*samples));
	if (!samples)
		return NULL;
	all->samples = samples;
	all->sample_size = 2 * count;
	return samples;
}

static struct size_use use_of(struct world *w, const struct sim_size *z)
{
	size_t most = use_most(&z->use);
	struct size_sample *samples = most ? room_for(w->sizes, most) : NULL;
	if (!samples) {
		w->failed = most ? -ENOMEM : w->failed;
		return (struct size_use) { 0 };
	}
	size_t count = use_samples(&z->use, w->now - w->setup->sizes.window_ms, samples);
	return size_use_of(samples, count);
}

struct size_decision size_decision_of(struct world *w, const struct sim_session *s, int64_t held,
				      struct size_use *use)
{
	const struct sim_sizes *how = &w->setup->sizes;
	const struct sim_size *z = size_of(w, s);
	*use = use_of(w, z);
	const struct size_facts facts = {
		.memory_bytes = z->limit_bytes,
		.cpus = z->cpus,
		.held_bytes = held,
		.use = *use,
		.since_ms = z->sized_at ? w->now - z->sized_at : -1,
		.chosen = -1,
	};
	return size_decide(&how->rules, how->classes, how->count, &facts);
}

static void take_class(struct world *w, struct sim_session *s, int class)
{
	size_limit(w, s, w->setup->sizes.classes[class].memory_bytes);
	size_of(w, s)->cpus = w->setup->sizes.classes[class].cpus;
}

void size_apply(struct world *w, struct sim_session *s, const struct size_decision *d)
{
	struct sim_size *z = size_of(w, s);
	bool smaller = d->reason == SIZE_CHEAPER;
	take_class(w, s, d->to);
	z->sized_at = w->now;
	z->smaller += smaller;
	z->larger += !smaller;
	w->result.sizes.smaller += smaller;
	w->result.sizes.larger += !smaller;
}

void size_asleep(struct world *w, struct sim_session *s)
{
	if (!w->sizes || w->strategy->one_size || s->now.state != SESSION_HIBERNATED)
		return;
	struct size_use use;
	const struct size_decision d = size_decision_of(w, s, s->memory_bytes, &use);
	int64_t pause = d.to >= 0 ? CHANGED_MS : UNCHANGED_MS;
	if (d.to >= 0)
		size_apply(w, s, &d);
	if (d.wait_ms >= 0 && d.wait_ms < pause)
		pause = d.wait_ms;
	size_of(w, s)->asleep_look = w->now + pause;
}

/* It begins with what it had come to, or with what all begin with; by what was used before. */
static void start_afresh(struct world *w, struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	if (w->strategy->one_size || !z->sized_at) {
		z->limit_bytes = w->setup->sizes.memory_bytes;
		z->cpus = w->setup->sizes.cpus;
	}
	if (!w->strategy->one_size) {
		struct size_use use;
		const struct size_decision d = size_decision_of(w, s, 0, &use);
		if (d.to >= 0)
			take_class(w, s, d.to);
	}
	session_resize(w, s, within(z));
	z->started++;
}

void size_before(struct world *w, struct sim_session *s)
{
	if (!w->sizes)
		return;
	if (s->now.state != SESSION_HIBERNATED)
		start_afresh(w, s);
	else if (w->now >= size_of(w, s)->asleep_look)
		size_asleep(w, s);
}
