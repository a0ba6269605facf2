/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_polls.h"

#include <errno.h>
#include <string.h>

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static struct text path_part(struct text target)
{
	const char *query = target.at ? memchr(target.at, '?', target.len) : NULL;
	if (query)
		target.len = (size_t)(query - target.at);
	return target;
}

/* Ends it with a NUL, and refuses one within. */
static int decode(struct text from, char *to, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < from.len; i++) {
		char c = from.at[i];
		if (c == '%') {
			int high = i + 2 < from.len ? digit_of(from.at[i + 1]) : -1;
			int low = high >= 0 ? digit_of(from.at[i + 2]) : -1;
			if (low < 0)
				return -EINVAL;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (c == '\0' || n + 1 >= size)
			return -EINVAL;
		to[n++] = c;
	}
	to[n] = '\0';
	return 0;
}

static bool has_dots(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
			return true;
	return false;
}

int poll_path(struct text target, const char *base, char to[POLL_PATH_SIZE])
{
	char path[2 * POLL_PATH_SIZE], prefix[POLL_PATH_SIZE];
	struct text whole = { .at = base, .len = strlen(base) };
	if (decode(whole, prefix, sizeof(prefix)) < 0 ||
	    decode(path_part(target), path, sizeof(path)) < 0)
		return -EINVAL;
	size_t skip = strlen(prefix);
	if (strncmp(path, prefix, skip) != 0 || strstr(path, "//") || has_dots(path))
		return -EINVAL;
	size_t len = strlen(path + skip);
	if (len > 0 && path[skip + len - 1] == '/')
		path[skip + --len] = '\0';
	if (len >= POLL_PATH_SIZE)
		return -EINVAL;
	memcpy(to, path + skip, len + 1);
	return 0;
}

struct text poll_query(struct text target, const char *name)
{
	size_t skip = path_part(target).len;
	size_t len = strlen(name);
	while (skip < target.len) {
		const char *at = target.at + skip + 1;
		size_t left = target.len - skip - 1;
		const char *end = memchr(at, '&', left);
		size_t part = end ? (size_t)(end - at) : left;
		if (part > len && at[len] == '=' && memcmp(at, name, len) == 0)
			return (struct text) { .at = at + len + 1, .len = part - len - 1 };
		skip += part + 1;
	}
	return (struct text) { 0 };
}

static bool fits_path(const struct config_poll *poll, const char *path)
{
	size_t len = strlen(poll->path);
	if (strncmp(path, poll->path, len) != 0)
		return false;
	return path[len] == '\0' || (poll->below && path[len] == '/');
}

static bool fits_query(const struct config_poll *poll, struct text target)
{
	for (size_t i = 0; i < poll->query_count; i++) {
		struct text value = poll_query(target, poll->query[i].name);
		if (value.at && !text_is(value, poll->query[i].value))
			return false;
	}
	return true;
}

const struct config_poll *poll_find(const struct config_poll *polls, size_t count, const char *path,
				    struct text target)
{
	for (size_t i = 0; i < count; i++)
		if (fits_path(&polls[i], path) && fits_query(&polls[i], target))
			return &polls[i];
	return NULL;
}
