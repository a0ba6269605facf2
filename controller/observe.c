/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/observe.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/idle.h"
#include "controller/nodes.h"
#include "controller/record.h"
#include "controller/usage.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE    16 /* servers asked at a time */
#define TIMEOUT_MS 5000
#define BODY_MOST  ((size_t)4 << 20)

/* The questions to one server, in turn. */
enum topic { KERNELS, TERMINALS, ACTIVITY, TOPIC_COUNT };

static const struct {
	const char *path;
	bool optional; /* a server without it is fine */
	int (*parse)(const char *body, size_t len, wall_ms now, struct server_facts *to);
} topics[TOPIC_COUNT] = {
	[KERNELS] = { "api/kernels", false, observe_parse_kernels },
	[TERMINALS] = { "api/terminals", true, observe_parse_terminals },
	[ACTIVITY] = { "api/elsa/activity", true, observe_parse_activity },
};

struct visit {
	struct controller *c;
	char session[ID_SIZE];
	char *base, *authorization;
	enum topic topic;
	struct server_facts facts;
};

struct observer {
	char (*queue)[ID_SIZE]; /* ids of sessions still to be asked in this round */
	size_t count, next;
	int under_way;
	mono_us round_at; /* when the last round began */
};

static void visit_next(struct controller *c);
static int ask_topic(struct visit *visit);

/* --- use of the machine ------------------------------------------------------------------------
 */

static void update_quiet(struct session *s, wall_ms window_began)
{
	struct seen *seen = &s->seen;
	if (isnan(seen->cpu_share) || seen->cpu_share >= idle_cpu_threshold(s))
		seen->cpu_quiet_since = 0;
	else if (!seen->cpu_quiet_since)
		seen->cpu_quiet_since = window_began;
}

void observe_usage(struct session *s, const struct session_status *status)
{
	struct seen *seen = &s->seen;
	mono_us now = clock_mono();
	mono_us window = now - seen->cpu_at;
	usage_sample(s, status);
	seen->by_node = true;
	seen->rss_bytes = status->rss_bytes;
	seen->out_bytes = status->out_bytes;
	seen->processes = status->processes;
	/* Less than before: its cgroup is another one. */
	if (!seen->cpu_at || status->cpu_us < seen->cpu_us)
		seen->cpu_share = NAN;
	else if (window > 0)
		seen->cpu_share = (double)(status->cpu_us - seen->cpu_us) / (double)window;
	seen->cpu_us = status->cpu_us;
	seen->cpu_at = now;
	update_quiet(s, clock_wall() - window / 1000);
}

/* --- memory that is still to come --------------------------------------------------------------
 */

static void stall_begins(struct session *s, const struct session_status *status)
{
	const char *why = status->stalled ? status->stalled : "the store does not give its memory";
	snprintf(s->seen.stalled, sizeof(s->seen.stalled), "%s", why);
	log_warning("%s: stalled: %s", s->label, why);
	record_note(s->controller, &(struct record) { .session = s,
						      .who = "node",
						      .what = "stalled",
						      .why = "memory-missing",
						      .detail = why,
						      .bytes = status->missing_bytes });
}

static void stall_ends(struct session *s, wall_ms since)
{
	int64_t ms = clock_wall() - since;
	log_info("%s: no longer stalled", s->label);
	record_note(s->controller, &(struct record) { .session = s,
						      .who = "node",
						      .what = "unstalled",
						      .why = "memory-comes",
						      .detail = "its memory comes again",
						      .duration_us = ms > 0 ? ms * 1000 : 0 });
	s->seen.stalled[0] = '\0';
}

void observe_waking(struct session *s, const struct session_status *status)
{
	wall_ms before = s->seen.stalled_since;
	s->seen.missing_bytes = status->missing_bytes;
	s->seen.missing_total = status->missing_total;
	s->seen.stalled_since = status->stalled_since;
	if (status->stalled_since && !before)
		stall_begins(s, status);
	else if (!status->stalled_since && before)
		stall_ends(s, before);
	else if (status->stalled)
		snprintf(s->seen.stalled, sizeof(s->seen.stalled), "%s", status->stalled);
}

/* --- one server --------------------------------------------------------------------------------
 */

static void visit_free(struct visit *visit)
{
	free(visit->base);
	free(visit->authorization);
	free(visit);
}

static void take_facts(struct session *s, const struct server_facts *facts, wall_ms now)
{
	struct seen *seen = &s->seen;
	seen->server_seen = seen->server_heard = true;
	if (facts->kernel_busy && !seen->kernel_busy)
		seen->busy_since = facts->kernel_activity_at ? facts->kernel_activity_at : now;
	seen->kernel_busy = facts->kernel_busy;
	if (!facts->kernel_busy)
		seen->busy_since = 0;
	/* A kernel that is gone takes its time with it; what was seen of it stays true. */
	if (facts->kernel_activity_at > seen->kernel_activity_at)
		seen->kernel_activity_at = facts->kernel_activity_at;
	if (facts->terminal_activity_at > seen->terminal_activity_at)
		seen->terminal_activity_at = facts->terminal_activity_at;
	if (facts->request_at > seen->request_at)
		seen->request_at = facts->request_at;
}

static void visit_end(struct visit *visit, bool seen)
{
	struct controller *c = visit->c;
	struct session *s = sessions_by_id(c, visit->session);
	if (s && session_has_processes(s)) {
		if (seen)
			take_facts(s, &visit->facts, clock_wall());
		else
			s->seen.server_seen = false;
	}
	visit_free(visit);
	c->observer->under_way--;
	visit_next(c);
}

static void answered(const struct http_reply *reply, void *arg)
{
	struct visit *visit = arg;
	bool optional = topics[visit->topic].optional;
	bool good = reply->status == 200 &&
		    topics[visit->topic].parse(reply->body, reply->body_len, clock_wall(),
					       &visit->facts) == 0;
	/* A 404 says that there is no such thing; anything else that we do not know. */
	if (!good && !(optional && reply->status == 404)) {
		visit_end(visit, false);
		return;
	}
	visit->topic++;
	if (visit->topic == TOPIC_COUNT)
		visit_end(visit, true);
	else if (ask_topic(visit) < 0)
		visit_end(visit, false);
}

static int ask_topic(struct visit *visit)
{
	cleanup_free char *url =
		str_printf("%s%s?no_track_activity=1", visit->base, topics[visit->topic].path);
	const char *const headers[] = { visit->authorization, NULL };
	const struct http_request request = {
		.url = url,
		.headers = headers,
		.timeout_ms = TIMEOUT_MS,
		.connect_timeout_ms = TIMEOUT_MS,
		.max_body = BODY_MOST,
	};
	return url ? http_client_call(visit->c->client, &request, answered, visit, NULL, NULL)
		   : -ENOMEM;
}

static struct visit *visit_new(struct session *s)
{
	struct session_spec spec = { 0 };
	struct visit *visit = calloc(1, sizeof(*visit));
	if (!visit || session_spec(s, &spec, NULL) < 0) {
		free(visit);
		return NULL;
	}
	visit->c = s->controller;
	memcpy(visit->session, s->row.id, ID_SIZE);
	visit->base = observe_base_url(&spec);
	visit->authorization =
		str_printf("Authorization: token %s", s->row.api_token ? s->row.api_token : "");
	wire_free(&wire_session_spec, &spec);
	if (visit->base && visit->authorization)
		return visit;
	visit_free(visit);
	return NULL;
}

/* --- a round -----------------------------------------------------------------------------------
 */

static void visit_next(struct controller *c)
{
	struct observer *o = c->observer;
	while (o->under_way < AT_ONCE && o->next < o->count) {
		struct session *s = sessions_by_id(c, o->queue[o->next++]);
		struct visit *visit = s && s->state == SESSION_RUNNING ? visit_new(s) : NULL;
		if (!visit)
			continue;
		if (ask_topic(visit) < 0)
			visit_free(visit);
		else
			o->under_way++;
	}
}

void observe_servers(struct controller *c)
{
	struct observer *o = c->observer;
	if (o->under_way || o->next < o->count)
		return; /* the last round is not over: slow servers must not pile up */
	mono_us now = clock_mono();
	/* Every look at a node comes by here: that must not make more rounds of it. */
	if (nodes_next(nodes_first(c)) && o->round_at &&
	    now - o->round_at < c->config->controller.observe_ms * 1000)
		return;
	o->round_at = now;
	free(o->queue);
	o->queue = calloc(sessions_count(c) + 1, sizeof(*o->queue));
	o->count = 0;
	o->next = 0;
	for (struct session *s = sessions_first(c); o->queue && s; s = sessions_next(s))
		if (s->state == SESSION_RUNNING)
			memcpy(o->queue[o->count++], s->row.id, ID_SIZE);
	visit_next(c);
}

int observe_new(struct controller *c, struct error *e)
{
	c->observer = calloc(1, sizeof(*c->observer));
	return c->observer ? 0 : error_set(e, ENOMEM, "out of memory");
}

void observe_free(struct controller *c)
{
	if (!c->observer)
		return;
	free(c->observer->queue);
	free(c->observer);
	c->observer = NULL;
}
