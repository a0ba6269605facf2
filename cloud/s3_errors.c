/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "cloud/s3_call.h"

#include <errno.h>
#include <string.h>

/* What the operator has to do something about. {b}: bucket, {a}: the permission, {r}: the bucket's
 * region, {e}: the server. */
static const struct meaning {
	const char *code; /* S3's error code */
	int status;       /* or, when NULL, any answer with this status */
	int number;       /* errno */
	const char *text, *remedy;
} meanings[] = {
	{ "NoSuchBucket", 0, EINVAL, "bucket {b} does not exist",
	  "create the bucket, or correct store.url" },
	{ "NoSuchKey", 0, ENOENT, NULL, NULL },
	{ "AccessDenied", 0, EACCES, "permission denied",
	  "allow {a} on bucket {b} and its objects to elsa-node's credentials (and s3:ListBucket: "
	  "without it what is missing looks forbidden)" },
	{ "InvalidAccessKeyId", 0, EACCES, "the server does not know our access key",
	  "check the access key of elsa-node's credentials and store.url's endpoint" },
	{ "SignatureDoesNotMatch", 0, EACCES, "the server does not accept our signature",
	  "check the secret key of elsa-node's credentials and store.url's region" },
	{ "InvalidToken", 0, EACCES, "the server does not accept our session token",
	  "renew elsa-node's credentials" },
	{ "ExpiredToken", 0, EACCES, "our credentials have expired",
	  "renew elsa-node's credentials" },
	{ "RequestTimeTooSkewed", 0, EACCES, "this machine's clock is wrong",
	  "set the clock, for instance by chrony or systemd-timesyncd" },
	{ "AuthorizationHeaderMalformed", 0, EINVAL, "the request was signed for another region",
	  "add region={r} to store.url" },
	{ "PermanentRedirect", 0, EINVAL, "bucket {b} is in another region",
	  "add region={r} to store.url" },
	{ "QuotaExceeded", 0, ENOSPC, "the bucket's quota is used up",
	  "raise the quota of {b}, or remove old checkpoints with `elsa store rm`" },
	{ "BadDigest", 0, EIO, "what arrived is not what was sent",
	  "look at the network between this machine and {e}" },
	{ "XAmzContentSHA256Mismatch", 0, EIO, "what arrived is not what was sent",
	  "look at the network between this machine and {e}" },
	{ NULL, 301, EINVAL, "bucket {b} is in another region", "add region={r} to store.url" },
	{ NULL, 307, EINVAL, "bucket {b} is in another region", "add region={r} to store.url" },
	{ NULL, 401, EACCES, "the server does not accept our credentials",
	  "check elsa-node's credentials for {e}" },
	{ NULL, 403, EACCES, "permission denied",
	  "allow {a} on bucket {b} and its objects to elsa-node's credentials (and s3:ListBucket: "
	  "without it what is missing looks forbidden)" },
	{ NULL, 404, ENOENT, NULL, NULL },
	{ NULL, 412, EEXIST, "it is there already", NULL },
	{ NULL, 429, EAGAIN, "the server is too busy",
	  "see whether too many programs use {e} at once" },
	{ NULL, 501, EOPNOTSUPP, "the server cannot do this", "use another S3 server than {e}" },
	{ NULL, 503, EAGAIN, "the server is too busy",
	  "see whether too many programs use {e} at once" },
	{ NULL, 507, ENOSPC, "the server has no space left",
	  "free space on {e}, or remove old checkpoints with `elsa store rm`" },
};

static const struct meaning *find(const struct s3_call *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(meanings) && c->answer.code[0]; i++)
		if (meanings[i].code && strcmp(meanings[i].code, c->answer.code) == 0)
			return &meanings[i];
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (!meanings[i].code && meanings[i].status == c->status)
			return &meanings[i];
	return NULL;
}

static const char *value_of_mark(char mark, const struct s3 *s, const struct s3_call *c)
{
	switch (mark) {
	case 'b':
		return s->url.bucket;
	case 'a':
		return c->action;
	case 'r':
		if (c->x.got.region[0])
			return c->x.got.region;
		return c->answer.region[0] ? c->answer.region : "NAME";
	default:
		return s->place.host;
	}
}

static void fill_in(struct buf *to, const char *text, const struct s3 *s, const struct s3_call *c)
{
	while (*text) {
		size_t len = strcspn(text, "{");
		buf_append(to, text, len);
		text += len;
		if (*text == '{' && text[1] && text[2] == '}') {
			buf_printf(to, "%s", value_of_mark(text[1], s, c));
			text += 3;
		}
	}
}

static const char *object_word(const struct s3_call *c)
{
	return c->key ? "object " : "bucket ";
}

static int fail_transfer(const struct s3 *s, const struct s3_call *c, struct error *e)
{
	int code = c->x.transfer == RETRY_IMPOSSIBLE ? EIO : c->x.timed_out ? ETIMEDOUT : EHOSTDOWN;
	const char *name = c->key ? c->key : s->url.bucket;
	int r = error_set(e, code, "%s%s: cannot %s: %s: %s (%u tries)", object_word(c), name,
			  c->doing, s->place.host, c->x.why, c->tries);
	if (code == EIO)
		return error_remedy(e, r, "check the endpoint and ca of store.url");
	return error_remedy(e, r, "see whether %s can be reached from this machine", s->place.host);
}

/* What the server said itself, if it said anything. */
static void add_server_words(struct buf *text, const struct s3_call *c)
{
	buf_printf(text, " (%d%s%s%s%s", c->status, c->answer.code[0] ? " " : "", c->answer.code,
		   c->answer.message[0] ? ": " : "", c->answer.message);
	if (c->tries > 1)
		buf_printf(text, "; %u tries", c->tries);
	buf_append(text, ")", 1);
}

int s3_call_fail(const struct s3 *s, const struct s3_call *c, struct error *e)
{
	const char *name = c->key ? c->key : s->url.bucket;
	const struct meaning *m = find(c);
	cleanup_buf struct buf text = BUF_INIT(2048);
	cleanup_buf struct buf remedy = BUF_INIT(1024);
	if (c->status == 0)
		return fail_transfer(s, c, e);
	bool looks = c->key && strchr("GHD", c->method[0]); /* GET, HEAD, DELETE */
	if (m && m->number == ENOENT && looks)
		return error_set(e, ENOENT, "object %s is missing", name);
	if (m && m->text)
		fill_in(&text, m->text, s, c);
	else
		buf_printf(&text, "%s answered", s->place.host);
	add_server_words(&text, c);
	int number = m && m->number != ENOENT ? m->number : c->status >= 500 ? EHOSTDOWN : EIO;
	int r = error_set(e, number, "%s%s: cannot %s: %s", object_word(c), name, c->doing,
			  buf_text(&text));
	if (m && m->remedy) {
		fill_in(&remedy, m->remedy, s, c);
		error_remedy(e, r, "%s", buf_text(&remedy));
	}
	return r;
}
