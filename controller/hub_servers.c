/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping and starting servers through the Hub, so that its own view stays
 * right: we ask the Hub, it asks its spawner, the spawner asks us. The
 * session's operation is the same from our question to the end of the effect.
 */
#include "controller/hub_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/operations.h"
#include "controller/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From the Hub's 202 until its spawner must have asked us: it may stop other things first. */
#define SPAWNER_TIMEOUT_MS 120000

struct stop {
	struct controller *c;
	char session[ID_SIZE];
	char operation[ID_SIZE];
	char *who, *why;
	struct event *timer;
};

static void stop_free(void *arg)
{
	struct stop *stop = arg;
	if (stop->timer)
		event_free(stop->timer);
	free(stop->who);
	free(stop->why);
	free(stop);
}

/* The session, if our operation is still its own and the Hub's spawner has not asked us yet. */
static struct session *still_waiting(const struct stop *stop)
{
	struct session *s = sessions_by_id(stop->c, stop->session);
	const struct operation *op = s ? operation_waiting(s, EFFECT_HIBERNATE) : NULL;
	return op && strcmp(op->id, stop->operation) == 0 ? s : NULL;
}

/* The Hub says that no such server runs: then its view is right already, and stays so. */
static void stop_ourselves(struct stop *stop, struct session *s)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = EVENT_HIBERNATE,
		.who = stop->who,
		.why = stop->why,
	};
	log_info("%s: the Hub has it as stopped; it is checkpointed without it", s->label);
	if (session_apply(s, &change, NULL, &e) < 0)
		operation_fail(s->operation, &e);
}

static void spawner_is_late(evutil_socket_t fd, short what, void *arg)
{
	struct stop *stop = arg;
	struct session *s = still_waiting(stop);
	struct error e = ERROR_INIT;
	(void)fd;
	(void)what;
	if (s) {
		error_fault(
			&e, FAULT_TIMEOUT,
			"the Hub agreed to stop the server, but its spawner never asked for it");
		error_remedy(&e, 0, "see the Hub's log: is its spawner elsa_spawner.ElsaSpawner?");
		operation_fail(s->operation, &e);
	}
	controller_later(stop->c, stop_free, stop);
}

static void wait_for_spawner(struct stop *stop)
{
	const struct timeval time = retry_timeval(SPAWNER_TIMEOUT_MS);
	stop->timer = evtimer_new(stop->c->base, spawner_is_late, stop);
	if (!stop->timer || event_add(stop->timer, &time) < 0)
		stop_free(stop);
}

static void stop_answered(const struct http_reply *reply, void *arg)
{
	struct stop *stop = arg;
	struct session *s = still_waiting(stop);
	struct error e;
	hub_error(reply, &e);
	if (s && reply->status == 202) {
		operation_step(s->operation, "spawner");
		wait_for_spawner(stop);
		return;
	}
	if (s && (e.fault == FAULT_NONE || reply->status == 404))
		stop_ourselves(stop, s);
	else if (s)
		operation_fail(s->operation, &e);
	stop_free(stop);
}

static struct stop *stop_new(const struct session *s, const char *operation, const char *who,
			     const char *why)
{
	struct stop *stop = calloc(1, sizeof(*stop));
	if (!stop)
		return NULL;
	stop->c = s->controller;
	memcpy(stop->session, s->row.id, ID_SIZE);
	memcpy(stop->operation, operation, ID_SIZE);
	stop->who = strdup(who);
	stop->why = strdup(why);
	if (stop->who && stop->why)
		return stop;
	stop_free(stop);
	return NULL;
}

void hub_stop_server(struct session *s, const char *who, const char *why)
{
	char id[ID_SIZE];
	struct error e = ERROR_INIT;
	if (operation_waiting(s, EFFECT_HIBERNATE))
		return;
	id_new(id);
	struct operation *op = operation_begin(s, id, EFFECT_HIBERNATE, who, why);
	operation_step(op, "hub");
	cleanup_free char *path = hub_server_path(s);
	const struct hub_request request = { .method = "DELETE", .path = path, .slow = true };
	struct stop *stop = stop_new(s, id, who, why);
	if (!path || !stop)
		error_set(&e, ENOMEM, "out of memory");
	if (!path || !stop ||
	    hub_call(s->controller, &request, stop_answered, stop, NULL, &e) < 0) {
		operation_fail(op, &e);
		if (stop)
			stop_free(stop);
	}
}

/* --- what sleeps already -----------------------------------------------------------------------
 */

static void told_asleep(const struct http_reply *reply, void *arg)
{
	struct error e;
	char *label = arg;
	hub_error(reply, &e);
	if (e.fault != FAULT_NONE && reply->status != 404)
		log_warning("%s: the Hub does not know yet that it sleeps: %s", label, e.text);
	free(label);
}

void hub_tell_asleep(struct session *s)
{
	cleanup_free char *path = hub_server_path(s);
	const struct hub_request request = { .method = "DELETE", .path = path, .slow = true };
	char *label = strdup(s->label);
	if (!path || !label ||
	    hub_call(s->controller, &request, told_asleep, label, NULL, NULL) < 0)
		free(label);
}

/* --- starting ----------------------------------------------------------------------------------
 */

struct start {
	void (*done)(const struct error *error, void *arg);
	void *arg;
};

static void start_answered(const struct http_reply *reply, void *arg)
{
	struct start *start = arg;
	struct error e;
	hub_error(reply, &e);
	/* 400: pending or running already (UserServerAPIHandler.post) */
	if (reply->status == 400) {
		e.fault = FAULT_CONFLICT;
		error_remedy(&e, 0,
			     "the Hub looks at its servers only now and then: if it is "
			     "wrong about this one, try again in a minute");
	}
	start->done(e.fault == FAULT_NONE ? NULL : &e, start->arg);
	free(start);
}

int hub_start_server(struct session *s, void (*done)(const struct error *error, void *arg),
		     void *arg, struct error *e)
{
	cleanup_free char *path = hub_server_path(s);
	const struct hub_request request = { .method = "POST", .path = path, .slow = true };
	struct start *start = malloc(sizeof(*start));
	if (!path || !start) {
		free(start);
		return error_set(e, ENOMEM, "out of memory");
	}
	*start = (struct start) { .done = done, .arg = arg };
	int r = hub_call(s->controller, &request, start_answered, start, NULL, e);
	if (r < 0)
		free(start);
	return r;
}
