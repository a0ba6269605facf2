/* SPDX-License-Identifier: Apache-2.0 */
/* What elsad wants of departures. */
#include "node/depart_private.h"

#include <errno.h>
#include <string.h>

static int copy_out(const struct departing *d, struct departure *to, struct error *e)
{
	*to = (struct departure) { .state = d->state };
	int r = journal_set(&to->id, d->id, e);
	if (r == 0)
		r = journal_set(&to->session, d->session, e);
	if (r == 0)
		r = journal_set(&to->to, d->to, e);
	if (r == 0 && d->state == DEPARTURE_KEPT)
		r = journal_set(&to->why, d->why.text, e);
	if (r < 0)
		wire_free(&wire_departure, to);
	return r;
}

static bool is_in_use(const struct departing *d)
{
	return d && (d->state == DEPARTURE_UNDER_WAY || d->state == DEPARTURE_GIVEN);
}

static bool runs_here(struct node *node, const char *id)
{
	struct session *s = session_find(node, id);
	pthread_mutex_lock(&node->lock);
	bool runs = s && session_alive(node, s) && !session_is_given(s);
	pthread_mutex_unlock(&node->lock);
	return runs;
}

static struct departing *find_in_use(struct departures *all, const char *session)
{
	struct departing *d = all->list;
	while (d && (strcmp(d->session, session) != 0 || !is_in_use(d)))
		d = d->next;
	return d;
}

/* One at a time may fetch a session; and what `id` was before is no more. */
static void drop_grants(struct departures *all, const char *session, const char *id)
{
	for (struct departing *d = all->list, *next; d; d = next) {
		bool other = strcmp(d->session, session) == 0 && d->state == DEPARTURE_GRANTED;
		next = d->next;
		if (other || strcmp(d->id, id) == 0)
			departing_drop(all, d);
	}
}

static bool is_same(const struct departing *d, const struct departure *wanted)
{
	return strcmp(d->id, wanted->id) == 0 && strcmp(d->session, wanted->session) == 0 &&
	       strcmp(d->to, wanted->to) == 0;
}

/* Under the lock. What is under way or behind us is shown as it is; what came to nothing may be
 * tried again. */
static int grant(struct departures *all, const struct departure *wanted, bool runs,
		 struct departing **to, struct error *e)
{
	struct departing *d = departing_find(all, wanted->id);
	struct departing *used = is_in_use(d) ? d : find_in_use(all, wanted->session);
	if (d && is_same(d, wanted) && d->state != DEPARTURE_KEPT) {
		*to = d;
		return 0;
	}
	if (used)
		return error_set(e, EBUSY, "departure %s of session %s is under way", used->id,
				 used->session);
	if (!runs)
		return error_set(e, ESRCH, "session %s does not run here", wanted->session);
	drop_grants(all, wanted->session, wanted->id);
	const struct departure fresh = { .id = wanted->id,
					 .session = wanted->session,
					 .to = wanted->to };
	*to = departing_add(all, &fresh);
	all->seen_at = clock_wall();
	return *to ? 0 : error_set(e, ENOMEM, "out of memory");
}

int depart_grant(struct node *node, const struct departure *wanted, struct departure *to,
		 struct error *e)
{
	struct departures *all = node->departures;
	struct departing *d = NULL;
	bool runs = runs_here(node, wanted->session);
	pthread_mutex_lock(&all->lock);
	int r = grant(all, wanted, runs, &d, e);
	if (r == 0)
		r = copy_out(d, to, e);
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	return r;
}

int depart_show(struct node *node, const char *id, struct departure *to, struct error *e)
{
	struct departures *all = node->departures;
	pthread_mutex_lock(&all->lock);
	const struct departing *d = departing_find(all, id);
	int r = d ? copy_out(d, to, e) : departing_refuse(e, id);
	pthread_mutex_unlock(&all->lock);
	return r;
}

/* ... and why that failed before. */
static int in_a_moment(struct error *e, const struct departing *d, const char *what)
{
	int r = error_set(e, EBUSY, "departure %s %s", d->id, what);
	return d->why.fault ? error_remedy(e, r, "Before: %s", d->why.text) : r;
}

/* Under the lock. */
static int take_back(struct departing *d, int64_t fence, struct error *e)
{
	switch (d->state) {
	case DEPARTURE_UNDER_WAY: /* its next word would be taken for an answer */
		d->word = d->word ? d->word : DEPART_ABORT;
		return in_a_moment(e, d, "is being undone");
	case DEPARTURE_GIVEN:
		d->returning = true;
		d->fence = fence;
		return in_a_moment(e, d, "is being taken back");
	case DEPARTURE_OVER:
		return error_set(e, ENOENT, "nothing is left here of session %s", d->session);
	case DEPARTURE_GRANTED:
		error_fault(&d->why, FAULT_CONFLICT, "it was taken back");
		d->state = DEPARTURE_KEPT;
		d->kept_at = clock_wall();
		return 0;
	default:
		return 0;
	}
}

int depart_take_back(struct node *node, const char *id, int64_t fence, struct error *e)
{
	struct departures *all = node->departures;
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	int r = d ? take_back(d, fence, e) : departing_refuse(e, id);
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	depart_look_soon(all);
	return r;
}

/* Under the lock. What ended is known on, for the other node may ask. */
static int end(struct departures *all, struct departing *d, struct error *e)
{
	switch (d->state) {
	case DEPARTURE_UNDER_WAY:
		d->word = d->word ? d->word : DEPART_ABORT;
		return in_a_moment(e, d, "is being undone");
	case DEPARTURE_GIVEN:
		d->ending = true;
		return in_a_moment(e, d, "is being ended");
	case DEPARTURE_GRANTED:
		departing_drop(all, d);
		return 0;
	default:
		return 0;
	}
}

int depart_end(struct node *node, const char *id, struct error *e)
{
	struct departures *all = node->departures;
	pthread_mutex_lock(&all->lock);
	struct departing *d = departing_find(all, id);
	int r = d ? end(all, d, e) : 0;
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	depart_look_soon(all);
	return r;
}

/* --- what an evacuation wants to know --------------------------------------------------------- */

/* Another node is at it: it speaks for the session, which is not its own yet. */
static bool is_at_work(const struct departing *d)
{
	return d->state == DEPARTURE_UNDER_WAY ||
	       (d->state == DEPARTURE_GRANTED && d->controls > 0);
}

wall_ms depart_seen_at(const struct node *node)
{
	struct departures *all = node->departures;
	if (!all)
		return 0;
	pthread_mutex_lock(&all->lock);
	wall_ms seen_at = all->seen_at;
	for (const struct departing *d = all->list; d; d = d->next)
		if (is_at_work(d))
			seen_at = clock_wall();
	pthread_mutex_unlock(&all->lock);
	return seen_at;
}

wall_ms depart_kept_at(const struct node *node, const char *session)
{
	struct departures *all = node->departures;
	wall_ms last = 0;
	if (!all)
		return 0;
	pthread_mutex_lock(&all->lock);
	for (const struct departing *d = all->list; d; d = d->next)
		if (strcmp(d->session, session) == 0 && d->kept_at > last)
			last = d->kept_at;
	pthread_mutex_unlock(&all->lock);
	return last;
}

void depart_recall(struct node *node, const char *session)
{
	struct departures *all = node->departures;
	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	for (struct departing *d = all->list; d; d = d->next) {
		bool open = d->state == DEPARTURE_GRANTED || d->state == DEPARTURE_UNDER_WAY;
		if (open && strcmp(d->session, session) == 0)
			take_back(d, 0, NULL);
	}
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	depart_look_soon(all);
}
