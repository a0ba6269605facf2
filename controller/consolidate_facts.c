/* SPDX-License-Identifier: Apache-2.0 */
/* What is known when it is decided which node could be emptied. */
#include "controller/consolidate_private.h"

#include "base/cleanup.h"
#include "controller/asleep.h"
#include "controller/capacity.h"
#include "controller/idle.h"
#include "controller/ledger.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/operations.h"
#include "controller/placing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void consolidate_pass_deinit(struct consolidate_pass *pass)
{
	free(pass->facts.nodes);
	free(pass->facts.sessions);
	free(pass->nodes);
	free(pass->moves);
}

/* --- nodes -------------------------------------------------------------------------------------
 */

static struct consolidate_node node_facts(struct node *node, int64_t left)
{
	const struct controller *c = node->controller;
	const struct node_info *info = &node->info;
	struct capacity_node machine;
	bool pooled = capacity_node(node, &machine);
	bool held = node->draining && !machine.going;
	bool moves = node_is_usable(node) && info->move_port;
	return (struct consolidate_node) {
		.name = node_name(node),
		.memory_bytes = info->memory_bytes - c->config->nodes.reserve_bytes,
		.left_bytes = left,
		.features = info->features,
		.kind = info->criu,
		.speech = info->move_version,
		.pooled = pooled,
		.kept = machine.kept,
		.serving = node->up && node_in_reach(node),
		.held = held,
		.doomed = placing_is_doomed(node) || (placing_is_draining(node) && !node->draining),
		.going = machine.going,
		.gives = moves,
		/* None that is likelier than others to go away. */
		.takes = moves && left > 0 && !info->notice_count,
		.empty = !node_sessions(node) && !node->strange_count,
		.pool = machine.pool,
		.price = ledger_node_hour(node),
		.fits_since = node->consolidation.fits_since,
	};
}

static int collect_nodes(struct controller *c, struct consolidate_pass *pass)
{
	struct consolidate_facts *f = &pass->facts;
	const struct consolidate_kept *kept = &c->consolidate->kept;
	cleanup_free int64_t *left = placing_left(c);
	size_t count = 0;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		count++;
	f->nodes = calloc(count, sizeof(*f->nodes));
	pass->nodes = calloc(count, sizeof(struct node *));
	if (!left || !f->nodes || !pass->nodes)
		return -ENOMEM;
	f->emptying = CONSOLIDATE_NONE;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n)) {
		if (n->joined && consolidate_empties(n))
			f->emptying = f->node_count;
		pass->nodes[f->node_count] = n;
		f->nodes[f->node_count] = node_facts(n, left[f->node_count]);
		f->node_count++;
	}
	f->emptying_gone = kept->emptying && f->emptying == CONSOLIDATE_NONE;
	return 0;
}

/* --- sessions ----------------------------------------------------------------------------------
 */

static enum consolidate_use use_of(struct session *s)
{
	switch (s->state) {
	case SESSION_ASLEEP:
	case SESSION_ANSWERING:
	case SESSION_RELEASING:
		return CONSOLIDATE_ASLEEP;
	case SESSION_DOZING:
	case SESSION_FREEZING:
	case SESSION_CHECKPOINTING:
	case SESSION_STOPPING:
	case SESSION_FORGETTING:
		return CONSOLIDATE_IDLE;
	case SESSION_RUNNING:
	case SESSION_SNAPSHOTTING:
		/* What only would be put to sleep is in use to us. */
		if (operation_waiting(s, EFFECT_HIBERNATE))
			return CONSOLIDATE_IDLE;
		return !s->controller->config->idle.dry_run && !idle_in_use(s) ? CONSOLIDATE_IDLE
									       : CONSOLIDATE_IN_USE;
	default:
		return CONSOLIDATE_IN_USE;
	}
}

static bool is_leaving(const struct session *s)
{
	return s->state == SESSION_CHECKPOINTING || s->state == SESSION_MIGRATING ||
	       s->state == SESSION_RELEASING || s->state == SESSION_STOPPING ||
	       s->state == SESSION_FORGETTING || operation_waiting(s, EFFECT_HIBERNATE);
}

static wall_ms later_of(wall_ms a, wall_ms b)
{
	return a > b ? a : b;
}

/* What is monotonic, and `pause` on, as a wall-clock time. */
static wall_ms after(mono_us at, int64_t pause_ms, wall_ms now)
{
	return at ? now + pause_ms + (at - clock_mono()) / 1000 : 0;
}

/* What was refused lately is not tried over and over. */
static wall_ms stuck_until(const struct session *s, enum consolidate_use use, wall_ms now)
{
	int64_t pause = s->controller->config->idle.base.refused_retry_ms;
	wall_ms until = s->sent_away.as == use ? after(s->sent_away.at, pause, now) : 0;
	if (use == CONSOLIDATE_ASLEEP)
		return later_of(until, after(s->asleep.again_at, 0, now));
	if (s->row.refused_at)
		until = later_of(until, s->row.refused_at + pause);
	if (use == CONSOLIDATE_IN_USE)
		until = later_of(until, after(s->move_failed_at, pause, now));
	return until;
}

static size_t index_of(const struct consolidate_pass *pass, const struct node *node)
{
	size_t i = 0;
	while (i < pass->facts.node_count && pass->nodes[i] != node)
		i++;
	return i;
}

static void collect_session(struct session *s, struct consolidate_pass *pass, wall_ms now)
{
	struct consolidate_facts *f = &pass->facts;
	enum consolidate_use use = use_of(s);
	bool leaving = is_leaving(s);
	f->sessions[f->session_count++] = (struct consolidate_session) {
		.id = s->row.id,
		.node = index_of(pass, s->node),
		.memory_bytes = placing_memory(s),
		.use = use,
		.leaving = leaving,
		.busy = !leaving && (s->effect || session_state_is_transient(s->state)),
		.stuck_until = stuck_until(s, use, now),
		.moved_at = consolidate_moved_at(&s->controller->consolidate->kept, s->row.id),
	};
}

int consolidate_collect(struct controller *c, struct consolidate_pass *pass, wall_ms now)
{
	const struct consolidate_kept *kept = &c->consolidate->kept;
	struct consolidate_facts *f = &pass->facts;
	if (collect_nodes(c, pass) < 0)
		return -ENOMEM;
	f->sessions = calloc(sessions_count(c) + 1, sizeof(*f->sessions));
	pass->moves = calloc(kept->move_count + 1, sizeof(*pass->moves));
	if (!f->sessions || !pass->moves)
		return -ENOMEM;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		if (session_is_its_nodes(s) || session_state_is_transient(s->state))
			collect_session(s, pass, now);
	for (size_t i = 0; i < kept->move_count; i++)
		pass->moves[i] = kept->moves[i].at;
	f->moves = pass->moves;
	f->move_count = kept->move_count;
	f->began_at = kept->began_at;
	f->ended_at = kept->ended_at;
	f->grown_at = capacity_grown_at(c);
	f->wanted = capacity_is_short(c);
	f->quiet_until = idle_quiet(c);
	return 0;
}
