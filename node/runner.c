/* SPDX-License-Identifier: Apache-2.0 */
#include "node/runner.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/asleep.h"
#include "node/depart.h"
#include "node/doze.h"
#include "node/evacuate.h"
#include "node/hold.h"
#include "node/move_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void runner_drop(struct effect *ef)
{
	ef->loaded = criu_unload(ef->loaded);
	ef->dump = criu_dump_abandon(ef->dump);
	ef->read = store_read_free(ef->read);
	ef->move = move_client_free(ef->move);
	effect_set_write(ef, NULL);
}

void effect_set_write(struct effect *ef, struct store_write *write)
{
	pthread_mutex_lock(&ef->node->lock);
	struct store_write *before = ef->write;
	ef->write = write;
	pthread_mutex_unlock(&ef->node->lock);
	store_write_free(before);
}

/* While a checkpoint is written: what is durable of what there will be at least. */
void effect_look(struct effect *ef)
{
	uint64_t done = 0, total = 0;
	if (!ef->write)
		return;
	store_write_progress(ef->write, &done, &total);
	if (total < (uint64_t)ef->result.memory_bytes)
		total = (uint64_t)ef->result.memory_bytes;
	ef->result.bytes_done = (int64_t)done;
	ef->result.bytes_total = (int64_t)total;
}

void effect_progress(struct effect *ef, uint64_t done, uint64_t total)
{
	pthread_mutex_lock(&ef->node->lock);
	ef->result.bytes_done = (int64_t)done;
	ef->result.bytes_total = (int64_t)total;
	pthread_mutex_unlock(&ef->node->lock);
}

void effect_criu_options(struct effect *ef, struct criu_options *options)
{
	const struct config *c = ef->node->config;
	*options = (struct criu_options) {
		.program = c->node.criu,
		.features = &ef->node->criu,
		.timeout_ms = (int)c->node.effect_timeout_ms,
		.work = ef->work,
		.loaded = &ef->loaded,
	};
}

int effect_set_processes(struct effect *ef, pid_t init, struct error *e)
{
	struct journal *j = effect_journal(ef);
	uint64_t ticks = 0;
	if (init && proc_start_time(init, &ticks) < 0)
		return error_fault(e, FAULT_INTERNAL, "the session ended at once");
	pthread_mutex_lock(&ef->node->lock);
	j->pid = init;
	j->start_time = (int64_t)ticks;
	int r = journal_set(&j->boot_id, ef->node->boot_id, e);
	j->arriving = 0;
	journal_set(&j->given_to, NULL, NULL);
	journal_set(&j->given_id, NULL, NULL);
	if (init) {
		j->started_at = clock_wall();
		journal_set(&j->ended, NULL, NULL);
	} else {
		ef->session->source_empty = ef->session->source_gone = false;
		ef->session->memory_lost = false;
	}
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

/* --- the journal -------------------------------------------------------------- */

/* An effect that is not the session's own end takes the place of what was known before. */
static int open_journal(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	const struct effect_request *q = &ef->request;
	struct session_spec spec = { 0 };
	int r = journal_copy_spec(&spec, &q->session, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	wire_free(&wire_session_spec, &j->session);
	j->session = spec;
	j->kind = q->kind;
	j->effect_generation = q->generation;
	j->begun_at = clock_wall();
	j->created_at = 0;
	j->released = 0;
	if (evacuate_was(j) && q->kind != EFFECT_SNAPSHOT && q->kind != EFFECT_HIBERNATE &&
	    q->kind != EFFECT_SLEEP)
		journal_set(&j->ended, NULL, NULL);
	/* What this node wakes by itself is no wish of elsad's: a fence counts. */
	if ((q->kind == EFFECT_START || q->kind == EFFECT_RESTORE) && !asleep_is_effect(q->id))
		j->fence = j->tried = 0;
	r = journal_set(&j->effect, q->id, e);
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

static int enter_step(struct effect *ef, const char *name, struct error *e)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	int r = journal_set(&j->step, name, e);
	if (r == 0 && !ef->told) {
		r = journal_set(&ef->result.step, name, e);
		ef->result.bytes_done = ef->result.bytes_total = 0;
	}
	pthread_mutex_unlock(&ef->node->lock);
	return r < 0 ? r : journal_note(ef->node, j, e);
}

static void note_timing(struct effect *ef, const char *name, mono_us took)
{
	struct effect_result *result = &ef->result;
	if (ef->told)
		return;
	pthread_mutex_lock(&ef->node->lock);
	struct step_timing *list =
		realloc(result->timings, (result->timing_count + 1) * sizeof(*list));
	if (list) {
		result->timings = list;
		list[result->timing_count] = (struct step_timing) { strdup(name), took };
		result->timing_count += list[result->timing_count].name != NULL;
	}
	pthread_mutex_unlock(&ef->node->lock);
}

/* One that is only held is as well as it was. */
static bool is_running(struct effect *ef)
{
	bool frozen = false;
	if (!session_alive(ef->node, ef->session) || session_is_given(ef->session))
		return false;
	if (hold_any(ef->node, ef->session))
		return true;
	return sandbox_frozen(&ef->sandbox, &frozen, NULL) < 0 || !frozen;
}

static void fill_result(struct effect *ef, const struct error *failure)
{
	struct effect_result *result = &ef->result;
	bool running = is_running(ef);
	bool dozing = running && doze_is_dozing(ef->node, ef->session);
	pthread_mutex_lock(&ef->node->lock);
	result->state = failure ? EFFECT_FAILED : EFFECT_DONE;
	result->running = running;
	result->dozing = dozing;
	result->answering = effect_journal(ef)->asleep && !running;
	if (ef->request.kind != EFFECT_FENCE) /* that one's is not the session's here */
		result->generation = effect_journal(ef)->generation;
	result->duration_us = clock_mono() - ef->begun;
	if (failure) {
		journal_set(&result->fault, fault_name(failure->fault), NULL);
		journal_set(&result->text, failure->text, NULL);
		journal_set(&result->remedy, failure->remedy, NULL);
		result->log_tail = steal_ptr(&ef->log_tail);
	}
	pthread_mutex_unlock(&ef->node->lock);
}

/* Of the session's own end nobody wants the result, nor of its waking by this node itself, nor of
 * either side of a departure: what came of that is told by node/depart.h. */
static bool is_wanted(const struct effect *ef)
{
	enum effect_kind kind = ef->request.kind;
	return ef->request.id && kind != EFFECT_DEPART && kind != EFFECT_RETURN &&
	       !asleep_is_effect(ef->request.id);
}

static void keep_result(struct effect *ef)
{
	struct journal *j = effect_journal(ef);
	struct effect_result *copy = is_wanted(ef) ? calloc(1, sizeof(*copy)) : NULL;
	if (copy && journal_copy_result(copy, &ef->result, NULL) < 0) {
		free(copy);
		copy = NULL;
	}
	pthread_mutex_lock(&ef->node->lock);
	if (is_wanted(ef))
		journal_drop_results(j);
	if (copy) {
		j->results = copy;
		j->result_count = 1;
		j->interrupted = ef->interrupted;
	}
	journal_set(&j->effect, NULL, NULL);
	journal_set(&j->step, NULL, NULL);
	pthread_mutex_unlock(&ef->node->lock);
}

static void report(struct effect *ef, const struct error *failure)
{
	char took[CLOCK_TEXT_SIZE];
	clock_format_duration(ef->result.duration_us / 1000, took);
	if (failure)
		log_warning("session %s: %s failed in step %s after %s: %s%s%s", ef->session->id,
			    ef->plan->name, ef->result.step, took, failure->text,
			    failure->remedy[0] ? " " : "", failure->remedy);
	else
		log_info("session %s: %s done in %s", ef->session->id, ef->plan->name, took);
}

static void finish(struct effect *ef, const struct error *failure)
{
	struct error e = ERROR_INIT;
	runner_drop(ef);
	if (!ef->told) {
		fill_result(ef, failure);
		report(ef, failure);
	}
	keep_result(ef);
	/* Should this fail, a crash from here on does the last steps again, which does no harm. */
	if (journal_save(ef->node, effect_journal(ef), &e) < 0)
		log_error("session %s: %s", ef->session->id, e.text);
}

static void tell(void *arg)
{
	effect_tell(arg);
}

/* From here on the result is as it is: the loop reads it without the lock. */
static void tell_early(struct effect *ef)
{
	fill_result(ef, NULL);
	report(ef, NULL);
	pthread_mutex_lock(&ef->node->lock);
	ef->told = true;
	pthread_mutex_unlock(&ef->node->lock);
	/* Without memory for it they are told at the end. */
	pool_post(ef->node->pool, tell, ef, NULL);
}

/* --- steps -------------------------------------------------------------------- */

static int run_step(struct effect *ef, const struct step *step, bool must_journal, struct error *e)
{
	struct fault_plan *fault = &ef->node->fault;
	mono_us begun = clock_mono();
	int r = enter_step(ef, step->name, e);
	if (r < 0 && must_journal)
		return r;
	fault_hit(fault, ef->plan->name, step->name, FAULT_BEFORE);
	fault_hit(fault, ef->plan->name, step->name, FAULT_WAIT);
	if (fault_hit(fault, ef->plan->name, step->name, FAULT_FAIL))
		r = error_fault(e, FAULT_INTERNAL, "this failure was asked for (--fault)");
	else
		r = step->run(ef, e);
	fault_hit(fault, ef->plan->name, step->name, FAULT_AFTER);
	note_timing(ef, step->name, clock_mono() - begun);
	return r;
}

static void undo_steps(struct effect *ef, size_t last)
{
	for (size_t i = last + 1; i-- > 0;) {
		struct error e = ERROR_INIT;
		const struct step *step = &ef->plan->steps[i];
		if (step->undo && step->undo(ef, &e) < 0)
			log_error("session %s: cannot undo step %s of %s: %s", ef->session->id,
				  step->name, ef->plan->name, e.text);
	}
}

/* Behind the commit all is done that can be; what failed first is what is told. */
static int run_steps(struct effect *ef, size_t first, struct error *failure)
{
	const struct plan *plan = ef->plan;
	int result = 0;
	for (size_t i = first; i < plan->count; i++) {
		struct error e = ERROR_INIT;
		bool committed = i >= plan->commit;
		if (plan->told && i == plan->told && result == 0)
			tell_early(ef);
		int r = run_step(ef, &plan->steps[i], !committed, &e);
		if (ef->undecided) {
			*failure = e;
			return r;
		}
		if (r < 0 && !committed) {
			*failure = e;
			undo_steps(ef, i);
			return r;
		}
		if (r < 0) {
			log_error("session %s: step %s of %s: %s", ef->session->id,
				  plan->steps[i].name, plan->name, e.text);
			if (plan->steps[i].must && result == 0) {
				*failure = e;
				result = r;
				ef->undecided = plan->again;
			}
			if (ef->undecided)
				return r;
		}
	}
	return result;
}

/* As it is, to be taken up again: see recover_undecided(). */
static void leave_open(struct effect *ef, const struct error *why)
{
	log_error("session %s: %s, step %s, is left open, to be taken up again: %s",
		  ef->session->id, ef->plan->name, effect_journal(ef)->step, why->text);
	runner_drop(ef);
	fill_result(ef, why);
}

void effect_run(struct effect *ef, size_t first)
{
	struct error failure = ERROR_INIT;
	ef->begun = clock_mono();
	int r = ef->recovering ? 0 : open_journal(ef, &failure);
	if (r == 0)
		r = run_steps(ef, first, &failure);
	if (ef->undecided) {
		leave_open(ef, &failure);
		return;
	}
	finish(ef, r < 0 ? &failure : NULL);
}

void effect_undo(struct effect *ef, size_t last)
{
	struct error failure = ERROR_INIT;
	/* Asked to come to an end without an answer it is not begun anew: that is its end. */
	bool given_up = ef->move && ef->move->given_up;
	ef->begun = clock_mono();
	ef->interrupted = !given_up;
	if (given_up)
		error_fault(&failure, FAULT_UNAVAILABLE,
			    "whether node %s gave the session away will not be known",
			    ef->move->from);
	else
		error_fault(&failure, FAULT_UNAVAILABLE,
			    "interrupted: elsa-node was restarted during this");
	if (!given_up)
		error_remedy(&failure, 0, "Try again.");
	undo_steps(ef, last);
	journal_set(&ef->result.step, ef->plan->steps[last].name, NULL);
	finish(ef, &failure);
}

void effect_resume(struct effect *ef)
{
	struct error e = ERROR_INIT;
	const struct plan *plan = ef->plan;
	size_t at = plan_step(plan, effect_journal(ef)->step);
	/* Not a step of ours, or none at all: a newer program's. Undoing all is always right before
	 * the commit, and resume() looks at what is true. */
	if (at >= plan->count)
		at = plan->count - 1;
	int next = plan->resume(ef, at, &e);
	ef->undecided = next == -EAGAIN;
	if (ef->undecided) {
		leave_open(ef, &e);
		return;
	}
	log_info("session %s: %s was interrupted in step %s: %s it", ef->session->id, plan->name,
		 plan->steps[at].name, next < 0 ? "undoing" : "finishing");
	if (next < 0)
		effect_undo(ef, at);
	else
		effect_run(ef, (size_t)next);
}
