/* SPDX-License-Identifier: Apache-2.0 */
#include "node/asleep_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/doze.h"
#include "node/evacuate.h"
#include "node/lease.h"
#include "policies/place.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAKE_PREFIX "wake-"

enum {
	SECOND_US = 1000000,
	PAUSE_FIRST_S = 1, /* after it could not be woken; then twice that, and so on up to */
	PAUSE_MOST_S = 30,
	ELSEWHERE_S = 3,
};

bool asleep_is_effect(const char *id)
{
	return id && strncmp(id, WAKE_PREFIX, strlen(WAKE_PREFIX)) == 0;
}

/* --- the queue --------------------------------------------------------------------- */

static size_t concurrency(const struct node *node)
{
	int64_t most = node->config->wake.concurrency;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return most > 0 ? (size_t)most : cpus > 0 ? (size_t)cpus : 1;
}

void asleep_unqueue(struct asleep *a)
{
	wake_queue_remove(&a->all->queue, &a->place);
}

/* --- may it be woken here? ------------------------------------------------------------ */

static int has_room(struct node *node, const struct session *s, struct error *e)
{
	struct node_info info = { 0 };
	int r = node_info(node, &info, e);
	if (r < 0)
		return r;
	int64_t left = info.memory_available_bytes - node->config->wake.reserve_bytes;
	wire_free(&wire_node_info, &info);
	if (left >= s->journal.asleep_bytes)
		return 0;
	return error_fault(
		e, FAULT_FULL, "this node has no room for it: it takes %lld MiB, and %lld are left",
		(long long)(s->journal.asleep_bytes >> 20), (long long)(left > 0 ? left >> 20 : 0));
}

void asleep_named(struct node *node, struct session *s, bool named)
{
	struct asleep *a = s->asleep;
	if (!a)
		return;
	a->unnamed = named ? 0 : a->unnamed + 1;
	if (!named)
		return;
	a->unsure = false;
	a->epoch = lease_epoch(node);
}

static int check_ours(const struct node *node, const struct asleep *a, struct error *e)
{
	enum { OFTEN = 2 };
	if (!node->lease || (!a->unsure && a->epoch == lease_epoch(node) && a->unnamed < OFTEN))
		return 0;
	return error_fault(e, FAULT_CONFLICT, "elsad does not say that it is this node's");
}

static int admit(struct node *node, const struct session *s, const struct effect_request *request,
		 struct error *e)
{
	int r = node->stopping ? error_set(e, EAGAIN, "elsa-node is about to end") : 0;
	if (r == 0)
		r = lease_admit(node, EFFECT_RESTORE, e);
	if (r == 0)
		r = check_ours(node, s->asleep, e);
	if (r == 0)
		r = evacuate_refuses(node, request, e);
	return r < 0 ? r : has_room(node, s, e);
}

int asleep_check_fence(struct effect *ef, int64_t fence, struct error *e)
{
	const struct journal *j = effect_journal(ef);
	if (fence <= j->fence || fence <= ef->request.generation)
		return 0;
	return error_fault(e, FAULT_CONFLICT,
			   "session %s was fenced at %lld since it fell asleep: another node may "
			   "have it",
			   ef->session->id, (long long)fence);
}

static void set_unwoken(struct node *node, struct session *s, const char *why)
{
	pthread_mutex_lock(&node->lock);
	journal_set(&s->unwoken, why, NULL);
	pthread_mutex_unlock(&node->lock);
}

/* elsad looks, and has it done elsewhere. */
static void turn_away(struct asleep *a, struct session *s, const char *why)
{
	log_warning("session %s is wanted and cannot be woken here: %s", s->id, why);
	set_unwoken(a->all->node, s, why);
	lease_news(a->all->node);
	activator_failed(a->activator, "It is about to be woken on another machine.", ELSEWHERE_S);
}

/* --- waking --------------------------------------------------------------------------- */

static void set_touched(struct asleep *a, bool touched)
{
	pthread_mutex_lock(&a->all->node->lock);
	a->touched = touched;
	pthread_mutex_unlock(&a->all->node->lock);
}

static int make_request(const struct session *s, struct effect_request *to, struct error *e)
{
	*to = (struct effect_request) { .kind = EFFECT_RESTORE, .generation = s->journal.asleep };
	to->id = str_printf(WAKE_PREFIX "%s-%lld", s->id, (long long)s->journal.asleep);
	if (!to->id)
		return error_set(e, ENOMEM, "out of memory");
	return journal_copy_spec(&to->session, &s->journal.session, e);
}

static void wake(struct asleep *a, struct session *s)
{
	struct node *node = a->all->node;
	struct effect_request request;
	struct effect *ef = NULL;
	struct error e = ERROR_INIT;
	int r = make_request(s, &request, &e);
	if (r == 0)
		r = admit(node, s, &request, &e);
	set_touched(a, false);
	if (r < 0) {
		wire_free(&wire_effect_request, &request);
		turn_away(a, s, e.text);
		return;
	}
	wake_queue_begin(&a->all->queue, &a->place);
	set_unwoken(node, s, NULL);
	if (effect_begin(node, &request, &ef, &e) < 0) {
		asleep_unqueue(a);
		turn_away(a, s, e.text);
	}
}

void asleep_wake_next(struct asleep_all *all)
{
	struct wake_place *p;
	while ((p = wake_queue_next(&all->queue, concurrency(all->node)))) {
		struct asleep *a = (struct asleep *)((char *)p - offsetof(struct asleep, place));
		struct session *s = session_find(all->node, a->id);
		/* Else it is looked at again when what is under way has ended. */
		if (s && s->asleep == a && s->journal.asleep && !s->effect && !s->journal.effect)
			wake(a, s);
	}
}

static int seconds_left(const struct asleep *a)
{
	mono_us left = a->not_before - clock_mono();
	return left > 0 ? (int)(left / SECOND_US) + 1 : 0;
}

void asleep_touch(struct asleep *a, const char *what)
{
	struct node *node = a->all->node;
	struct session *s = session_find(node, a->id);
	/* Of one that was woken a moment ago: it is on its way to the session. */
	if (!s || s->asleep != a)
		return;
	if (a->kind == ASLEEP_DOZES) {
		pthread_mutex_lock(&node->lock);
		s->touched_at = clock_wall();
		pthread_mutex_unlock(&node->lock);
		doze_touched(node, s, what);
		return;
	}
	int left = seconds_left(a);
	pthread_mutex_lock(&node->lock);
	s->touched_at = clock_wall();
	a->touched = left == 0;
	pthread_mutex_unlock(&node->lock);
	if (left > 0) {
		activator_failed(a->activator, "It could not be woken.", left);
		return;
	}
	if (!a->place.queued && !a->place.waking)
		log_info("session %s: somebody came: %s", s->id, what);
	wake_queue_add(&a->all->queue, &a->place);
	asleep_wake_next(a->all);
}

void asleep_touched(struct node *node, struct session *s, const char *what)
{
	(void)node;
	if (s->asleep)
		asleep_touch(s->asleep, what);
}

/* --- what came of it ------------------------------------------------------------------- */

/* Why is for who runs the node, and in its log. */
static void failed(struct asleep *a, struct session *s, const struct effect_result *result)
{
	int pause = PAUSE_MOST_S;
	if (a->failures < 5 && PAUSE_FIRST_S << a->failures < PAUSE_MOST_S)
		pause = PAUSE_FIRST_S << a->failures;
	a->failures++;
	a->not_before = clock_mono() + (mono_us)pause * SECOND_US;
	set_touched(a, false);
	/* What the store does not give here it gives nowhere. */
	bool opened = result->step && strcmp(result->step, "open") != 0;
	if (opened && place_elsewhere(fault_from_name(result->fault), result->step)) {
		turn_away(a, s, result->text);
		return;
	}
	activator_failed(a->activator, "It could not be woken.", pause);
}

void asleep_effect_ended(struct node *node, const struct effect *ef)
{
	struct session *s = ef->session;
	struct asleep *a = s->asleep;
	if (!node->asleep)
		return;
	if (a && ef->request.kind == EFFECT_RESTORE) {
		asleep_unqueue(a);
		if (ef->result.state == EFFECT_FAILED)
			failed(a, s, &ef->result);
		/* What was given to it is gone with it. */
		if (a->given)
			asleep_load(a);
	}
	if (a && asleep_is_touched(node, s) && a->kind == ASLEEP_DOZES)
		doze_touched(node, s, "somebody came while it was about to sleep");
	else if (a && asleep_is_touched(node, s))
		wake_queue_add(&a->all->queue, &a->place);
	/* What it is from here on no checkpoint has: should this node be lost, elsad is to know. */
	if (asleep_is_effect(ef->request.id))
		lease_news(node);
	asleep_wake_next(node->asleep);
}
