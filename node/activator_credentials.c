/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator_credentials.h"

#include "node/activator_polls.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
	MAX_AGE_S = 31 * 86400, /* of tornado's signed cookies */
	SIGNED_MOST = 4096,
	HEX_SHA256 = 2 * SHA256_DIGEST_LENGTH,
};

static struct text trim(struct text t)
{
	while (t.len > 0 && (*t.at == ' ' || *t.at == '\t'))
		t.at++, t.len--;
	while (t.len > 0 && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
		t.len--;
	return t;
}

static int copy_printable(const char *from, size_t len, char *to, size_t size)
{
	if (len == 0 || len >= size)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (from[i] <= ' ' || from[i] > '~')
			return -EINVAL;
	memcpy(to, from, len);
	to[len] = '\0';
	return 0;
}

/* --- signed values -------------------------------------------------------------- */

static int value64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

/* Both alphabets, with padding or without. The length, or -EINVAL. */
static int decode64(struct text from, char *to, size_t size)
{
	size_t n = 0;
	unsigned bits = 0;
	int count = 0;
	while (from.len > 0 && from.at[from.len - 1] == '=')
		from.len--;
	for (size_t i = 0; i < from.len; i++) {
		int value = value64(from.at[i]);
		if (value < 0)
			return -EINVAL;
		bits = (bits << 6 | (unsigned)value) & 0xffff;
		count += 6;
		if (count < 8)
			continue;
		count -= 8;
		if (n == size)
			return -EINVAL;
		to[n++] = (char)(bits >> count & 0xff);
	}
	return (int)n;
}

/* "12:contents" followed by "|", which are taken off `rest`. */
static bool take_field(struct text *rest, struct text *field)
{
	size_t len = 0, digits = 0;
	while (digits < rest->len && digits < 5 && rest->at[digits] >= '0' &&
	       rest->at[digits] <= '9')
		len = len * 10 + (size_t)(rest->at[digits++] - '0');
	if (digits == 0 || digits + 1 + len >= rest->len || rest->at[digits] != ':' ||
	    rest->at[digits + 1 + len] != '|')
		return false;
	*field = (struct text) { .at = rest->at + digits + 1, .len = len };
	rest->at += digits + len + 2;
	rest->len -= digits + len + 2;
	return true;
}

static bool is_fresh(struct text seconds, int64_t now_s)
{
	int64_t at = 0;
	if (seconds.len == 0 || seconds.len > 12)
		return false;
	for (size_t i = 0; i < seconds.len; i++) {
		if (seconds.at[i] < '0' || seconds.at[i] > '9')
			return false;
		at = at * 10 + (seconds.at[i] - '0');
	}
	return at >= now_s - MAX_AGE_S;
}

int signed_value_read(struct text value, const char *name, int64_t now_s, char *to, size_t size)
{
	struct text key, time, named, content;
	char plain[SIGNED_MOST];
	/* A value with "=" in it is sent in quotes. */
	if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"')
		value = (struct text) { .at = value.at + 1, .len = value.len - 2 };
	if (value.len < 2 || memcmp(value.at, "2|", 2) != 0)
		return -EINVAL;
	struct text rest = { .at = value.at + 2, .len = value.len - 2 };
	if (!take_field(&rest, &key) || !take_field(&rest, &time) || !take_field(&rest, &named) ||
	    !take_field(&rest, &content) || !text_is(named, name) || !is_fresh(time, now_s))
		return -EINVAL;
	int n = decode64(content, plain, sizeof(plain));
	return n < 0 ? n : copy_printable(plain, (size_t)n, to, size);
}

/* --- cookies -------------------------------------------------------------------- */

/* The cookie of that name that comes `nth`, over all Cookie fields. */
static struct text find_cookie(const struct request_head *head, const char *data, const char *name,
			       unsigned nth)
{
	struct text field;
	for (unsigned i = 0; (field = request_head_field(head, data, "Cookie", i)).at; i++) {
		while (field.len > 0) {
			const char *end = memchr(field.at, ';', field.len);
			size_t part = end ? (size_t)(end - field.at) : field.len;
			struct text pair = trim((struct text) { .at = field.at, .len = part });
			const char *equals = memchr(pair.at, '=', pair.len);
			size_t len = equals ? (size_t)(equals - pair.at) : 0;
			if (equals && text_is((struct text) { pair.at, len }, name) && nth-- == 0)
				return (struct text) { equals + 1, pair.len - len - 1 };
			size_t used = part + (end != NULL);
			field.at += used;
			field.len -= used;
		}
	}
	return (struct text) { 0 };
}

/* Of several tornado takes the last. */
static bool token_of_cookie(const struct request_head *head, const char *data,
			    const struct credential_rules *rules, char token[CREDENTIAL_SIZE])
{
	struct text value, last = { 0 };
	for (unsigned i = 0; (value = find_cookie(head, data, rules->cookie, i)).at; i++)
		last = value;
	return last.at &&
	       signed_value_read(last, rules->cookie, rules->now_s, token, CREDENTIAL_SIZE) == 0;
}

static bool needs_xsrf(const struct request_head *head, const char *data)
{
	struct text mode = request_head_field(head, data, "Sec-Fetch-Mode", 0);
	return mode.at && !text_is(mode, "navigate") && !text_is(mode, "no-cors") &&
	       !text_is(mode, "websocket");
}

static bool is_cookie(const struct request_head *head, const char *data, const char *name,
		      struct text value)
{
	struct text cookie;
	for (unsigned i = 0; (cookie = find_cookie(head, data, name, i)).at; i++)
		if (cookie.len == value.len && CRYPTO_memcmp(cookie.at, value.at, value.len) == 0)
			return true;
	return false;
}

/* What the page has read in its "_xsrf" cookie names the token by its digest, and the token's own
 * cookie no page can read: so its signature need not be looked at either. */
static bool xsrf_is_good(const struct request_head *head, const char *data,
			 const struct credential_rules *rules, const char *token)
{
	char value[SIGNED_MOST], id[SIGNED_MOST], hex[HEX_SHA256 + 1];
	unsigned char digest[SHA256_DIGEST_LENGTH];
	struct text shown = poll_query(request_head_target(head, data), "_xsrf");
	if (!shown.at)
		shown = request_head_field(head, data, "X-XSRFToken", 0);
	if (!shown.at)
		shown = request_head_field(head, data, "X-CSRFToken", 0);
	if (!shown.at || !is_cookie(head, data, "_xsrf", shown))
		return false;
	int n = decode64(shown, value, sizeof(value));
	if (n < 0 || signed_value_read((struct text) { value, (size_t)n }, "_xsrf", rules->now_s,
				       id, sizeof(id)) < 0)
		return false;
	SHA256((const unsigned char *)token, strlen(token), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	size_t len = strlen(id);
	return len > HEX_SHA256 && id[len - HEX_SHA256 - 1] == ':' &&
	       CRYPTO_memcmp(id + len - HEX_SHA256, hex, HEX_SHA256) == 0;
}

/* --- all of them ---------------------------------------------------------------- */

static bool token_of_field(struct text field, char token[CREDENTIAL_SIZE])
{
	static const char *const schemes[] = { "token", "bearer" };
	for (size_t i = 0; field.at && i < 2; i++) {
		size_t len = strlen(schemes[i]);
		if (field.len <= len || strncasecmp(field.at, schemes[i], len) != 0 ||
		    field.at[len] != ' ')
			continue;
		struct text rest = trim((struct text) { field.at + len, field.len - len });
		return copy_printable(rest.at, rest.len, token, CREDENTIAL_SIZE) == 0;
	}
	return false;
}

bool credentials_find(const struct request_head *head, const char *data,
		      const struct credential_rules *rules, struct credentials *to)
{
	struct text url = poll_query(request_head_target(head, data), "token");
	struct text session = find_cookie(head, data, "jupyterhub-session-id", 0);
	*to = (struct credentials) { 0 };
	if (session.at &&
	    copy_printable(session.at, session.len, to->session, sizeof(to->session)) < 0)
		to->session[0] = '\0';
	if (rules->token_in_url && url.at &&
	    copy_printable(url.at, url.len, to->token, sizeof(to->token)) == 0)
		return true;
	if (token_of_field(request_head_field(head, data, "Authorization", 0), to->token))
		return true;
	return token_of_cookie(head, data, rules, to->token) &&
	       (!needs_xsrf(head, data) || xsrf_is_good(head, data, rules, to->token));
}

/* --- scopes --------------------------------------------------------------------- */

static struct text filter_of(const char *scope)
{
	const char *mark = strchr(scope, '!');
	return mark ? (struct text) { mark + 1, strlen(mark + 1) } : (struct text) { 0 };
}

/* "user=ada" holds for "server=ada/": its servers are the user's. */
static bool filter_covers(struct text given, struct text needed)
{
	if (given.len == needed.len && memcmp(given.at, needed.at, given.len) == 0)
		return true;
	if (given.len < 5 || memcmp(given.at, "user=", 5) != 0 || needed.len < 7 ||
	    memcmp(needed.at, "server=", 7) != 0)
		return false;
	size_t user = given.len - 5;
	return needed.len > 7 + user && memcmp(needed.at + 7, given.at + 5, user) == 0 &&
	       needed.at[7 + user] == '/';
}

static bool scope_covers(const char *given, const char *needed)
{
	size_t base = strcspn(given, "!");
	if (base != strcspn(needed, "!") || strncmp(given, needed, base) != 0)
		return false;
	struct text have = filter_of(given), want = filter_of(needed);
	return !have.at || (want.at && filter_covers(have, want));
}

bool scopes_grant(const json_t *given, const json_t *needed)
{
	size_t i, j;
	const json_t *g, *n;
	json_array_foreach (needed, i, n)
		json_array_foreach (given, j, g)
			if (json_is_string(g) && json_is_string(n) &&
			    scope_covers(json_string_value(g), json_string_value(n)))
				return true;
	return false;
}
