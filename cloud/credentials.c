/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/credentials.h"

#include "base/cleanup.h"
#include "cloud/credentials_sources.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { REFRESH_BEFORE_MS = 5 * 60 * 1000 };

struct credentials {
	struct credentials_options options; /* its strings are ours */
	pthread_mutex_t lock;
	struct credentials_value value; /* all NULL: none yet */
};

static const struct {
	enum credentials_cloud cloud;
	credentials_source fetch;
} chain[] = {
	{ CREDENTIALS_AMAZON, credentials_amazon_env },
	{ CREDENTIALS_AMAZON, credentials_amazon_files },
	{ CREDENTIALS_AMAZON, credentials_amazon_container },
	{ CREDENTIALS_AMAZON, credentials_amazon_imds },
	{ CREDENTIALS_GOOGLE, credentials_google_env },
	{ CREDENTIALS_GOOGLE, credentials_google_metadata },
};

static void wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void credentials_value_deinit(struct credentials_value *v)
{
	wipe(&v->access_key);
	wipe(&v->secret);
	wipe(&v->session_token);
	wipe(&v->bearer);
	v->expires_at = 0;
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

static int copy_value(struct credentials_value *to, const struct credentials_value *from,
		      struct error *e)
{
	*to = (struct credentials_value) { .expires_at = from->expires_at };
	if (copy_text(&to->access_key, from->access_key) && copy_text(&to->secret, from->secret) &&
	    copy_text(&to->session_token, from->session_token) &&
	    copy_text(&to->bearer, from->bearer))
		return 0;
	credentials_value_deinit(to);
	return error_set(e, ENOMEM, "out of memory");
}

int credentials_new(const struct credentials_options *options, struct credentials **c,
		    struct error *e)
{
	char *profile, *metadata;
	struct credentials *new = calloc(1, sizeof(*new));
	bool good = copy_text(&profile, options->profile);
	good = copy_text(&metadata, options->metadata) && good;
	if (!new || !good) {
		free(new);
		free(profile);
		free(metadata);
		return error_set(e, ENOMEM, "out of memory");
	}
	new->options = (struct credentials_options) { options->cloud, profile, metadata,
						      options->service, options->program };
	pthread_mutex_init(&new->lock, NULL);
	*c = new;
	return 0;
}

void *credentials_free(struct credentials *c)
{
	if (!c)
		return NULL;
	credentials_value_deinit(&c->value);
	pthread_mutex_destroy(&c->lock);
	free((char *)c->options.profile);
	free((char *)c->options.metadata);
	free(c);
	return NULL;
}

static int not_found(const struct credentials *c, struct error *e)
{
	const char *service = c->options.service;
	const char *program = c->options.program ? c->options.program : "elsa-node";
	if (c->options.cloud == CREDENTIALS_GOOGLE && service) {
		int r = error_set(e, EACCES, "no credentials for %s", service);
		return error_remedy(e, r, "run %s on a machine with a service account", program);
	}
	if (c->options.cloud == CREDENTIALS_GOOGLE) {
		int r = error_set(e, EACCES, "no credentials for Google Cloud Storage");
		return error_remedy(e, r,
				    "run on a machine with a service account, or set "
				    "GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY to an HMAC key");
	}
	int r = error_set(e, EACCES, "no credentials for %s", service ? service : "S3");
	return error_remedy(e, r,
			    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for %s, "
			    "write the profile \"%s\" to ~/.aws/credentials, or give the "
			    "machine a role",
			    program, credentials_profile(&c->options));
}

static int fetch(const struct credentials *c, struct credentials_value *v, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(chain); i++) {
		if (chain[i].cloud != c->options.cloud)
			continue;
		int r = chain[i].fetch(&c->options, v, e);
		if (r != CREDENTIALS_NOT_HERE)
			return r;
	}
	return not_found(c, e);
}

static bool have(const struct credentials_value *v)
{
	return v->access_key || v->bearer;
}

static bool same(const struct credentials_value *a, const struct credentials_value *b)
{
	const char *x = a->bearer ? a->bearer : a->access_key;
	const char *y = b->bearer ? b->bearer : b->access_key;
	return x && y && strcmp(x, y) == 0;
}

/* Under the lock. What is still valid for a while serves on when its source fails. */
static int refresh(struct credentials *c, wall_ms now, bool must, struct error *e)
{
	struct credentials_value v = { 0 };
	int r = fetch(c, &v, e);
	if (r < 0)
		return !must && have(&c->value) && c->value.expires_at > now ? 0 : r;
	credentials_value_deinit(&c->value);
	c->value = v;
	return 0;
}

int credentials_get(struct credentials *c, const struct credentials_value *refused,
		    struct credentials_value *v, struct error *e)
{
	wall_ms now = clock_wall();
	int r = 0;
	pthread_mutex_lock(&c->lock);
	bool must = !have(&c->value) || (refused && same(refused, &c->value));
	if (must || (c->value.expires_at && c->value.expires_at - REFRESH_BEFORE_MS < now))
		r = refresh(c, now, must, e);
	if (r == 0)
		r = copy_value(v, &c->value, e);
	pthread_mutex_unlock(&c->lock);
	return r;
}
