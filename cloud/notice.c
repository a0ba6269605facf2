/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/notice.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/notice_provider.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ANSWER_MS = 5000, /* it is one hop away */
	POLL_S = 20, /* how long a long poll waits; no longer, lest a dead connection hide much */
	POLL_GAP_MS = 200,
	TOKEN_TTL_S = 21600,
	TOKEN_MOST = 1024,
	BACKOFF_MOST_MS = 3000, /* a notice may be for 30 s only */
	THROTTLED_MOST_MS = 10000,
	DISABLED_MS = 60000,
	PATIENCE_MS = 60000, /* how long it may be out before anybody is told */
	ACKNOWLEDGE_TRIES = 3,
};

struct path_state {
	bool known;            /* has been answered, so or so */
	int64_t failing_since; /* mono_ms; 0: not */
	bool warned;
	bool odd_told;
	char etag[64];
};

struct notice_watch {
	const struct notice_provider *provider;
	const struct notice_channel *channel;
	struct notice_facts *facts;
	int64_t interval_ms;
	struct path_state paths[NOTICE_PATHS_MOST];

	size_t at;      /* path to ask next; channel->count: the round is over */
	unsigned round; /* counts up */
	int64_t wait_until;
	unsigned failures; /* one after the other */
	enum { ASKING_NOTHING, ASKING_TOKEN, ASKING_PATH, ASKING_ACKNOWLEDGE } asking;

	char *token; /* "X-aws-ec2-metadata-token: ..." */
	int64_t token_until;
	bool token_is_fresh; /* nothing was asked with it yet */
	bool token_warned;

	char acknowledge[72]; /* the key of what may go on; "" */
	unsigned acknowledge_tries;

	char *path, *body; /* of the question */
};

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

/* The next path of this round that is due; false when there is none. */
static bool find_due(struct notice_watch *w)
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
	return str_printf("%s?wait_for_change=true&timeout_sec=%d&last_etag=%s", path->path, POLL_S,
			  state->etag[0] ? state->etag : "0");
}

static int64_t ask_path(struct notice_watch *w, struct notice_ask *ask)
{
	const struct notice_path *path = &w->channel->paths[w->at];
	const struct path_state *state = &w->paths[w->at];
	int timeout_ms = path->long_poll ? POLL_S * 1000 + ANSWER_MS : ANSWER_MS;
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
	if (w->acknowledge[0] && w->acknowledge_tries < ACKNOWLEDGE_TRIES)
		return ask_acknowledge(w, ask);
	if (now.mono_ms < w->wait_until)
		return w->wait_until - now.mono_ms;
	if (!find_due(w)) {
		w->at = 0;
		w->round++;
		if (!find_due(w)) /* all is known */
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

/* --- what was answered ------------------------------------------------------------- */

static void say(struct notice_heard *heard, bool warning, const char *text, const char *remedy)
{
	heard->say = warning ? NOTICE_SAY_WARNING : NOTICE_SAY_INFO;
	snprintf(heard->text, sizeof(heard->text), "%s", text);
	snprintf(heard->remedy, sizeof(heard->remedy), "%s", remedy);
}

static void pass_round(struct notice_watch *w, struct notice_now now)
{
	bool poll = w->channel->paths[0].long_poll && w->paths[0].etag[0];
	if (++w->at < w->channel->count && find_due(w))
		return;
	w->at = 0;
	w->round++;
	w->wait_until =
		now.mono_ms + (poll && w->interval_ms > POLL_GAP_MS ? POLL_GAP_MS : w->interval_ms);
}

static int64_t backoff(const struct notice_watch *w, const struct notice_answer *answer)
{
	int64_t ms = w->interval_ms / 2;
	for (unsigned i = 0; i < w->failures && ms < BACKOFF_MOST_MS; i++)
		ms *= 2;
	if (ms > BACKOFF_MOST_MS)
		ms = BACKOFF_MOST_MS;
	if (ms < answer->retry_after_s * 1000LL)
		ms = answer->retry_after_s * 1000LL;
	return ms < THROTTLED_MOST_MS ? ms : THROTTLED_MOST_MS;
}

static bool any_warned(const struct notice_watch *w)
{
	bool any = false;
	for (size_t i = 0; i < w->channel->count; i++)
		any |= w->paths[i].warned;
	return any;
}

/* Notes that the path under way was not answered, and says so when that lasts. */
static void failed(struct notice_watch *w, struct notice_now now,
		   const struct notice_answer *answer, const char *why, const char *remedy,
		   struct notice_heard *heard)
{
	struct path_state *state = &w->paths[w->at];
	char text[320];
	w->failures++;
	w->wait_until = now.mono_ms + backoff(w, answer);
	if (!state->failing_since)
		state->failing_since = now.mono_ms;
	if (now.mono_ms - state->failing_since < PATIENCE_MS || state->warned)
		return;
	bool first = !any_warned(w);
	state->warned = true;
	if (!first)
		return;
	snprintf(text, sizeof(text), "notices cannot be asked for since %d s (%s): %s",
		 (int)((now.mono_ms - state->failing_since) / 1000), w->channel->paths[w->at].path,
		 why);
	say(heard, true, text, remedy);
}

static void succeeded(struct notice_watch *w, struct notice_now now, struct notice_heard *heard)
{
	struct path_state *state = &w->paths[w->at];
	char text[160];
	bool told = any_warned(w);
	w->failures = 0;
	w->token_warned = false;
	state->warned = false;
	if (told && !any_warned(w)) {
		snprintf(text, sizeof(text), "notices can be asked for again, after %d s",
			 (int)((now.mono_ms - state->failing_since) / 1000));
		say(heard, false, text, "");
	}
	state->failing_since = 0;
	state->known = true;
}

/* Something was answered that is not understood. Told once, until it is again. */
static void tell_odd(struct notice_watch *w, const char *what, struct notice_heard *heard)
{
	struct path_state *state = &w->paths[w->at];
	char text[320];
	if (state->odd_told)
		return;
	state->odd_told = true;
	snprintf(text, sizeof(text), "%s: %s", w->channel->paths[w->at].path, what);
	say(heard, true, text, "");
}

static void keep_etag(struct path_state *state, const char *etag)
{
	size_t len = etag ? strlen(etag) : 0;
	bool fit = len > 0 && len < sizeof(state->etag);
	for (size_t i = 0; fit && i < len; i++)
		fit = isalnum((unsigned char)etag[i]) || etag[i] == '-' || etag[i] == '_';
	snprintf(state->etag, sizeof(state->etag), "%s", fit ? etag : "");
}

static int take(struct notice_watch *w, const struct notice_answer *answer,
		struct notice_heard *heard)
{
	const struct notice_path *path = &w->channel->paths[w->at];
	struct notice_facts facts = *w->facts;
	int r;
	if (path->facts) {
		r = path->facts(answer->body, answer->len, &facts);
		heard->facts = r == 0 && memcmp(&facts, w->facts, sizeof(facts)) != 0;
		if (r == 0)
			*w->facts = facts;
		return r;
	}
	r = path->items ? path->items(answer->body, answer->len, &heard->items)
			: path->items_for(answer->body, answer->len, w->facts->name, &heard->items);
	if (r == 0)
		heard->source = path->source;
	return r;
}

static void take_answer(struct notice_watch *w, struct notice_now now,
			const struct notice_answer *answer, struct notice_heard *heard)
{
	const struct notice_path *path = &w->channel->paths[w->at];
	struct path_state *state = &w->paths[w->at];
	if (w->provider->flavor &&
	    (!answer->flavor || strcmp(answer->flavor, w->provider->flavor) != 0)) {
		tell_odd(w, "the answer does not come from the metadata service", heard);
		failed(w, now, answer, "answers come from somewhere else", "", heard);
		pass_round(w, now);
		return;
	}
	if (answer->status == 404 && path->may_lack) {
		heard->source = path->source; /* all that there was is gone */
	} else if (answer->status == 404 || take(w, answer, heard) < 0) {
		tell_odd(w, "the answer is not what the metadata service gives", heard);
		failed(w, now, answer, "its answers cannot be read", "", heard);
		pass_round(w, now);
		return;
	}
	succeeded(w, now, heard);
	if (heard->items.odd[0])
		tell_odd(w, heard->items.odd, heard);
	else
		state->odd_told = false;
	keep_etag(state, path->long_poll ? answer->etag : NULL);
	pass_round(w, now);
}

static void drop_token(struct notice_watch *w)
{
	free(w->token);
	w->token = NULL;
}

static void words_of(const struct notice_answer *answer, const char *what, char *to, size_t size)
{
	if (answer->status)
		snprintf(to, size, "%s %d", what, answer->status);
	else
		snprintf(to, size, "%.150s", answer->why ? answer->why : "no answer");
}

/* No answer, or one that will be another a moment later. */
static void take_failure(struct notice_watch *w, struct notice_now now,
			 const struct notice_answer *answer, struct notice_heard *heard)
{
	char why[160];
	words_of(answer, "it answers", why, sizeof(why));
	/* Without any contact the most urgent question comes first again; what is broken by itself
	 * must not keep the others from being asked. */
	if (!answer->status)
		w->at = 0;
	failed(w, now, answer, why, "", heard);
	int64_t wait_until = w->wait_until;
	if (answer->status)
		pass_round(w, now);
	if (w->wait_until < wait_until)
		w->wait_until = wait_until;
}

static void path_answered(struct notice_watch *w, struct notice_now now,
			  const struct notice_answer *answer, struct notice_heard *heard)
{
	bool fresh = w->token_is_fresh;
	w->token_is_fresh = false;
	if (answer->status == 401 && w->provider->token) {
		drop_token(w);
		if (!fresh) /* it has expired: another, at once */
			return;
	}
	if (answer->status == 200 || answer->status == 404)
		take_answer(w, now, answer, heard);
	else
		take_failure(w, now, answer, heard);
}

/* --- the session with Amazon's service ------------------------------------------------ */

static bool is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)text[i]))
			return false;
	return len > 0 && len <= TOKEN_MOST;
}

static void token_disabled(struct notice_watch *w, struct notice_now now,
			   struct notice_heard *heard)
{
	w->wait_until = now.mono_ms + DISABLED_MS;
	if (w->token_warned)
		return;
	w->token_warned = true;
	say(heard, true, "the metadata service refuses to be asked (403): no notices are seen",
	    "Switch it on for this instance (HttpEndpoint=enabled).");
}

static void token_failed(struct notice_watch *w, struct notice_now now,
			 const struct notice_answer *answer, struct notice_heard *heard)
{
	char why[160];
	words_of(answer, "asked for a token it answers", why, sizeof(why));
	if (!answer->status)
		w->at = 0;
	/* The answer that holds the token may go so many hops only; it vanishes on the way. */
	failed(w, now, answer, why,
	       answer->timed_out ? "In a container this needs HttpPutResponseHopLimit=2 in the "
				   "instance's metadata options."
				 : "",
	       heard);
}

static void token_answered(struct notice_watch *w, struct notice_now now,
			   const struct notice_answer *answer, struct notice_heard *heard)
{
	long ttl_s = answer->token_ttl ? strtol(answer->token_ttl, NULL, 10) : TOKEN_TTL_S;
	if (answer->status == 403) {
		token_disabled(w, now, heard);
		return;
	}
	drop_token(w);
	if (answer->status == 200 && is_token(answer->body, answer->len))
		w->token = str_printf("X-aws-ec2-metadata-token: %.*s", (int)answer->len,
				      answer->body);
	if (!w->token) {
		token_failed(w, now, answer, heard);
		return;
	}
	if (ttl_s < 1 || ttl_s > TOKEN_TTL_S)
		ttl_s = TOKEN_TTL_S;
	w->token_until = now.mono_ms + ttl_s * 900; /* a tenth before its end */
	w->token_is_fresh = true;
}

static void acknowledge_answered(struct notice_watch *w, const struct notice_answer *answer,
				 struct notice_heard *heard)
{
	char text[160];
	if (answer->status / 100 != 2 && ++w->acknowledge_tries < ACKNOWLEDGE_TRIES)
		return;
	bool good = answer->status / 100 == 2;
	snprintf(text, sizeof(text), "%s: the cloud was %s that it may go on", w->acknowledge,
		 good ? "told" : "not told");
	say(heard, !good, text, "");
	w->acknowledge[0] = '\0';
}

void notice_watch_answer(struct notice_watch *w, struct notice_now now,
			 const struct notice_answer *answer, struct notice_heard *heard)
{
	int asking = w->asking;
	*heard = (struct notice_heard) { 0 };
	w->asking = ASKING_NOTHING;
	if (asking == ASKING_TOKEN)
		token_answered(w, now, answer, heard);
	else if (asking == ASKING_ACKNOWLEDGE)
		acknowledge_answered(w, answer, heard);
	else if (asking == ASKING_PATH)
		path_answered(w, now, answer, heard);
}
