/* SPDX-License-Identifier: Apache-2.0 */
/* What a metadata service has answered. */
#include "base/fs.h"
#include "cloud/notice_watch.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLL_GAP_MS = 200,
	TOKEN_TTL_S = 21600,
	TOKEN_MOST = 1024,
	BACKOFF_MOST_MS = 3000, /* a notice may be for 30 s only */
	THROTTLED_MOST_MS = 10000,
	DISABLED_MS = 60000,
	PATIENCE_MS = 60000, /* how long it may be out before anybody is told */
};

static void say(struct notice_heard *heard, bool warning, const char *text, const char *remedy)
{
	heard->say = warning ? NOTICE_SAY_WARNING : NOTICE_SAY_INFO;
	snprintf(heard->text, sizeof(heard->text), "%s", text);
	snprintf(heard->remedy, sizeof(heard->remedy), "%s", remedy);
}

static void pass_round(struct notice_watch *w, struct notice_now now)
{
	bool poll = w->channel->paths[0].long_poll && w->paths[0].etag[0];
	if (++w->at < w->channel->count && notice_find_due(w))
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
	if (answer->status / 100 != 2 && ++w->acknowledge_tries < NOTICE_ACKNOWLEDGE_TRIES)
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
