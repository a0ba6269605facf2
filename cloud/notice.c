/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/notice.h"

#include "base/fs.h"
#include "cloud/notice_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 5000 }; /* it is one hop away */

/* --- providers ------------------------------------------------------------------ */

static const struct notice_provider *provider_of(enum notice_cloud cloud)
{
	static const struct notice_provider *const providers[NOTICE_CLOUD_COUNT] = {
		[NOTICE_CLOUD_AWS] = &notice_aws,
		[NOTICE_CLOUD_GCP] = &notice_gcp,
		[NOTICE_CLOUD_AZURE] = &notice_azure,
	};
	return providers[cloud];
}

const char *notice_cloud_url(enum notice_cloud cloud)
{
	return cloud ? provider_of(cloud)->url : "";
}

size_t notice_watch_count(enum notice_cloud cloud)
{
	return cloud ? provider_of(cloud)->channel_count : 0;
}

struct notice_watch *notice_watch_new(enum notice_cloud cloud, size_t which, int64_t interval_ms,
				      struct notice_facts *facts)
{
	struct notice_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->provider = provider_of(cloud);
	w->channel = &w->provider->channels[which];
	w->facts = facts;
	w->interval_ms = interval_ms;
	return w;
}

void *notice_watch_free(struct notice_watch *w)
{
	if (!w)
		return NULL;
	free(w->token);
	free(w->path);
	free(w->body);
	free(w);
	return NULL;
}

/* --- what to ask ----------------------------------------------------------------- */

static bool is_due(const struct notice_watch *w, size_t i)
{
	const struct notice_path *path = &w->channel->paths[i];
	return path->every ? w->round % path->every == 0 : !w->paths[i].known;
}

bool notice_find_due(struct notice_watch *w)
{
	while (w->at < w->channel->count && !is_due(w, w->at))
		w->at++;
	return w->at < w->channel->count;
}

static void add_header(struct notice_ask *ask, const char *header)
{
	size_t i = 0;
	while (ask->headers[i])
		i++;
	if (header)
		ask->headers[i] = header;
}

static int64_t ask_token(struct notice_watch *w, struct notice_ask *ask)
{
	static const char ttl[] = "X-aws-ec2-metadata-token-ttl-seconds: 21600";
	w->asking = ASKING_TOKEN;
	*ask = (struct notice_ask) {
		.method = "PUT",
		.path = "/latest/api/token",
		.headers = { ttl },
		.timeout_ms = ANSWER_MS,
	};
	return 0;
}

/* -ENOMEM is waited for like any other failure. */
static int64_t out_of_memory(struct notice_watch *w)
{
	return w->interval_ms;
}

static int64_t ask_acknowledge(struct notice_watch *w, struct notice_ask *ask)
{
	free(w->body);
	w->body = str_printf("{\"StartRequests\": [{\"EventId\": \"%s\"}]}", w->acknowledge);
	if (!w->body)
		return out_of_memory(w);
	w->asking = ASKING_ACKNOWLEDGE;
	*ask = (struct notice_ask) {
		.method = "POST",
		.path = w->provider->acknowledge_path,
		.body = w->body,
		.timeout_ms = ANSWER_MS,
	};
	add_header(ask, w->provider->header);
	return 0;
}

/* last_etag=0 is nobody's, so the first answer comes at once. */
static char *long_path(const struct notice_path *path, const struct path_state *state)
{
	return str_printf("%s?wait_for_change=true&timeout_sec=%d&last_etag=%s", path->path,
			  NOTICE_POLL_S, state->etag[0] ? state->etag : "0");
}

static int64_t ask_path(struct notice_watch *w, struct notice_ask *ask)
{
	const struct notice_path *path = &w->channel->paths[w->at];
	const struct path_state *state = &w->paths[w->at];
	int timeout_ms = path->long_poll ? NOTICE_POLL_S * 1000 + ANSWER_MS : ANSWER_MS;
	free(w->path);
	w->path = path->long_poll ? long_path(path, state) : strdup(path->path);
	if (!w->path)
		return out_of_memory(w);
	w->asking = ASKING_PATH;
	*ask = (struct notice_ask) {
		.method = "GET",
		.path = w->path,
		.timeout_ms = path->first_timeout_ms && !state->known ? path->first_timeout_ms
								      : timeout_ms,
	};
	add_header(ask, w->provider->header);
	add_header(ask, w->token);
	return 0;
}

int64_t notice_watch_next(struct notice_watch *w, struct notice_now now, struct notice_ask *ask)
{
	if (w->acknowledge[0] && w->acknowledge_tries < NOTICE_ACKNOWLEDGE_TRIES)
		return ask_acknowledge(w, ask);
	if (now.mono_ms < w->wait_until)
		return w->wait_until - now.mono_ms;
	if (!notice_find_due(w)) {
		w->at = 0;
		w->round++;
		if (!notice_find_due(w)) /* all is known */
			return w->interval_ms;
	}
	if (w->provider->token && (!w->token || now.mono_ms >= w->token_until))
		return ask_token(w, ask);
	return ask_path(w, ask);
}

bool notice_watch_acknowledge(struct notice_watch *w, const struct node_notice *notice)
{
	const char *dot = strrchr(notice->id, '.');
	size_t len = dot ? (size_t)(dot - notice->id) : strlen(notice->id);
	bool ours = false;
	for (size_t i = 0; i < w->channel->count; i++)
		ours |= w->channel->paths[i].source &&
			strcmp(w->channel->paths[i].source, notice->source) == 0;
	if (!w->provider->acknowledge_path || !ours || len >= sizeof(w->acknowledge))
		return false;
	snprintf(w->acknowledge, sizeof(w->acknowledge), "%.*s", (int)len, notice->id);
	w->acknowledge_tries = 0;
	return true;
}
