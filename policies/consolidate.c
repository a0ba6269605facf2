/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/consolidate.h"

#include "base/names.h"
#include "policies/consolidate_private.h"

#define NEVER   INT64_MAX
#define NONE    CONSOLIDATE_NONE
#define HOUR_MS ((int64_t)3600 * 1000)

static const struct {
	const char *name, *text;
} reasons[CONSOLIDATE_REASON_COUNT] = {
	[CONSOLIDATE_READY] = { "ready", "it could be emptied, when it is its turn" },
	[CONSOLIDATE_EMPTYING] = { "emptying", "its sessions leave it, so that it can be given "
					       "back" },
	[CONSOLIDATE_NO_MACHINE] = { "no-machine", "nobody would take its machine back" },
	[CONSOLIDATE_HELD] = { "held", "it is drained by the operator" },
	[CONSOLIDATE_ENDS] = { "ends", "its machine goes away" },
	[CONSOLIDATE_DOWN] = { "down", "it does not answer" },
	[CONSOLIDATE_EMPTY] = { "empty", "no session is there" },
	[CONSOLIDATE_KEPT] = { "kept", "its pool gives no machine back now" },
	[CONSOLIDATE_MIN] = { "min", "there would be fewer machines than capacity.min" },
	[CONSOLIDATE_CANNOT_MOVE] = { "cannot-move", "sessions cannot leave it while they run" },
	[CONSOLIDATE_NO_ROOM] = { "no-room", "the others have no room for its sessions in use" },
	[CONSOLIDATE_SPARE] = { "spare", "less than capacity.spare would stay free" },
	[CONSOLIDATE_STUCK] = { "stuck", "a session could not leave it, lately" },
	[CONSOLIDATE_RESTING] = { "resting", "a session there was moved not long ago" },
	[CONSOLIDATE_BUDGET] = { "budget", "it would take more moves than the hour allows" },
	[CONSOLIDATE_STEADY] = { "steady", "it could be emptied, but not for long enough yet" },
	[CONSOLIDATE_WANTED] = { "wanted", "sessions want machines" },
	[CONSOLIDATE_GROWN] = { "grown", "machines were asked for not long ago" },
	[CONSOLIDATE_CALM] = { "calm", "another one was emptied not long ago" },
	[CONSOLIDATE_QUIET] = { "quiet", "nothing is emptied in the quiet hours" },
	[CONSOLIDATE_DONE] = { "done", "its machine is being given back, or gone" },
	[CONSOLIDATE_LATE] = { "late", "it took too long" },
	[CONSOLIDATE_OFF] = { "off", "the configuration does not ask for it any more" },
};

const char *consolidate_reason_name(enum consolidate_reason reason)
{
	return (unsigned)reason < CONSOLIDATE_REASON_COUNT ? reasons[reason].name : "?";
}

const char *consolidate_reason_text(enum consolidate_reason reason)
{
	return (unsigned)reason < CONSOLIDATE_REASON_COUNT ? reasons[reason].text : "?";
}

struct deciding {
	const struct consolidate_rules *rules;
	struct consolidate_facts *facts;
	wall_ms now;
	struct consolidate_decision *decisions;
	size_t count, most;
	wall_ms next_at;
};

static wall_ms later(wall_ms t, int64_t duration)
{
	wall_ms sum;
	return __builtin_add_overflow(t, duration > 0 ? duration : 0, &sum) ? NEVER : sum;
}

/* Whether `t` has come; when not, it is a time to look again. */
static bool due(struct deciding *d, wall_ms t)
{
	if (t <= d->now)
		return true;
	if (t != NEVER && (!d->next_at || t < d->next_at))
		d->next_at = t;
	return false;
}

/* A time that a clock set back has left in the future counts as now. */
static wall_ms past(const struct deciding *d, wall_ms t)
{
	return t > d->now ? d->now : t;
}

/* Something was at `t` (0: never), and has been over for `duration`. */
static bool is_over(struct deciding *d, wall_ms t, int64_t duration)
{
	return !t || due(d, later(past(d, t), duration));
}

static void decide(struct deciding *d, struct consolidate_decision what)
{
	if (d->count < d->most)
		d->decisions[d->count++] = what;
}

/* --- a node ------------------------------------------------------------------------------------
 */

/* Machines that can be used and stay, as capacity counts them. */
static int64_t count_serving(const struct deciding *d)
{
	int64_t n = 0;
	for (size_t i = 0; i < d->facts->node_count; i++) {
		const struct consolidate_node *x = &d->facts->nodes[i];
		n += x->pooled && x->serving && !x->doomed && !x->going;
	}
	return n;
}

/* What a node is by itself. */
static enum consolidate_reason judge_machine(const struct deciding *d, size_t node)
{
	const struct consolidate_node *n = &d->facts->nodes[node];
	bool begun = node == d->facts->emptying;
	if (!n->pooled)
		return CONSOLIDATE_NO_MACHINE;
	if (n->held)
		return CONSOLIDATE_HELD;
	if (n->doomed || n->going)
		return CONSOLIDATE_ENDS;
	if (!n->serving)
		return CONSOLIDATE_DOWN;
	if (n->empty && !n->sessions && !begun)
		return CONSOLIDATE_EMPTY;
	if (n->kept && !begun)
		return CONSOLIDATE_KEPT;
	if (count_serving(d) - 1 < d->rules->min)
		return CONSOLIDATE_MIN;
	if (n->in_use && !n->gives)
		return CONSOLIDATE_CANNOT_MOVE;
	return CONSOLIDATE_READY;
}

/* Those in use that still have to be moved. */
static int64_t count_to_move(const struct deciding *d, const struct consolidate_node *n)
{
	int64_t count = 0;
	for (size_t i = n->first; i < n->first + n->sessions; i++)
		count += d->facts->sessions[i].use == CONSOLIDATE_IN_USE &&
			 !d->facts->sessions[i].leaving;
	return count;
}

/* When so many may be moved: now, NEVER, or in between. */
static wall_ms budget_at(const struct deciding *d, int64_t count)
{
	const wall_ms *moves = d->facts->moves;
	size_t first = 0;
	if (count <= 0)
		return d->now;
	if (count > d->rules->moves_per_hour)
		return NEVER;
	while (first < d->facts->move_count && later(past(d, moves[first]), HOUR_MS) <= d->now)
		first++;
	int64_t over = (int64_t)(d->facts->move_count - first) + count - d->rules->moves_per_hour;
	if (over <= 0)
		return d->now;
	return later(past(d, moves[first + (size_t)over - 1]), HOUR_MS);
}

static wall_ms latest(wall_ms a, wall_ms b)
{
	return a > b ? a : b;
}

/* What its sessions have to say. */
static enum consolidate_reason judge_sessions(struct deciding *d, struct consolidate_node *n)
{
	wall_ms stuck = 0, rests = 0;
	for (size_t i = n->first; i < n->first + n->sessions; i++) {
		const struct consolidate_session *s = &d->facts->sessions[i];
		if (s->leaving)
			continue;
		stuck = latest(stuck, s->stuck_until);
		if (s->use == CONSOLIDATE_IN_USE && s->moved_at)
			rests = latest(rests,
				       later(past(d, s->moved_at), d->rules->session_rest_ms));
	}
	wall_ms budget = budget_at(d, count_to_move(d, n));
	n->until = latest(latest(stuck, rests), budget);
	if (due(d, n->until)) {
		n->until = 0;
		return CONSOLIDATE_READY;
	}
	if (n->until == NEVER)
		n->until = 0;
	return stuck > d->now   ? CONSOLIDATE_STUCK
	       : rests > d->now ? CONSOLIDATE_RESTING
				: CONSOLIDATE_BUDGET;
}

/* Whether all could leave it now. */
static enum consolidate_reason judge(struct deciding *d, size_t node)
{
	struct consolidate_node *n = &d->facts->nodes[node];
	bool begun = node == d->facts->emptying;
	enum consolidate_reason reason = judge_machine(d, node);
	if (reason == CONSOLIDATE_READY) {
		struct consolidate_fit fit = consolidate_fit(d->rules, d->facts, node, begun);
		reason = fit.reason;
		n->short_bytes = fit.short_bytes;
	}
	if (reason != CONSOLIDATE_READY) {
		n->fits_since = 0;
		return reason;
	}
	n->fits_since = n->fits_since ? past(d, n->fits_since) : d->now;
	return judge_sessions(d, n);
}

/* --- one that is being emptied -----------------------------------------------------------------
 */

static bool is_left(const struct deciding *d, const struct consolidate_node *n,
		    enum consolidate_use use)
{
	for (size_t i = n->first; i < n->first + n->sessions; i++)
		if (d->facts->sessions[i].use == use)
			return true;
	return false;
}

/* Who goes next: sessions are sorted so. */
static void send_away(struct deciding *d, const struct consolidate_node *n)
{
	static const enum consolidate_kind how[] = { CONSOLIDATE_LEAVE, CONSOLIDATE_PUT_AWAY,
						     CONSOLIDATE_MOVE };
	int64_t turns = d->rules->at_once > 0 ? d->rules->at_once : 1;
	bool asleep_first = is_left(d, n, CONSOLIDATE_ASLEEP) || is_left(d, n, CONSOLIDATE_IDLE);
	for (size_t i = n->first; i < n->first + n->sessions; i++)
		turns -= d->facts->sessions[i].leaving &&
			 d->facts->sessions[i].use != CONSOLIDATE_ASLEEP;
	for (size_t i = n->first; i < n->first + n->sessions; i++) {
		const struct consolidate_session *s = &d->facts->sessions[i];
		bool turn = s->use == CONSOLIDATE_ASLEEP || turns > 0;
		if (s->leaving || s->busy || !turn ||
		    (s->use == CONSOLIDATE_IN_USE && asleep_first))
			continue;
		turns -= s->use != CONSOLIDATE_ASLEEP;
		decide(d, (struct consolidate_decision) { .kind = how[s->use],
							  .why = CONSOLIDATE_EMPTYING,
							  .node = s->node,
							  .session = i,
							  .to = s->to });
	}
}

/* READY: it goes on. */
static enum consolidate_reason why_end(struct deciding *d)
{
	size_t node = d->facts->emptying;
	if (node == NONE || d->facts->nodes[node].going)
		return CONSOLIDATE_DONE;
	enum consolidate_reason reason = judge(d, node);
	if (d->facts->wanted)
		return CONSOLIDATE_WANTED;
	if (!due(d, d->facts->quiet_until))
		return CONSOLIDATE_QUIET;
	if (reason != CONSOLIDATE_READY)
		return reason;
	const struct consolidate_node *n = &d->facts->nodes[node];
	bool there = n->sessions || !n->empty;
	if (there && is_over(d, d->facts->began_at, d->rules->patience_ms))
		return CONSOLIDATE_LATE;
	return CONSOLIDATE_READY;
}

/* True: it goes on. */
static bool go_on(struct deciding *d)
{
	size_t node = d->facts->emptying;
	enum consolidate_reason why = why_end(d);
	if (why != CONSOLIDATE_READY) {
		decide(d, (struct consolidate_decision) {
				  .kind = CONSOLIDATE_END, .why = why, .node = node });
		if (node != NONE) {
			d->facts->nodes[node].reason = why;
			d->facts->nodes[node].fits_since = 0;
		}
		return false;
	}
	d->facts->nodes[node].reason = CONSOLIDATE_EMPTYING;
	send_away(d, &d->facts->nodes[node]);
	return true;
}

/* --- all ---------------------------------------------------------------------------------------
 */

/* What keeps every node from being emptied now; READY: nothing. */
static enum consolidate_reason judge_all(struct deciding *d, bool ended)
{
	if (d->facts->wanted)
		return CONSOLIDATE_WANTED;
	if (!is_over(d, d->facts->grown_at, d->rules->calm_ms))
		return CONSOLIDATE_GROWN;
	if (!due(d, d->facts->quiet_until))
		return CONSOLIDATE_QUIET;
	if (ended || !is_over(d, d->facts->ended_at, d->rules->calm_ms))
		return CONSOLIDATE_CALM;
	return CONSOLIDATE_READY;
}

/* The best of those whose turn it could be; says of each why not. */
static size_t judge_nodes(struct deciding *d, enum consolidate_reason all)
{
	size_t best = NONE;
	for (size_t i = 0; i < d->facts->node_count; i++) {
		struct consolidate_node *n = &d->facts->nodes[i];
		if (i == d->facts->emptying)
			continue;
		n->reason = judge(d, i);
		if (all == CONSOLIDATE_WANTED || all == CONSOLIDATE_GROWN)
			n->fits_since = 0;
		if (n->reason != CONSOLIDATE_READY)
			continue;
		wall_ms steady = later(n->fits_since, d->rules->steady_ms);
		if (all != CONSOLIDATE_READY) {
			n->reason = all;
		} else if (!due(d, steady)) {
			n->reason = CONSOLIDATE_STEADY;
			n->until = steady;
		} else {
			best = best == NONE ? i : consolidate_better(d->facts, best, i);
		}
	}
	return best;
}

size_t consolidate_decide(const struct consolidate_rules *rules, struct consolidate_facts *facts,
			  wall_ms now, struct consolidate_decision *decisions, size_t most,
			  wall_ms *next_at)
{
	struct deciding d = {
		.rules = rules, .facts = facts, .now = now, .decisions = decisions, .most = most
	};
	if (facts->emptying >= facts->node_count)
		facts->emptying = NONE;
	bool one = facts->emptying != NONE || facts->emptying_gone;
	consolidate_sort(facts);
	bool goes_on = one && go_on(&d);
	size_t best = judge_nodes(&d, judge_all(&d, one && !goes_on));
	if (best != NONE && !goes_on)
		decide(&d, (struct consolidate_decision) { .kind = CONSOLIDATE_BEGIN,
							   .why = CONSOLIDATE_READY,
							   .node = best });
	*next_at = d.next_at;
	return d.count;
}
