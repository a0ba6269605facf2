/* SPDX-License-Identifier: Apache-2.0 */
#include "node/session.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/depart.h"
#include "node/doze.h"
#include "node/doze_kept.h"
#include "node/effect.h"
#include "node/hold.h"
#include "node/rootfs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { LOG_KEPT = 256 << 10 };

struct session *session_find(struct node *node, const char *id)
{
	struct session *s = node->sessions;
	while (s && strcmp(s->id, id) != 0)
		s = s->next;
	return s;
}

struct session *session_add(struct node *node, const char *id)
{
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	snprintf(s->id, sizeof(s->id), "%s", id);
	s->pidfd = -1;
	pthread_mutex_lock(&node->lock);
	s->next = node->sessions;
	node->sessions = s;
	pthread_mutex_unlock(&node->lock);
	return s;
}

struct session_spec session_spec_of(char *id)
{
	static char none[] = "", address[] = "127.0.0.1", home[] = "/nonexistent", image[] = "/";
	enum { NOBODY = 65534 };
	return (struct session_spec) {
		.id = id,
		.user = none,
		.server = none,
		.address = address,
		.uid = NOBODY,
		.gid = NOBODY,
		.home = home,
		.home_inside = home,
		.image = image,
	};
}

void session_remove(struct node *node, struct session *s)
{
	assert(!s->effect && !s->queued);
	pthread_mutex_lock(&node->lock);
	struct session **link = &node->sessions;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	pthread_mutex_unlock(&node->lock);
	session_unwatch(s);
	arrival_drop(node, s);
	if (s->asleep)
		asleep_drop(node, s, "It is not here any more.");
	free(s->arrival_stall);
	free(s->unwoken);
	free(s->wanted);
	doze_kept_free(s->kept);
	journal_deinit(&s->journal);
	free(s);
}

void session_remove_all(struct node *node)
{
	while (node->sessions)
		session_remove(node, node->sessions);
}

bool session_is_over(const struct session *s)
{
	const struct journal *j = &s->journal;
	return !s->effect && !s->queued && !j->effect && j->pid == 0 && !j->ended && !j->asleep &&
	       j->result_count == 0;
}

bool session_alive(const struct node *node, const struct session *s)
{
	const struct journal *j = &s->journal;
	return j->pid > 0 && j->boot_id && strcmp(j->boot_id, node->boot_id) == 0 &&
	       proc_is((pid_t)j->pid, (uint64_t)j->start_time);
}

/* --- the end of its init ------------------------------------------------------- */

struct watch {
	struct session *session;
	void (*ended)(struct session *s, void *arg);
	void *arg;
};

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct watch w = *(struct watch *)arg;
	siginfo_t info;
	/* Ours to reap only when we have started it and not a predecessor or CRIU. */
	waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);
	session_unwatch(w.session);
	w.ended(w.session, w.arg);
}

int session_watch(struct node *node, struct session *s, void (*ended)(struct session *s, void *arg),
		  void *arg, struct error *e)
{
	const struct journal *j = &s->journal;
	session_unwatch(s);
	int fd =
		session_alive(node, s) ? proc_open((pid_t)j->pid, (uint64_t)j->start_time) : -ESRCH;
	if (fd == -ESRCH) {
		ended(s, arg);
		return 0;
	}
	struct watch *w = fd >= 0 ? malloc(sizeof(*w)) : NULL;
	if (!w) {
		if (fd >= 0)
			close(fd);
		return error_set(e, fd < 0 ? -fd : ENOMEM, "cannot watch its processes");
	}
	*w = (struct watch) { s, ended, arg };
	s->pidfd = fd;
	s->watch = event_new(node->base, fd, EV_READ, on_end, w);
	if (s->watch && event_add(s->watch, NULL) == 0)
		return 0;
	if (!s->watch)
		free(w);
	session_unwatch(s);
	return error_set(e, ENOMEM, "cannot watch its processes");
}

void session_unwatch(struct session *s)
{
	if (s->watch) {
		free(event_get_callback_arg(s->watch));
		event_free(s->watch);
		s->watch = NULL;
	}
	cleanup_close_fd(&s->pidfd);
	s->pidfd = -1;
}

/* --- as the API shows it --------------------------------------------------------- */

static int fill_status(struct node *node, struct session *s, struct session_status *st,
		       struct error *e)
{
	const struct journal *j = &s->journal;
	const struct effect *ef = s->effect;
	int r = journal_set(&st->id, s->id, e);
	if (r == 0 && j->ended)
		r = journal_set(&st->ended, j->ended, e);
	if (r == 0 && ef && ef->request.id)
		r = journal_set(&st->effect, ef->request.id, e);
	if (r == 0 && j->given_to)
		r = journal_set(&st->given_to, j->given_to, e);
	st->running = session_alive(node, s) && !session_is_given(s);
	st->held = st->running && hold_has(node, s, HOLD_LEASE);
	st->dozing = st->running && doze_is_dozing(node, s);
	st->pid = st->running ? j->pid : 0;
	st->generation = j->generation;
	st->started_at = j->started_at;
	if (r == 0)
		r = asleep_status(s, st, e);
	st->memory_limit = j->session.limits.memory_bytes;
	st->short_of = st->running && hold_has(node, s, HOLD_MEMORY) ? s->memory.wanted : 0;
	if (st->running)
		arrival_status(node, s, st);
	return r;
}

int session_status(struct node *node, struct session *s, struct session_status *st, struct error *e)
{
	struct session_spec spec = { 0 };
	*st = (struct session_status) { 0 };
	pthread_mutex_lock(&node->lock);
	int r = fill_status(node, s, st, e);
	bool there = st->running || st->given_to;
	if (r == 0 && there)
		r = journal_copy_spec(&spec, &s->journal.session, e);
	pthread_mutex_unlock(&node->lock);
	struct sandbox sb = { 0 };
	if (r < 0 || !there || sandbox_init(&sb, node->config, &spec, NULL) < 0) {
		wire_free(&wire_session_spec, &spec);
		return r;
	}
	struct sandbox_usage usage = { 0 };
	sandbox_frozen(&sb, &st->frozen, NULL);
	if (sandbox_usage(&sb, &usage, NULL) == 0) {
		st->rss_bytes = usage.rss_bytes;
		st->out_bytes = usage.out_bytes;
		st->cpu_us = usage.cpu_us;
		st->processes = usage.processes;
		st->stalls_known = usage.stalls_known;
		st->cpu_stall_us = usage.cpu_stall_us;
		st->memory_stall_us = usage.memory_stall_us;
		st->io_stall_us = usage.io_stall_us;
	}
	sandbox_deinit(&sb);
	wire_free(&wire_session_spec, &spec);
	return 0;
}

/* --- its log ----------------------------------------------------------------------- */

/* Where the last `lines` lines of the text begin. */
static size_t tail_offset(const char *text, size_t len, int lines)
{
	size_t at = len;
	if (at && text[at - 1] == '\n')
		at--;
	while (at && !(text[at - 1] == '\n' && --lines <= 0))
		at--;
	return at;
}

/* The end of a file, at most LOG_KEPT bytes. The session can put anything in the place of its log:
 * only a plain file is read, and never waited for. */
static int read_end(const char *path, struct buf *to, struct error *e)
{
	struct stat st;
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, "there is no log");
	if (!S_ISREG(st.st_mode))
		return error_set(e, EINVAL,
				 "the session has put something else in the place of its log");
	off_t from = st.st_size > LOG_KEPT ? st.st_size - LOG_KEPT : 0;
	cleanup_free char *text = malloc(LOG_KEPT);
	ssize_t n = text ? pread(fd, text, LOG_KEPT, from) : -1;
	if (n < 0)
		return error_errno(e, "cannot read the log");
	return buf_append(to, text, (size_t)n);
}

static int find_log(struct node *node, const char *id, struct buf *to, struct error *e)
{
	cleanup_free char *live = node_path(node, "sessions", id, "/upper" ROOTFS_LOG);
	cleanup_free char *kept = node_path(node, "log", id, "");
	if (!live || !kept)
		return error_set(e, ENOMEM, "out of memory");
	int r = read_end(live, to, e);
	return r == -ENOENT ? read_end(kept, to, e) : r;
}

int session_log(struct node *node, const char *id, int lines, char **text, struct error *e)
{
	struct buf all = BUF_INIT(LOG_KEPT);
	int r = find_log(node, id, &all, e);
	if (r == 0) {
		size_t from = tail_offset(buf_text(&all), all.len, lines);
		*text = strdup(buf_text(&all) + from);
		r = *text ? 0 : error_set(e, ENOMEM, "out of memory");
	}
	buf_deinit(&all);
	return r;
}

void session_keep_log(const struct node *node, const struct sandbox *sb)
{
	cleanup_buf struct buf text = BUF_INIT(LOG_KEPT);
	cleanup_free char *kept = node_path(node, "log", sb->spec->id, "");
	if (kept && read_end(sb->log, &text, NULL) == 0)
		fs_replace(kept, buf_text(&text), text.len, 0600, NULL);
}
