/* SPDX-License-Identifier: Apache-2.0 */
#include "node/rescue_notices.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>

enum { PAUSE_MS = 50 }; /* from look to look: a session may pass a mark to and fro all the time */

struct rescue_notices {
	int fd;
	struct event *notice, *due;
	mono_us looked_at;
	void (*look)(void *arg);
	void *arg;
};

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct rescue_notices *n = arg;
	(void)fd;
	(void)what;
	n->looked_at = clock_mono();
	n->look(n->arg);
}

static void on_notice(evutil_socket_t fd, short what, void *arg)
{
	struct rescue_notices *n = arg;
	(void)what;
	cgroup_notices_clear(fd);
	if (event_pending(n->due, EV_TIMEOUT, NULL))
		return;
	mono_us left = n->looked_at + PAUSE_MS * 1000LL - clock_mono();
	const struct timeval in = { .tv_usec = left > 0 ? left : 0 };
	event_add(n->due, &in);
}

static int open_notices(struct node *node, struct error *e)
{
	struct cgroup top;
	int fd = cgroup_init(&top, node->config->node.cgroup, NULL, e);
	if (fd < 0)
		return fd;
	fd = cgroup_notices_open(&top, e);
	cgroup_deinit(&top);
	return fd;
}

int rescue_notices_new(struct node *node, void (*look)(void *arg), void *arg,
		       struct rescue_notices **to, struct error *e)
{
	struct rescue_notices *n = calloc(1, sizeof(*n));
	*to = NULL;
	if (!n)
		return error_set(e, ENOMEM, "out of memory");
	n->look = look;
	n->arg = arg;
	int r = n->fd = open_notices(node, e);
	if (r >= 0) {
		n->notice = event_new(node->base, n->fd, EV_READ | EV_PERSIST, on_notice, n);
		n->due = event_new(node->base, -1, 0, on_due, n);
		r = n->notice && n->due && event_add(n->notice, NULL) == 0
			    ? 0
			    : error_set(e, ENOMEM, "out of memory");
	}
	if (r < 0) {
		rescue_notices_free(n);
		return r;
	}
	*to = n;
	return 0;
}

void rescue_notices_free(struct rescue_notices *n)
{
	if (!n)
		return;
	if (n->notice)
		event_free(n->notice);
	if (n->due)
		event_free(n->due);
	cleanup_close_fd(&n->fd);
	free(n);
}

int rescue_notices_hear(const struct rescue_notices *n, struct session *s,
			const struct cgroup *cgroup, int64_t limit,
			const struct rescue_rules *rules, struct error *e)
{
	uint64_t identity = cgroup_identity(cgroup);
	if (identity == s->memory.heard && limit == s->memory.heard_limit)
		return 0;
	const int64_t marks[] = { (int64_t)(rules->near * (double)limit),
				  (int64_t)(rules->last * (double)limit) };
	s->memory.heard = identity; /* tried once: what it cannot be told of is looked at */
	s->memory.heard_limit = limit;
	return cgroup_notices_add(cgroup, n->fd, marks, ARRAY_SIZE(marks), e);
}
