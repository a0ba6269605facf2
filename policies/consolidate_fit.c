/* SPDX-License-Identifier: Apache-2.0 */
/* Where the sessions of a node would go. */
#include "policies/consolidate_private.h"

#include "policies/capacity.h"
#include "policies/features.h"

#include <stdlib.h>
#include <string.h>

/* What is larger counts as this, so that sums of many stay in range. */
#define BYTES_MOST (INT64_C(1) << 45)
#define PRICE_MOST 1e6

static int64_t clamp(int64_t bytes)
{
	return bytes < 0 ? 0 : bytes > BYTES_MOST ? BYTES_MOST : bytes;
}

static int by_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

/* Those of a node together; who leaves first first, of those in use the largest. */
static int by_turn(const void *a, const void *b)
{
	const struct consolidate_session *x = a, *y = b;
	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	if (x->use != y->use)
		return x->use < y->use ? -1 : 1;
	if (x->memory_bytes != y->memory_bytes)
		return x->memory_bytes > y->memory_bytes ? -1 : 1;
	return by_text(x->id, y->id);
}

void consolidate_sort(struct consolidate_facts *facts)
{
	for (size_t i = 0; i < facts->node_count; i++) {
		struct consolidate_node *n = &facts->nodes[i];
		n->first = n->sessions = n->in_use = 0;
		n->in_use_bytes = n->short_bytes = 0;
		n->until = 0;
		n->memory_bytes = clamp(n->memory_bytes);
		n->left_bytes = clamp(n->left_bytes);
	}
	for (size_t i = 0; i < facts->session_count; i++) {
		facts->sessions[i].memory_bytes = clamp(facts->sessions[i].memory_bytes);
		facts->sessions[i].to = CONSOLIDATE_NONE;
	}
	if (facts->session_count)
		qsort(facts->sessions, facts->session_count, sizeof(*facts->sessions), by_turn);
	for (size_t i = 0; i < facts->session_count; i++) {
		const struct consolidate_session *s = &facts->sessions[i];
		if (s->node >= facts->node_count)
			break;
		struct consolidate_node *n = &facts->nodes[s->node];
		if (!n->sessions++)
			n->first = i;
		n->in_use += s->use == CONSOLIDATE_IN_USE;
		n->in_use_bytes += s->use == CONSOLIDATE_IN_USE ? s->memory_bytes : 0;
	}
}

/* --- packing -----------------------------------------------------------------------------------
 */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* What runs on `from` runs on at `to`. */
static bool could_take(const struct consolidate_node *from, const struct consolidate_node *to)
{
	if (from->kind && to->kind && !same_text(from->kind, to->kind))
		return false;
	if (from->speech && to->speech && from->speech != to->speech)
		return false;
	return same_text(from->features, to->features) ||
	       features_missing(from->features, to->features, NULL, 0) == 0;
}

/* How much of it may be promised more. */
static int64_t cap_of(const struct consolidate_rules *rules, const struct consolidate_node *n,
		      bool begun)
{
	bool part = rules->fill > 0 && rules->fill < 1 && !begun;
	int64_t kept = part ? (int64_t)((1 - rules->fill) * (double)n->memory_bytes) : 0;
	return n->left_bytes > kept ? n->left_bytes - kept : 0;
}

static void lay_out(const struct consolidate_rules *rules, struct consolidate_facts *facts,
		    size_t node, bool begun)
{
	for (size_t i = 0; i < facts->node_count; i++) {
		struct consolidate_node *n = &facts->nodes[i];
		bool target = i != node && i != facts->emptying && n->takes && !n->held &&
			      !n->doomed && !n->going && !(n->pooled && n->empty);
		n->plan_left = n->left_bytes;
		n->plan_cap = target ? cap_of(rules, n, begun) : -1;
	}
}

/* Best fit; of equal ones the first by name. */
static size_t choose(const struct consolidate_facts *facts, const struct consolidate_session *s)
{
	const struct consolidate_node *from = &facts->nodes[s->node];
	const struct consolidate_node *best = NULL;
	for (size_t i = 0; i < facts->node_count; i++) {
		const struct consolidate_node *n = &facts->nodes[i];
		if (n->plan_cap < s->memory_bytes)
			continue;
		if (best && (n->plan_cap > best->plan_cap ||
			     (n->plan_cap == best->plan_cap && by_text(n->name, best->name) >= 0)))
			continue;
		if (could_take(from, n))
			best = n;
	}
	return best ? (size_t)(best - facts->nodes) : CONSOLIDATE_NONE;
}

static int64_t largest_cap(const struct consolidate_facts *facts)
{
	int64_t most = 0;
	for (size_t i = 0; i < facts->node_count; i++)
		if (facts->nodes[i].plan_cap > most)
			most = facts->nodes[i].plan_cap;
	return most;
}

/* Bytes that one of them is short of; 0: all have found room. */
static int64_t pack(struct consolidate_facts *facts, size_t node)
{
	const struct consolidate_node *from = &facts->nodes[node];
	for (size_t i = from->first; i < from->first + from->sessions; i++) {
		struct consolidate_session *s = &facts->sessions[i];
		if (s->use != CONSOLIDATE_IN_USE || s->leaving)
			continue;
		s->to = choose(facts, s);
		if (s->to == CONSOLIDATE_NONE) {
			int64_t lacks = s->memory_bytes - largest_cap(facts);
			return lacks > 0 ? lacks : 1; /* room, but not of its kind */
		}
		facts->nodes[s->to].plan_cap -= s->memory_bytes;
		facts->nodes[s->to].plan_left -= s->memory_bytes;
	}
	return 0;
}

static int64_t free_beside(const struct consolidate_facts *facts, size_t node)
{
	int64_t sum = 0;
	for (size_t i = 0; i < facts->node_count; i++)
		if (i != node)
			sum += capacity_usable(facts->nodes[i].plan_left,
					       facts->nodes[i].memory_bytes);
	return sum;
}

struct consolidate_fit consolidate_fit(const struct consolidate_rules *rules,
				       struct consolidate_facts *facts, size_t node, bool begun)
{
	lay_out(rules, facts, node, begun);
	int64_t lacks = pack(facts, node);
	if (lacks)
		return (struct consolidate_fit) { CONSOLIDATE_NO_ROOM, lacks };
	int64_t left = free_beside(facts, node);
	if (rules->spare_bytes > left)
		return (struct consolidate_fit) { CONSOLIDATE_SPARE, rules->spare_bytes - left };
	return (struct consolidate_fit) { CONSOLIDATE_READY, 0 };
}

/* --- which one ---------------------------------------------------------------------------------
 */

/* Of an hour; one that is not known counts as 1. */
static double price_of(const struct consolidate_node *n)
{
	return n->price > 0 && n->price < PRICE_MOST ? n->price : 1;
}

size_t consolidate_better(const struct consolidate_facts *facts, size_t a, size_t b)
{
	const struct consolidate_node *x = &facts->nodes[a], *y = &facts->nodes[b];
	double left = (double)x->in_use_bytes * price_of(y);
	double right = (double)y->in_use_bytes * price_of(x);
	if (left < right || left > right)
		return left < right ? a : b;
	if (price_of(x) > price_of(y) || price_of(x) < price_of(y))
		return price_of(x) > price_of(y) ? a : b;
	if (x->pool != y->pool)
		return x->pool > y->pool ? a : b;
	return by_text(x->name, y->name) <= 0 ? a : b;
}
