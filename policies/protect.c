/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/protect.h"

#include "base/cleanup.h"
#include "base/names.h"

/* Before anything was measured: a session stands still and is read at about this. */
#define GUESS_BYTES_PER_MS (500 * 1000)
#define GUESS_LEAST_MS     500
/* However slow the store is, the RPO's half is left to work. */
#define COST_MOST_OF_RPO 0.5
#define STRETCH_MOST     1000.0

static const char *const reason_names[PROTECT_REASON_COUNT] = {
	[PROTECT_NOT_WANTED] = "not-wanted",
	[PROTECT_WAITS] = "young-enough",
	[PROTECT_BUSY] = "busy",
	[PROTECT_UNDER_WAY] = "under-way",
	[PROTECT_TURN] = "not-its-turn",
	[PROTECT_FAILED] = "failed-lately",
	[PROTECT_DUE] = "due",
};

static wall_ms later(wall_ms a, wall_ms b)
{
	return a > b ? a : b;
}

static int64_t cost_ms(const struct protect_facts *f)
{
	return f->cost_ms > 0 ? f->cost_ms : f->memory_bytes / GUESS_BYTES_PER_MS + GUESS_LEAST_MS;
}

/* What is lost if its node is gone now is what happened since then. */
static wall_ms saved_at(const struct protect_facts *f)
{
	return later(f->started_at, f->frozen_at);
}

/* What a snapshot of a session takes of its node: of its time, or of its throughput, whichever is
 * scarcer. */
static int64_t taken_ms(const struct protect_node *node, const struct protect_facts *f)
{
	int64_t ms = cost_ms(f);
	if (node->upload_bytes_per_s <= 0)
		return ms;
	double sent_ms = (double)f->cost_bytes * 1000 / (double)node->upload_bytes_per_s;
	return sent_ms > (double)ms ? (int64_t)sent_ms : ms;
}

struct load {
	int64_t ms;        /* that its sessions' snapshots take of a node, one of each */
	int64_t under_way; /* snapshots */
};

static struct load load_of(const struct protect_node *nodes, size_t node,
			   const struct protect_facts *facts, size_t count)
{
	struct load load = { 0 };
	for (size_t i = 0; i < count; i++) {
		if (facts[i].node != node)
			continue;
		load.ms += facts[i].wanted ? taken_ms(&nodes[node], &facts[i]) : 0;
		load.under_way += facts[i].under_way;
	}
	return load;
}

/* By how much the intervals of a node's sessions must be longer than the RPO says: so that at its
 * own pace all of them together take no more than their share. */
static double stretch_of(const struct protect_rules *rules, int64_t ms)
{
	double load = (double)ms / (double)rules->rpo_ms;
	double stretch = rules->share > 0 ? load / rules->share : STRETCH_MOST;
	if (stretch > STRETCH_MOST)
		return STRETCH_MOST;
	return stretch > 1 ? stretch : 1;
}

static void set_interval(const struct protect_rules *rules, double stretch,
			 const struct protect_facts *f, struct protect_decision *d)
{
	int64_t cost = cost_ms(f);
	int64_t most = (int64_t)((double)rules->rpo_ms * COST_MOST_OF_RPO);
	int64_t interval = rules->rpo_ms - (cost < most ? cost : most);
	d->interval_ms = (int64_t)((double)interval * stretch);
	d->stretched = stretch > 1 || cost > most;
}

/* When the next one is to be taken, and why not before. */
static void set_due(const struct protect_rules *rules, const struct protect_facts *f,
		    struct protect_decision *d)
{
	d->due_at = saved_at(f) + d->interval_ms;
	d->reason = PROTECT_WAITS;
	if (!f->failed_at)
		return;
	wall_ms again = f->failed_at + (rules->retry_ms ? rules->retry_ms : rules->rpo_ms);
	if (again > d->due_at) {
		d->due_at = again;
		d->reason = PROTECT_FAILED;
	}
}

static void judge(const struct protect_rules *rules, double stretch, const struct protect_facts *f,
		  wall_ms now, struct protect_decision *d)
{
	*d = (struct protect_decision) { .reason = PROTECT_NOT_WANTED };
	if (!f->wanted)
		return;
	set_interval(rules, stretch, f, d);
	set_due(rules, f, d);
	if (f->under_way)
		d->reason = PROTECT_UNDER_WAY;
	else if (f->busy)
		d->reason = PROTECT_BUSY;
	else if (d->due_at <= now)
		d->reason = PROTECT_TURN;
}

/* Due the longest, in its own intervals: of those that wait as long, the one that is to be taken
 * more often. The first of equals. `count`: none. */
static size_t next_of(const struct protect_facts *facts, const struct protect_decision *decisions,
		      size_t count, size_t node, wall_ms now)
{
	size_t best = count;
	double most = -1;
	for (size_t i = 0; i < count; i++) {
		if (facts[i].node != node || decisions[i].reason != PROTECT_TURN)
			continue;
		double overdue = (double)(now - decisions[i].due_at) /
				 (double)(decisions[i].interval_ms + 1);
		if (overdue > most) {
			most = overdue;
			best = i;
		}
	}
	return best;
}

static void give_turns(int64_t turns, const struct protect_facts *facts,
		       struct protect_decision *decisions, size_t count, size_t node, wall_ms now)
{
	for (; turns > 0; turns--) {
		size_t i = next_of(facts, decisions, count, node, now);
		if (i == count)
			return;
		decisions[i].reason = PROTECT_DUE;
		decisions[i].take = true;
	}
}

/* What waits for its turn, or for the end of something else, is looked at when that ends. */
static wall_ms next_look(wall_ms next, wall_ms due_at, wall_ms now)
{
	return due_at > now && (!next || due_at < next) ? due_at : next;
}

/* The simulator asks tens of millions of times: each fact is looked at twice, and a third time
 * only when it is somebody's turn. */
static wall_ms decide_node(const struct protect_rules *rules, const struct protect_node *nodes,
			   size_t node, const struct protect_facts *facts, size_t count,
			   wall_ms now, struct protect_decision *decisions)
{
	const struct load load = load_of(nodes, node, facts, count);
	double stretch = stretch_of(rules, load.ms);
	int64_t turns = (rules->most_at_once > 0 ? rules->most_at_once : 1) - load.under_way;
	wall_ms next = 0;
	int64_t waiting = 0;
	for (size_t i = 0; i < count; i++) {
		if (facts[i].node != node)
			continue;
		judge(rules, stretch, &facts[i], now, &decisions[i]);
		waiting += decisions[i].reason == PROTECT_TURN;
		next = next_look(next, decisions[i].due_at, now);
	}
	give_turns(turns < waiting ? turns : waiting, facts, decisions, count, node, now);
	return next;
}

wall_ms protect_decide(const struct protect_rules *rules, const struct protect_node *nodes,
		       size_t node_count, const struct protect_facts *facts, size_t count,
		       wall_ms now, struct protect_decision *decisions)
{
	wall_ms next = 0;
	for (size_t i = 0; i < count; i++)
		if (facts[i].node >= node_count)
			decisions[i] = (struct protect_decision) { 0 };
	for (size_t node = 0; node < node_count; node++)
		next = next_look(
			next, decide_node(rules, nodes, node, facts, count, now, decisions), now);
	return next;
}

const char *protect_reason_name(enum protect_reason reason)
{
	return name_of(reason_names, ARRAY_SIZE(reason_names), (int)reason);
}
