/* SPDX-License-Identifier: Apache-2.0 */
#include "node/lease_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/asleep.h"
#include "node/cgroup.h"
#include "node/depart.h"
#include "node/hold.h"

#include <stdlib.h>
#include <string.h>

/* --- holding ------------------------------------------------------------------------ */

/* What a crash has left half done, with a CRIU that works on it still: that must come to its own
 * end, and the effect that is taken up then settles whether it runs. */
static bool has_criu(const struct node *node, const struct session *s)
{
	cleanup_free char *work = node_path(node, "criu", s->id, "");
	return s->journal.effect && !s->effect && work && criu_has_orphans(work);
}

static bool hold(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	if (!s->journal.pid && !s->effect && !s->journal.effect)
		return true;
	if (has_criu(node, s))
		hold_own(node, s);
	if (hold_take(node, s, HOLD_LEASE, &e) == 0)
		return true;
	log_error("session %s: %s", s->id, e.text);
	return false;
}

/* A group of no session that is known may have processes all the same. */
static int hold_stranger(const char *id, void *arg)
{
	struct node *node = arg;
	struct cgroup cg;
	if (session_find(node, id))
		return 0;
	int r = cgroup_init(&cg, node->config->node.cgroup, id, NULL);
	if (r == 0)
		r = cgroup_freeze_soon(&cg, NULL);
	cgroup_deinit(&cg);
	return r;
}

bool lease_hold_all(struct node *node)
{
	bool all = true;
	for (struct session *s = node->sessions; s; s = s->next)
		all = hold(node, s) && all;
	return cgroup_each(node->config->node.cgroup, hold_stranger, node, NULL) == 0 && all;
}

static int check_frozen(const char *id, void *arg)
{
	struct node *node = arg;
	struct session *s = session_find(node, id);
	struct cgroup cg;
	bool frozen = false;
	if (s && hold_is_owned(node, s))
		return 0;
	int r = cgroup_init(&cg, node->config->node.cgroup, id, NULL);
	if (r == 0)
		r = cgroup_frozen(&cg, &frozen, NULL);
	cgroup_deinit(&cg);
	return r < 0 ? r : !frozen;
}

bool lease_all_frozen(struct node *node)
{
	return cgroup_each(node->config->node.cgroup, check_frozen, node, NULL) == 0;
}

/* --- a grant -------------------------------------------------------------------------- */

static bool is_named(const struct lease_grant *grant, const char *id)
{
	for (char **at = grant->sessions; at && *at; at++)
		if (strcmp(*at, id) == 0)
			return true;
	return false;
}

/* It may have been fenced, and nothing come of that: what is in the store by now is not against it.
 * Until that is known, or if it cannot be, a number of our own is refused and one of elsad's is
 * not. */
struct adoption {
	struct node *node;
	char id[ID_SIZE];
	struct store_numbers numbers;
	int r;
};

static void look_into_store(void *arg)
{
	struct adoption *a = arg;
	struct store *store;
	a->r = node_store(a->node, &store, NULL);
	if (a->r == 0)
		a->r = store_numbers(store, a->id, &a->numbers, NULL);
}

static void looked(void *arg)
{
	struct adoption *a = arg;
	struct node *node = a->node;
	struct session *s = session_find(node, a->id);
	/* Held again: whose it is must be said anew. */
	if (a->r == 0 && s && s->journal.pid && !hold_has(node, s, HOLD_LEASE) &&
	    a->numbers.fence > s->journal.fence) {
		pthread_mutex_lock(&node->lock);
		s->journal.fence = a->numbers.fence;
		pthread_mutex_unlock(&node->lock);
		if (!s->effect)
			journal_note(node, &s->journal, NULL);
	}
	free(a);
}

static void adopt(struct node *node, const struct session *s)
{
	struct adoption *a = calloc(1, sizeof(*a));
	if (!a)
		return;
	a->node = node;
	memcpy(a->id, s->id, ID_SIZE);
	if (pool_submit(node->pool, look_into_store, looked, a, NULL) < 0)
		free(a);
}

static void let_go(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	if (!hold_has(node, s, HOLD_LEASE))
		return;
	if (hold_drop(node, s, HOLD_LEASE, &e) < 0) {
		log_error("session %s: %s", s->id, e.text);
		return;
	}
	if (!s->effect && session_is_given(s))
		return;
	log_info("session %s goes on: the node has its lease again", s->id);
	adopt(node, s);
}

static bool was_strange(const struct lease *l, const char *id)
{
	for (size_t i = 0; i < l->strange_count; i++)
		if (strcmp(l->strange[i], id) == 0)
			return true;
	return false;
}

/* It runs, elsad has had the result of whatever made it run, and does not call it ours. */
static bool is_strange(const struct session *s)
{
	return s->journal.pid && !s->effect && !s->queued && !s->journal.effect &&
	       s->journal.result_count == 0 && !s->journal.ended && !session_is_given(s);
}

/*
 * A machine that was paused from outside may know nothing of it: the lease has
 * lapsed for elsad, and not for us. What elsad has restored elsewhere it does not
 * name any more. Twice, since the answer may have been on its way.
 */
static void hold_strange(struct lease *l, const struct lease_grant *grant)
{
	size_t count = 0, room = 0;
	char(*now)[ID_SIZE] = NULL;
	for (struct session *s = l->node->sessions; s; s = s->next) {
		if (!is_strange(s) || is_named(grant, s->id) || hold_has(l->node, s, HOLD_LEASE))
			continue;
		if (was_strange(l, s->id)) {
			log_warning("session %s is not this node's any more, says elsad: it is "
				    "held",
				    s->id);
			hold(l->node, s);
			continue;
		}
		if (count == room) {
			room = room * 2 + 8;
			void *more = realloc(now, room * sizeof(*now));
			if (!more)
				break;
			now = more;
		}
		memcpy(now[count++], s->id, ID_SIZE);
	}
	free(l->strange);
	l->strange = now;
	l->strange_count = count;
}

void lease_obey(struct lease *l, const struct lease_grant *grant)
{
	for (struct session *s = l->node->sessions; s; s = s->next) {
		bool named = is_named(grant, s->id);
		if (named)
			let_go(l->node, s);
		asleep_named(l->node, s, named);
	}
	hold_strange(l, grant);
}
