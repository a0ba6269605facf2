/* SPDX-License-Identifier: Apache-2.0 */
/* What jobs do with the store, each on a worker. */
#include "node/store_job.h"

#include "base/cleanup.h"
#include "node/effect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void note_progress(uint64_t done, uint64_t total, void *arg)
{
	struct store_job *job = arg;
	pthread_mutex_lock(&job->node->lock);
	job->task.done = (int64_t)done;
	job->task.total = (int64_t)total;
	pthread_mutex_unlock(&job->node->lock);
}

static int run_verify(struct store_job *job, struct store *store, struct error *e)
{
	struct store_read *read = NULL;
	int r = store_read_open(store, job->request.session, job->request.generation, &read, e);
	if (r == 0)
		r = store_read_verify(read, note_progress, job, e);
	store_read_free(read);
	return r;
}

static int run_remove(struct store_job *job, struct store *store, struct error *e)
{
	return store_remove(store, job->request.session, job->request.generation, e);
}

static bool is_being_written(const char *id, int64_t generation, void *arg)
{
	struct store_job *job = arg;
	struct node *node = job->node;
	(void)generation;
	pthread_mutex_lock(&node->lock);
	struct session *s = session_find(node, id);
	bool live = s && (s->effect || s->journal.effect);
	pthread_mutex_unlock(&node->lock);
	return live;
}

static int run_gc(struct store_job *job, struct store *store, struct error *e)
{
	struct store_gc gc = {
		.dry_run = job->request.dry_run,
		.live = is_being_written,
		.progress = note_progress,
		.arg = job,
	};
	int r = store_gc(store, &gc, e);
	pthread_mutex_lock(&job->node->lock);
	job->task.objects = gc.objects;
	job->task.bytes = gc.bytes;
	job->task.kept_objects = gc.kept_objects;
	job->task.kept_bytes = gc.kept_bytes;
	pthread_mutex_unlock(&job->node->lock);
	return r;
}

static int run_export(struct store_job *job, struct store *store, struct error *e)
{
	return store_export(store, job->request.session, job->request.generation,
			    transfer_worker_fd(job->transfer), note_progress, job, e);
}

static int note_spec(struct store_job *job, const char *spec, struct error *e)
{
	char *copy = spec ? strdup(spec) : NULL;
	pthread_mutex_lock(&job->node->lock);
	job->task.spec = copy;
	pthread_mutex_unlock(&job->node->lock);
	return spec && !copy ? error_set(e, ENOMEM, "out of memory") : 0;
}

/* What the node that wrote it knew of its session: sealed, and so for who has the key only. */
static int read_spec(struct store_job *job, struct store *store, const struct store_meta *meta,
		     struct error *e)
{
	struct store_read *read = NULL;
	if (meta->spec)
		return note_spec(job, meta->spec, e);
	int r = store_read_open(store, meta->session, meta->generation, &read, e);
	if (r == 0)
		r = note_spec(job, store_read_meta(read)->spec, e);
	store_read_free(read);
	return r;
}

static int note_imported(struct store_job *job, const struct store_meta *meta, struct error *e)
{
	struct checkpoint_info *info = calloc(1, sizeof(*info));
	if (!info || store_info(info, meta) < 0) {
		wire_free(&wire_checkpoint_info, info);
		free(info);
		return error_set(e, ENOMEM, "out of memory");
	}
	pthread_mutex_lock(&job->node->lock);
	job->task.checkpoints = info;
	job->task.checkpoint_count = 1;
	pthread_mutex_unlock(&job->node->lock);
	return 0;
}

static int run_import(struct store_job *job, struct store *store, struct error *e)
{
	struct store_meta meta = { 0 };
	int r = store_import(store, transfer_worker_fd(job->transfer), &meta, note_progress, job,
			     e);
	if (r == 0)
		r = read_spec(job, store, &meta, e);
	if (r == 0)
		r = note_imported(job, &meta, e);
	store_meta_deinit(&meta);
	return r;
}

static int run_rekey(struct store_job *job, struct store *store, struct error *e)
{
	int64_t count = 0;
	int r = store_rekey(store, &count, note_progress, job, e);
	pthread_mutex_lock(&job->node->lock);
	job->task.count = count;
	pthread_mutex_unlock(&job->node->lock);
	return r;
}

static void fail_task(struct store_task *task, const struct error *e)
{
	task->state = EFFECT_FAILED;
	task->fault = strdup(fault_name(e->fault));
	task->text = strdup(e->text);
	task->remedy = strdup(e->remedy);
}

void store_job_work(void *arg)
{
	static int (*const runs[])(struct store_job *, struct store *, struct error *) = {
		[STORE_TASK_VERIFY] = run_verify, [STORE_TASK_REMOVE] = run_remove,
		[STORE_TASK_GC] = run_gc,         [STORE_TASK_EXPORT] = run_export,
		[STORE_TASK_IMPORT] = run_import, [STORE_TASK_REKEY] = run_rekey,
	};
	struct store_job *job = arg;
	struct store *store;
	struct error e = ERROR_INIT;
	int r = node_store(job->node, &store, &e);
	if (r == 0)
		r = runs[job->request.kind](job, store, &e);
	pthread_mutex_lock(&job->node->lock);
	if (r < 0)
		fail_task(&job->task, &e);
	else
		job->task.state = EFFECT_DONE;
	pthread_mutex_unlock(&job->node->lock);
	if (job->transfer)
		transfer_worker_ends(job->transfer);
}

/* --- as the API tells it ------------------------------------------------------------------ */

static char *copy_text(const char *text)
{
	return strdup(text ? text : "");
}

int store_info(struct checkpoint_info *info, const struct store_meta *meta)
{
	*info = (struct checkpoint_info) {
		.session = strdup(meta->session),
		.generation = meta->generation,
		.created_at = meta->created_at,
		.memory_bytes = meta->memory_bytes,
		.stored_bytes = meta->stored_bytes,
		.shared_bytes = meta->shared_bytes,
		.objects = meta->objects,
		.basis = meta->basis,
		.aside = meta->aside,
		.user = copy_text(meta->user),
		.server = copy_text(meta->server),
		.cpu = copy_text(meta->cpu),
		.criu = copy_text(meta->criu),
		.kernel = copy_text(meta->kernel),
	};
	return info->session && info->user && info->server && info->cpu && info->criu &&
			       info->kernel
		       ? 0
		       : -ENOMEM;
}
