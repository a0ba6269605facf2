/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/rootfs.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rootfs_plain_name(const char *text, char to[ROOTFS_NAME_SIZE])
{
	size_t len = 0;
	for (const char *p = text; *p && len < ROOTFS_NAME_SIZE - 1; p++) {
		char c = (char)tolower((unsigned char)*p);
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9' && len) || (c == '-' && len))
			to[len++] = c;
	}
	while (len && to[len - 1] == '-')
		len--;
	to[len] = '\0';
	if (len == 0)
		snprintf(to, ROOTFS_NAME_SIZE, "user");
}

/* Does a line of a passwd-like file have this name, or this number in its third field? */
struct account_search {
	bool name_found;
	bool number_found;
};

static struct account_search search(const char *text, const char *name, int64_t number)
{
	struct account_search found = { 0 };
	size_t len = strlen(name);
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && line[len] == ':')
			found.name_found = true;
		const char *field = line;
		for (int i = 0; i < 2 && field; i++) {
			field = strpbrk(field, ":\n");
			field = field && *field == ':' ? field + 1 : NULL;
		}
		if (field && isdigit((unsigned char)*field) && strtoll(field, NULL, 10) == number)
			found.number_found = true;
	}
	return found;
}

static int append_line(const char *text, char *line, char **to)
{
	cleanup_free char *owned = line;
	size_t len = strlen(text);
	const char *gap = len && text[len - 1] != '\n' ? "\n" : "";
	*to = line ? str_printf("%s%s%s\n", text, gap, line) : NULL;
	return *to ? 0 : -ENOMEM;
}

int rootfs_add_account(const char *passwd, const char *name, const struct session_spec *spec,
		       char **to)
{
	*to = NULL;
	struct account_search found = search(passwd, name, spec->uid);
	char numbered[ROOTFS_NAME_SIZE];
	if (found.number_found)
		return 0;
	/* The name is taken by somebody else of the image. */
	if (found.name_found) {
		snprintf(numbered, sizeof(numbered), "u%lld", (long long)spec->uid);
		name = numbered;
	}
	return append_line(passwd,
			   str_printf("%s:x:%lld:%lld::%s:/bin/bash", name, (long long)spec->uid,
				      (long long)spec->gid, spec->home_inside),
			   to);
}

int rootfs_add_group(const char *group, const char *name, int64_t gid, char **to)
{
	*to = NULL;
	struct account_search found = search(group, name, gid);
	char numbered[ROOTFS_NAME_SIZE];
	if (found.number_found)
		return 0;
	if (found.name_found) {
		snprintf(numbered, sizeof(numbered), "g%lld", (long long)gid);
		name = numbered;
	}
	return append_line(group, str_printf("%s:x:%lld:", name, (long long)gid), to);
}
