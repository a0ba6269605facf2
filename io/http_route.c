/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_route.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decoding (RFC 3986, 2.1); in a query '+' is a space as well. 0, -EINVAL or -ENOMEM. */
static int decode(const char *text, size_t len, bool plus, char **to)
{
	cleanup_free char *out = malloc(len + 1);
	size_t n = 0;
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		out[n] = plus && text[i] == '+' ? ' ' : text[i];
		if (text[i] == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int low = high < 0 ? -1 : hex_digit(text[i + 2]);
			if (low < 0 || high * 16 + low == 0)
				return -EINVAL;
			out[n] = (char)(high * 16 + low);
			i += 2;
		}
		n++;
	}
	out[n] = '\0';
	*to = steal_ptr(&out);
	return 0;
}

/* Takes both strings over, also on failure; a NULL is an allocation that failed. */
static int add(struct http_params *to, char *name, char *value)
{
	int r = !name || !value ? -ENOMEM : to->count == HTTP_PARAMS_MAX ? -EINVAL : 0;
	if (r < 0) {
		free(name);
		free(value);
		return r;
	}
	to->items[to->count].name = name;
	to->items[to->count++].value = value;
	return 0;
}

/* "{name}" or "{name*}" takes `value`. */
static int capture(const char *pattern, size_t pattern_len, bool rest, const char *value,
		   size_t len, struct http_params *to)
{
	char *name = strndup(pattern + 1, pattern_len - (rest ? 3 : 2));
	char *decoded = NULL;
	if (rest)
		return add(to, name, strndup(value, len));
	int r = decode(value, len, false, &decoded);
	if (r < 0) {
		free(name);
		return r;
	}
	return add(to, name, decoded);
}

static bool is_param(const char *segment, size_t len)
{
	return len > 2 && segment[0] == '{' && segment[len - 1] == '}';
}

static int match(const char *pattern, const char *path, struct http_params *to)
{
	while (*pattern++ == '/' && *path++ == '/') {
		size_t pattern_len = strcspn(pattern, "/");
		size_t len = strcspn(path, "/");
		bool param = is_param(pattern, pattern_len);
		bool rest = param && pattern[pattern_len - 2] == '*';
		if (rest)
			len = strlen(path);
		int r = param ? capture(pattern, pattern_len, rest, path, len, to) : 0;
		if (r < 0)
			return r;
		if (!param && (pattern_len != len || memcmp(pattern, path, len) != 0))
			return 0;
		pattern += pattern_len;
		path += len;
		if (!*pattern || !*path)
			return !*pattern && !*path;
	}
	return 0;
}

static void truncate_params(struct http_params *params, size_t count)
{
	while (params->count > count) {
		params->count--;
		free(params->items[params->count].name);
		free(params->items[params->count].value);
	}
}

int http_route_match(const char *pattern, const char *path, struct http_params *to)
{
	size_t before = to->count;
	int r = match(pattern, path, to);
	if (r != 1)
		truncate_params(to, before);
	return r;
}

static int parse_pair(const char *text, size_t len, struct http_params *to)
{
	const char *end = text + len;
	const char *equals = memchr(text, '=', len);
	const char *from = equals ? equals + 1 : end;
	char *name = NULL;
	char *value = NULL;
	int r = decode(text, (size_t)((equals ? equals : end) - text), true, &name);
	if (r == 0)
		r = decode(from, (size_t)(end - from), true, &value);
	if (r == 0)
		return add(to, name, value);
	free(name);
	return r;
}

int http_query_parse(const char *query, struct http_params *to)
{
	for (const char *p = query; p && *p; p += strspn(p, "&")) {
		size_t len = strcspn(p, "&");
		int r = len ? parse_pair(p, len, to) : 0;
		if (r < 0)
			return r;
		p += len;
	}
	return 0;
}

const char *http_params_get(const struct http_params *params, const char *name)
{
	for (size_t i = 0; i < params->count; i++)
		if (strcmp(params->items[i].name, name) == 0)
			return params->items[i].value;
	return NULL;
}

void http_params_deinit(struct http_params *params)
{
	truncate_params(params, 0);
}
