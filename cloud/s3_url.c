/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/s3_url.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/object.h"
#include "cloud/retry.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TIMEOUT_MS = 30000 };

static int fail(struct error *e, const char *scheme, const char *rest, const char *why)
{
	int r = error_set(e, EINVAL, "store.url \"%s%.300s\": %s", scheme, rest, why);
	return error_remedy(e, r,
			    "write it as \"%sBUCKET/PREFIX?region=NAME\"; see "
			    "config.example.toml",
			    scheme);
}

/* As both clouds name buckets: 3 to 63 lower-case letters, digits, '-', '.' (Google: '_'). */
static bool bucket_valid(const char *bucket)
{
	size_t len = strlen(bucket);
	return len >= 3 && len <= 63 && bucket[0] != '.' && bucket[0] != '-' &&
	       strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-._") == len;
}

static bool number_valid(const char *text, long least, long most, long *n)
{
	char *end;
	if (*text < '0' || *text > '9')
		return false;
	*n = strtol(text, &end, 10);
	return *end == '\0' && *n >= least && *n <= most;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;
	return p ? (int)(p - digits) % 16 : -1;
}

/* %XX in place; false for a wrong one or a NUL. */
static bool decode(char *text)
{
	char *to = text;
	for (; *text; text++) {
		*to = *text;
		if (*text == '%') {
			int high = hex_digit(text[1]);
			int low = high < 0 ? -1 : hex_digit(text[2]);
			if (low < 0 || high * 16 + low == 0)
				return false;
			*to = (char)(high * 16 + low);
			text += 2;
		}
		if ((unsigned char)*to < ' ')
			return false;
		to++;
	}
	*to = '\0';
	return true;
}

static bool http_url_valid(const char *text)
{
	const char *host = strncmp(text, "http://", 7) == 0    ? text + 7
			   : strncmp(text, "https://", 8) == 0 ? text + 8
							       : "";
	return *host && *host != '/' && !strpbrk(host, " @?#\"<>\\");
}

static const char *set_text(struct s3_url *u, size_t offset, const char *value)
{
	char **field = (char **)((char *)u + offset);
	free(*field);
	*field = strdup(value);
	return *field ? NULL : "out of memory";
}

static const char *set_option(struct s3_url *u, const char *name, const char *value)
{
	static const struct {
		const char *name;
		size_t offset;
		enum { NAME, URL, PATH } type;
	} texts[] = {
		{ "endpoint", offsetof(struct s3_url, endpoint), URL },
		{ "metadata", offsetof(struct s3_url, metadata), URL },
		{ "region", offsetof(struct s3_url, region), NAME },
		{ "profile", offsetof(struct s3_url, profile), NAME },
		{ "ca", offsetof(struct s3_url, ca), PATH },
	};
	long n;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(texts[i].name, name) != 0)
			continue;
		if (texts[i].type == URL && !http_url_valid(value))
			return "endpoint and metadata are URLs such as \"https://host:9000\"";
		if (texts[i].type == PATH && value[0] != '/')
			return "ca is an absolute path";
		if (!*value)
			return "an option has no value";
		return set_text(u, texts[i].offset, value);
	}
	if (strcmp(name, "path_style") == 0 && number_valid(value, 0, 1, &n))
		u->path_style = (int)n;
	else if (strcmp(name, "timeout") == 0 && number_valid(value, 1, 3600, &n))
		u->timeout_ms = (int)n * 1000;
	else if (strcmp(name, "tries") == 0 && number_valid(value, 1, 100, &n))
		u->tries = (unsigned)n;
	else
		return "an option is not known or has a wrong value";
	return NULL;
}

static const char *set_options(struct s3_url *u, char *query)
{
	char *place = NULL;
	for (char *pair = strtok_r(query, "&", &place); pair; pair = strtok_r(NULL, "&", &place)) {
		char *value = strchr(pair, '=');
		if (!value)
			return "options are written as NAME=VALUE";
		*value++ = '\0';
		if (!decode(value))
			return "an option holds a wrong %XX";
		const char *why = set_option(u, pair, value);
		if (why)
			return why;
	}
	return NULL;
}

/* "a/b" or "a/b/" becomes "a/b/". */
static const char *set_prefix(struct s3_url *u, char *path)
{
	size_t len = strlen(path);
	while (len && path[len - 1] == '/')
		path[--len] = '\0';
	if (len && !object_key_valid(path))
		return "the prefix may hold letters, digits, \".\", \"_\", \"-\" and \"/\"";
	u->prefix = str_printf("%s%s", path, len ? "/" : "");
	return u->prefix ? NULL : "out of memory";
}

static const char *parse(struct s3_url *u, char *rest)
{
	char *query = strchr(rest, '?');
	if (query)
		*query++ = '\0';
	char *path = strchr(rest, '/');
	if (path)
		*path++ = '\0';
	if (!bucket_valid(rest))
		return "it does not name a bucket";
	u->bucket = strdup(rest);
	if (!u->bucket)
		return "out of memory";
	const char *why = set_prefix(u, path ? path : rest + strlen(rest));
	if (!why && query)
		why = set_options(u, query);
	return why;
}

int s3_url_parse(enum s3_kind kind, const char *rest, struct s3_url *url, struct error *e)
{
	cleanup_free char *copy = strdup(rest);
	*url = (struct s3_url) { .kind = kind,
				 .path_style = -1,
				 .timeout_ms = DEFAULT_TIMEOUT_MS,
				 .tries = retry_default.tries };
	const char *why = copy ? parse(url, copy) : "out of memory";
	if (!why)
		return 0;
	s3_url_deinit(url);
	return fail(e, kind == S3_GOOGLE ? "gs://" : "s3://", rest, why);
}

void s3_url_deinit(struct s3_url *u)
{
	char **const texts[] = { &u->bucket, &u->prefix,  &u->endpoint, &u->region,
				 &u->ca,     &u->profile, &u->metadata };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		free(*texts[i]);
		*texts[i] = NULL;
	}
}

/* Amazon's own host names: its certificate does not cover a bucket with dots before them. */
static char *default_endpoint(const struct s3_url *u)
{
	if (u->kind == S3_GOOGLE)
		return strdup("https://storage.googleapis.com");
	bool china = strncmp(u->region, "cn-", 3) == 0;
	return str_printf("https://s3.%s.amazonaws.com%s", u->region, china ? ".cn" : "");
}

int s3_url_place(const struct s3_url *u, struct s3_place *place, struct error *e)
{
	cleanup_free char *endpoint = u->endpoint ? strdup(u->endpoint) : default_endpoint(u);
	bool in_path = u->path_style >= 0
			       ? u->path_style > 0
			       : u->endpoint || strchr(u->bucket, '.') || u->kind == S3_GOOGLE;
	*place = (struct s3_place) { 0 };
	if (!endpoint)
		return error_set(e, ENOMEM, "out of memory");
	char *host = strstr(endpoint, "://");
	*host = '\0';
	host += 3;
	size_t host_len = strcspn(host, "/");
	const char *path = host + host_len;
	size_t path_len = strlen(path);
	while (path_len && path[path_len - 1] == '/')
		path_len--;
	place->scheme = strdup(endpoint);
	place->host = str_printf("%s%s%.*s", in_path ? "" : u->bucket, in_path ? "" : ".",
				 (int)host_len, host);
	place->base = str_printf("%.*s%s%s", (int)path_len, path, in_path ? "/" : "",
				 in_path ? u->bucket : "");
	if (place->scheme && place->host && place->base)
		return 0;
	s3_place_deinit(place);
	return error_set(e, ENOMEM, "out of memory");
}

void s3_place_deinit(struct s3_place *place)
{
	free(place->scheme);
	free(place->host);
	free(place->base);
	*place = (struct s3_place) { 0 };
}
