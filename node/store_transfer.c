/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/store_transfer.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIPE_BYTES = 1 << 20, GONE_S = 60 };

struct transfer {
	bool out;
	int ours, workers; /* -1: closed */
	struct event *ready, *gone;
	bool cut; /* by us, or because nobody asked for more */

	/* The question that waits. */
	store_part *told;
	void *arg;
	char *part; /* taken so far, of at most `most` */
	size_t most;
	const char *data; /* still to be given */
	size_t len;

	bool ended;
	bool failed;
	struct error failure;
};

static void close_ours(struct transfer *t)
{
	if (t->ours < 0)
		return;
	event_del(t->ready);
	close(t->ours);
	t->ours = -1;
}

/* The callee may ask the next question. */
static void tell(struct transfer *t, size_t len, const struct error *e)
{
	static const struct timeval patience = { .tv_sec = GONE_S };
	store_part *told = t->told;
	char *part = steal_ptr(&t->part);
	t->told = NULL;
	event_add(t->gone, &patience);
	told(part, len, e, t->arg);
	free(part);
}

static void tell_end(struct transfer *t)
{
	const struct error cut = { .fault = FAULT_UNAVAILABLE, .text = "the transfer was cut off" };
	if (!t->told)
		return;
	if (t->failed)
		tell(t, 0, &t->failure);
	else if (t->cut)
		tell(t, 0, &cut);
	else if (t->ended)
		tell(t, 0, NULL);
}

/* --- out ------------------------------------------------------------------------------- */

/* What is in the pipe now, up to a part. 0: the worker's end is closed; -EAGAIN: nothing yet. */
static ssize_t drain(struct transfer *t)
{
	size_t len = 0;
	while (len < t->most) {
		ssize_t n = read(t->ours, t->part + len, t->most - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && len == 0)
			return -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* The end of the data says nothing of whether it is whole: that is for the job's own end. */
static void go_on_out(struct transfer *t)
{
	ssize_t n = t->ours < 0 ? 0 : drain(t);
	if (n == -EAGAIN) {
		event_add(t->ready, NULL);
		return;
	}
	if (n > 0) {
		tell(t, (size_t)n, NULL);
		return;
	}
	close_ours(t);
	tell_end(t);
}

int transfer_take(struct transfer *t, size_t most, store_part *told, void *arg, struct error *e)
{
	if (t->told)
		return error_set(e, EBUSY, "a part of it is being fetched already");
	t->part = malloc(most);
	if (!t->part)
		return error_set(e, ENOMEM, "out of memory");
	t->most = most;
	t->told = told;
	t->arg = arg;
	event_del(t->gone);
	go_on_out(t);
	return 0;
}

/* --- in -------------------------------------------------------------------------------- */

static void go_on_in(struct transfer *t)
{
	while (t->ours >= 0 && t->len) {
		ssize_t n = write(t->ours, t->data, t->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add(t->ready, NULL);
			return;
		}
		/* The worker has closed its end: it has failed, or has all it wants. */
		if (n < 0) {
			close_ours(t);
			break;
		}
		t->data += n;
		t->len -= (size_t)n;
	}
	if (t->ours >= 0)
		tell(t, 0, NULL);
	else
		tell_end(t);
}

int transfer_give(struct transfer *t, const char *data, size_t len, store_part *told, void *arg,
		  struct error *e)
{
	if (t->told)
		return error_set(e, EBUSY, "a part of it is being given already");
	t->told = told;
	t->arg = arg;
	t->data = data;
	t->len = len;
	event_del(t->gone);
	if (len) {
		go_on_in(t);
		return 0;
	}
	close_ours(t);
	tell(t, 0, t->failed ? &t->failure : NULL);
	event_del(t->gone);
	return 0;
}

/* --- both ------------------------------------------------------------------------------- */

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct transfer *t = arg;
	(void)fd;
	(void)what;
	if (t->told && t->out)
		go_on_out(t);
	else if (t->told)
		go_on_in(t);
}

void transfer_cut(struct transfer *t)
{
	if (t->ours < 0)
		return;
	t->cut = true;
	close_ours(t);
	tell_end(t);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	transfer_cut(arg);
}

void transfer_give_up(struct transfer *t)
{
	static const struct timeval patience = { .tv_sec = GONE_S };
	t->told = NULL;
	free(t->part);
	t->part = NULL;
	t->len = 0;
	if (t->ours >= 0) {
		event_del(t->ready);
		event_add(t->gone, &patience);
	}
	/* Half a part may be in the pipe: what follows would not fit. */
	if (!t->out)
		transfer_cut(t);
}

int transfer_worker_fd(const struct transfer *t)
{
	return t->workers;
}

void transfer_worker_ends(struct transfer *t)
{
	close(t->workers);
	t->workers = -1;
}

void transfer_ended(struct transfer *t, const struct error *failure)
{
	t->ended = true;
	t->failed = failure;
	if (failure)
		t->failure = *failure;
	/* What is still in the pipe of an export that was good is yet to be fetched. */
	if (!t->out || failure)
		close_ours(t);
	if (t->ours < 0)
		tell_end(t);
}

bool transfer_busy(const struct transfer *t)
{
	return t && (t->told || t->ours >= 0);
}

static int open_pipe(struct transfer *t, struct error *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, "cannot make a pipe");
	t->ours = ends[!t->out];
	t->workers = ends[t->out];
	fcntl(t->ours, F_SETPIPE_SZ, PIPE_BYTES); /* smaller is only slower */
	if (fcntl(t->ours, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(e, "cannot use a pipe");
	return 0;
}

int transfer_new(struct event_base *base, bool out, struct transfer **to, struct error *e)
{
	static const struct timeval patience = { .tv_sec = GONE_S };
	struct transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(e, ENOMEM, "out of memory");
	t->out = out;
	t->ours = t->workers = -1;
	int r = open_pipe(t, e);
	if (r == 0) {
		t->ready = event_new(base, t->ours, out ? EV_READ : EV_WRITE, on_ready, t);
		t->gone = evtimer_new(base, on_gone, t);
		if (!t->ready || !t->gone || event_add(t->gone, &patience) < 0)
			r = error_set(e, ENOMEM, "out of memory");
	}
	if (r < 0) {
		transfer_free(t);
		return r;
	}
	*to = t;
	return 0;
}

void transfer_free(struct transfer *t)
{
	if (!t)
		return;
	if (t->ready)
		event_free(t->ready);
	if (t->gone)
		event_free(t->gone);
	if (t->ours >= 0)
		close(t->ours);
	if (t->workers >= 0)
		close(t->workers);
	free(t->part);
	free(t);
}
