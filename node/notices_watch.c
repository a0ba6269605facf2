/* SPDX-License-Identifier: Apache-2.0 */
/* Carries questions and answers between a cloud's metadata service and cloud/notice.h. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/http_client.h"
#include "node/notices_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 1000 };

struct notice_watcher {
	struct notices *owner;
	struct notice_watch *watch;
	struct event *timer;
	struct http_call *call;
};

static void ask(struct notice_watcher *w);

static struct notice_now time_now(void)
{
	return (struct notice_now) { .wall = clock_wall(), .mono_ms = clock_mono() / 1000 };
}

static void hear(struct notice_watcher *w, const struct notice_answer *answer)
{
	struct notices *n = w->owner;
	const struct notice_facts *f = &n->facts;
	struct notice_heard heard;
	notice_watch_answer(w->watch, time_now(), answer, &heard);
	if (heard.say == NOTICE_SAY_WARNING)
		log_warning("%s%s%s", heard.text, heard.remedy[0] ? ". " : "", heard.remedy);
	else if (heard.say == NOTICE_SAY_INFO)
		log_info("%s", heard.text);
	if (heard.facts)
		log_debug("this machine is %s %s, %s, %s", f->type, f->instance, f->zone, f->price);
	if (heard.source)
		notices_put(n, heard.source, &heard.items);
}

static void answered(const struct http_reply *reply, void *arg)
{
	struct notice_watcher *w = arg;
	const struct notice_answer answer = {
		.status = reply->status,
		.why = reply->error.text,
		.timed_out = reply->error.fault == FAULT_TIMEOUT,
		.body = reply->body,
		.len = reply->body_len,
		.etag = http_reply_field(reply, "ETag"),
		.flavor = http_reply_field(reply, "Metadata-Flavor"),
		.token_ttl = http_reply_field(reply, "X-aws-ec2-metadata-token-ttl-seconds"),
		.retry_after_s = reply->retry_after_s,
	};
	w->call = NULL;
	hear(w, &answer);
	ask(w);
}

static int call(struct notice_watcher *w, const struct notice_ask *a, struct error *e)
{
	const char *set = w->owner->node->config->node.metadata_url;
	const char *base = *set ? set : notice_cloud_url(w->owner->cloud);
	size_t len = strlen(base);
	if (len && base[len - 1] == '/')
		len--;
	cleanup_free char *url = str_printf("%.*s%s", (int)len, base, a->path);
	if (!url)
		return error_set(e, ENOMEM, "out of memory");
	const struct http_request request = {
		.method = a->method,
		.url = url,
		.headers = a->headers,
		.body = a->body,
		.body_len = a->body ? strlen(a->body) : 0,
		.timeout_ms = a->timeout_ms,
		.connect_timeout_ms = CONNECT_MS,
		.max_body = NOTICE_BODY_MOST,
	};
	return http_client_call(w->owner->client, &request, answered, w, &w->call, e);
}

static void wait_for(struct notice_watcher *w, int64_t ms)
{
	const struct timeval pause = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(w->timer, &pause);
}

static void ask(struct notice_watcher *w)
{
	struct notice_ask a;
	struct error e = ERROR_INIT;
	int64_t ms = notice_watch_next(w->watch, time_now(), &a);
	if (ms > 0) {
		wait_for(w, ms);
		return;
	}
	if (call(w, &a, &e) == 0)
		return;
	const struct notice_answer none = { .why = e.text, .body = "" };
	hear(w, &none);
	wait_for(w, CONNECT_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	ask(arg);
}

static int start_watcher(struct notices *n, size_t which, struct error *e)
{
	struct notice_watcher *w = &n->watchers[which];
	w->owner = n;
	w->timer = evtimer_new(n->node->base, on_timer, w);
	w->watch = notice_watch_new(n->cloud, which, n->node->config->node.notice_interval_ms,
				    &n->facts);
	if (!w->timer || !w->watch)
		return error_set(e, ENOMEM, "out of memory");
	ask(w);
	return 0;
}

int notices_watch(struct notices *n, struct error *e)
{
	int r = http_client_new(n->node->base, &n->client, e);
	if (r < 0)
		return r;
	log_info("listening to what %s says of this machine", notice_cloud_names[n->cloud]);
	size_t count = notice_watch_count(n->cloud);
	n->watchers = calloc(count, sizeof(*n->watchers));
	if (!n->watchers)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < count; i++) {
		n->watcher_count++;
		r = start_watcher(n, i, e);
	}
	return r;
}

void notices_unwatch(struct notices *n)
{
	n->client = http_client_free(n->client); /* with all calls */
	for (size_t i = 0; i < n->watcher_count; i++) {
		notice_watch_free(n->watchers[i].watch);
		if (n->watchers[i].timer)
			event_free(n->watchers[i].timer);
	}
	free(n->watchers);
	n->watchers = NULL;
	n->watcher_count = 0;
}

/* At once, or when the question under way is answered. */
void notices_acknowledge(struct notices *n, const struct node_notice *notice)
{
	for (size_t i = 0; i < n->watcher_count; i++) {
		struct notice_watcher *w = &n->watchers[i];
		if (notice_watch_acknowledge(w->watch, notice) && !w->call)
			wait_for(w, 0);
	}
}
