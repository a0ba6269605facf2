/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Objects in a bucket of Amazon S3, of a server that speaks its protocol, or
 * of Google Cloud Storage by its XML API, which is nearly the same.
 */
#include "cloud/s3.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "cloud/backends.h"

#include <errno.h>
#include <string.h>

static int fail_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

int s3_stat(struct object_store *store, const char *key, struct object_stat *st, struct error *e)
{
	struct s3 *s = (struct s3 *)store;
	struct s3_call c = {
		.doing = "look", .action = "s3:GetObject", .method = "HEAD", .key = key
	};
	int r = s3_call_missing(s, &c, s3_call(s, &c, e), e);
	if (r == 0 && c.x.length == UINT64_MAX)
		r = error_set(e, EBADMSG, "object %s: the server does not say its size", key);
	if (r == 0)
		*st = (struct object_stat) { .size = c.x.length,
					     .modified_at = s3_date(c.x.got.last_modified) };
	s3_call_deinit(&c);
	return r;
}

/* After a try whose outcome is not known, "it is there already" may mean that we put it there. */
static bool holds(struct object_store *store, const char *key, const void *data, size_t len)
{
	struct object_stat st;
	if (s3_stat(store, key, &st, NULL) != 0 || st.size != len)
		return false;
	cleanup_free char *there = malloc(len + 1);
	return there && s3_read(store, key, 0, there, len, NULL) == 0 &&
	       memcmp(there, data, len) == 0;
}

static int put_once(struct s3 *s, const char *key, const void *data, size_t len, bool if_absent,
		    bool *unsure, struct error *e)
{
	struct s3_call c = { .doing = "write",
			     .action = "s3:PutObject",
			     .method = "PUT",
			     .key = key,
			     .body = len ? data : "",
			     .body_len = len,
			     .once = if_absent };
	if (if_absent && s->url.kind == S3_GOOGLE)
		s3_call_header(&c, "x-goog-if-generation-match", "0");
	else if (if_absent)
		s3_call_header(&c, "if-none-match", "*");
	int r = s3_call(s, &c, e);
	*unsure = c.unsure;
	s3_call_deinit(&c);
	return r;
}

static int s3_remove(struct object_store *store, const char *key, struct error *e)
{
	struct s3_call c = {
		.doing = "remove", .action = "s3:DeleteObject", .method = "DELETE", .key = key
	};
	struct s3 *s = (struct s3 *)store;
	int r = s3_call_missing(s, &c, s3_call(s, &c, e), e);
	if (r == -ENOENT) {
		if (e)
			error_clear(e);
		r = 0;
	}
	s3_call_deinit(&c);
	return r;
}

static int probe(struct s3 *s, const char *key, struct error *e)
{
	bool unsure;
	int r = put_once(s, key, "probe", 5, false, &unsure, e);
	if (r < 0)
		return r;
	struct error again = ERROR_INIT;
	r = put_once(s, key, "probe", 5, true, &unsure, &again);
	if (r == -EEXIST) {
		s->conditional = PROBE_GOOD;
		return 0;
	}
	if (r == 0 || r == -EOPNOTSUPP || again.fault == FAULT_INTERNAL) {
		s->conditional = PROBE_IGNORED;
		return 0;
	}
	if (e)
		*e = again;
	return r;
}

/* Of two writers of a checkpoint one must lose. Some S3 servers do not heed If-None-Match and take
 * both: found out once, on an object of our own, before anything depends on it. */
static int check_conditional(struct s3 *s, struct error *e)
{
	char id[ID_SIZE], key[ID_SIZE + 16];
	int r = 0;
	pthread_mutex_lock(&s->probe_lock);
	if (s->conditional == PROBE_UNKNOWN) {
		id_new(id);
		snprintf(key, sizeof(key), "probe/%s", id);
		r = probe(s, key, e);
		s3_remove(&s->base, key, NULL);
	}
	if (r == 0 && s->conditional == PROBE_IGNORED) {
		r = error_set(e, EOPNOTSUPP,
			      "%s does not heed If-None-Match: two writers could "
			      "both commit a checkpoint",
			      s->place.host);
		error_remedy(e, r, "use an S3 server that has conditional writes");
	}
	pthread_mutex_unlock(&s->probe_lock);
	return r;
}

int s3_put(struct object_store *store, const char *key, const void *data, size_t len,
	   bool if_absent, struct error *e)
{
	struct s3 *s = (struct s3 *)store;
	bool unsure = false;
	int r = if_absent ? check_conditional(s, e) : 0;
	if (r == 0)
		r = put_once(s, key, data, len, if_absent, &unsure, e);
	if (r == -EEXIST && unsure && holds(store, key, data, len)) {
		if (e)
			error_clear(e);
		r = 0;
	}
	return r;
}

static void s3_free(struct object_store *store)
{
	struct s3 *s = (struct s3 *)store;
	s3_http_free(s->http);
	credentials_free(s->credentials);
	s3_place_deinit(&s->place);
	s3_url_deinit(&s->url);
	pthread_mutex_destroy(&s->probe_lock);
	free(s);
}

static const struct object_backend s3_backend = {
	.name = "s3",
	.put = s3_put,
	.read = s3_read,
	.read_all = s3_read_all,
	.stat = s3_stat,
	.list = s3_list,
	.remove = s3_remove,
	.free = s3_free,
};

static const struct object_backend gs_backend = {
	.name = "gs",
	.put = s3_put,
	.read = s3_read,
	.read_all = s3_read_all,
	.stat = s3_stat,
	.list = s3_list,
	.remove = s3_remove,
	.free = s3_free,
};

static int choose_region(struct s3_url *url, const struct credentials_options *options)
{
	if (!url->region && url->kind == S3_GOOGLE)
		url->region = strdup("auto");
	if (!url->region)
		url->region = credentials_region(options);
	if (!url->region)
		url->region = strdup("us-east-1");
	return url->region ? 0 : -ENOMEM;
}

static int set_up(struct s3 *s, struct error *e)
{
	bool google = s->url.kind == S3_GOOGLE;
	struct credentials_options options = { google ? CREDENTIALS_GOOGLE : CREDENTIALS_AMAZON,
					       s->url.profile, s->url.metadata };
	if (choose_region(&s->url, &options) < 0)
		return fail_memory(e);
	int r = s3_url_place(&s->url, &s->place, e);
	if (r == 0)
		r = credentials_new(&options, &s->credentials, e);
	if (r == 0)
		r = s3_http_new(s->url.ca, &s->http, e);
	/* The clouds' own are known to heed the condition. */
	s->conditional = google || !s->url.endpoint ? PROBE_GOOD : PROBE_UNKNOWN;
	return r;
}

static int open_store(enum s3_kind kind, const char *rest, struct object_store **store,
		      struct error *e)
{
	struct s3 *s = calloc(1, sizeof(*s));
	if (!s)
		return fail_memory(e);
	int r = s3_url_parse(kind, rest, &s->url, e);
	if (r < 0) {
		free(s);
		return r;
	}
	s->base.backend = kind == S3_GOOGLE ? &gs_backend : &s3_backend;
	pthread_mutex_init(&s->probe_lock, NULL);
	r = set_up(s, e);
	if (r < 0)
		s3_free(&s->base);
	else
		*store = &s->base;
	return r;
}

int s3_store_open(const char *rest, struct object_store **store, struct error *e)
{
	return open_store(S3_AMAZON, rest, store, e);
}

int gs_store_open(const char *rest, struct object_store **store, struct error *e)
{
	return open_store(S3_GOOGLE, rest, store, e);
}
