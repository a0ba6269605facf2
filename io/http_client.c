/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_client.h"

#include "base/cleanup.h"
#include "io/http_transfer.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/queue.h>

/*
 * libcurl says which sockets to watch (on_socket) and when to be called next
 * (on_timer); libevent does both and tells libcurl (drive). Calls end only
 * there, never in a function of the caller's.
 *
 * libcurl must not be entered again from its own callbacks. Data arrive in one,
 * so a call that is cancelled from within on_data is only marked and released
 * when libcurl has returned.
 */

/* A socket of libcurl's. */
struct watch {
	struct event *event;
	LIST_ENTRY(watch) link;
};

struct http_call {
	struct http_client *client;
	struct http_transfer transfer;
	http_done done;
	bool finished; /* `done` is being or has been called */
	LIST_ENTRY(http_call) link;
};

struct http_client {
	struct event_base *base;
	CURLM *multi;
	struct event *timer;
	LIST_HEAD(, http_call) calls;
	LIST_HEAD(, watch) watches;
	bool inside;    /* libcurl is on the stack */
	bool finishing; /* a `done` may be */
	bool cancelled; /* calls were marked while inside */
};

/* --- calls ---------------------------------------------------------------- */

static void call_free(struct http_call *call)
{
	LIST_REMOVE(call, link);
	curl_multi_remove_handle(call->client->multi, call->transfer.easy);
	http_transfer_deinit(&call->transfer);
	free(call);
}

static void call_finish(struct http_call *call, CURLcode code)
{
	struct http_reply reply;
	http_transfer_reply(&call->transfer, code, &reply);
	/* Out of libcurl's hands first: `done` may start or cancel other calls. */
	curl_multi_remove_handle(call->client->multi, call->transfer.easy);
	call->finished = true;
	call->done(&reply, call->transfer.arg);
	call_free(call);
}

static void free_cancelled(struct http_client *client)
{
	struct http_call *next;
	client->cancelled = false;
	for (struct http_call *call = LIST_FIRST(&client->calls); call; call = next) {
		next = LIST_NEXT(call, link);
		if (call->transfer.cancelled)
			call_free(call);
	}
}

static void finish_calls(struct http_client *client)
{
	CURLMsg *m;
	int left;
	/* This also takes the messages of those calls out of libcurl's queue. */
	if (client->cancelled)
		free_cancelled(client);
	client->finishing = true;
	while ((m = curl_multi_info_read(client->multi, &left))) {
		CURLcode code = m->data.result; /* `m` dies with the handle's removal */
		struct http_call *call = NULL;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		if (m->msg == CURLMSG_DONE)
			call_finish(call, code);
	}
	client->finishing = false;
}

int http_client_call(struct http_client *client, const struct http_request *request, http_done done,
		     void *arg, struct http_call **call, struct error *e)
{
	struct http_call *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	c->client = client;
	c->done = done;
	int r = http_transfer_init(&c->transfer, request, arg, e);
	if (r < 0) {
		free(c);
		return r;
	}
	curl_easy_setopt(c->transfer.easy, CURLOPT_PRIVATE, (void *)c);
	/* Only asks for the timer to be set; the work begins when it fires. */
	CURLMcode m = curl_multi_add_handle(client->multi, c->transfer.easy);
	if (m != CURLM_OK) {
		http_transfer_deinit(&c->transfer);
		free(c);
		return error_set(e, m == CURLM_OUT_OF_MEMORY ? ENOMEM : EBUSY,
				 "cannot start a request to %s: %s", request->url,
				 curl_multi_strerror(m));
	}
	LIST_INSERT_HEAD(&client->calls, c, link);
	if (call)
		*call = c;
	return 0;
}

void http_call_cancel(struct http_call *call)
{
	if (!call || call->finished)
		return;
	if (!call->client->inside) {
		call_free(call);
		return;
	}
	call->transfer.cancelled = true;
	call->client->cancelled = true;
}

/* --- between libcurl and libevent ----------------------------------------- */

static void drive(evutil_socket_t fd, short what, void *arg)
{
	struct http_client *client = arg;
	int running;
	int mask =
		(what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	client->inside = true;
	curl_multi_socket_action(client->multi, fd < 0 ? CURL_SOCKET_TIMEOUT : fd, mask, &running);
	client->inside = false;
	finish_calls(client);
}

static void watch_free(struct watch *w)
{
	LIST_REMOVE(w, link);
	if (w->event)
		event_free(w->event);
	free(w);
}

static struct watch *watch_new(struct http_client *client, curl_socket_t fd)
{
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	LIST_INSERT_HEAD(&client->watches, w, link);
	curl_multi_assign(client->multi, fd, w);
	return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http_client *client = arg;
	struct watch *w = socket_arg;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w)
			watch_free(w);
		curl_multi_assign(client->multi, fd, NULL);
		return 0;
	}
	if (!w)
		w = watch_new(client, fd);
	if (!w)
		return -1;
	if (w->event)
		event_free(w->event);
	int events = (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);
	w->event = event_new(client->base, fd, (short)(events | EV_PERSIST), drive, client);
	return w->event && event_add(w->event, NULL) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
	struct http_client *client = arg;
	struct timeval in = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	(void)multi;
	return ms < 0 ? event_del(client->timer) : event_add(client->timer, &in);
}

int http_client_new(struct event_base *base, struct http_client **client, struct error *e)
{
	int r = http_transfer_global_init(e);
	if (r < 0)
		return r;
	struct http_client *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	c->base = base;
	c->timer = evtimer_new(base, drive, c);
	c->multi = curl_multi_init();
	if (!c->timer || !c->multi) {
		http_client_free(c);
		return error_set(e, ENOMEM, "out of memory");
	}
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, (void *)c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, (void *)c);
	/* OpenSSL writes to connections whose peer is gone. */
	signal(SIGPIPE, SIG_IGN);
	*client = c;
	return 0;
}

void *http_client_free(struct http_client *client)
{
	if (!client)
		return NULL;
	assert(!client->inside && !client->finishing);
	while (!LIST_EMPTY(&client->calls))
		call_free(LIST_FIRST(&client->calls));
	/* Closes the kept connections, which may call on_socket() and on_timer() once more. */
	curl_multi_cleanup(client->multi);
	while (!LIST_EMPTY(&client->watches))
		watch_free(LIST_FIRST(&client->watches));
	if (client->timer)
		event_free(client->timer);
	free(client);
	return NULL;
}
