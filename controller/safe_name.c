/* SPDX-License-Identifier: Apache-2.0 */
/* Names of people as names of directories. */
#include "controller/spec.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_MOST 128 /* bytes; a file name may have 255 */
#define SAFE_KEEP 92  /* of a longer one, before its digest */

static bool is_safe(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

/* FNV-1a over 128 bits: long names must not meet by accident. Who may choose names at will could
 * make two meet, but then also log in as anybody: names are given by the Hub's authenticator. */
static void digest(const char *text, char to[33])
{
	static const char digits[] = "0123456789abcdef";
	const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
	unsigned __int128 hash =
		((unsigned __int128)0x6c62272e07bb0142ull << 64) + 0x62b821756295c58dull;
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * prime;
	for (int i = 0; i < 32; i++)
		to[i] = digits[(unsigned)(hash >> (124 - 4 * i)) & 15];
	to[32] = '\0';
}

static char *shorten(const char *name, struct buf *safe)
{
	char hash[33];
	digest(name, hash);
	safe->len = SAFE_KEEP;
	/* Not in the middle of a %XX. */
	for (size_t back = 1; back <= 2; back++)
		if (safe->data[safe->len - back] == '%') {
			safe->len -= back;
			break;
		}
	safe->data[safe->len] = '\0';
	/* '%' and a letter that is no digit of an escape: no short name ends so. */
	if (buf_printf(safe, "%%h%s", hash) < 0)
		return NULL;
	return buf_steal(safe);
}

char *safe_path_name(const char *name)
{
	cleanup_buf struct buf safe = BUF_INIT(16 * 1024);
	for (const char *p = name; *p; p++) {
		bool leading_dot = p == name && *p == '.';
		int r = is_safe((unsigned char)*p) && !leading_dot
				? buf_append(&safe, p, 1)
				: buf_printf(&safe, "%%%02X", (unsigned)(unsigned char)*p);
		if (r < 0)
			return NULL;
	}
	if (safe.len > SAFE_MOST)
		return shorten(name, &safe);
	return buf_steal(&safe);
}

static int append_value(struct buf *to, const char *key, size_t len, const struct path_names *names)
{
	if (len == 4 && strncmp(key, "home", len) == 0)
		return buf_append(to, names->home, strlen(names->home));
	if (len == 4 && strncmp(key, "user", len) == 0)
		return buf_append(to, names->user, strlen(names->user));
	if (len == 2 && strncmp(key, "id", len) == 0)
		return buf_append(to, names->id, strlen(names->id));
	if (len == 3 && strncmp(key, "uid", len) == 0)
		return buf_printf(to, "%lld", (long long)names->uid);
	return buf_printf(to, "{%.*s}", (int)len, key);
}

char *expand_path(const char *pattern, const struct path_names *names)
{
	cleanup_buf struct buf to = BUF_INIT(4000); /* PATH_MAX, roughly */
	while (*pattern) {
		const char *end = *pattern == '{' ? strchr(pattern, '}') : NULL;
		int r;
		if (end) {
			r = append_value(&to, pattern + 1, (size_t)(end - pattern - 1), names);
			pattern = end + 1;
		} else {
			r = buf_append(&to, pattern++, 1);
		}
		if (r < 0)
			return NULL;
	}
	return buf_steal(&to);
}
