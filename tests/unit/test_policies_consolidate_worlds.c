/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/consolidate_rules.h"

/* --- worlds ------------------------------------------------------------------------------------
 */

enum { NODES = 8, SESSIONS = 32, SIZE = 20, STEP_MS = 10000, MOVES = 4096 };

static struct world {
	struct consolidate_rules rules;
	struct node {
		char name[8]; /* "": there is none */
		bool held, doomed, down, going;
		wall_ms empty_since, gone_at;
		wall_ms fits_since;
		double price;
	} nodes[NODES];
	struct one {
		char id[8]; /* "": there is none */
		int node;   /* -1: it wants a machine */
		int to;     /* it moves there; -1 */
		bool away;  /* it is being put away, or moved */
		wall_ms until;
		int64_t memory;
		enum consolidate_use use;
		wall_ms stuck_until, moved_at;
	} sessions[SESSIONS];
	wall_ms moves[MOVES];
	size_t move_count;
	int emptying; /* -1; -2: it is gone */
	wall_ms began_at, ended_at, grown_at, machine_at;
	unsigned made, named, done, given_up;
	bool fails; /* moves do, sometimes */
} w;

static uint64_t seed;

static unsigned dice(unsigned sides)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (unsigned)(seed >> 20) % sides;
}

/* With who is on the way there. */
static int64_t used_of(int node)
{
	int64_t used = 0;
	for (size_t i = 0; i < SESSIONS; i++) {
		const struct one *s = &w.sessions[i];
		if (s->id[0] && s->use != CONSOLIDATE_ASLEEP &&
		    (s->node == node || (s->away && s->to == node)))
			used += s->memory;
	}
	return used;
}

static size_t there(int node)
{
	size_t count = 0;
	for (size_t i = 0; i < SESSIONS; i++)
		count += w.sessions[i].id[0] &&
			 (w.sessions[i].node == node || w.sessions[i].to == node);
	return count;
}

static bool takes(int i)
{
	const struct node *n = &w.nodes[i];
	return n->name[0] && !n->held && !n->doomed && !n->down && !n->going;
}

static void add_node(wall_ms now)
{
	for (int i = 0; i < NODES; i++)
		if (!w.nodes[i].name[0]) {
			w.nodes[i] =
				(struct node) { .empty_since = now, .price = 0.1 * (1 + dice(3)) };
			snprintf(w.nodes[i].name, sizeof(w.nodes[i].name), "n%u",
				 ++w.named % 10000);
			return;
		}
}

static int find_room(const struct one *s)
{
	int last = -1;
	for (int i = 0; i < NODES; i++) {
		if (!takes(i) || used_of(i) + s->memory > SIZE)
			continue;
		if (i != w.emptying)
			return i;
		last = i;
	}
	return last;
}

/* As capacity has it: a machine comes for who has none, and who is empty goes. */
static void machines_step(wall_ms now)
{
	bool wanted = false;
	for (size_t i = 0; i < SESSIONS; i++) {
		struct one *s = &w.sessions[i];
		if (s->id[0] && s->node < 0)
			s->node = find_room(s);
		wanted |= s->id[0] && s->node < 0;
	}
	if (wanted && !w.machine_at) {
		w.grown_at = now;
		w.machine_at = now + 60000;
	} else if (w.machine_at && w.machine_at <= now) {
		w.machine_at = 0;
		add_node(now);
	}
	for (int i = 0; i < NODES; i++) {
		struct node *n = &w.nodes[i];
		if (!n->name[0])
			continue;
		bool empty = there(i) == 0;
		n->empty_since = !empty ? 0 : n->empty_since ? n->empty_since : now;
		if (empty && !n->held && !n->going && now - n->empty_since >= 600000) {
			n->going = true;
			n->gone_at = now + 20000;
		} else if (n->going && n->gone_at <= now) {
			*n = (struct node) { 0 };
			w.emptying = w.emptying == i ? -2 : w.emptying;
		}
	}
}

static void end_step(struct one *s, wall_ms now)
{
	if (!s->away || s->until > now)
		return;
	bool fails = w.fails && dice(10) == 0;
	s->away = false;
	if (fails)
		s->stuck_until = now + 300000;
	else if (s->to >= 0)
		s->node = s->to;
	else
		s->id[0] = '\0'; /* in the store */
	s->to = -1;
}

static void people_step(wall_ms now, unsigned come)
{
	for (size_t i = 0; i < SESSIONS; i++) {
		struct one *s = &w.sessions[i];
		end_step(s, now);
		if (!come || s->away)
			continue;
		if (!s->id[0] && dice(come) == 0) {
			*s = (struct one) { .node = -1,
					    .to = -1,
					    .memory = 1 + dice(8),
					    .use = CONSOLIDATE_IN_USE };
			snprintf(s->id, sizeof(s->id), "s%u", ++w.made % 100000);
		} else if (s->id[0] && dice(700) == 0) {
			s->id[0] = '\0';
		} else if (s->id[0] && s->node >= 0 && dice(200) == 0) {
			enum consolidate_use use = dice(3);
			bool room = used_of(s->node) + s->memory <= SIZE;
			if (s->use != CONSOLIDATE_ASLEEP || use == CONSOLIDATE_ASLEEP || room)
				s->use = use;
		}
	}
	for (int i = 0; i < NODES && come; i++) {
		struct node *n = &w.nodes[i];
		if (dice(1500) == 0)
			n->held = !n->held;
		if (dice(1500) == 0)
			n->doomed = !n->doomed;
		if (dice(1500) == 0)
			n->down = !n->down;
		if (dice(3000) == 0) /* elsad was killed, and remembers no such thing */
			for (int k = 0; k < NODES; k++)
				w.nodes[k].fits_since = 0;
	}
}

struct pass {
	struct consolidate_node nodes[NODES];
	struct consolidate_session sessions[SESSIONS];
	struct consolidate_facts facts;
	struct consolidate_decision list[64];
	size_t count;
	wall_ms next;
};

/* From the node or session `shift` on: the order is not to matter. */
static void collect(struct pass *p, size_t shift)
{
	size_t index[NODES];
	bool wanted = false;
	*p = (struct pass) { .facts = { .nodes = p->nodes,
					.sessions = p->sessions,
					.moves = w.moves,
					.move_count = w.move_count,
					.emptying = CONSOLIDATE_NONE,
					.emptying_gone = w.emptying == -2,
					.began_at = w.began_at,
					.ended_at = w.ended_at,
					.grown_at = w.grown_at } };
	for (size_t k = 0; k < NODES; k++) {
		size_t i = (k + shift) % NODES;
		const struct node *n = &w.nodes[i];
		if (!n->name[0])
			continue;
		if (w.emptying == (int)i)
			p->facts.emptying = p->facts.node_count;
		index[i] = p->facts.node_count;
		p->nodes[p->facts.node_count++] = (struct consolidate_node) {
			.name = n->name,
			.memory_bytes = SIZE,
			.left_bytes = takes((int)i) ? SIZE - used_of((int)i) : 0,
			.pooled = true,
			.serving = !n->down,
			.held = n->held,
			.doomed = n->doomed,
			.going = n->going,
			.gives = !n->down,
			.takes = takes((int)i),
			.empty = there((int)i) == 0,
			.price = n->price,
			.fits_since = n->fits_since,
		};
	}
	for (size_t k = 0; k < SESSIONS; k++) {
		const struct one *s = &w.sessions[(k + 5 * shift) % SESSIONS];
		if (s->id[0] && s->node >= 0)
			p->sessions[p->facts.session_count++] = (struct consolidate_session) {
				.id = s->id,
				.node = index[s->node],
				.memory_bytes = s->memory,
				.use = s->use,
				.leaving = s->away,
				.stuck_until = s->stuck_until,
				.moved_at = s->moved_at,
			};
		wanted |= s->id[0] && s->node < 0;
	}
	p->facts.wanted = wanted;
}

static int node_called(const char *name)
{
	for (int i = 0; i < NODES; i++)
		if (strcmp(w.nodes[i].name, name) == 0)
			return i;
	fail_msg("no node %s", name);
	return -1;
}

static struct one *session_called(const char *id)
{
	for (size_t i = 0; i < SESSIONS; i++)
		if (strcmp(w.sessions[i].id, id) == 0)
			return &w.sessions[i];
	fail_msg("no session %s", id);
	return NULL;
}

static int64_t serving(void)
{
	int64_t count = 0;
	for (int i = 0; i < NODES; i++)
		count += w.nodes[i].name[0] && !w.nodes[i].doomed && !w.nodes[i].down &&
			 !w.nodes[i].going;
	return count;
}

/* What a move may never be. */
static void check_move(const struct one *s, int to, wall_ms now)
{
	int64_t lately = 0, leaving = 0;
	for (size_t i = 0; i < w.move_count; i++)
		lately += now - w.moves[i] < HOUR;
	for (size_t i = 0; i < SESSIONS; i++) {
		const struct one *o = &w.sessions[i];
		bool beside = o->id[0] && o->node == s->node && o != s;
		leaving += beside && o->away;
		assert_false(beside && o->use != CONSOLIDATE_IN_USE);
	}
	assert_true(lately < w.rules.moves_per_hour);
	assert_true(leaving < w.rules.at_once);
	assert_true(!s->moved_at || now - s->moved_at >= w.rules.session_rest_ms);
	assert_int_equal(s->use, CONSOLIDATE_IN_USE);
	assert_true(takes(to) && to != w.emptying);
	assert_true(used_of(to) + s->memory <= SIZE);
}

static void take_session(const struct consolidate_decision *x, const struct pass *p, wall_ms now)
{
	struct one *s = session_called(p->sessions[x->session].id);
	assert_int_equal(s->node, w.emptying);
	assert_true(!s->away && s->stuck_until <= now);
	assert_true(!w.nodes[s->node].held && !w.nodes[s->node].doomed);
	if (x->kind == CONSOLIDATE_LEAVE) {
		assert_int_equal(s->use, CONSOLIDATE_ASLEEP);
		s->id[0] = '\0';
		return;
	}
	s->away = true;
	s->until = now + 1 + dice(40000);
	if (x->kind == CONSOLIDATE_PUT_AWAY) {
		assert_int_equal(s->use, CONSOLIDATE_IDLE);
		return;
	}
	int to = node_called(p->nodes[x->to].name);
	s->away = false;
	check_move(s, to, now);
	s->away = true;
	s->to = to;
	s->moved_at = now;
	assert_true(w.move_count < MOVES);
	w.moves[w.move_count++] = now;
}

static void take_node(const struct consolidate_decision *x, const struct pass *p, wall_ms now)
{
	if (x->kind == CONSOLIDATE_END) {
		assert_int_not_equal(w.emptying, -1);
		w.done += x->why == CONSOLIDATE_DONE;
		w.given_up += x->why != CONSOLIDATE_DONE;
		w.emptying = -1;
		w.ended_at = now;
		return;
	}
	int i = node_called(p->nodes[x->node].name);
	assert_int_equal(w.emptying, -1);
	assert_true(!w.ended_at || now - w.ended_at >= w.rules.calm_ms);
	assert_true(!w.grown_at || now - w.grown_at >= w.rules.calm_ms);
	assert_true(!p->facts.wanted && takes(i));
	assert_true(serving() - 1 >= w.rules.min);
	w.emptying = i;
	w.began_at = now;
}

static void same_decisions(const struct pass *a, const struct pass *b)
{
	assert_int_equal(a->count, b->count);
	assert_true(a->next == b->next);
	for (size_t i = 0; i < a->count; i++) {
		const struct consolidate_decision *x = &a->list[i], *y = &b->list[i];
		assert_true(x->kind == y->kind && x->why == y->why);
		if (x->node != CONSOLIDATE_NONE)
			assert_string_equal(a->nodes[x->node].name, b->nodes[y->node].name);
		if (x->kind >= CONSOLIDATE_LEAVE)
			assert_string_equal(a->sessions[x->session].id, b->sessions[y->session].id);
		if (x->kind == CONSOLIDATE_MOVE)
			assert_string_equal(a->nodes[x->to].name, b->nodes[y->to].name);
	}
}

static unsigned pass(wall_ms now)
{
	static struct pass p, other;
	collect(&p, 0);
	collect(&other, 1 + dice(6));
	p.count = consolidate_decide(&w.rules, &p.facts, now, p.list, 64, &p.next);
	other.count = consolidate_decide(&w.rules, &other.facts, now, other.list, 64, &other.next);
	same_decisions(&p, &other);
	assert_true(!p.next || p.next > now);
	for (size_t i = 0; i < p.facts.node_count; i++)
		w.nodes[node_called(p.nodes[i].name)].fits_since = p.nodes[i].fits_since;
	for (size_t i = 0; i < p.count; i++) {
		if (p.list[i].kind >= CONSOLIDATE_LEAVE)
			take_session(&p.list[i], &p, now);
		else
			take_node(&p.list[i], &p, now);
	}
	return (unsigned)p.count;
}

static void step(wall_ms now, unsigned come)
{
	people_step(now, come);
	machines_step(now);
	pass(now);
}

/* Whatever people, clouds and operators do: no promise of the policy is broken, and when nothing
 * happens any more it comes to rest. */
static void test_worlds(void **state)
{
	(void)state;
	unsigned done = 0, given_up = 0;
	size_t moves = 0;
	for (unsigned n = 1; n <= 24; n++) {
		wall_ms now = NOW;
		seed = 88172645463325252u * n;
		w = (struct world) { .rules = rules, .emptying = -1, .fails = true };
		w.rules.moves_per_hour = 1 + dice(12);
		w.rules.at_once = 1 + dice(3);
		w.rules.min = dice(3);
		w.rules.fill = 0.6 + 0.1 * dice(5);
		w.rules.steady_ms = dice(900) * 1000;
		w.rules.calm_ms = dice(1800) * 1000;
		for (int i = 0; i < 24 * 360; i++, now += STEP_MS)
			step(now, i % 2880 < 1440 ? 400 : 4000);
		w.fails = false;
		for (int i = 0; i < NODES; i++)
			w.nodes[i].held = w.nodes[i].doomed = w.nodes[i].down = false;
		/* A node an hour at the least, and those beside it are fuller then. */
		for (int i = 0; i < (NODES + 2) * 720; i++, now += STEP_MS)
			step(now, 0);
		size_t before = w.move_count;
		for (int i = 0; i < 6 * 360; i++, now += STEP_MS)
			step(now, 0);
		assert_int_equal(w.move_count, before);
		done += w.done;
		given_up += w.given_up;
		moves += w.move_count;
	}
	print_message("%u emptied, %u given up, %zu moves\n", done, given_up, moves);
	assert_true(done > 100 && given_up > 20 && moves > 100);
}

/* --- anything at all ---------------------------------------------------------------------------
 */

static int64_t any_number(void)
{
	static const int64_t odd[] = { 0, 1, -1, INT64_MAX, INT64_MIN, NOW, INT64_MAX / 2 };
	return dice(2) ? odd[dice(ARRAY_SIZE(odd))] : (int64_t)seed;
}

static double any_price(void)
{
	const double odd[] = { 0, -1, NAN, INFINITY, -INFINITY, 1e308, 0.1 };
	return odd[dice(ARRAY_SIZE(odd))];
}

static bool coin(void)
{
	return dice(4) != 0;
}

static void test_total(void **state)
{
	(void)state;
	static const char *const names[] = { "a", "b", "", NULL, "avx avx2", "a" };
	static struct pass p;
	seed = 4711;
	for (unsigned n = 0; n < 20000; n++) {
		wall_ms moves[8];
		const struct consolidate_rules r = { any_number(), any_number(), any_number(),
						     any_number(), any_number(), any_number(),
						     any_number(), any_number(), any_price() };
		p.facts = (struct consolidate_facts) { .nodes = p.nodes,
						       .sessions = p.sessions,
						       .node_count = dice(NODES + 1),
						       .session_count = dice(SESSIONS + 1),
						       .moves = moves,
						       .move_count = dice(9),
						       .emptying = dice(NODES + 4),
						       .emptying_gone = !coin(),
						       .began_at = any_number(),
						       .ended_at = any_number(),
						       .grown_at = any_number(),
						       .wanted = !coin(),
						       .quiet_until = any_number() };
		for (size_t i = 0; i < 8; i++)
			moves[i] = any_number();
		for (size_t i = 0; i < NODES; i++)
			p.nodes[i] = (struct consolidate_node) {
				names[dice(6)], any_number(), any_number(), names[dice(6)],
				names[dice(6)], coin(),       !coin(),      coin(),
				!coin(),        !coin(),      !coin(),      coin(),
				coin(),         !coin(),      dice(3),      any_price(),
				any_number(),
			};
		for (size_t i = 0; i < SESSIONS; i++)
			p.sessions[i] = (struct consolidate_session) {
				names[dice(6)], dice(NODES + 3), any_number(), dice(3),
				!coin(),        !coin(),         any_number(), any_number(),
			};
		size_t most = dice(65);
		wall_ms now = any_number();
		p.count = consolidate_decide(&r, &p.facts, now, p.list, most, &p.next);
		assert_true(p.count <= most);
		for (size_t i = 0; i < p.count; i++) {
			const struct consolidate_decision *x = &p.list[i];
			assert_true(x->node < p.facts.node_count || x->node == CONSOLIDATE_NONE);
			assert_true(x->session < p.facts.session_count || !x->session);
			assert_true(x->kind != CONSOLIDATE_MOVE || x->to < p.facts.node_count);
		}
		for (size_t i = 0; i < p.facts.node_count; i++)
			assert_string_not_equal(consolidate_reason_name(p.nodes[i].reason), "?");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worlds),
		cmocka_unit_test(test_total),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
