/* SPDX-License-Identifier: Apache-2.0 */
/* Notices from a file, or from what a command prints, looked at over and over. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/job.h"
#include "node/notices_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { COMMAND_MS = 10000 };

struct notice_local {
	struct notices *owner;
	struct event *timer;
	struct pool *pool; /* of the command; NULL for a file */
	bool complained;   /* about what is there now */
	/* The worker's, while it runs: */
	int result;
	struct notice_items items;
	struct error error;
};

static void take(struct notice_local *l, const char *source, int r)
{
	if (r == 0) {
		l->complained = false;
		notices_put(l->owner, source, &l->items);
	} else if (!l->complained) {
		l->complained = true;
		log_warning("%s: what was said before stays", l->error.text);
	}
}

static void later(struct notice_local *l)
{
	int64_t ms = l->owner->node->config->node.notice_interval_ms;
	const struct timeval pause = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(l->timer, &pause);
}

/* --- a file ---------------------------------------------------------------------------- */

static int read_file(const char *path, struct notice_items *items, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(NOTICE_BODY_MOST);
	struct stat st;
	*items = (struct notice_items) { 0 };
	int r = stat(path, &st) < 0 ? error_errno(e, "cannot look at %s", path) : 0;
	if (r == 0)
		r = fs_read(path, &text, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	/* Counted from when it was written, also after a restart. */
	wall_ms written = (wall_ms)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	r = notice_file(buf_text(&text), text.len, written, items, e);
	for (size_t i = 0; r == 0 && i < items->count; i++)
		items->items[i].is_relative = false;
	return error_wrap(e, r, "%s is no notice", path);
}

/* --- a command --------------------------------------------------------------------------- */

static int read_command(const char *const *argv, struct notice_items *items, struct error *e)
{
	struct job_result result;
	int r = job_run(&JOB_OPTIONS(.argv = argv, .timeout_ms = COMMAND_MS), &result, e);
	if (r == 0 && result.status != 0)
		r = error_set(e, EIO, "it ends with %d: %.200s", result.status,
			      buf_text(&result.err));
	if (r == 0)
		r = notice_file(buf_text(&result.out), result.out.len, clock_wall(), items, e);
	job_result_deinit(&result);
	return error_wrap(e, r, "%s tells no notice", argv[0]);
}

static void work(void *arg)
{
	struct notice_local *l = arg;
	const struct config *config = l->owner->node->config;
	l->error = ERROR_INIT;
	l->result = read_command((const char *const *)config->node.notice_command, &l->items,
				 &l->error);
}

static void done(void *arg)
{
	struct notice_local *l = arg;
	take(l, "command", l->result);
	later(l);
}

/* --- both ---------------------------------------------------------------------------------- */

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct notice_local *l = arg;
	(void)fd;
	(void)what;
	l->error = ERROR_INIT;
	if (l->pool) {
		if (l->owner->node->stopping)
			return;
		if (pool_submit(l->pool, work, done, l, &l->error) < 0)
			later(l);
		return;
	}
	take(l, "file", read_file(l->owner->node->config->node.notice_file, &l->items, &l->error));
	later(l);
}

int notices_local_new(struct notices *n, bool command, struct error *e)
{
	static const struct timeval now = { 0 };
	struct notice_local *l = calloc(1, sizeof(*l));
	if (!l)
		return error_set(e, ENOMEM, "out of memory");
	n->local = l;
	l->owner = n;
	l->timer = evtimer_new(n->node->base, look, l);
	if (!l->timer)
		return error_set(e, ENOMEM, "out of memory");
	if (command && !n->node->config->node.notice_command[0])
		return error_set(
			e, EINVAL,
			"node.notices is \"command\", but there is no node.notice_command");
	int r = command ? pool_new(n->node->base, 1, &l->pool, e) : 0;
	if (r == 0)
		event_add(l->timer, &now);
	return r;
}

size_t notices_local_load(const struct notices *n)
{
	return n->local && n->local->pool ? pool_load(n->local->pool) : 0;
}

void notices_local_free(struct notices *n)
{
	struct notice_local *l = n->local;
	if (!l)
		return;
	pool_free(l->pool);
	if (l->timer)
		event_free(l->timer);
	free(l);
	n->local = NULL;
}
