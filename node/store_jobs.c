/* SPDX-License-Identifier: Apache-2.0 */
#include "node/store_jobs.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "node/effect.h"
#include "node/store_job.h"
#include "node/store_transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* Sweeps and other long ones must not keep short ones waiting. */
enum { THREADS = 2, FINISHED_KEPT = 64 };

struct store_waiter {
	TAILQ_ENTRY(store_waiter) entry;
	struct store_job *job;
	void (*ended)(struct store_job *job, void *arg);
	void *arg;
};

struct store_jobs {
	struct pool *pool;
	struct event *sweep;         /* timer */
	TAILQ_HEAD(, store_job) all; /* newest first */
};

/* --- on the loop ------------------------------------------------------------------- */

static bool is_running(const struct store_job *job)
{
	pthread_mutex_lock(&job->node->lock);
	bool running = job->task.state == EFFECT_RUNNING;
	pthread_mutex_unlock(&job->node->lock);
	return running;
}

static void job_free(struct store_job *job)
{
	for (struct store_waiter *w; (w = TAILQ_FIRST(&job->waiters));)
		store_job_unwait(w);
	transfer_free(job->transfer);
	wire_free(&wire_store_request, &job->request);
	wire_free(&wire_store_task, &job->task);
	free(job);
}

static void report(const struct store_job *job)
{
	const struct store_task *task = &job->task;
	const char *kind = store_task_kind_names[task->kind];
	if (task->state == EFFECT_FAILED)
		log_warning("store %s: %s%s%s", kind, task->text, *task->remedy ? " " : "",
			    task->remedy);
	else if (task->kind != STORE_TASK_GC)
		log_info("store %s: done", kind);
	else if (!task->dry_run && task->objects)
		log_info("store gc: removed %lld objects of %lld bytes that nothing needs",
			 (long long)task->objects, (long long)task->bytes);
}

static void tell_waiters(struct store_job *job)
{
	for (struct store_waiter *w; (w = TAILQ_FIRST(&job->waiters));) {
		TAILQ_REMOVE(&job->waiters, w, entry);
		w->ended(job, w->arg);
		free(w);
	}
}

static void job_error(const struct store_job *job, struct error *e)
{
	const struct store_task *task = &job->task;
	*e = ERROR_INIT;
	if (task->state != EFFECT_FAILED)
		return;
	error_fault(e, fault_from_name(task->fault), "%s", task->text ? task->text : "");
	error_remedy(e, 0, "%s", task->remedy ? task->remedy : "");
}

static void done(void *arg)
{
	struct store_job *job = arg;
	struct error e;
	job->over = true;
	report(job);
	job_error(job, &e);
	if (job->transfer)
		transfer_ended(job->transfer, e.fault == FAULT_NONE ? NULL : &e);
	tell_waiters(job);
}

static void forget_finished(struct store_jobs *jobs)
{
	int kept = 0;
	for (struct store_job *job = TAILQ_FIRST(&jobs->all), *next; job; job = next) {
		next = TAILQ_NEXT(job, entry);
		if (!job->over || ++kept <= FINISHED_KEPT || transfer_busy(job->transfer))
			continue;
		TAILQ_REMOVE(&jobs->all, job, entry);
		job_free(job);
	}
}

/* --- what must not happen at the same time ------------------------------------------- */

static struct store_job *find_sweep(struct node *node)
{
	struct store_job *job;
	TAILQ_FOREACH(job, &node->jobs->all, entry)
	if (job->task.kind == STORE_TASK_GC && is_running(job))
		return job;
	return NULL;
}

/* A checkpoint that a session wakes from, or that an effect may be about to read or build upon. */
static int check_unused(struct node *node, const struct store_request *q, struct error *e)
{
	struct session_status status = { 0 };
	struct session *s = session_find(node, q->session);
	if (!s)
		return 0;
	int r = session_status(node, s, &status, e);
	if (r == 0 && status.effect)
		r = error_set(e, EBUSY, "something is just being done to its session");
	else if (r == 0 && status.missing_bytes > 0 && status.generation == q->generation)
		r = error_set(e, EBUSY, "its session is still being woken from it");
	wire_free(&wire_session_status, &status);
	return error_remedy(e, r, "Try again when that is done.");
}

static int check_request(struct node *node, const struct store_request *q, struct error *e)
{
	bool about_one = q->kind == STORE_TASK_VERIFY || q->kind == STORE_TASK_REMOVE ||
			 q->kind == STORE_TASK_EXPORT;
	if (q->kind == STORE_TASK_NONE)
		return error_set(e, EINVAL, "kind: unknown value");
	if (about_one && (!id_valid(q->session) || q->generation <= 0))
		return error_set(e, EINVAL, "expected a session's id and a generation above 0");
	return q->kind == STORE_TASK_REMOVE ? check_unused(node, q, e) : 0;
}

/* --- beginning ------------------------------------------------------------------------ */

static struct store_job *job_new(struct node *node, const struct store_request *q)
{
	char id[ID_SIZE];
	struct store_job *job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	id_new(id);
	TAILQ_INIT(&job->waiters);
	job->node = node;
	job->request = *q;
	job->request.session = q->session ? strdup(q->session) : NULL;
	job->task = (struct store_task) {
		.id = strdup(id),
		.kind = q->kind,
		.state = EFFECT_RUNNING,
		.dry_run = q->dry_run,
	};
	if (job->task.id && (!q->session || job->request.session))
		return job;
	job_free(job);
	return NULL;
}

static int open_transfer(struct store_job *job, struct error *e)
{
	if (job->request.kind == STORE_TASK_EXPORT)
		return transfer_new(job->node->base, true, &job->transfer, e);
	if (job->request.kind == STORE_TASK_IMPORT)
		return transfer_new(job->node->base, false, &job->transfer, e);
	return 0;
}

int store_job_begin(struct node *node, const struct store_request *request, struct store_job **to,
		    struct error *e)
{
	int r = node->stopping ? error_set(e, EAGAIN, "elsa-node is about to end")
			       : check_request(node, request, e);
	if (r < 0)
		return r;
	struct store_job *job = request->kind == STORE_TASK_GC ? find_sweep(node) : NULL;
	if (job && job->task.dry_run == request->dry_run) {
		*to = job;
		return 0;
	}
	if (job)
		return error_set(e, EBUSY,
				 "the store is just being gone through for another sweep");
	job = job_new(node, request);
	if (!job)
		return error_set(e, ENOMEM, "out of memory");
	r = open_transfer(job, e);
	if (r == 0)
		r = pool_submit(node->jobs->pool, store_job_work, done, job, e);
	if (r < 0) {
		job_free(job);
		return r;
	}
	TAILQ_INSERT_HEAD(&node->jobs->all, job, entry);
	forget_finished(node->jobs);
	*to = job;
	return 0;
}

struct store_job *store_job_find(struct node *node, const char *id)
{
	struct store_job *job;
	TAILQ_FOREACH(job, &node->jobs->all, entry)
	if (strcmp(job->task.id, id) == 0)
		return job;
	return NULL;
}

json_t *store_job_json(struct store_job *job)
{
	pthread_mutex_lock(&job->node->lock);
	json_t *json = wire_encode(&wire_store_task, &job->task);
	pthread_mutex_unlock(&job->node->lock);
	return json;
}

bool store_job_ended(const struct store_job *job)
{
	return !is_running(job);
}

struct store_waiter *store_job_wait(struct store_job *job,
				    void (*ended)(struct store_job *job, void *arg), void *arg)
{
	struct store_waiter *w = malloc(sizeof(*w));
	if (!w)
		return NULL;
	*w = (struct store_waiter) { .job = job, .ended = ended, .arg = arg };
	TAILQ_INSERT_TAIL(&job->waiters, w, entry);
	return w;
}

void store_job_unwait(struct store_waiter *waiter)
{
	TAILQ_REMOVE(&waiter->job->waiters, waiter, entry);
	free(waiter);
}

/* --- data ------------------------------------------------------------------------------ */

static int check_transfer(const struct store_job *job, enum store_task_kind kind, struct error *e)
{
	if (job->task.kind == kind)
		return 0;
	return error_set(e, EINVAL, "%s has no such data", store_task_kind_names[job->task.kind]);
}

int store_job_take(struct store_job *job, store_part *told, void *arg, struct error *e)
{
	int r = check_transfer(job, STORE_TASK_EXPORT, e);
	return r < 0 ? r : transfer_take(job->transfer, STORE_PART, told, arg, e);
}

int store_job_give(struct store_job *job, const char *data, size_t len, store_part *told, void *arg,
		   struct error *e)
{
	int r = check_transfer(job, STORE_TASK_IMPORT, e);
	return r < 0 ? r : transfer_give(job->transfer, data, len, told, arg, e);
}

void store_job_give_up(struct store_job *job)
{
	transfer_give_up(job->transfer);
}

/* --- the sweep --------------------------------------------------------------------------- */

static void sweep_later(struct node *node)
{
	int64_t ms = node->config->store.gc_ms;
	const struct timeval pause = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	if (ms > 0)
		event_add(node->jobs->sweep, &pause);
}

static void sweep(evutil_socket_t fd, short what, void *arg)
{
	struct node *node = arg;
	struct store_job *job;
	struct error e = ERROR_INIT;
	const struct store_request request = { .kind = STORE_TASK_GC };
	(void)fd;
	(void)what;
	if (store_job_begin(node, &request, &job, &e) < 0)
		log_info("no sweep of the store: %s", e.text);
	sweep_later(node);
}

int store_jobs_new(struct node *node, struct error *e)
{
	static const struct timeval now = { 0 };
	struct store_jobs *jobs = calloc(1, sizeof(*jobs));
	if (!jobs)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&jobs->all);
	node->jobs = jobs;
	jobs->sweep = evtimer_new(node->base, sweep, node);
	if (!jobs->sweep)
		return error_set(e, ENOMEM, "out of memory");
	/* What crashed writers left behind goes first. */
	if (node->config->store.gc_ms > 0)
		event_add(jobs->sweep, &now);
	return pool_new(node->base, THREADS, &jobs->pool, e);
}

void store_jobs_stop(struct node *node)
{
	struct store_job *job;
	event_del(node->jobs->sweep);
	TAILQ_FOREACH(job, &node->jobs->all, entry)
	if (job->transfer)
		transfer_cut(job->transfer);
}

size_t store_jobs_load(const struct node *node)
{
	return pool_load(node->jobs->pool);
}

void store_jobs_free(struct node *node)
{
	struct store_jobs *jobs = node->jobs;
	if (!jobs)
		return;
	jobs->pool = pool_free(jobs->pool);
	for (struct store_job *job; (job = TAILQ_FIRST(&jobs->all));) {
		TAILQ_REMOVE(&jobs->all, job, entry);
		job_free(job);
	}
	if (jobs->sweep)
		event_free(jobs->sweep);
	free(jobs);
	node->jobs = NULL;
}
