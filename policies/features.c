/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/features.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char xsave[] = "xsave=";
enum { XSAVE = sizeof(xsave) - 1 };

/* The next word of the list from *at on, its length in *len; NULL at the end. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word = *at + strspn(*at, " ");
	*len = strcspn(word, " ");
	*at = word + *len;
	return *len ? word : NULL;
}

/* Of "xsave=2440"; -1: it is no such word. */
static long xsave_bytes(const char *word, size_t len)
{
	long bytes = 0;
	if (len <= XSAVE || len > XSAVE + 9 || memcmp(word, xsave, XSAVE) != 0)
		return -1;
	for (size_t i = XSAVE; i < len; i++) {
		if (word[i] < '0' || word[i] > '9')
			return -1;
		bytes = bytes * 10 + (word[i] - '0');
	}
	return bytes;
}

static bool has(const char *have, const char *word, size_t len)
{
	long need = xsave_bytes(word, len);
	size_t other_len;
	const char *other;
	while ((other = next_word(&have, &other_len))) {
		if (other_len == len && memcmp(other, word, len) == 0)
			return true;
		if (need >= 0 && xsave_bytes(other, other_len) >= need)
			return true;
	}
	return false;
}

static void append(char *to, size_t size, const char *word, size_t len)
{
	size_t used = strlen(to);
	const char *comma = used ? ", " : "";
	if (used >= 3 && strcmp(to + used - 3, "...") == 0)
		return;
	if (used + strlen(comma) + len < size)
		snprintf(to + used, size - used, "%s%.*s", comma, (int)len, word);
	else if (used + 3 < size)
		snprintf(to + used, size - used, "...");
}

size_t features_missing(const char *needed, const char *have, char *missing, size_t size)
{
	const char *at = needed ? needed : "";
	const char *word;
	size_t len, count = 0;
	if (missing)
		missing[0] = '\0';
	while ((word = next_word(&at, &len))) {
		if (has(have ? have : "", word, len))
			continue;
		count++;
		if (missing)
			append(missing, size, word, len);
	}
	return count;
}
