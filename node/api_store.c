/* SPDX-License-Identifier: Apache-2.0 */
/* Work on the store: begun, looked at, and its data fetched or brought part by part. */
#include "node/api.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "node/store_jobs.h"

#include <errno.h>
#include <stdlib.h>

static void reply_job(struct http_exchange *x, int status, struct store_job *job)
{
	struct error e = ERROR_INIT;
	json_t *json = store_job_json(job);
	if (json) {
		http_reply_json(x, status, json);
		return;
	}
	error_set(&e, ENOMEM, "out of memory");
	http_reply_error(x, &e);
}

/* NULL: it is not known, and answered. */
static struct store_job *find_job(struct http_exchange *x, struct node *node)
{
	struct error e = ERROR_INIT;
	struct store_job *job = store_job_find(node, http_exchange_param(x, "id"));
	if (!job) {
		error_set(&e, ENOENT,
			  "no such work on the store: elsa-node may have been restarted");
		error_remedy(&e, 0, "Ask for it again.");
		http_reply_error(x, &e);
	}
	return job;
}

void api_store_begin(struct http_exchange *x, void *node)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	struct store_request request;
	struct store_job *job = NULL;
	struct error e = ERROR_INIT;
	int r = wire_decode_text(&wire_store_request, body ? body : "", len, &request, &e);
	if (r == 0)
		r = store_job_begin(node, &request, &job, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		reply_job(x, 202, job);
	wire_free(&wire_store_request, &request);
}

void api_store_task(struct http_exchange *x, void *node)
{
	struct store_job *job = find_job(x, node);
	if (job)
		reply_job(x, 200, job);
}

/* --- its end --------------------------------------------------------------------------- */

struct caller {
	struct http_exchange *exchange;
	struct store_job *job;
	struct store_waiter *waiter;
	bool asking; /* for data */
};

static void caller_left(void *arg)
{
	struct caller *caller = arg;
	if (caller->waiter)
		store_job_unwait(caller->waiter);
	if (caller->asking)
		store_job_give_up(caller->job);
	free(caller);
}

static struct caller *caller_new(struct http_exchange *x, struct store_job *job)
{
	struct error e = ERROR_INIT;
	struct caller *caller = calloc(1, sizeof(*caller));
	if (!caller) {
		error_set(&e, ENOMEM, "out of memory");
		http_reply_error(x, &e);
		return NULL;
	}
	caller->exchange = x;
	caller->job = job;
	http_exchange_on_close(x, caller_left, caller);
	return caller;
}

/* Its exchange, to be answered now. */
static struct http_exchange *caller_free(struct caller *caller)
{
	struct http_exchange *x = caller->exchange;
	http_exchange_on_close(x, NULL, NULL);
	free(caller);
	return x;
}

static void tell_end(struct store_job *job, void *arg)
{
	reply_job(caller_free(arg), 200, job);
}

void api_store_end(struct http_exchange *x, void *node)
{
	struct store_job *job = find_job(x, node);
	struct error e = ERROR_INIT;
	if (!job)
		return;
	if (store_job_ended(job)) {
		reply_job(x, 200, job);
		return;
	}
	struct caller *caller = caller_new(x, job);
	if (!caller)
		return;
	caller->waiter = store_job_wait(job, tell_end, caller);
	if (!caller->waiter) {
		error_set(&e, ENOMEM, "out of memory");
		http_reply_error(caller_free(caller), &e);
	}
}

/* --- its data --------------------------------------------------------------------------- */

static void tell_part(const char *data, size_t len, const struct error *e, void *arg)
{
	struct http_exchange *x = caller_free(arg);
	if (e)
		http_reply_error(x, e);
	else
		http_reply_text(x, 200, "application/octet-stream", data ? data : "", len);
}

void api_store_take(struct http_exchange *x, void *node)
{
	struct store_job *job = find_job(x, node);
	struct caller *caller = job ? caller_new(x, job) : NULL;
	struct error e = ERROR_INIT;
	if (!caller)
		return;
	caller->asking = true;
	if (store_job_take(job, tell_part, caller, &e) < 0)
		http_reply_error(caller_free(caller), &e);
}

void api_store_give(struct http_exchange *x, void *node)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	struct store_job *job = find_job(x, node);
	struct caller *caller = job ? caller_new(x, job) : NULL;
	struct error e = ERROR_INIT;
	if (!caller)
		return;
	caller->asking = true;
	if (store_job_give(job, body, len, tell_part, caller, &e) < 0)
		http_reply_error(caller_free(caller), &e);
}
