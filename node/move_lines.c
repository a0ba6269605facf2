/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_lines.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "store/parallel.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	CONNECT_MS = 5000,
	HELLO_MS = 10000,
	RETRY_FIRST_MS = 50, /* after a connection that could not be made, until the next try */
	RETRY_MOST_MS = 2000,
};

struct move_lines {
	char *departure, *session, *node, *at;
	struct move_tls *(*tls)(void *arg, struct error *e);
	void (*gone)(void *arg, bool said);
	int64_t patience_us;
	void (*drop)(void *arg);
	void *arg;

	pthread_mutex_t lock;
	pthread_cond_t given;
	struct move_line lines[MOVE_LINES];
	mono_us retry_at;
	int retry_ms;
	struct error failure;  /* why the last connection could not be made */
	mono_us failing_since; /* connections that somebody needs; 0: not */
	bool is_gone[2];       /* `gone` was called so */
};

/* --- beginning and end -------------------------------------------------------------- */

int move_lines_new(const struct move_lines_options *o, struct move_lines **to, struct error *e)
{
	struct move_lines *l = calloc(1, sizeof(*l));
	if (!l) {
		o->drop(o->arg);
		return error_set(e, ENOMEM, "out of memory");
	}
	*l = (struct move_lines) { .departure = strdup(o->departure),
				   .session = strdup(o->session),
				   .node = strdup(o->node),
				   .at = strdup(o->at),
				   .tls = o->tls,
				   .gone = o->gone,
				   .patience_us = o->patience_ms * 1000,
				   .drop = o->drop,
				   .arg = o->arg };
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->given, NULL);
	for (size_t i = 0; i < MOVE_LINES; i++)
		l->lines[i] = (struct move_line) { .number = i, .body = BUF_INIT(MOVE_BODY_MOST) };
	if (!l->departure || !l->session || !l->node || !l->at) {
		move_lines_free(l);
		return error_set(e, ENOMEM, "out of memory");
	}
	*to = l;
	return 0;
}

void *move_lines_free(struct move_lines *l)
{
	if (!l)
		return NULL;
	for (size_t i = 0; i < MOVE_LINES; i++) {
		move_line_close(&l->lines[i]);
		buf_deinit(&l->lines[i].body);
	}
	l->drop(l->arg);
	pthread_cond_destroy(&l->given);
	pthread_mutex_destroy(&l->lock);
	free(l->departure);
	free(l->session);
	free(l->node);
	free(l->at);
	free(l);
	return NULL;
}

const char *move_lines_node(const struct move_lines *l)
{
	return l->node;
}

/* --- what is known of the other node ------------------------------------------------ */

static void note_gone(struct move_lines *l, bool said)
{
	pthread_mutex_lock(&l->lock);
	bool first = !l->is_gone[said];
	l->is_gone[said] = true;
	pthread_mutex_unlock(&l->lock);
	if (first)
		l->gone(l->arg, said);
}

/* Connections fail for other reasons. */
int move_lines_heard(struct move_lines *l, int r, const struct error *why)
{
	if (r < 0 && (why->fault == FAULT_NOT_FOUND || why->fault == FAULT_CONFLICT))
		note_gone(l, true);
	return r;
}

static bool may_try(struct move_lines *l, struct error *e)
{
	pthread_mutex_lock(&l->lock);
	bool may = clock_mono() >= l->retry_at;
	if (!may)
		*e = l->failure;
	pthread_mutex_unlock(&l->lock);
	return may;
}

static void note_try(struct move_lines *l, int r, const struct error *why)
{
	mono_us now = clock_mono();
	bool out_of_patience = false;
	pthread_mutex_lock(&l->lock);
	if (r == 0) {
		l->retry_at = l->failing_since = 0;
		l->retry_ms = 0;
	} else {
		l->retry_ms = l->retry_ms ? 2 * l->retry_ms : RETRY_FIRST_MS;
		l->retry_ms = l->retry_ms < RETRY_MOST_MS ? l->retry_ms : RETRY_MOST_MS;
		l->retry_at = now + l->retry_ms * 1000LL;
		l->failing_since = l->failing_since ? l->failing_since : now;
		out_of_patience = now - l->failing_since >= l->patience_us;
		l->failure = *why;
	}
	pthread_mutex_unlock(&l->lock);
	if (out_of_patience)
		note_gone(l, false);
}

/* --- one line ----------------------------------------------------------------------- */

static int say_hello(struct move_lines *l, struct move_line *line, struct error *e)
{
	const struct move_hello hello = { .version = MOVE_VERSION,
					  .departure = l->departure,
					  .session = l->session };
	cleanup_json json_t *json = wire_encode(&wire_move_hello, &hello);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return move_ask(line->conn, MOVE_HELLO, text, strlen(text), MOVE_OK, &line->body, HELLO_MS,
			e);
}

/* *answered: what went wrong it has said itself. */
static int dial(struct move_lines *l, struct move_line *line, bool *answered, struct error *e)
{
	struct move_tls *tls = l->tls(l->arg, e);
	int r = tls ? move_connect(tls, l->at, l->node, CONNECT_MS, &line->conn, e) : -EIO;
	move_tls_free(tls);
	*answered = r == 0;
	if (r == 0)
		r = say_hello(l, line, e);
	if (r < 0)
		move_line_close(line);
	return r;
}

int move_line_connect(struct move_lines *l, struct move_line *line, struct error *e)
{
	bool answered;
	if (line->conn)
		return 0;
	if (!may_try(l, e))
		return -fault_errno(e->fault);
	int r = dial(l, line, &answered, e);
	if (answered)
		move_lines_heard(l, r, e);
	note_try(l, r, e);
	return r;
}

void move_line_close(struct move_line *line)
{
	if (line->conn)
		line->conn = move_conn_free(line->conn);
	line->owed = 0;
}

/* --- all of them -------------------------------------------------------------------- */

/* Nobody needs it yet: nothing follows from a failure. */
static int dial_ahead(void *arg, size_t i, struct error *e)
{
	struct move_lines *l = arg;
	bool answered;
	(void)e;
	if (!l->lines[i].conn)
		dial(l, &l->lines[i], &answered, NULL);
	return 0;
}

void move_lines_connect(struct move_lines *l)
{
	parallel(MOVE_LINES, MOVE_LINES, dial_ahead, l, NULL);
}

static int rank(const struct move_line *line)
{
	return line->taken ? 0 : !line->conn ? 1 : line->owed ? 2 : 3;
}

static struct move_line *find_free(struct move_line *lines)
{
	struct move_line *best = &lines[0];
	for (size_t i = 1; i < MOVE_LINES_EACH; i++)
		if (rank(&lines[i]) > rank(best))
			best = &lines[i];
	return best->taken ? NULL : best;
}

struct move_line *move_lines_take(struct move_lines *l, enum move_line_kind kind)
{
	struct move_line *line;
	pthread_mutex_lock(&l->lock);
	while (!(line = find_free(&l->lines[kind * MOVE_LINES_EACH])))
		pthread_cond_wait(&l->given, &l->lock);
	line->taken = true;
	pthread_mutex_unlock(&l->lock);
	return line;
}

void move_lines_give(struct move_lines *l, struct move_line *line)
{
	pthread_mutex_lock(&l->lock);
	line->taken = false;
	pthread_cond_broadcast(&l->given);
	pthread_mutex_unlock(&l->lock);
}
