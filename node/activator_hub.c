/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_hub.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "io/http_client.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

enum {
	REMEMBERED = 1024,       /* a power of two */
	GOOD_US = 300 * 1000000, /* as HubAuth.cache_max_age */
	BAD_US = 30 * 1000000,
	OPEN_MOST = 8,
	TIMEOUT_MS = 10000,
	ANSWER_MOST = 1 << 20,
};

struct memory {
	unsigned char digest[SHA256_DIGEST_LENGTH];
	mono_us until;
	enum hub_verdict verdict;
	char *name; /* of a guest */
};

struct hub_asker {
	struct http_client *client;
	int open;
	struct memory memories[REMEMBERED]; /* each at the place its digest says */
};

struct hub_question {
	struct hub_asker *asker;
	struct http_call *call;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char *user, *scopes;
	void (*answered)(enum hub_verdict verdict, void *arg);
	void *arg;
};

int hub_asker_new(struct event_base *base, struct hub_asker **asker, struct error *e)
{
	struct hub_asker *made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(e, ENOMEM, "out of memory");
	int r = http_client_new(base, &made->client, e);
	if (r < 0) {
		free(made);
		return r;
	}
	*asker = made;
	return 0;
}

void *hub_asker_free(struct hub_asker *asker)
{
	if (!asker)
		return NULL;
	http_client_free(asker->client);
	for (size_t i = 0; i < REMEMBERED; i++)
		free(asker->memories[i].name);
	free(asker);
	return NULL;
}

/* Of all that the answer depends on: of the digests of each. */
static void digest_of(const struct hub_session *session, const struct credentials *who,
		      unsigned char digest[SHA256_DIGEST_LENGTH])
{
	const char *const texts[] = { session->api_url, session->user, session->scopes, who->token,
				      who->session };
	unsigned char each[ARRAY_SIZE(texts)][SHA256_DIGEST_LENGTH];
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		SHA256((const unsigned char *)texts[i], strlen(texts[i]), each[i]);
	SHA256(each[0], sizeof(each), digest);
}

static size_t place_of(const unsigned char *digest)
{
	return (digest[0] | (size_t)digest[1] << 8) & (REMEMBERED - 1);
}

enum hub_verdict hub_remembers(const struct hub_asker *asker, const struct hub_session *session,
			       const struct credentials *who, const char **name)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	digest_of(session, who, digest);
	const struct memory *m = &asker->memories[place_of(digest)];
	bool is_it = memcmp(m->digest, digest, sizeof(digest)) == 0 && clock_mono() < m->until;
	*name = is_it ? m->name : NULL;
	return is_it ? m->verdict : HUB_UNKNOWN;
}

/* Takes the name over. */
static void remember(struct hub_asker *asker, const unsigned char *digest, enum hub_verdict verdict,
		     char *name)
{
	struct memory *m = &asker->memories[place_of(digest)];
	memcpy(m->digest, digest, sizeof(m->digest));
	m->verdict = verdict;
	free(m->name);
	m->name = name;
	m->until = clock_mono() + (verdict == HUB_NOBODY ? BAD_US : GOOD_US);
}

enum hub_verdict hub_judge(const char *body, size_t len, const struct hub_session *session,
			   char **name)
{
	json_t *model = json_loadb(body ? body : "", body ? len : 0, 0, NULL);
	json_t *needed = json_loads(session->scopes, 0, NULL);
	const char *who = json_string_value(json_object_get(model, "name"));
	const char *kind = json_string_value(json_object_get(model, "kind"));
	enum hub_verdict verdict = HUB_NOBODY;
	*name = NULL;
	if (who && scopes_grant(json_object_get(model, "scopes"), needed)) {
		bool own = strcmp(who, session->user) == 0 && (!kind || strcmp(kind, "user") == 0);
		verdict = own ? HUB_OWNER : HUB_GUEST;
		*name = own ? NULL : strdup(who);
	}
	json_decref(model);
	json_decref(needed);
	return verdict;
}

static void question_free(struct hub_question *q)
{
	q->asker->open--;
	free(q->user);
	free(q->scopes);
	free(q);
}

static void on_reply(const struct http_reply *reply, void *arg)
{
	struct hub_question *q = arg;
	const struct hub_session session = { .user = q->user, .scopes = q->scopes };
	enum hub_verdict verdict = HUB_AWAY;
	char *name = NULL;
	if (reply->status == 200)
		verdict = hub_judge(reply->body, reply->body_len, &session, &name);
	else if (reply->status == 401 || reply->status == 403)
		verdict = HUB_NOBODY;
	if (verdict != HUB_AWAY)
		remember(q->asker, q->digest, verdict, name);
	void (*answered)(enum hub_verdict, void *) = q->answered;
	void *answered_arg = q->arg;
	question_free(q);
	answered(verdict, answered_arg);
}

static int begin_call(struct hub_question *q, const struct hub_session *session, const char *token)
{
	cleanup_free char *url = str_printf("%s/user", session->api_url);
	cleanup_free char *field = str_printf("Authorization: token %s", token);
	if (!url || !field)
		return -ENOMEM;
	const struct http_request request = {
		.url = url,
		.headers = (const char *const[]) { field, "Accept: application/json", NULL },
		.timeout_ms = TIMEOUT_MS,
		.max_body = ANSWER_MOST,
	};
	return http_client_call(q->asker->client, &request, on_reply, q, &q->call, NULL);
}

struct hub_question *hub_ask(struct hub_asker *asker, const struct hub_session *session,
			     const struct credentials *who,
			     void (*answered)(enum hub_verdict verdict, void *arg), void *arg)
{
	struct hub_question *q = asker->open < OPEN_MOST ? calloc(1, sizeof(*q)) : NULL;
	if (!q)
		return NULL;
	asker->open++;
	q->asker = asker;
	q->answered = answered;
	q->arg = arg;
	q->user = strdup(session->user);
	q->scopes = strdup(session->scopes);
	digest_of(session, who, q->digest);
	if (!q->user || !q->scopes || begin_call(q, session, who->token) < 0) {
		question_free(q);
		return NULL;
	}
	return q;
}

void hub_forget(struct hub_question *question)
{
	if (!question)
		return;
	http_call_cancel(question->call);
	question_free(question);
}
