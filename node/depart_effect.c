/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker of a departure's effect says of it, and what it waits for. */
#include "node/depart_private.h"

#include <errno.h>

enum { SLICE_MS = 500 };

void depart_stands_still(struct departures *all, const char *id)
{
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	if (d)
		d->still = true;
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
}

void depart_packed(struct departures *all, const char *id)
{
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	if (d)
		d->packed = true;
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
}

int depart_offer(struct departures *all, const char *id, const struct move_skeleton *skeleton,
		 struct error *e)
{
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	if (d) {
		d->skeleton = *skeleton;
		d->ready = true;
		d->heard_at = clock_mono();
	}
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	return d ? 0 : departing_refuse(e, id);
}

static int out_of_patience(const struct departing *d, struct error *e)
{
	int r = error_fault(e, FAULT_TIMEOUT, "node %s, which it was to move to, is silent", d->to);
	return error_remedy(e, r, "The session runs on here.");
}

/* Whether there is still somebody to stand still for. Under the lock. */
static int check_wanted(const struct departures *all, const struct departing *d, struct error *e)
{
	mono_us patience = all->node->config->move.patience_ms * 1000;
	if (all->stopping)
		return error_fault(e, FAULT_UNAVAILABLE, "elsa-node is about to end");
	if (d->word == DEPART_ABORT)
		return error_fault(e, FAULT_UNAVAILABLE,
				   "node %s, which it was to move to, gave up", d->to);
	if (d->word != DEPART_GIVE && d->controls == 0 && clock_mono() - d->left_at >= patience)
		return out_of_patience(d, e);
	return 0;
}

/* 0: go on waiting; 1: it is to be given; negative. Under the lock. A node that hangs but whose
 * connection stays is waited for as long as for any effect. */
static int look_at_word(const struct departures *all, const struct departing *d, struct error *e)
{
	mono_us longest = all->node->config->node.effect_timeout_ms * 1000;
	int r = check_wanted(all, d, e);
	if (r < 0)
		return r;
	if (d->word == DEPART_GIVE)
		return 1;
	return clock_mono() - d->heard_at >= longest ? out_of_patience(d, e) : 0;
}

int depart_check_wanted(struct departures *all, const char *id, struct error *e)
{
	pthread_mutex_lock(&all->lock);
	const struct departing *d = departing_find(all, id);
	int r = d ? check_wanted(all, d, e) : departing_refuse(e, id);
	pthread_mutex_unlock(&all->lock);
	return r;
}

static int look_at_freeze(const struct departures *all, const struct departing *d, struct error *e)
{
	int r = look_at_word(all, d, e);
	return r == 0 ? d->freeze : r;
}

typedef int look_at(const struct departures *all, const struct departing *d, struct error *e);

static int wait_for(struct departures *all, const char *id, look_at *look, bool (*busy)(void *arg),
		    void *arg, struct error *e)
{
	int r = 0;
	while (r == 0) {
		if (busy(arg))
			return error_set(e, EBUSY, "something else is to be done to the session");
		pthread_mutex_lock(&all->lock);
		const struct departing *d = departing_find(all, id);
		r = d ? look(all, d, e) : departing_refuse(e, id);
		if (r == 0)
			departing_wait(all, SLICE_MS);
		pthread_mutex_unlock(&all->lock);
	}
	return r < 0 ? r : 0;
}

int depart_await(struct departures *all, const char *id, bool (*busy)(void *arg), void *arg,
		 struct error *e)
{
	return wait_for(all, id, look_at_word, busy, arg, e);
}

bool depart_wants_ahead(struct departures *all, const char *id)
{
	pthread_mutex_lock(&all->lock);
	const struct departing *d = departing_find(all, id);
	bool wanted = d && d->ahead;
	pthread_mutex_unlock(&all->lock);
	return wanted;
}

int depart_await_freeze(struct departures *all, const char *id, struct layers_seen *layer,
			bool (*busy)(void *arg), void *arg, struct error *e)
{
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	if (d) {
		d->seen = true;
		d->layer = layer;
		d->heard_at = clock_mono();
	}
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	if (!d)
		layers_seen_free(layer);
	return wait_for(all, id, look_at_freeze, busy, arg, e);
}

const struct layers_seen *depart_layer(struct departures *all, const char *id)
{
	pthread_mutex_lock(&all->lock);
	const struct departing *d = departing_find(all, id);
	const struct layers_seen *layer = d ? d->layer : NULL;
	pthread_mutex_unlock(&all->lock);
	return layer;
}

void depart_given(struct departures *all, const char *id)
{
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	if (d) {
		d->state = DEPARTURE_GIVEN;
		d->given_at = clock_mono();
		all->seen_at = clock_wall();
		departing_drop_layer(d);
	}
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
}
