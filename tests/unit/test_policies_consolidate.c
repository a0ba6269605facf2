/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/consolidate_rules.h"

/* Times of the table are seconds before NOW; T(0) is never. */
#define T(s) ((s) ? NOW - (s) * 1000 : 0)

/* A node of 20, so much of it promised to nobody; it could be emptied since `s`. */
#define HOST(n, left, s, ...)                                                                      \
	{ .name = (n),                                                                             \
	  .memory_bytes = 20,                                                                      \
	  .left_bytes = (left),                                                                    \
	  .fits_since = T(s),                                                                      \
	  .takes = true,                                                                           \
	  __VA_ARGS__ }
/* ... that is a machine, and all is well with it. */
#define NODE(n, left, s, ...)                                                                      \
	HOST(n, left, s, .pooled = true, .serving = true, .gives = true, __VA_ARGS__)
#define WORKS(i, at, m, ...)                                                                       \
	{ .id = (i), .node = (at), .memory_bytes = (m), .use = CONSOLIDATE_IN_USE, __VA_ARGS__ }
#define IDLES(i, at, ...)  { .id = (i), .node = (at), .use = CONSOLIDATE_IDLE, __VA_ARGS__ }
#define SLEEPS(i, at, ...) { .id = (i), .node = (at), .use = CONSOLIDATE_ASLEEP, __VA_ARGS__ }
#define ON(n)              .emptying = 1 + (n)

static const struct consolidate_case {
	const char *name;
	struct consolidate_node nodes[4];
	struct consolidate_session sessions[6];
	wall_ms moves[6];
	size_t emptying; /* 0: none */
	wall_ms began_at, ended_at, grown_at, quiet;
	bool gone, wanted;
	int64_t min, spare, at_once;
	const char *want; /* the decisions, seconds to the next look, then the nodes' reasons */
} cases[] = {
	{ "no nodes", .want = "" },
	{ "the one with less to move", .nodes = { NODE("a", 16, 600), NODE("b", 10, 600) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "begin a: ready; ready ready" },
	{ "more to move, but a machine that costs more",
	  .nodes = { NODE("a", 12, 900, .price = 0.9), NODE("b", 16, 900, .price = 0.1) },
	  .sessions = { WORKS("s", 0, 8), WORKS("t", 1, 4) },
	  .want = "begin a: ready; ready ready" },
	{ "nothing to move of either: what costs more",
	  .nodes = { NODE("a", 20, 900, .price = 0.1), NODE("b", 20, 900, .price = 0.2) },
	  .sessions = { SLEEPS("s", 0), SLEEPS("t", 1) }, .want = "begin b: ready; ready ready" },
	{ "alike: of the last pool", .nodes = { NODE("a", 16, 900), NODE("b", 16, 900, .pool = 1) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 4) },
	  .want = "begin b: ready; ready ready" },
	{ "alike altogether: by name", .nodes = { NODE("b", 16, 900), NODE("a", 16, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 4) },
	  .want = "begin a: ready; ready ready" },
	{ "not for long enough", .nodes = { NODE("a", 16, 570), NODE("b", 10, 0) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "next 30; steady steady" },
	{ "seen for the first time", .nodes = { NODE("a", 16, 0), NODE("b", 10, 0) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "next 600; steady steady" },
	{ "a clock that was set back", .nodes = { NODE("a", 16, -500), NODE("b", 10, 0) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .ended_at = T(-9999),
	  .want = "next 1800; calm calm" },
	{ "the other would be too full: a quarter is left",
	  .nodes = { NODE("a", 16, 900), NODE("b", 8, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 12) }, .want = "no-room no-room" },
	{ "each fits, not all", .nodes = { NODE("a", 12, 900), NODE("b", 9, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("u", 0, 4), WORKS("t", 1, 11) },
	  .want = "no-room no-room" },
	{ "several others together",
	  .nodes = { NODE("a", 8, 900), NODE("b", 12, 900), NODE("c", 11, 900) },
	  .sessions = { WORKS("s", 0, 6), WORKS("u", 0, 6), WORKS("t", 1, 8), WORKS("v", 2, 9) },
	  .want = "begin a: ready; ready no-room no-room" },
	{ "the wrong processor",
	  .nodes = { NODE("a", 16, 900, .features = "avx avx2"),
		     NODE("b", 10, 900, .features = "avx") },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "begin b: ready; no-room ready" },
	{ "another CRIU",
	  .nodes = { NODE("a", 16, 900, .kind = "4.1"), NODE("b", 10, 900, .kind = "4.2") },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "no-room no-room" },
	{ "another Elsa",
	  .nodes = { NODE("a", 16, 900, .speech = 3), NODE("b", 10, 900, .speech = 4) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "no-room no-room" },
	{ "one that does not say which",
	  .nodes = { NODE("a", 16, 900, .speech = 3), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "begin a: ready; ready ready" },
	{ "sessions in use can only be hibernated there",
	  .nodes = { HOST("a", 16, 900, .pooled = true, .serving = true),
		     HOST("b", 10, 900, .pooled = true, .serving = true) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "cannot-move cannot-move" },
	{ "whoever is not in use needs no room", .nodes = { NODE("a", 0, 900), NODE("b", 0, 900) },
	  .sessions = { IDLES("s", 0, .memory_bytes = 20), WORKS("t", 1, 20) },
	  .want = "begin a: ready; ready no-room" },
	{ "an empty machine is no help: it goes itself",
	  .nodes = { NODE("a", 16, 900), NODE("b", 20, 900, .empty = true) },
	  .sessions = { WORKS("s", 0, 4) }, .want = "no-room empty" },
	{ "a host that stays anyway is",
	  .nodes = { NODE("a", 16, 900), HOST("hub", 20, 0, .empty = true) },
	  .sessions = { WORKS("s", 0, 4) }, .want = "begin a: ready; ready no-machine" },
	{ "the minimum", .min = 2, .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "min min" },
	{ "the spare room", .spare = 7, .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "spare spare" },
	{ "the spare room is there", .spare = 6,
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "begin a: ready; ready ready" },
	{ "sessions want machines", .wanted = true,
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "wanted wanted" },
	{ "and wanted them not long ago", .grown_at = T(600),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "next 1200; grown grown" },
	{ "one after the other", .ended_at = T(1000),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "next 800; calm calm" },
	{ "quiet hours", .quiet = T(-900), .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "next 900; quiet quiet" },
	{ "what the operator drains",
	  .nodes = { NODE("a", 16, 900, .held = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "held no-room" },
	{ "what ends, and what is down",
	  .nodes = { NODE("a", 16, 900, .doomed = true), HOST("b", 10, 900, .pooled = true) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "ends down" },
	{ "a pool that keeps its machines",
	  .nodes = { NODE("a", 16, 900, .kept = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "begin b: ready; kept ready" },
	{ "one that could not be moved", .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4, .stuck_until = T(-60)), WORKS("t", 1, 10) },
	  .want = "begin b: ready; next 60; stuck ready" },
	{ "one that was moved", .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4, .moved_at = T(3000)), WORKS("t", 1, 10) },
	  .want = "begin b: ready; next 600; resting ready" },
	{ "asleep it does not matter", .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { SLEEPS("s", 0, .moved_at = T(3000)), WORKS("t", 1, 10) },
	  .want = "begin a: ready; ready ready" },
	{ "the hour's moves are made", .moves = { T(3000), T(2000), T(900), T(800) },
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 2), WORKS("t", 1, 10) },
	  .want = "next 600; budget budget" },
	{ "two are left of them", .moves = { T(3601), T(3600), T(900), T(800) },
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 2), WORKS("t", 1, 10) },
	  .want = "begin a: ready; ready ready" },
	{ "more than any hour's", .nodes = { NODE("a", 15, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 1), WORKS("u", 0, 1), WORKS("v", 0, 1), WORKS("w", 0, 1),
			WORKS("x", 0, 1), WORKS("t", 1, 10) },
	  .want = "begin b: ready; budget ready" },

	/* Begun. */
	{ "who sleeps first, and who is idle", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), IDLES("u", 0), SLEEPS("v", 0), SLEEPS("w", 0),
			WORKS("t", 1, 10) },
	  .want = "leave v; leave w; put away u; next 1790; emptying no-room" },
	{ "nobody in use before they have gone", ON(0), .began_at = T(10), .at_once = 3,
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), IDLES("u", 0, .leaving = true), WORKS("t", 1, 10) },
	  .want = "next 1790; emptying no-room" },
	{ "then the largest, where it fits best", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 14, 900), NODE("b", 10, 900), NODE("c", 8, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 4), WORKS("t", 1, 10), WORKS("v", 2, 12) },
	  .want = "move u to c; next 1790; emptying no-room no-room" },
	{ "one at a time", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 14, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 4, .leaving = true), WORKS("t", 1, 10) },
	  .want = "next 1790; emptying no-room" },
	{ "or two", ON(0), .began_at = T(10), .at_once = 2,
	  .nodes = { NODE("a", 14, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 4), WORKS("t", 1, 10) },
	  .want = "move u to b; move s to b; next 1790; emptying no-room" },
	{ "not what something else is done to", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 14, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 4, .busy = true), WORKS("t", 1, 10) },
	  .want = "move s to b; next 1790; emptying no-room" },
	{ "begun, the others may be filled", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900), NODE("b", 4, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 16) },
	  .want = "move s to b; next 1790; emptying no-room" },
	{ "empty: the rest is capacity's", ON(0), .began_at = T(9999),
	  .nodes = { NODE("a", 20, 900, .empty = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("t", 1, 10) }, .want = "emptying no-room" },
	{ "no session there, but something is", ON(0), .began_at = T(1700),
	  .nodes = { NODE("a", 20, 900), NODE("b", 10, 900) }, .sessions = { WORKS("t", 1, 10) },
	  .want = "next 100; emptying no-room" },
	{ "given back", ON(0), .nodes = { NODE("a", 20, 900, .going = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("t", 1, 10) }, .want = "end a: done; done no-room" },
	{ "gone", .gone = true, .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) }, .want = "end: done; calm calm" },
	{ "somebody wants room", ON(0), .began_at = T(10), .wanted = true,
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "end a: wanted; wanted no-room" },
	{ "no room any more", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900), NODE("b", 3, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 17) },
	  .want = "end a: no-room; no-room no-room" },
	{ "the quiet hours begin", ON(0), .began_at = T(10), .quiet = T(-900),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "end a: quiet; next 900; quiet no-room" },
	{ "the operator drains it", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900, .held = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "end a: held; held no-room" },
	{ "it has a notice", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900, .doomed = true), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4), WORKS("t", 1, 10) },
	  .want = "end a: ends; ends no-room" },
	{ "one cannot leave", ON(0), .began_at = T(10),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { IDLES("s", 0, .stuck_until = T(-60)), WORKS("t", 1, 10) },
	  .want = "end a: stuck; next 60; stuck no-room" },
	{ "others came, more than may be moved", ON(0), .began_at = T(10),
	  .moves = { T(3), T(2), T(1) }, .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 2), WORKS("u", 0, 2), WORKS("t", 1, 10) },
	  .want = "end a: budget; next 3597; budget no-room" },
	{ "it takes too long", ON(0), .began_at = T(1800),
	  .nodes = { NODE("a", 16, 900), NODE("b", 10, 900) },
	  .sessions = { WORKS("s", 0, 4, .leaving = true), WORKS("t", 1, 10) },
	  .want = "end a: late; late no-room" },
};

static void append(char *to, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void append(char *to, size_t size, const char *format, ...)
{
	size_t used = strlen(to);
	va_list args;
	if (used)
		used += (size_t)snprintf(to + used, size - used, "; ");
	va_start(args, format);
	vsnprintf(to + used, size - used, format, args);
	va_end(args);
}

static void tell(const struct consolidate_facts *f, const struct consolidate_decision *list,
		 size_t count, wall_ms next, char *to, size_t size)
{
	for (size_t i = 0; i < count; i++) {
		const struct consolidate_decision *x = &list[i];
		const char *node = x->node == CONSOLIDATE_NONE ? "" : f->nodes[x->node].name;
		const char *why = consolidate_reason_name(x->why);
		if (x->kind == CONSOLIDATE_BEGIN)
			append(to, size, "begin %s: %s", node, why);
		else if (x->kind == CONSOLIDATE_END)
			append(to, size, "end%s%s: %s", *node ? " " : "", node, why);
		else if (x->kind == CONSOLIDATE_LEAVE)
			append(to, size, "leave %s", f->sessions[x->session].id);
		else if (x->kind == CONSOLIDATE_PUT_AWAY)
			append(to, size, "put away %s", f->sessions[x->session].id);
		else
			append(to, size, "move %s to %s", f->sessions[x->session].id,
			       f->nodes[x->to].name);
	}
	if (next)
		append(to, size, "next %d", (int)((next - NOW) / 1000));
	for (size_t i = 0; i < f->node_count; i++) {
		size_t used = strlen(to);
		const char *before = i ? " " : used ? "; " : "";
		snprintf(to + used, size - used, "%s%s", before,
			 consolidate_reason_name(f->nodes[i].reason));
	}
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct consolidate_case *c = &cases[i];
		struct consolidate_rules r = rules;
		struct consolidate_node nodes[ARRAY_SIZE(c->nodes)];
		struct consolidate_session sessions[ARRAY_SIZE(c->sessions)];
		struct consolidate_facts f = { .nodes = nodes,
					       .sessions = sessions,
					       .moves = c->moves,
					       .emptying = c->emptying ? c->emptying - 1
								       : CONSOLIDATE_NONE,
					       .emptying_gone = c->gone,
					       .began_at = c->began_at,
					       .ended_at = c->ended_at,
					       .grown_at = c->grown_at,
					       .wanted = c->wanted,
					       .quiet_until = c->quiet };
		r.min = c->min;
		r.spare_bytes = c->spare;
		r.at_once = c->at_once ? c->at_once : r.at_once;
		memcpy(nodes, c->nodes, sizeof(nodes));
		memcpy(sessions, c->sessions, sizeof(sessions));
		while (f.node_count < ARRAY_SIZE(nodes) && nodes[f.node_count].name)
			f.node_count++;
		while (f.session_count < ARRAY_SIZE(sessions) && sessions[f.session_count].id)
			f.session_count++;
		while (f.move_count < ARRAY_SIZE(c->moves) && c->moves[f.move_count])
			f.move_count++;
		struct consolidate_decision list[16];
		char got[256] = "";
		wall_ms next;
		size_t count = consolidate_decide(&r, &f, NOW, list, ARRAY_SIZE(list), &next);
		tell(&f, list, count, next, got, sizeof(got));
		if (strcmp(got, c->want) != 0)
			fail_msg("%s: \"%s\" instead of \"%s\"", c->name, got, c->want);
		/* No room for the decisions is no harm. */
		assert_int_equal(consolidate_decide(&r, &f, NOW, list, 0, &next), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
