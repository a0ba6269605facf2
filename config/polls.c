/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

/* The next word of `text`, which is moved behind it. */
static size_t next_word(const char **text, const char **word)
{
	*text += strspn(*text, " ");
	*word = *text;
	size_t len = strcspn(*text, " ");
	*text += len;
	return len;
}

static int set_text(char *to, size_t size, const char *from, size_t len)
{
	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(to, from, len);
	to[len] = '\0';
	return 0;
}

static bool is_word(const char *word, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(word, name, len) == 0;
}

/* Without a slash at either end; "*" stands only for whole parts, and at the end if at all. */
static int set_path(struct config_poll *poll, const char *word, size_t len)
{
	poll->below = len > 3 && memcmp(word + len - 3, "/**", 3) == 0;
	int r = set_text(poll->path, sizeof(poll->path), word, poll->below ? len - 3 : len);
	if (r < 0 || strpbrk(poll->path, "*?#%\\") || poll->path[0] == '/' ||
	    poll->path[strlen(poll->path) - 1] == '/' || strstr(poll->path, "..") ||
	    strstr(poll->path, "//"))
		return -EINVAL;
	return 0;
}

static int add_query(struct config_poll *poll, const char *word, size_t len)
{
	const char *equals = memchr(word, '=', len);
	if (!equals || poll->query_count == ARRAY_SIZE(poll->query))
		return -EINVAL;
	struct config_poll_query *q = &poll->query[poll->query_count++];
	size_t name = (size_t)(equals - word);
	int r = set_text(q->name, sizeof(q->name), word, name);
	return r < 0 ? r : set_text(q->value, sizeof(q->value), equals + 1, len - name - 1);
}

int config_poll_parse(const char *text, struct config_poll *poll)
{
	const char *word;
	struct config_poll p = { 0 };
	size_t len = next_word(&text, &word);
	p.open = is_word(word, len, "open");
	p.own = is_word(word, len, "own");
	if (p.open || p.own)
		len = next_word(&text, &word);
	int r = set_path(&p, word, len);
	while (r == 0 && (len = next_word(&text, &word)) > 0)
		r = add_query(&p, word, len);
	if (r == 0)
		*poll = p;
	return r;
}
