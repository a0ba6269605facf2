/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/notice_provider.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LAST_YEAR 9999

/* strptime() takes months in the C library's locale, which these programs leave at "C". */
static int parse_mail_date(const char *text, wall_ms *t)
{
	struct tm tm = { 0 };
	const char *comma = strchr(text, ',');
	const char *p = strptime(comma ? comma + 1 : text, " %d %b %Y %H:%M:%S", &tm);
	if (!p || strcmp(p, " GMT") != 0)
		return -EINVAL;
	*t = (wall_ms)timegm(&tm) * 1000;
	return 0;
}

int notice_time(const char *text, wall_ms *t)
{
	static const wall_ms last = (wall_ms)(LAST_YEAR - 1969) * 366 * 86400 * 1000;
	wall_ms parsed;
	if (!text || (clock_parse(text, &parsed) < 0 && parse_mail_date(text, &parsed) < 0))
		return -EINVAL;
	if (parsed <= 0 || parsed > last)
		return -EINVAL;
	*t = parsed;
	return 0;
}

static void copy_key(char *to, size_t size, const char *key)
{
	size_t len = 0;
	for (; *key && len + 1 < size; key++)
		to[len++] = isalnum((unsigned char)*key) || strchr("-_:/", *key) ? *key : '_';
	to[len] = '\0';
}

static bool has_key(const struct notice_items *items, const char *key)
{
	for (size_t i = 0; i < items->count; i++)
		if (strcmp(items->items[i].key, key) == 0)
			return true;
	return false;
}

struct notice_item *notice_add(struct notice_items *to, const char *key, enum notice_kind kind,
			       const char *detail, size_t detail_len)
{
	struct notice_item *item = &to->items[to->count];
	char fit[sizeof(item->key)];
	copy_key(fit, sizeof(fit), key);
	if (to->count == NOTICE_MOST || has_key(to, fit)) {
		notice_odd(to,
			   to->count == NOTICE_MOST ? "more notices than are taken at once"
						    : "two notices of one name",
			   "");
		return NULL;
	}
	to->count++;
	*item = (struct notice_item) { .kind = kind };
	memcpy(item->key, fit, sizeof(fit));
	snprintf(item->detail, sizeof(item->detail), "%.*s", (int)strnlen(detail, detail_len),
		 detail);
	return item;
}

void notice_odd(struct notice_items *to, const char *what, const char *value)
{
	if (!to->odd[0])
		snprintf(to->odd, sizeof(to->odd), "%s%s%.64s", what, value[0] ? ": " : "", value);
}

void notice_set_time(struct notice_items *to, struct notice_item *item, const char *text)
{
	item->at = 0;
	if (text && *text && notice_time(text, &item->at) < 0)
		notice_odd(to, "a time that cannot be read", text);
}

bool notice_word(const char *text, size_t len, char *to, size_t size)
{
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	while (len && isspace((unsigned char)*text)) {
		text++;
		len--;
	}
	if (len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)text[i]))
			return false;
	memcpy(to, text, len);
	to[len] = '\0';
	return true;
}

int notice_fact(const char *text, size_t len, char *to, size_t size)
{
	char word[128];
	/* What answers every question with a page must not become the name of a machine. */
	if (size > sizeof(word) || !notice_word(text, len, word, size) || strpbrk(word, "<>{}\""))
		return -EBADMSG;
	memcpy(to, word, strlen(word) + 1);
	return 0;
}

json_t *notice_json(const char *text, size_t len)
{
	return len > NOTICE_BODY_MOST ? NULL : json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
}
