/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CRIU executes. It has tar pack what is in a tmpfs, compressed: 26 s for a gigabyte, and two
 * more processes for each, however small. Here nothing is compressed, and nothing executed for
 * those that are empty.
 */
#define _GNU_SOURCE
#include "preload/criu.h"
#include "preload/parts.h"
#include "preload/tar.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void leave_out(const char *word, char *const from[], char *to[], size_t most)
{
	size_t n = 0;
	for (size_t i = 0; from[i] && n + 1 < most; i++)
		if (strcmp(from[i], word) != 0)
			to[n++] = from[i];
	to[n] = NULL;
}

static const char *behind(const char *word, char *const argv[])
{
	for (size_t i = 0; argv[i]; i++)
		if (strcmp(argv[i], word) == 0)
			return argv[i + 1];
	return NULL;
}

static int has(const char *word, char *const argv[])
{
	return argv[1] && strcmp(argv[1], word) == 0;
}

/* Its standard input is the directory, or the archive. */
static int is_done_without(char *const argv[])
{
	const char *to = behind("--directory", argv);
	if (has("--create", argv))
		return tar_pack_empty(STDIN_FILENO, STDOUT_FILENO) == 0;
	return has("--extract", argv) && to && tar_unpack_empty(STDIN_FILENO, to) == 0;
}

/* In a child of CRIU's. Nobody that it executes is one that this library is for. */
INTERPOSED int execvp(const char *file, char *const argv[])
{
	char *words[64];
	static const char *const ours[] = { "LD_PRELOAD", CRIU_WORK, CRIU_FREEZER, CRIU_IDS,
					    CRIU_UNSEEN };
	if (strcmp(file, "tar") != 0)
		words[0] = NULL;
	else if (is_done_without(argv))
		_exit(0);
	else
		leave_out("--gzip", argv, words, sizeof(words) / sizeof(words[0]));
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		unsetenv(ours[i]);
	return execvpe(file, words[0] ? words : argv, environ);
}
