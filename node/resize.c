/* SPDX-License-Identifier: Apache-2.0 */
#include "node/resize.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/cgroup.h"
#include "node/doze.h"
#include "node/rescue.h"

#include <errno.h>

static long long mib(int64_t bytes)
{
	return (long long)(bytes >> 20);
}

static int keep(struct node *node, struct session *s, const struct session_limits *to,
		struct error *e)
{
	log_info("session %s: its memory's limit is %lld MiB from now on, and was %lld", s->id,
		 mib(to->memory_bytes), mib(s->journal.session.limits.memory_bytes));
	pthread_mutex_lock(&node->lock);
	s->journal.session.limits = *to;
	pthread_mutex_unlock(&node->lock);
	return journal_note(node, &s->journal, e);
}

static bool is_less(const struct session_limits *to, const struct session_limits *than)
{
	return to->memory_bytes > 0 &&
	       (than->memory_bytes <= 0 || to->memory_bytes < than->memory_bytes);
}

/* With less than it holds it would be ended while it wakes. */
static int resize_asleep(struct node *node, struct session *s, const struct session_limits *to,
			 struct error *e)
{
	int64_t held = s->journal.asleep_bytes;
	if (to->memory_bytes > 0 && to->memory_bytes < held)
		return error_fault(e, FAULT_CONFLICT, "it holds %lld MiB, and is to get %lld",
				   mib(held), mib(to->memory_bytes));
	return keep(node, s, to, e);
}

static int check_room(struct node *node, const struct session_limits *has,
		      const struct session_limits *to, struct error *e)
{
	int64_t more = to->memory_bytes - has->memory_bytes;
	int64_t room = more > 0 ? rescue_room(node) : 0;
	if (more <= room)
		return 0;
	return error_fault(e, FAULT_FULL,
			   "this node has no room for it: it is to get %lld MiB more, and %lld are "
			   "left",
			   mib(more), mib(room > 0 ? room : 0));
}

/* Only what does not hold it up, and will not in a moment. What is missing of its memory is still
 * to come. */
static int check_less(struct node *node, struct session *s, const struct session_limits *to,
		      struct error *e)
{
	if (s->arrival)
		return error_fault(e, FAULT_CONFLICT, "its memory is still coming");
	return rescue_check(node, s, to->memory_bytes, e);
}

/* What cannot be kept is not in force after the next start of this program alone: the group has
 * it, and it does with it. */
static int resize_running(struct node *node, struct session *s, const struct session_limits *to,
			  struct error *e)
{
	const struct session_limits *has = &s->journal.session.limits;
	struct cgroup cgroup = { 0 };
	int r = is_less(to, has) ? check_less(node, s, to, e) : check_room(node, has, to, e);
	if (r == 0)
		r = cgroup_init(&cgroup, node->config->node.cgroup, s->id, e);
	if (r < 0)
		return r;
	r = cgroup_create(&cgroup, to, e);
	cgroup_deinit(&cgroup);
	return r < 0 ? r : keep(node, s, to, e);
}

int resize(struct node *node, struct session *s, const struct session_limits *to, struct error *e)
{
	const struct journal *j = &s->journal;
	if (s->effect || s->queued || j->effect)
		return error_set(e, EBUSY, "session %s is busy", s->id);
	if (j->asleep && !j->pid)
		return resize_asleep(node, s, to, e);
	if (session_alive(node, s) && !j->given_to && !doze_is_dozing(node, s))
		return resize_running(node, s, to, e);
	return error_fault(e, FAULT_CONFLICT, "session %s neither runs here nor is asleep", s->id);
}
