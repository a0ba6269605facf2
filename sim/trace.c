/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/trace.h"

#include "base/cleanup.h"
#include "sim/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MOST = 7, NAME_MOST = 255, POOLS_MOST = 64, TEXT_MOST = 64 };
/* 1970-01-05, a Monday: for traces that do not say when they began. */
#define BEGIN_DEFAULT ((wall_ms)4 * 24 * 3600 * 1000)

struct session_seen {
	bool open;
	bool sized; /* its memory is known */
};

struct trace {
	trace_sink sink;
	void *arg;
	char line[TRACE_LINE_MOST];
	size_t len;
	int64_t number; /* of the line, from 1 */
	bool head, ended, timed;
	wall_ms begin;
	int64_t last_ms;
	struct names users, sessions, pools;
	struct session_seen *seen;
	size_t seen_size;
};

/* The words of a line, in place. */
struct words {
	const char *word[WORDS_MOST];
	size_t count;
};

struct trace *trace_new(trace_sink sink, void *arg)
{
	struct trace *t = calloc(1, sizeof(*t));
	if (t)
		*t = (struct trace) {
			.sink = sink, .arg = arg, .number = 1, .begin = BEGIN_DEFAULT
		};
	return t;
}

struct trace *trace_free(struct trace *t)
{
	if (!t)
		return NULL;
	names_deinit(&t->users);
	names_deinit(&t->sessions);
	names_deinit(&t->pools);
	free(t->seen);
	free(t);
	return NULL;
}

/* --- words --------------------------------------------------------------------------------- */

/* A number of [0, 1], also as "5%". */
static int parse_share(const char *text, double *share)
{
	char *end;
	double value = strtod(text, &end);
	if (strcmp(end, "%") == 0)
		value /= 100;
	else if (*end)
		return -EINVAL;
	if (end == text || !(value >= 0 && value <= 1))
		return -EINVAL;
	*share = value;
	return 0;
}

static int split(char *line, struct words *w)
{
	w->count = 0;
	for (char *p = line;;) {
		p += strspn(p, " \t");
		if (!*p || *p == '#')
			return 0;
		if (w->count == WORDS_MOST)
			return -E2BIG;
		w->word[w->count++] = p;
		p += strcspn(p, " \t");
		if (!*p)
			return 0;
		*p++ = '\0';
	}
}

static int wrong(const struct trace *t, struct error *e, const char *what, const char *word)
{
	if (!word)
		return error_fault(e, FAULT_BAD_INPUT, "line %lld: %s", (long long)t->number, what);
	/* What it holds may be anything: it is shown short, and as it can be shown. */
	char shown[TEXT_MOST];
	size_t n = 0;
	for (; word[n] && n < sizeof(shown) - 1; n++)
		shown[n] = word[n] > ' ' && word[n] < 0x7f ? word[n] : '?';
	shown[n] = '\0';
	return error_fault(e, FAULT_BAD_INPUT, "line %lld: %s: \"%s\"", (long long)t->number, what,
			   shown);
}

static int give(struct trace *t, const struct trace_record *record, struct error *e)
{
	int r = t->sink(record, t->arg, e);
	return r < 0 ? error_wrap(e, r, "line %lld", (long long)t->number) : 0;
}

/* --- names --------------------------------------------------------------------------------- */

static int add_name(struct trace *t, struct names *to, const char *name, size_t most,
		    uint32_t *number, struct error *e)
{
	size_t len = strlen(name);
	if (len > NAME_MOST)
		return wrong(t, e, "the name is longer than 255 bytes", name);
	if (to->count >= most)
		return wrong(t, e, "there are too many names", name);
	*number = names_add(to, name, len);
	return *number == NAMES_NONE ? error_set(e, ENOMEM, "out of memory") : 0;
}

static int line_user(struct trace *t, const struct words *w, struct error *e)
{
	uint32_t number;
	if (w->count != 2)
		return wrong(t, e, "wanted is: user NAME", NULL);
	if (strchr(w->word[1], '/'))
		return wrong(t, e, "a user's name has no \"/\"; write %2F", w->word[1]);
	if (names_find(&t->users, w->word[1], strlen(w->word[1])) != NAMES_NONE)
		return wrong(t, e, "the user was named before", w->word[1]);
	return add_name(t, &t->users, w->word[1], TRACE_NAMES_MOST, &number, e);
}

static int line_pool(struct trace *t, const struct words *w, struct error *e)
{
	uint32_t number;
	if (w->count != 2)
		return wrong(t, e, "wanted is: pool NAME", NULL);
	if (names_find(&t->pools, w->word[1], strlen(w->word[1])) != NAMES_NONE)
		return wrong(t, e, "the pool was named before", w->word[1]);
	int r = add_name(t, &t->pools, w->word[1], POOLS_MOST, &number, e);
	const struct trace_record record = {
		.kind = TRACE_POOL, .pool = number, .name = w->word[1], .at = t->begin + t->last_ms
	};
	return r < 0 ? r : give(t, &record, e);
}

static int line_begin(struct trace *t, const struct words *w, struct error *e)
{
	if (w->count != 2 || clock_parse(w->word[1], &t->begin) < 0 || t->begin <= 0)
		return wrong(t, e, "wanted is: begin 2026-01-05T00:00:00Z", NULL);
	if (t->timed)
		return wrong(t, e, "\"begin\" stands before all that happens", NULL);
	return 0;
}

static int more_seen(struct trace *t, struct error *e)
{
	if (t->sessions.count <= t->seen_size)
		return 0;
	size_t size = t->seen_size ? t->seen_size * 2 : 1024;
	struct session_seen *seen = reallocarray(t->seen, size, sizeof(*seen));
	if (!seen)
		return error_set(e, ENOMEM, "out of memory");
	memset(seen + t->seen_size, 0, (size - t->seen_size) * sizeof(*seen));
	t->seen = seen;
	t->seen_size = size;
	return 0;
}

/* A session's user must have been named. */
static int new_session(struct trace *t, const char *name, uint32_t *number, struct error *e)
{
	if (names_find(&t->users, name, strcspn(name, "/")) == NAMES_NONE)
		return wrong(t, e, "nobody is called so; \"user NAME\" comes first", name);
	int r = add_name(t, &t->sessions, name, TRACE_NAMES_MOST, number, e);
	return r < 0 ? r : more_seen(t, e);
}

/* --- what happens -------------------------------------------------------------------------- */

static int parse_memory(struct trace *t, const char *word, int64_t *bytes, struct error *e)
{
	if (units_parse_size(word, bytes) < 0 || *bytes <= 0)
		return wrong(t, e, "not a size such as 800M", word);
	return 0;
}

static int line_open(struct trace *t, const struct words *w, struct trace_record *to,
		     struct error *e)
{
	int r = 0;
	if (w->count != 3 && w->count != 4)
		return wrong(t, e, "wanted is: TIME open SESSION [MEMORY]", NULL);
	to->kind = TRACE_OPEN;
	to->session = names_find(&t->sessions, w->word[2], strlen(w->word[2]));
	if (to->session == NAMES_NONE)
		r = new_session(t, w->word[2], &to->session, e);
	if (r == 0 && w->count == 4)
		r = parse_memory(t, w->word[3], &to->memory_bytes, e);
	if (r < 0)
		return r;
	struct session_seen *seen = &t->seen[to->session];
	if (!seen->sized && !to->memory_bytes)
		return wrong(t, e, "the first time it is opened its memory must be told",
			     w->word[2]);
	seen->open = seen->sized = true;
	return 0;
}

static int known_session(struct trace *t, const char *name, uint32_t *number, struct error *e)
{
	*number = names_find(&t->sessions, name, strlen(name));
	if (*number == NAMES_NONE)
		return wrong(t, e, "there is no such session; \"open\" comes first", name);
	if (!t->seen[*number].open)
		return wrong(t, e, "the session was stopped; \"open\" comes first", name);
	return 0;
}

static int line_busy(struct trace *t, const struct words *w, struct trace_record *to,
		     struct error *e)
{
	if (w->count != 4 && w->count != 5)
		return wrong(t, e, "wanted is: TIME busy SESSION SECONDS [MEMORY]", NULL);
	to->kind = TRACE_BUSY;
	int r = known_session(t, w->word[2], &to->session, e);
	if (r == 0 && units_parse_seconds(w->word[3], &to->duration_ms) < 0)
		r = wrong(t, e, "not a number of seconds", w->word[3]);
	if (r == 0 && w->count == 5)
		r = parse_memory(t, w->word[4], &to->memory_bytes, e);
	return r;
}

static int line_stop(struct trace *t, const struct words *w, struct trace_record *to,
		     struct error *e)
{
	if (w->count != 3)
		return wrong(t, e, "wanted is: TIME stop SESSION", NULL);
	to->kind = TRACE_STOP;
	int r = known_session(t, w->word[2], &to->session, e);
	if (r == 0)
		t->seen[to->session].open = false;
	return r;
}

static int line_interrupt(struct trace *t, const struct words *w, struct trace_record *to,
			  struct error *e)
{
	if (w->count != 5 && w->count != 6)
		return wrong(t, e, "wanted is: TIME interrupt POOL SHARE NOTICE [DRY]", NULL);
	to->kind = TRACE_INTERRUPT;
	to->pool = names_find(&t->pools, w->word[2], strlen(w->word[2]));
	if (to->pool == NAMES_NONE)
		return wrong(t, e, "no pool is called so; \"pool NAME\" comes first", w->word[2]);
	if (parse_share(w->word[3], &to->share) < 0)
		return wrong(t, e, "not a share such as 0.05 or 5%", w->word[3]);
	if (units_parse_seconds(w->word[4], &to->notice_ms) < 0)
		return wrong(t, e, "not a number of seconds", w->word[4]);
	if (w->count == 6 && units_parse_seconds(w->word[5], &to->dry_ms) < 0)
		return wrong(t, e, "not a number of seconds", w->word[5]);
	return 0;
}

static int line_end(struct trace *t, const struct words *w, struct trace_record *to,
		    struct error *e)
{
	if (w->count != 2)
		return wrong(t, e, "wanted is: TIME end", NULL);
	to->kind = TRACE_END;
	t->ended = true;
	return 0;
}

static const struct {
	const char *name;
	int (*read)(struct trace *t, const struct words *w, struct trace_record *to,
		    struct error *e);
} happenings[] = {
	{ "busy", line_busy },           { "open", line_open }, { "stop", line_stop },
	{ "interrupt", line_interrupt }, { "end", line_end },
};

static int line_happening(struct trace *t, const struct words *w, struct error *e)
{
	struct trace_record record = { 0 };
	int64_t ms;
	if (units_parse_seconds(w->word[0], &ms) < 0)
		return wrong(t, e, "neither a time in seconds nor \"user\", \"pool\" or \"begin\"",
			     w->word[0]);
	if (ms < t->last_ms)
		return wrong(t, e, "time goes back", w->word[0]);
	for (size_t i = 0; w->count > 1 && i < ARRAY_SIZE(happenings); i++) {
		if (strcmp(w->word[1], happenings[i].name) != 0)
			continue;
		int r = happenings[i].read(t, w, &record, e);
		t->last_ms = ms;
		t->timed = true;
		record.at = t->begin + ms;
		return r < 0 ? r : give(t, &record, e);
	}
	return wrong(t, e, "not one of open, busy, stop, interrupt, end",
		     w->count > 1 ? w->word[1] : "");
}

static int read_words(struct trace *t, const struct words *w, struct error *e)
{
	if (!t->head) {
		t->head = w->count == 2 && strcmp(w->word[0], "elsa-trace") == 0 &&
			  strcmp(w->word[1], "1") == 0;
		return t->head ? 0 : wrong(t, e, "it must begin with \"elsa-trace 1\"", NULL);
	}
	if (t->ended)
		return wrong(t, e, "there is more behind the end", w->word[0]);
	if (strcmp(w->word[0], "user") == 0)
		return line_user(t, w, e);
	if (strcmp(w->word[0], "pool") == 0)
		return line_pool(t, w, e);
	if (strcmp(w->word[0], "begin") == 0)
		return line_begin(t, w, e);
	return line_happening(t, w, e);
}

static int read_line(struct trace *t, struct error *e)
{
	struct words w;
	if (memchr(t->line, '\0', t->len))
		return wrong(t, e, "it holds a zero byte", NULL);
	if (t->len && t->line[t->len - 1] == '\r')
		t->len--;
	t->line[t->len] = '\0';
	t->len = 0;
	if (split(t->line, &w) < 0)
		return wrong(t, e, "it has too many words", NULL);
	int r = w.count ? read_words(t, &w, e) : 0;
	t->number++;
	return r;
}

int trace_feed(struct trace *t, const char *data, size_t len, struct error *e)
{
	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t part = end ? (size_t)(end - data) : len;
		if (t->len + part >= sizeof(t->line))
			return wrong(t, e, "it is longer than 1023 bytes", NULL);
		memcpy(t->line + t->len, data, part);
		t->len += part;
		if (!end)
			return 0;
		int r = read_line(t, e);
		if (r < 0)
			return r;
		data += part + 1;
		len -= part + 1;
	}
	return 0;
}

int trace_end(struct trace *t, struct error *e)
{
	int r = t->len ? read_line(t, e) : 0;
	if (r < 0)
		return r;
	if (!t->head)
		return wrong(t, e, "it is empty: it must begin with \"elsa-trace 1\"", NULL);
	if (t->ended)
		return 0;
	r = wrong(t, e, "the trace is cut off: it has no \"TIME end\"", NULL);
	return error_remedy(e, r,
			    "get the rest of it; or, if it shall end there, add a line "
			    "\"%lld end\"",
			    (long long)(t->last_ms + 999) / 1000);
}
