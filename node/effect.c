/* SPDX-License-Identifier: Apache-2.0 */
#include "node/effect.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/depart.h"
#include "node/estimate.h"
#include "node/evacuate.h"
#include "node/hold.h"
#include "node/lease.h"
#include "node/runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct effect_waiter {
	struct effect_waiter *next, **link;
	void (*done)(const struct effect_result *result, void *arg);
	void *arg;
};

const struct plan *effect_plan(enum effect_kind kind)
{
	static const struct plan *const plans[EFFECT_KIND_COUNT] = {
		[EFFECT_NONE] = &plan_ended,          [EFFECT_START] = &plan_start,
		[EFFECT_HIBERNATE] = &plan_hibernate, [EFFECT_SNAPSHOT] = &plan_snapshot,
		[EFFECT_RESTORE] = &plan_restore,     [EFFECT_STOP] = &plan_stop,
		[EFFECT_FORGET] = &plan_forget,       [EFFECT_FENCE] = &plan_fence,
		[EFFECT_MIGRATE] = &plan_migrate,     [EFFECT_DEPART] = &plan_depart,
		[EFFECT_RETURN] = &plan_return,       [EFFECT_SLEEP] = &plan_sleep,
		[EFFECT_ANSWER] = &plan_answer,       [EFFECT_RELEASE] = &plan_release,
		[EFFECT_DOZE] = &plan_doze,           [EFFECT_ROUSE] = &plan_rouse,
	};
	return plans[kind];
}

size_t plan_step(const struct plan *plan, const char *name)
{
	size_t i = 0;
	while (i < plan->count && (!name || strcmp(plan->steps[i].name, name) != 0))
		i++;
	return i;
}

struct journal *effect_journal(struct effect *ef)
{
	return &ef->session->journal;
}

/* --- making and freeing ---------------------------------------------------- */

static int init_paths(struct effect *ef, struct error *e)
{
	ef->work = node_path(ef->node, "criu", ef->session->id, "");
	ef->images = node_path(ef->node, "images", ef->session->id, "");
	ef->images_near =
		str_printf("%s/images/%s", ef->node->config->node.run_dir, ef->session->id);
	ef->links = node_path(ef->node, "links", ef->session->id, "");
	if (!ef->work || !ef->images || !ef->images_near || !ef->links)
		return error_set(e, ENOMEM, "out of memory");
	return sandbox_init(&ef->sandbox, ef->node->config, &ef->request.session, e);
}

/* Takes the request over. */
static int new_effect(struct node *node, struct session *s, struct effect_request *request,
		      struct effect **to, struct error *e)
{
	struct effect *ef = calloc(1, sizeof(*ef));
	if (!ef) {
		wire_free(&wire_effect_request, request);
		return error_set(e, ENOMEM, "out of memory");
	}
	*ef = (struct effect) { .node = node, .session = s, .request = *request };
	*request = (struct effect_request) { 0 };
	ef->plan = effect_plan(ef->request.kind);
	ef->lease_epoch = lease_epoch(node);
	ef->result.generation = s->journal.generation;
	int r = journal_set(&ef->result.id, ef->request.id, e);
	if (r == 0)
		r = journal_set(&ef->result.step, "queued", e);
	if (r == 0)
		r = init_paths(ef, e);
	if (r < 0)
		effect_free(ef);
	else
		*to = ef;
	return r;
}

void *effect_free(struct effect *ef)
{
	if (!ef)
		return NULL;
	while (ef->waiters)
		effect_unwait(ef->waiters);
	runner_drop(ef);
	sandbox_deinit(&ef->sandbox);
	wire_free(&wire_effect_request, &ef->request);
	wire_free(&wire_effect_result, &ef->result);
	free(ef->work);
	free(ef->images);
	free(ef->images_near);
	free(ef->links);
	free(ef->log_tail);
	free(ef);
	return NULL;
}

static int from_journal(struct node *node, struct session *s, struct effect **effect,
			struct error *e)
{
	const struct journal *j = &s->journal;
	struct effect_request request = { .kind = j->kind, .generation = j->effect_generation };
	int r = journal_copy_spec(&request.session, &j->session, e);
	if (r == 0)
		r = journal_set(&request.id, j->effect, e);
	if (r < 0) {
		wire_free(&wire_effect_request, &request);
		return r;
	}
	r = new_effect(node, s, &request, effect, e);
	if (r == 0)
		(*effect)->recovering = true;
	return r;
}

/* --- beginning and ending, on the loop -------------------------------------- */

static void work(void *arg)
{
	struct effect *ef = arg;
	if (ef->recovering)
		effect_resume(ef);
	else
		effect_run(ef, 0);
}

static void done(void *arg);

static int submit(struct effect *ef, struct error *e)
{
	return pool_submit(ef->node->pool, work, done, ef, e);
}

/* The session that runs, as it was started, is what an effect on it is about; the request's own
 * words count when it is to be started or restored. */
static int use_known_spec(struct session *s, struct effect_request *request, struct error *e)
{
	if (request->kind == EFFECT_START || request->kind == EFFECT_RESTORE || s->journal.pid == 0)
		return 0;
	wire_free(&wire_session_spec, &request->session);
	return journal_copy_spec(&request->session, &s->journal.session, e);
}

static bool has_result(struct effect *ef)
{
	pthread_mutex_lock(&ef->node->lock);
	bool told = ef->told;
	pthread_mutex_unlock(&ef->node->lock);
	return told;
}

static bool may_queue(const struct session *s, const struct effect_request *request)
{
	if (s->queued)
		return false;
	return has_result(s->effect) || s->effect->request.kind == EFFECT_NONE ||
	       request->kind == EFFECT_STOP || request->kind == EFFECT_FORGET;
}

static int refuse_second(struct node *node, const struct session *s, struct error *e)
{
	const struct effect *ef = s->effect;
	pthread_mutex_lock(&node->lock); /* for the step */
	int r = error_set(e, EBUSY, "session %s is busy: %s (effect %s, step %s)", s->id,
			  ef->plan->name, ef->result.id ? ef->result.id : "of its own",
			  ef->result.step);
	pthread_mutex_unlock(&node->lock);
	return r;
}

/* Its remains here are another node's memory: they are ended, or taken back. */
static bool is_for_remains(enum effect_kind kind)
{
	return kind == EFFECT_NONE || kind == EFFECT_STOP || kind == EFFECT_FORGET ||
	       kind == EFFECT_RETURN;
}

static int refuse_given(const struct session *s, struct error *e)
{
	int r = error_fault(e, FAULT_CONFLICT,
			    "session %s was given to node %s, which still fetches its memory here",
			    s->id, s->journal.given_to);
	return error_remedy(e, r, "Try again when that node has all of it.");
}

static void set_under_way(struct node *node, struct effect **slot, struct effect *ef)
{
	pthread_mutex_lock(&node->lock);
	*slot = ef;
	pthread_mutex_unlock(&node->lock);
}

static int begin(struct effect *ef, struct error *e)
{
	struct session *s = ef->session;
	set_under_way(ef->node, &s->effect, ef);
	if (ef->request.kind == EFFECT_START || ef->request.kind == EFFECT_RESTORE ||
	    ef->request.kind == EFFECT_MIGRATE || ef->recovering)
		hold_own(ef->node, s);
	estimate_begun(ef->node, ef);
	int r = submit(ef, e);
	if (r < 0) {
		hold_give_back(ef->node, s);
		estimate_dropped(ef->node, ef);
		set_under_way(ef->node, &s->effect, NULL);
		effect_free(ef);
	}
	return r;
}

/* The journal does not say all that a request did. */
void effect_asked_again(struct effect *ef, struct effect_request *request)
{
	pthread_mutex_lock(&ef->node->lock);
	ef->request.force |= request->force;
	if (!ef->request.from)
		ef->request.from = steal_ptr(&request->from);
	if (!ef->request.from_at)
		ef->request.from_at = steal_ptr(&request->from_at);
	pthread_mutex_unlock(&ef->node->lock);
}

/* What a crash has cut short comes first: nothing but an end may get ahead of it. */
static bool is_open(const struct session *s, const struct effect_request *request)
{
	return s->journal.effect && !s->effect && request->kind != EFFECT_STOP &&
	       request->kind != EFFECT_FORGET;
}

static int begin_open(struct node *node, struct session *s, struct effect_request *request,
		      struct effect **to, struct error *e)
{
	bool same = request->id && strcmp(request->id, s->journal.effect) == 0;
	if (!same) {
		wire_free(&wire_effect_request, request);
		return error_set(e, EBUSY, "session %s has an unfinished %s (effect %s)", s->id,
				 effect_plan(s->journal.kind)->name, s->journal.effect);
	}
	int r = effect_recover(node, s, e);
	if (r == 0) {
		*to = s->effect;
		effect_asked_again(s->effect, request);
	}
	wire_free(&wire_effect_request, request);
	return r;
}

static int begin_on(struct node *node, struct session *s, struct effect_request *request,
		    struct effect **to, struct error *e)
{
	struct effect *ef = NULL;
	if (s->effect && !may_queue(s, request)) {
		wire_free(&wire_effect_request, request);
		return refuse_second(node, s, e);
	}
	if (!s->effect && session_is_given(s) && !is_for_remains(request->kind)) {
		wire_free(&wire_effect_request, request);
		return refuse_given(s, e);
	}
	if (is_open(s, request))
		return begin_open(node, s, request, to, e);
	int r = use_known_spec(s, request, e);
	if (r < 0) {
		wire_free(&wire_effect_request, request);
		return r;
	}
	r = new_effect(node, s, request, &ef, e);
	if (r < 0)
		return r;
	*to = ef;
	if (!s->effect)
		return begin(ef, e);
	set_under_way(node, &s->queued, ef);
	return 0;
}

int effect_recover(struct node *node, struct session *s, struct error *e)
{
	struct effect *ef;
	int r = from_journal(node, s, &ef, e);
	return r < 0 ? r : begin(ef, e);
}

static void remove_if_over(struct node *node, struct session *s)
{
	if (session_is_over(s)) {
		journal_remove(node, s->id, NULL);
		session_remove(node, s);
	}
}

int effect_begin(struct node *node, struct effect_request *request, struct effect **effect,
		 struct error *e)
{
	int r = lease_admit(node, request->kind, e);
	if (r < 0) {
		wire_free(&wire_effect_request, request);
		return r;
	}
	struct session *s = session_find(node, request->session.id);
	if (!s)
		s = session_add(node, request->session.id);
	if (!s) {
		wire_free(&wire_effect_request, request);
		return error_set(e, ENOMEM, "out of memory");
	}
	r = begin_on(node, s, request, effect, e);
	if (r < 0)
		remove_if_over(node, s);
	return r;
}

void effect_tell(struct effect *ef)
{
	while (ef->waiters) {
		struct effect_waiter *w = ef->waiters;
		void (*tell)(const struct effect_result *result, void *arg) = w->done;
		void *arg = w->arg;
		effect_unwait(w);
		tell(&ef->result, arg);
	}
}

static bool is_result(const struct session *s, const char *id)
{
	return s->journal.result_count && strcmp(s->journal.results[0].id, id) == 0;
}

/* That it was evacuated has been heard with the result of that. */
static void drop_results(struct node *node, struct session *s, const char *id)
{
	pthread_mutex_lock(&node->lock);
	if (is_result(s, id))
		journal_drop_results(&s->journal);
	if (evacuate_was_by(&s->journal, id))
		journal_set(&s->journal.ended, NULL, NULL);
	pthread_mutex_unlock(&node->lock);
}

static void begin_queued(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	struct effect *ef = s->queued;
	set_under_way(node, &s->queued, NULL);
	if (begin(ef, &e) < 0)
		log_error("session %s: %s", s->id, e.text);
}

/* Somebody has asked for this effect again while what a crash had left of it was undone. */
static bool begin_again(struct effect *ef)
{
	struct effect *again = NULL;
	struct effect_request request = ef->request;
	if (!ef->interrupted || !ef->waiters)
		return false;
	ef->request = (struct effect_request) { 0 };
	if (new_effect(ef->node, ef->session, &request, &again, NULL) < 0)
		return false;
	again->waiters = ef->waiters;
	again->waiters->link = &again->waiters;
	ef->waiters = NULL;
	effect_free(ef);
	begin(again, NULL);
	return true;
}

static void done(void *arg)
{
	struct effect *ef = arg;
	struct node *node = ef->node;
	struct session *s = ef->session;
	struct error e = ERROR_INIT;
	set_under_way(node, &s->effect, NULL);
	hold_give_back(node, s);
	arrival_tidy(node, s);
	estimate_ended(node, ef);
	evacuate_effect_ended(node, ef);
	depart_effect_ended(node, ef);
	if (begin_again(ef))
		return;
	asleep_effect_ended(node, ef);
	effect_tell(ef);
	if (ef->acknowledged)
		drop_results(node, s, ef->request.id);
	effect_free(ef);
	if (s->journal.pid == 0)
		session_unwatch(s);
	else if (session_watch(node, s, effect_session_ended, node, &e) < 0)
		log_error("session %s: %s", s->id, e.text);
	if (s->queued)
		begin_queued(node, s);
	else
		remove_if_over(node, s);
}

void effect_session_ended(struct session *s, void *arg)
{
	struct node *node = arg;
	struct effect *ef = NULL;
	struct effect_request request = { .kind = EFFECT_NONE };
	struct error e = ERROR_INIT;
	/* What is under way sees for itself, and watches again if the session lives after all. */
	if (s->effect || s->journal.pid == 0)
		return;
	int r = journal_copy_spec(&request.session, &s->journal.session, &e);
	if (r == 0)
		r = begin_on(node, s, &request, &ef, &e);
	if (r < 0)
		log_error("session %s ended, but nothing can be done about it: %s", s->id, e.text);
}

/* --- finding and waiting ----------------------------------------------------- */

static bool is_effect(const struct effect *ef, const char *id)
{
	return ef && ef->result.id && strcmp(ef->result.id, id) == 0;
}

struct effect *effect_find(struct node *node, const char *id)
{
	for (struct session *s = node->sessions; s; s = s->next) {
		if (is_effect(s->effect, id))
			return s->effect;
		if (is_effect(s->queued, id))
			return s->queued;
	}
	return NULL;
}

struct session *effect_find_result(struct node *node, const char *id)
{
	for (struct session *s = node->sessions; s; s = s->next)
		if (is_result(s, id))
			return s;
	return NULL;
}

/* The result of an evacuation may have given way to that of something asked for meanwhile. */
static struct session *find_acknowledged(struct node *node, const char *id)
{
	struct session *s = node->sessions;
	while (s && !is_result(s, id) && !evacuate_was_by(&s->journal, id))
		s = s->next;
	return s;
}

int effect_acknowledge(struct node *node, const char *id, struct error *e)
{
	struct effect *ef = effect_find(node, id);
	if (ef && !has_result(ef))
		return error_set(e, EBUSY, "effect %s is still under way", id);
	acknowledged_add(&node->acknowledged, id, clock_mono());
	if (ef) {
		ef->acknowledged = true;
		return 0;
	}
	struct session *s = find_acknowledged(node, id);
	/* The next effect's worker has the journal now, and will put its own result there. */
	if (!s || s->effect)
		return 0;
	drop_results(node, s, id);
	remove_if_over(node, s);
	return 0;
}

struct effect_waiter *effect_wait(struct effect *ef,
				  void (*tell)(const struct effect_result *result, void *arg),
				  void *arg)
{
	struct effect_waiter *w = malloc(sizeof(*w));
	if (!w)
		return NULL;
	*w = (struct effect_waiter) { ef->waiters, &ef->waiters, tell, arg };
	if (w->next)
		w->next->link = &w->next;
	ef->waiters = w;
	return w;
}

void effect_unwait(struct effect_waiter *w)
{
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	free(w);
}
