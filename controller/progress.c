/* SPDX-License-Identifier: Apache-2.0 */
/* How far running operations are: asked of the node while somebody waits for one. */
#include "controller/operations.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/api.h"
#include "controller/effects.h"
#include "controller/node.h"

#include <string.h>

#define POLL_MS         200
#define POLL_TIMEOUT_MS 5000

static void take_progress(struct operation *op, const struct effect_result *result)
{
	const char *step = result->step ? result->step : "";
	bool moved = strcmp(op->step ? op->step : "", step) != 0 ||
		     op->bytes_done != result->bytes_done || op->bytes_total != result->bytes_total;
	op->bytes_done = result->bytes_done;
	op->bytes_total = result->bytes_total;
	if (moved)
		operation_step(op, step);
}

static void told(const struct http_reply *reply, void *arg)
{
	struct operation *op = arg;
	struct effect_result result = { 0 };
	op->poll = NULL;
	node_heard(op->polled, reply);
	/* Its end is for the effect's own question to tell. */
	if (reply->status == 200 && operation_running(op) &&
	    wire_decode_text(&wire_effect_result, reply->body, reply->body_len, &result, NULL) == 0)
		take_progress(op, &result);
	wire_free(&wire_effect_result, &result);
}

static void ask_progress(struct operation *op)
{
	cleanup_free char *path = str_printf("/v1/effects/%s", op->session->effect->row.id);
	op->polled = op->session->effect->node;
	if (path)
		node_call(op->polled, "GET", path, NULL, POLL_TIMEOUT_MS, told, op, &op->poll,
			  NULL);
}

static void start_timer(struct controller *c)
{
	const struct timeval time = { .tv_usec = POLL_MS * 1000 };
	if (!event_pending(c->operations->timer, EV_TIMEOUT, NULL))
		event_add(c->operations->timer, &time);
}

static void poll_waited_for(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct operation *op;
	bool any = false;
	(void)fd;
	(void)what;
	TAILQ_FOREACH(op, &c->operations->all, entry)
	{
		if (!operation_running(op) || !waiters_any(&op->waiters))
			continue;
		any = true;
		if (!op->poll && op->session && op->session->effect)
			ask_progress(op);
	}
	if (any)
		start_timer(c);
}

struct event *progress_timer_new(struct controller *c)
{
	return evtimer_new(c->base, poll_waited_for, c);
}

static void answer(struct http_exchange *x, void *arg)
{
	api_reply_operation(x, arg);
}

void operation_wait(struct operation *op, struct http_exchange *x, int seconds)
{
	if (!operation_running(op) || seconds <= 0) {
		api_reply_operation(x, op);
		return;
	}
	/* An operation outlives those who wait for it: going away, it answers them first. */
	waiters_add(&op->waiters, op->c->base, x, seconds, answer, op);
	start_timer(op->c);
}
