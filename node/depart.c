/* SPDX-License-Identifier: Apache-2.0 */
#include "node/depart_private.h"

#include "base/fs.h"
#include "base/log.h"
#include "node/estimate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Departures that are over are known, so that the answer can be had again. */
enum { PAST_MOST = 64 };

/* --- the list ---------------------------------------------------------------------- */

static void free_departing(struct departing *d)
{
	free(d->id);
	free(d->session);
	free(d->to);
	layers_seen_free(d->layer);
	free(d);
}

struct departing *departing_find(struct departures *all, const char *id)
{
	struct departing *d = all->list;
	while (d && strcmp(d->id, id) != 0)
		d = d->next;
	return d;
}

void departing_drop(struct departures *all, struct departing *d)
{
	struct departing **at = &all->list;
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	d->dropped = true;
	if (d->users == 0)
		free_departing(d);
}

static bool is_past(const struct departing *d)
{
	return d->state == DEPARTURE_OVER || d->state == DEPARTURE_KEPT;
}

/* The newest come first. */
static void drop_old(struct departures *all)
{
	size_t past = 0;
	for (struct departing *d = all->list, *next; d; d = next) {
		next = d->next;
		if (is_past(d) && ++past > PAST_MOST)
			departing_drop(all, d);
	}
}

struct departing *departing_add(struct departures *all, const struct departure *what)
{
	struct departing *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->id = strdup(what->id);
	d->session = strdup(what->session);
	d->to = strdup(what->to);
	if (!d->id || !d->session || !d->to) {
		free_departing(d);
		return NULL;
	}
	d->state = what->state;
	d->left_at = d->heard_at = clock_mono();
	d->next = all->list;
	all->list = d;
	drop_old(all);
	return d;
}

/* Of no use once that is over. */
void departing_drop_layer(struct departing *d)
{
	d->layer = layers_seen_free(d->layer);
	d->seen = d->ahead = d->freeze = false;
}

int departing_refuse(struct error *e, const char *id)
{
	return error_set(e, ENOENT, "departure %s is not known", id);
}

void departing_use(struct departing *d)
{
	d->users++;
}

void departing_leave(struct departures *all, struct departing *d)
{
	(void)all;
	if (--d->users == 0 && d->dropped)
		free_departing(d);
}

void departing_wait(struct departures *all, int ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	if (t.tv_nsec >= 1000000000L) {
		t.tv_nsec -= 1000000000L;
		t.tv_sec++;
	}
	pthread_cond_timedwait(&all->changed, &all->lock, &t);
}

void departing_wake(struct departures *all)
{
	pthread_cond_broadcast(&all->changed);
}

/* --- the loop does what is wanted -------------------------------------------------- */

/* Its session's own words count, see use_known_spec(). */
static int begin_effect(struct node *node, const struct departing *d, enum effect_kind kind,
			const char *prefix, struct error *e)
{
	struct effect *ef;
	struct effect_request request = { .kind = kind, .generation = d->fence };
	struct session *s = session_find(node, d->session);
	int r = s ? journal_copy_spec(&request.session, &s->journal.session, e)
		  : error_set(e, ESRCH, "session %s does not run here", d->session);
	if (r < 0)
		return r;
	request.id = prefix ? str_printf("%s%s", prefix, d->id) : NULL;
	request.from = strdup(d->to);
	if ((prefix && !request.id) || !request.from) {
		wire_free(&wire_effect_request, &request);
		return error_set(e, ENOMEM, "out of memory");
	}
	return effect_begin(node, &request, &ef, e);
}

static bool is_busy(struct node *node, const char *id)
{
	const struct session *s = session_find(node, id);
	return s && (s->effect || s->queued || s->journal.effect);
}

/* What it is to be is said first: its worker may be faster than we are. */
static void begin_departure(struct departures *all, struct departing *d)
{
	struct error e = ERROR_INIT;
	int r = 0;
	d->asked = false;
	d->still = d->packed = d->ready = false;
	d->word = DEPART_NO_WORD;
	d->state = DEPARTURE_UNDER_WAY;
	d->heard_at = clock_mono();
	all->seen_at = clock_wall();
	pthread_mutex_unlock(&all->lock);
	if (all->node->stopping)
		r = error_set(&e, EAGAIN, "elsa-node is about to end");
	else if (is_busy(all->node, d->session))
		r = error_set(&e, EBUSY, "something else is being done to the session");
	else
		r = begin_effect(all->node, d, EFFECT_DEPART, DEPART_EFFECT, &e);
	pthread_mutex_lock(&all->lock);
	if (r < 0) {
		d->state = DEPARTURE_GRANTED;
		d->why = e;
		departing_drop_layer(d);
	}
	departing_wake(all);
}

/* Which of the two was wanted first does not matter: what has ended does not return, and what has
 * returned is not given any more. Whoever wants it asks again while something else is under way. */
static void begin_rest(struct departures *all, struct departing *d)
{
	struct error e = ERROR_INIT;
	bool back = d->returning && !d->ending;
	pthread_mutex_unlock(&all->lock);
	int r = begin_effect(all->node, d, back ? EFFECT_RETURN : EFFECT_NONE,
			     back ? RETURN_EFFECT : NULL, &e);
	pthread_mutex_lock(&all->lock);
	if (r < 0) {
		log_warning("session %s: %s", d->session, e.text);
		d->returning = d->ending = false;
		d->why = e;
		departing_wake(all);
	}
}

/* One step at a time, since the list may change while the lock is not held. */
static bool act_once(struct departures *all)
{
	for (struct departing *d = all->list; d; d = d->next) {
		if (d->state == DEPARTURE_GRANTED && d->asked) {
			departing_use(d);
			begin_departure(all, d);
			departing_leave(all, d);
			return true;
		}
		bool rest = d->state == DEPARTURE_GIVEN && (d->ending || d->returning);
		if (rest && !is_busy(all->node, d->session)) {
			departing_use(d);
			begin_rest(all, d);
			departing_leave(all, d);
			return true;
		}
	}
	return false;
}

static void look(void *node)
{
	struct departures *all = ((struct node *)node)->departures;
	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	while (act_once(all))
		;
	pthread_mutex_unlock(&all->lock);
}

void depart_look_soon(struct departures *all)
{
	if (pool_post(all->node->pool, look, all->node, NULL) < 0)
		log_error("out of memory");
}

/* --- an effect has ended ----------------------------------------------------------- */

static const char *departure_of(const struct effect *ef)
{
	bool own = ef->request.kind == EFFECT_DEPART && ef->request.id &&
		   strncmp(ef->request.id, DEPART_EFFECT, strlen(DEPART_EFFECT)) == 0;
	return own ? ef->request.id + strlen(DEPART_EFFECT) : NULL;
}

static void keep(struct departing *d, const struct effect_result *result)
{
	enum fault fault = result->fault ? fault_from_name(result->fault) : FAULT_INTERNAL;
	d->state = DEPARTURE_KEPT;
	d->kept_at = clock_wall();
	d->still = d->packed = d->ready = d->asked = false;
	departing_drop_layer(d);
	error_clear(&d->why);
	error_fault(&d->why, fault, "%s", result->text ? result->text : "it came to nothing");
	if (result->remedy)
		error_remedy(&d->why, 0, "%s", result->remedy);
}

/* It is this node's again, or nothing of it is here any more; or that has failed, and is to be
 * asked for again. */
static void settle(struct node *node, struct departing *d, const struct session *s,
		   const struct effect *ef)
{
	bool back = s->journal.pid != 0;
	if (session_is_given(s)) {
		if (ef->request.kind != EFFECT_DEPART)
			d->ending = d->returning = false;
		else
			d->memory_bytes = ef->result.memory_bytes;
		return;
	}
	if (d->given_at && d->arrived_at && !back)
		estimate_moved(node, d->memory_bytes, (d->arrived_at - d->given_at) / 1000);
	d->state = back ? DEPARTURE_KEPT : DEPARTURE_OVER;
	d->kept_at = back ? clock_wall() : 0;
	d->still = d->packed = d->ready = d->ending = d->returning = false;
	error_clear(&d->why);
	if (back)
		error_fault(&d->why, FAULT_CONFLICT, "it was taken back");
}

void depart_effect_ended(struct node *node, const struct effect *ef)
{
	struct departures *all = node->departures;
	const struct session *s = ef->session;
	const char *id = departure_of(ef);
	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	struct departing *d = id ? departing_find(all, id) : NULL;
	if (d && d->state == DEPARTURE_UNDER_WAY)
		keep(d, &ef->result);
	for (d = all->list; d; d = d->next)
		if (strcmp(d->session, s->id) == 0 && d->state == DEPARTURE_GIVEN)
			settle(node, d, s, ef);
	if (ef->request.kind == EFFECT_DEPART)
		all->seen_at = clock_wall();
	drop_old(all);
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	/* Later: whoever has called is in the midst of ending this one. */
	depart_look_soon(all);
}

/* --- its life ---------------------------------------------------------------------- */

struct departures *departures_new(struct node *node)
{
	pthread_condattr_t monotonic;
	struct departures *all = calloc(1, sizeof(*all));
	if (!all)
		return NULL;
	all->node = node;
	pthread_mutex_init(&all->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&all->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return all;
}

void *departures_free(struct departures *all)
{
	if (!all)
		return NULL;
	while (all->list)
		departing_drop(all, all->list);
	pthread_cond_destroy(&all->changed);
	pthread_mutex_destroy(&all->lock);
	free(all);
	return NULL;
}

/* What was given is in the journal, and what was about to be; what was only granted elsad grants
 * anew. */
static int take_up(struct departures *all, struct session *s, struct error *e)
{
	static char nobody[] = "";
	bool given = session_is_given(s);
	const struct departure known = { .id = s->journal.given_id,
					 .session = s->id,
					 .to = given ? s->journal.given_to : nobody,
					 .state = given ? DEPARTURE_GIVEN : DEPARTURE_KEPT };
	if (!known.id)
		return 0;
	struct departing *d = departing_add(all, &known);
	if (d && !given)
		error_fault(&d->why, FAULT_UNAVAILABLE, "elsa-node was restarted meanwhile");
	return d ? 0 : error_set(e, ENOMEM, "out of memory");
}

int depart_init(struct node *node, struct error *e)
{
	int r = 0;
	struct departures *all = departures_new(node);
	if (!all)
		return error_set(e, ENOMEM, "out of memory");
	pthread_mutex_lock(&node->lock);
	for (struct session *s = node->sessions; r == 0 && s; s = s->next)
		r = take_up(all, s, e);
	pthread_mutex_unlock(&node->lock);
	node->departures = all;
	return r;
}

void depart_stop(struct node *node)
{
	struct departures *all = node->departures;
	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
}

void depart_free(struct node *node)
{
	struct departures *all = node->departures;
	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	all->stopping = all->closing = true;
	departing_wake(all);
	pthread_mutex_unlock(&all->lock);
	all->listen = depart_listen_close(all->listen);
	node->departures = departures_free(all);
}

int depart_port(const struct node *node)
{
	const struct departures *all = node->departures;
	return all && all->listen ? depart_listen_port(all->listen) : 0;
}

/* Tried again at the next look of node/join.c; why it fails is said once. */
void depart_identity_changed(struct node *node)
{
	static struct error said;
	struct departures *all = node->departures;
	struct error e = ERROR_INIT;
	if (!all || all->listen || all->stopping || !*node->config->node.move_listen)
		return;
	if (depart_listen_open(all, &all->listen, &e) == 0) {
		log_info("sessions that move are fetched at %s", node->config->node.move_listen);
		said = ERROR_INIT;
	} else if (strcmp(said.text, e.text) != 0) {
		log_error("no session can move away from here: node.move_listen: %s", e.text);
		said = e;
	}
}
