/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/sigv4.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MOST_PAIRS = 64, DIGEST = 32, MOST_TEXT = 64 * 1024 };

const struct sigv4_dialect sigv4_aws = { "AWS4-HMAC-SHA256", "AWS4", "aws4_request" };
const struct sigv4_dialect sigv4_google = { "GOOG4-HMAC-SHA256", "GOOG4", "goog4_request" };

void sigv4_hex(const unsigned char *bytes, size_t len, char *to)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	*to = '\0';
}

void sigv4_timestamp(wall_ms now, char to[SIGV4_TIMESTAMP_SIZE])
{
	time_t seconds = (time_t)(now / 1000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(to, SIGV4_TIMESTAMP_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

static bool unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

int sigv4_encode(struct buf *to, const char *text, bool keep_slashes)
{
	int r = 0;
	for (const char *p = text; *p && r == 0; p++) {
		if (unreserved(*p) || (*p == '/' && keep_slashes))
			r = buf_append(to, p, 1);
		else
			r = buf_printf(to, "%%%02X", (unsigned char)*p);
	}
	return r;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_texts(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
}

/* Encoded first, then sorted by name and value. What stands between them while sorting is lower
 * than any byte of a name, as '=' is not. */
static char *encoded_pair(const struct sigv4_pair *pair)
{
	cleanup_buf struct buf text = BUF_INIT(MOST_TEXT);
	if (sigv4_encode(&text, pair->name, false) < 0 || buf_append(&text, "\1", 1) < 0 ||
	    sigv4_encode(&text, pair->value ? pair->value : "", false) < 0)
		return NULL;
	return buf_steal(&text);
}

int sigv4_query(struct buf *to, const struct sigv4_pair *query, size_t count)
{
	char *texts[MOST_PAIRS];
	int r = 0;
	size_t made = 0;
	if (count > MOST_PAIRS)
		return -E2BIG;
	for (; made < count && r == 0; made += r == 0) {
		texts[made] = encoded_pair(&query[made]);
		r = texts[made] ? 0 : -ENOMEM;
	}
	qsort(texts, made, sizeof(*texts), compare_text);
	for (size_t i = 0; i < made && r == 0; i++) {
		*strchr(texts[i], '\1') = '=';
		r = buf_printf(to, "%s%s", i ? "&" : "", texts[i]);
	}
	free_texts(texts, made);
	return r;
}

struct header {
	const struct sigv4_pair *pair;
	size_t place; /* repeated headers keep their order */
};

static int compare_headers(const void *a, const void *b)
{
	const struct header *x = a, *y = b;
	int order = strcasecmp(x->pair->name, y->pair->name);
	return order ? order : (x->place > y->place) - (x->place < y->place);
}

/* Without white space around it, and one blank for each run of it within. */
static int append_trimmed(struct buf *to, const char *value)
{
	int r = 0;
	bool any = false, blank = false;
	for (; *value && r == 0; value++) {
		if (isspace((unsigned char)*value)) {
			blank = true;
			continue;
		}
		if (blank && any)
			r = buf_append(to, " ", 1);
		if (r == 0)
			r = buf_append(to, value, 1);
		any = true;
		blank = false;
	}
	return r;
}

static int append_lower(struct buf *to, const char *name)
{
	int r = 0;
	for (; *name && r == 0; name++) {
		char c = (char)tolower((unsigned char)*name);
		r = buf_append(to, &c, 1);
	}
	return r;
}

/* "name:value\n" of each into `lines`, "name;name" into `names`. */
static int canonical_headers(const struct sigv4_request *request, struct buf *lines,
			     struct buf *names)
{
	struct header sorted[MOST_PAIRS];
	if (request->header_count > MOST_PAIRS)
		return -E2BIG;
	for (size_t i = 0; i < request->header_count; i++)
		sorted[i] = (struct header) { &request->headers[i], i };
	qsort(sorted, request->header_count, sizeof(*sorted), compare_headers);
	int r = 0;
	for (size_t i = 0; i < request->header_count && r == 0; i++) {
		const struct sigv4_pair *h = sorted[i].pair;
		bool again = i && strcasecmp(h->name, sorted[i - 1].pair->name) == 0;
		if (again)
			r = buf_append(lines, ",", 1);
		else if ((r = buf_append(lines, "\n", i ? 1 : 0)) == 0 &&
			 (r = append_lower(lines, h->name)) == 0 &&
			 (r = buf_append(lines, ":", 1)) == 0 &&
			 (r = buf_append(names, ";", i ? 1 : 0)) == 0)
			r = append_lower(names, h->name);
		if (r == 0)
			r = append_trimmed(lines, h->value);
	}
	return r < 0 ? r : buf_append(lines, "\n", 1);
}

static int canonical(struct buf *to, const struct sigv4_request *request, struct buf *names)
{
	cleanup_buf struct buf lines = BUF_INIT(MOST_TEXT);
	int r = canonical_headers(request, &lines, names);
	if (r == 0)
		r = buf_printf(to, "%s\n", request->method);
	if (r == 0)
		r = sigv4_encode(to, request->path, true);
	if (r == 0)
		r = buf_append(to, "\n", 1);
	if (r == 0)
		r = sigv4_query(to, request->query, request->query_count);
	if (r == 0)
		r = buf_printf(to, "\n%s\n%s\n%s", buf_text(&lines), buf_text(names),
			       request->payload_hash);
	return r;
}

int sigv4_canonical(struct buf *to, const struct sigv4_request *request)
{
	cleanup_buf struct buf names = BUF_INIT(MOST_TEXT);
	return canonical(to, request, &names);
}

/* "20130524/us-east-1/s3/aws4_request" */
static int append_scope(struct buf *to, const struct sigv4_key *key, const char *timestamp)
{
	return buf_printf(to, "%.8s/%s/%s/%s", timestamp, key->region, key->service,
			  key->dialect->terminator);
}

int sigv4_string_to_sign(struct buf *to, const struct sigv4_key *key, const char *timestamp,
			 const char *canonical_request)
{
	unsigned char digest[DIGEST];
	char hex[SIGV4_HEX_SIZE];
	if (!EVP_Digest(canonical_request, strlen(canonical_request), digest, NULL, EVP_sha256(),
			NULL))
		return -ENOMEM;
	sigv4_hex(digest, sizeof(digest), hex);
	int r = buf_printf(to, "%s\n%s\n", key->dialect->algorithm, timestamp);
	if (r == 0)
		r = append_scope(to, key, timestamp);
	return r < 0 ? r : buf_printf(to, "\n%s", hex);
}

/* `key` and `to` may be the same. */
static int hmac(const void *key, size_t key_len, const char *text, size_t len,
		unsigned char to[DIGEST])
{
	unsigned char digest[DIGEST];
	if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, len, digest, NULL))
		return -ENOMEM;
	memcpy(to, digest, DIGEST);
	return 0;
}

static int signing_key(const struct sigv4_key *key, const char *timestamp, unsigned char to[DIGEST])
{
	cleanup_buf struct buf first = BUF_INIT(4096);
	int r = buf_printf(&first, "%s%s", key->dialect->key_prefix, key->secret);
	const char *const steps[] = { key->region, key->service, key->dialect->terminator };
	if (r == 0)
		r = hmac(first.data, first.len, timestamp, 8, to);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++)
		r = hmac(to, DIGEST, steps[i], strlen(steps[i]), to);
	if (first.data)
		explicit_bzero(first.data, first.len);
	return r;
}

static int signature(const struct sigv4_key *key, const char *timestamp, const char *text,
		     char to[SIGV4_HEX_SIZE])
{
	unsigned char digest[DIGEST];
	int r = signing_key(key, timestamp, digest);
	if (r == 0)
		r = hmac(digest, sizeof(digest), text, strlen(text), digest);
	if (r == 0)
		sigv4_hex(digest, sizeof(digest), to);
	return r;
}

int sigv4_authorization(struct buf *to, const struct sigv4_request *request,
			const struct sigv4_key *key, const char *timestamp)
{
	cleanup_buf struct buf names = BUF_INIT(MOST_TEXT);
	cleanup_buf struct buf text = BUF_INIT(2 * MOST_TEXT);
	cleanup_buf struct buf to_sign = BUF_INIT(MOST_TEXT);
	char hex[SIGV4_HEX_SIZE];
	int r = canonical(&text, request, &names);
	if (r == 0)
		r = sigv4_string_to_sign(&to_sign, key, timestamp, buf_text(&text));
	if (r == 0)
		r = signature(key, timestamp, buf_text(&to_sign), hex);
	if (r == 0)
		r = buf_printf(to, "%s Credential=%s/", key->dialect->algorithm, key->access_key);
	if (r == 0)
		r = append_scope(to, key, timestamp);
	if (r == 0)
		r = buf_printf(to, ", SignedHeaders=%s, Signature=%s", buf_text(&names), hex);
	return r;
}
