/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/tokens.h"

#include "base/cleanup.h"
#include "controller/rows.h"
#include "wire/identity.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_US 1000000LL

enum {
	STRANGERS = 256, /* that are remembered; the one not heard of longest gives way */
	FREE_TRIES = 5,
	WAIT_MOST_S = 300,
	FORGET_S = 3600,
};

struct stranger {
	char address[64];
	int wrong;
	mono_us at, until;
};

struct tokens {
	struct stranger strangers[STRANGERS];
};

struct tokens *tokens_new(void)
{
	return calloc(1, sizeof(struct tokens));
}

void *tokens_free(struct tokens *t)
{
	free(t);
	return NULL;
}

/* --- who tries wrong ones ------------------------------------------------- */

static struct stranger *find(struct tokens *t, const char *address)
{
	for (int i = 0; i < STRANGERS; i++)
		if (t->strangers[i].wrong && strcmp(t->strangers[i].address, address) == 0)
			return &t->strangers[i];
	return NULL;
}

int tokens_listen_to(struct tokens *t, const char *address, mono_us now, int64_t *retry_s,
		     struct error *e)
{
	const struct stranger *s = find(t, address);
	if (!s || now >= s->until)
		return 0;
	*retry_s = (s->until - now + SECOND_US - 1) / SECOND_US;
	int r = error_set(e, EAGAIN, "too many wrong join tokens came from %s", address);
	return error_remedy(e, r, "try again in %lld s, with a right one", (long long)*retry_s);
}

static struct stranger *find_oldest(struct tokens *t)
{
	struct stranger *oldest = &t->strangers[0];
	for (int i = 1; i < STRANGERS; i++)
		if (t->strangers[i].at < oldest->at)
			oldest = &t->strangers[i];
	return oldest;
}

void tokens_wrong(struct tokens *t, const char *address, mono_us now)
{
	struct stranger *s = find(t, address);
	if (!s || now - s->at > FORGET_S * SECOND_US) {
		s = s ? s : find_oldest(t);
		*s = (struct stranger) { 0 };
		snprintf(s->address, sizeof(s->address), "%s", address);
	}
	s->at = now;
	int64_t wait = 1;
	for (int i = FREE_TRIES; i < s->wrong && wait < WAIT_MOST_S; i++)
		wait *= 2;
	if (++s->wrong > FREE_TRIES)
		s->until = now + (wait < WAIT_MOST_S ? wait : WAIT_MOST_S) * SECOND_US;
}

void tokens_right(struct tokens *t, const char *address)
{
	struct stranger *s = find(t, address);
	if (s)
		*s = (struct stranger) { 0 };
}

/* --- tokens --------------------------------------------------------------- */

static int digest_of(const char *secret, char to[X509_DIGEST_SIZE], struct error *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	if (EVP_Digest(secret, strlen(secret), digest, &len, EVP_sha256(), NULL) != 1)
		return error_fault(e, FAULT_INTERNAL, "libcrypto has no SHA-256");
	for (unsigned i = 0; i < len; i++)
		snprintf(to + 2UL * i, 3, "%02x", digest[i]);
	return 0;
}

static int make_secret(char to[JOIN_SECRET_SIZE], struct error *e)
{
	unsigned char bytes[(JOIN_SECRET_SIZE - 1) / 2];
	if (RAND_priv_bytes(bytes, sizeof(bytes)) != 1)
		return error_fault(e, FAULT_INTERNAL, "no random numbers");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(to + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

int tokens_make(struct controller *c, int64_t ttl_ms, int64_t uses, char **to, wall_ms *expires,
		struct error *e)
{
	struct join_token token = { 0 };
	char digest[X509_DIGEST_SIZE];
	struct db_join_token row = { .secret_digest = digest,
				     .created_at = clock_wall(),
				     .uses_left = uses ? uses : -1 };
	id_new(token.id);
	snprintf(row.id, sizeof(row.id), "%s", token.id);
	snprintf(token.fingerprint, sizeof(token.fingerprint), "%s", c->nodes_api->ca->digest);
	row.expires_at = row.created_at + ttl_ms;
	int r = make_secret(token.secret, e);
	if (r == 0)
		r = digest_of(token.secret, digest, e);
	if (r == 0)
		r = db_join_tokens_expire(c->db, row.created_at, e);
	if (r == 0)
		r = db_join_token_put(c->db, &row, e);
	if (r < 0)
		return r;
	*expires = row.expires_at;
	*to = join_token_format(&token);
	return *to ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int refuse(struct error *e, const char *why)
{
	int r = error_set(e, EACCES, "%s", why);
	return error_remedy(e, r, "`elsa node token` on the hub's host prints a new one");
}

int tokens_check(struct controller *c, const char *text, struct db_join_token *row, struct error *e)
{
	struct join_token token;
	char digest[X509_DIGEST_SIZE];
	struct db_join_token found = { 0 };
	if (join_token_parse(text, &token, NULL) < 0)
		return refuse(e, "the join token is not valid");
	int r = digest_of(token.secret, digest, e);
	if (r == 0)
		r = db_join_token_get(c->db, token.id, &found, e);
	if (r < 0 && r != -ENOENT)
		return r;
	/* One that is not there takes as long as one with another secret. */
	bool same = secret_equal(digest, found.secret_digest ? found.secret_digest : "");
	if (r == 0 && same && found.expires_at > clock_wall()) {
		*row = found;
		return 0;
	}
	db_join_token_deinit(&found);
	error_clear(e);
	return refuse(e, same ? "the join token has expired" : "the join token is not valid");
}

int tokens_take(struct controller *c, struct db_join_token *row, bool again, struct error *e)
{
	if (again || row->uses_left < 0)
		return 0;
	if (row->uses_left == 0)
		return refuse(e, "the join token has been used up");
	row->uses_left--;
	return db_join_token_put(c->db, row, e);
}
