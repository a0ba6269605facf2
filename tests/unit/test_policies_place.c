/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/features.h"
#include "policies/place.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)

#define X86 "x86_64 xsave=2440 avx avx2"

/* A node of so many GiB; the rest of the fields may follow. */
#define BARE(n, gib, available, cpu, ...)                                                          \
	{ .name = (n),                                                                             \
	  .memory_bytes = (gib) * GIB,                                                             \
	  .available_bytes = (available),                                                          \
	  .features = (cpu),                                                                       \
	  __VA_ARGS__ }
#define UP .up = true, .has_image = true
/* One that has everything. */
#define NODE(n, gib, ...) BARE(n, gib, -1, X86, UP, __VA_ARGS__)

static const struct place_case {
	const char *name;
	struct place_request request;
	struct place_node nodes[4];
	const char *taken; /* NULL: none */
	const char *why;   /* place_explain() */
} cases[] = {
	{ "there is none", { .memory_bytes = 1 }, { { 0 } }, NULL, "" },
	{ "the one with the least left over",
	  { .memory_bytes = GIB },
	  { NODE("a", 8), NODE("b", 2), NODE("c", 4) },
	  "b",
	  "" },
	{ "it fits to the byte",
	  { .memory_bytes = 2 * GIB },
	  { NODE("a", 4, .reserve_bytes = GIB, .committed_bytes = GIB) },
	  "a",
	  "" },
	{ "one byte more does not",
	  { .memory_bytes = 2 * GIB + 1 },
	  { NODE("a", 4, .reserve_bytes = GIB, .committed_bytes = GIB) },
	  NULL,
	  "a: 1 MiB short" },
	{ "sessions may use more than was promised to them",
	  { .memory_bytes = 2 * GIB },
	  { BARE("a", 8, GIB, X86, UP, .committed_bytes = GIB), NODE("b", 9) },
	  "b",
	  "a: 1.0 GiB short" },
	{ "what is on its way is not in what was measured",
	  { .memory_bytes = 2 * GIB },
	  { BARE("a", 8, 4 * GIB, X86, UP, .committed_bytes = 3 * GIB, .arriving_bytes = 3 * GIB) },
	  NULL,
	  "a: 1.0 GiB short" },
	{ "each reason has its words",
	  { .memory_bytes = GIB, .features = "x86_64 avx512f" },
	  { NODE("a", 8, .draining = true), NODE("b", 8, .doomed = true), NODE("c", 8),
	    BARE("d", 8, -1, X86, .has_image = true) },
	  NULL,
	  "a: draining; b: goes away; c: lacks avx512f; d: cannot be reached" },
	{ "and the others theirs",
	  { .memory_bytes = 4 * GIB + 512 * MIB },
	  { NODE("a", 8, .local = true), BARE("b", 8, -1, X86, .up = true), NODE("c", 4),
	    NODE("d", 8, .committed_bytes = 5 * GIB) },
	  NULL,
	  "a: is the hub's own, which is to run none; b: has not the session's image; "
	  "c: too small, even if it were empty; d: 1.5 GiB short" },
	{ "one to be avoided comes last, however well it fits",
	  { .memory_bytes = GIB },
	  { NODE("a", 1, .avoid = true), NODE("b", 64) },
	  "b",
	  "" },
	{ "but it is taken when there is no other",
	  { .memory_bytes = GIB },
	  { NODE("a", 1, .avoid = true), NODE("b", 64, .draining = true) },
	  "a",
	  "b: draining" },
	{ "CPU is a soft request: where it is promised too often comes later",
	  { .memory_bytes = GIB, .cpus = 2, .cpu_overcommit = 4 },
	  { NODE("a", 1, .cpus = 2, .cpus_committed = 7), NODE("b", 9, .cpus = 2) },
	  "b",
	  "" },
	{ "and is still taken before nothing",
	  { .memory_bytes = GIB, .cpus = 2, .cpu_overcommit = 4 },
	  { NODE("a", 1, .cpus = 2, .cpus_committed = 7) },
	  "a",
	  "" },
	{ "CPU promised as often as wanted is fine",
	  { .memory_bytes = GIB, .cpus = 2, .cpu_overcommit = 4 },
	  { NODE("a", 1, .cpus = 2, .cpus_committed = 6), NODE("b", 9, .cpus = 2) },
	  "a",
	  "" },
	{ "the zone of its home before the price before the fit",
	  { .memory_bytes = GIB, .zone = "z1", .price = "spot" },
	  { NODE("a", 1, .zone = "z2", .price = "spot"), NODE("b", 8, .zone = "z1"),
	    NODE("c", 9, .zone = "z1", .price = "spot"), NODE("d", 2) },
	  "c",
	  "" },
	{ "the price that is preferred, however well others fit",
	  { .memory_bytes = GIB, .price = "on-demand" },
	  { NODE("a", 1, .price = "spot"), NODE("b", 64, .price = "on-demand"), NODE("c", 1) },
	  "b",
	  "" },
	{ "the other price is better than none",
	  { .memory_bytes = GIB, .price = "spot" },
	  { NODE("a", 8, .price = "on-demand"), NODE("b", 64, .price = "spot", .draining = true) },
	  "a",
	  "b: draining" },
	{ "of the same price the best fit",
	  { .memory_bytes = GIB, .price = "spot" },
	  { NODE("a", 8, .price = "spot"), NODE("b", 2, .price = "spot"), NODE("c", 1) },
	  "b",
	  "" },
	{ "neither price nor zone get anything onto a node that goes away",
	  { .memory_bytes = GIB, .price = "spot", .zone = "z1" },
	  { NODE("a", 1, .price = "spot", .zone = "z1", .doomed = true, .last = true),
	    NODE("b", 8, .price = "on-demand", .zone = "z2") },
	  "b",
	  "a: goes away" },
	{ "nor onto one that is to be avoided, while there is another",
	  { .memory_bytes = GIB, .price = "spot", .zone = "z1" },
	  { NODE("a", 1, .price = "spot", .zone = "z1", .avoid = true),
	    NODE("b", 8, .price = "on-demand", .zone = "z2") },
	  "b",
	  "" },
	{ "who has no processor to give comes behind another zone and price",
	  { .memory_bytes = GIB, .price = "spot", .zone = "z1", .cpus = 2, .cpu_overcommit = 4 },
	  { NODE("a", 1, .price = "spot", .zone = "z1", .cpus = 2, .cpus_committed = 7),
	    NODE("b", 8, .cpus = 2) },
	  "b",
	  "" },
	{ "a zone that nobody knows is none",
	  { .memory_bytes = GIB, .zone = "" },
	  { NODE("a", 8, .zone = "z1"), NODE("b", 2) },
	  "b",
	  "" },
	{ "another zone is better than none",
	  { .memory_bytes = 2 * GIB, .zone = "z1" },
	  { NODE("a", 1, .zone = "z1"), NODE("b", 8, .zone = "z2") },
	  "b",
	  "a: too small, even if it were empty" },
	{ "ties: its last node",
	  { .memory_bytes = GIB, .local_allowed = true },
	  { NODE("a", 4), NODE("b", 4, .local = true), NODE("c", 4, .last = true) },
	  "c",
	  "" },
	{ "ties: the hub's own",
	  { .memory_bytes = GIB, .local_allowed = true },
	  { NODE("a", 4), NODE("b", 4, .local = true), NODE("c", 4) },
	  "b",
	  "" },
	{ "ties: by name", { .memory_bytes = GIB }, { NODE("b", 4), NODE("a", 4) }, "a", "" },
	{ "where its restore failed it is not tried again, whatever else is said of that node",
	  { .memory_bytes = GIB },
	  { NODE("a", 1, .failed = "the disk is full"), NODE("b", 64),
	    BARE("c", 1, -1, X86, .failed = "CRIU failed") },
	  "b",
	  "a: the disk is full; c: CRIU failed" },
	{ "and when none is left, each says why",
	  { .memory_bytes = GIB },
	  { NODE("a", 8, .failed = "the disk is full"), NODE("b", 8, .doomed = true),
	    NODE("c", 8, .draining = true, .failed = "") },
	  NULL,
	  "a: the disk is full; b: goes away; c: " },
	{ "a processor nobody knows lacks everything",
	  { .memory_bytes = GIB, .features = "x86_64" },
	  { BARE("a", 4, -1, NULL, UP) },
	  NULL,
	  "a: lacks x86_64" },
	{ "what the caller knows against a node counts",
	  { .memory_bytes = GIB },
	  { NODE("a", 2, .unfit = "it is there already"), NODE("b", 4),
	    NODE("c", 3, .draining = true, .unfit = "no") },
	  "b",
	  "a: it is there already; c: draining" },
	{ "numbers beyond sense make no room",
	  { .memory_bytes = INT64_MAX },
	  { NODE("a", 4, .committed_bytes = INT64_MAX, .reserve_bytes = INT64_MAX),
	    NODE("b", 4, .committed_bytes = INT64_MIN + 1),
	    BARE("c", 4, INT64_MAX, X86, UP, .arriving_bytes = INT64_MIN) },
	  NULL,
	  "a: too small, even if it were empty; b: too small, even if it were empty; "
	  "c: too small, even if it were empty" },
};

static size_t count_nodes(const struct place_node *nodes)
{
	size_t n = 0;
	while (n < 4 && nodes[n].name)
		n++;
	return n;
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct place_case *c = &cases[i];
		struct place_verdict verdicts[4];
		char why[512];
		size_t count = count_nodes(c->nodes);
		int got = place(&c->request, c->nodes, count, verdicts);
		const char *taken = got < 0 ? "none" : c->nodes[got].name;
		place_explain(&c->request, c->nodes, verdicts, count, why, sizeof(why));
		if (strcmp(taken, c->taken ? c->taken : "none") != 0)
			fail_msg("%s: %s was taken", c->name, taken);
		if (strcmp(why, c->why) != 0)
			fail_msg("%s: \"%s\"", c->name, why);
		assert_int_equal(place(&c->request, c->nodes, count, NULL), got);
	}
}

static uint64_t seed;

static unsigned dice(unsigned sides)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (unsigned)(seed >> 20) % sides;
}

static void random_world(struct place_request *r, struct place_node *nodes, size_t count)
{
	static const char *const features[] = { NULL, "", "x86_64", "x86_64 avx", "aarch64" };
	static const char *const zones[] = { NULL, "z1", "z2" };
	static const char *const prices[] = { NULL, "spot", "on-demand" };
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };
	*r = (struct place_request) { .memory_bytes = dice(9),
				      .cpus = dice(3),
				      .features = features[dice(ARRAY_SIZE(features))],
				      .price = prices[dice(3)],
				      .zone = zones[dice(3)],
				      .local_allowed = dice(2),
				      .cpu_overcommit = dice(3) };
	for (size_t i = 0; i < count; i++)
		nodes[i] = (struct place_node) { .name = names[i],
						 .up = dice(5) != 0,
						 .local = i == 0,
						 .draining = dice(5) == 0,
						 .doomed = dice(5) == 0,
						 .avoid = dice(3) == 0,
						 .memory_bytes = dice(24),
						 .reserve_bytes = dice(3),
						 .committed_bytes = dice(12),
						 .available_bytes = (int)dice(20) - 1,
						 .arriving_bytes = dice(3),
						 .cpus = dice(4),
						 .cpus_committed = dice(4),
						 .features = features[dice(5)],
						 .has_image = dice(5) != 0,
						 .price = prices[dice(3)],
						 .zone = zones[dice(3)],
						 .last = dice(4) == 0,
						 .failed = dice(6) == 0 ? "it failed" : NULL };
}

static bool may_run(const struct place_request *r, const struct place_node *n)
{
	bool measured =
		n->available_bytes < 0 || n->available_bytes - n->arriving_bytes >= r->memory_bytes;
	return n->up && !n->failed && !n->draining && !n->doomed && n->has_image &&
	       (!n->local || r->local_allowed) &&
	       !features_missing(r->features, n->features, NULL, 0) && measured &&
	       n->memory_bytes - n->reserve_bytes - n->committed_bytes >= r->memory_bytes;
}

/* Never one that does not fit, never none while one fits, never an avoided one before another. */
static void check_choice(const struct place_request *r, const struct place_node *nodes,
			 size_t count, const struct place_verdict *verdicts, int got)
{
	for (size_t i = 0; i < count; i++) {
		bool fits = may_run(r, &nodes[i]);
		assert_int_equal(fits, verdicts[i].reason == PLACE_FITS);
		if (fits)
			assert_true(got >= 0 && (!nodes[got].avoid || nodes[i].avoid));
	}
	assert_true(got < 0 || may_run(r, &nodes[got]));
}

static void shuffle(struct place_node *nodes, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = dice((unsigned)i);
		struct place_node other = nodes[j];
		nodes[j] = nodes[i - 1];
		nodes[i - 1] = other;
	}
}

static void test_properties(void **state)
{
	(void)state;
	seed = 88172645463325252u;
	for (int round = 0; round < 50000; round++) {
		struct place_request r;
		struct place_node nodes[8];
		struct place_verdict verdicts[8];
		char why[64];
		size_t count = dice(9);
		random_world(&r, nodes, count);
		int got = place(&r, nodes, count, verdicts);
		check_choice(&r, nodes, count, verdicts, got);
		place_explain(&r, nodes, verdicts, count, why, 1 + dice(sizeof(why)));
		const char *name = got < 0 ? "" : nodes[got].name;
		shuffle(nodes, count);
		got = place(&r, nodes, count, NULL);
		assert_string_equal(got < 0 ? "" : nodes[got].name, name);
	}
}

static void test_features(void **state)
{
	(void)state;
	char missing[24];
	assert_int_equal(features_missing("a b  c", " c a", missing, sizeof(missing)), 1);
	assert_string_equal(missing, "b");
	assert_int_equal(features_missing("xsave=832", "xsave=2440", missing, sizeof(missing)), 0);
	assert_int_equal(features_missing("xsave=2440", "xsave=832", missing, sizeof(missing)), 1);
	assert_int_equal(features_missing("xsave=99999999999", "xsave=832", NULL, 0), 1);
	assert_int_equal(features_missing("avx", "avx2 avx512f", NULL, 0), 1);
	assert_int_equal(features_missing(NULL, NULL, NULL, 0), 0);
	assert_int_equal(features_missing("one two three x five", "", missing, 15), 5);
	assert_string_equal(missing, "one, two...");
	assert_int_equal(features_missing("one two", "", missing, 1), 2);
	assert_string_equal(missing, "");
}

/* What may be of the node that tried it, and what is of the checkpoint wherever it is tried. */
static void test_elsewhere(void **state)
{
	static const struct {
		enum fault fault;
		const char *step;
		bool elsewhere;
	} failures[] = {
		{ FAULT_INTERNAL, "restore", true },
		{ FAULT_INTERNAL, "open", true },
		{ FAULT_INTERNAL, NULL, true },
		{ FAULT_FULL, "images", true },
		{ FAULT_UNAVAILABLE, "open", true }, /* its way to the store */
		{ FAULT_UNAVAILABLE, "thaw", true }, /* its lease */
		{ FAULT_TIMEOUT, "restore", true },
		{ FAULT_DENIED, "open", true }, /* its key */
		{ FAULT_REFUSED, "check", true },
		{ FAULT_REFUSED, "restore", true },
		{ FAULT_NOT_FOUND, "images", true },
		{ FAULT_NOT_FOUND, "mount", true },
		{ FAULT_NOT_FOUND, "start", true }, /* of a start: its root has no such command */
		{ FAULT_UNAVAILABLE, "adopt", true },
		{ FAULT_BAD_INPUT, "start", false },
		{ FAULT_NOT_FOUND, "open", false }, /* there is no such checkpoint */
		{ FAULT_NOT_FOUND, NULL, false },
		{ FAULT_CONFLICT, "open", false }, /* there is a newer one, or it runs */
		{ FAULT_CONFLICT, "mount", true },
		{ FAULT_REFUSED, "open", false },
		{ FAULT_CORRUPT, "open", false },
		{ FAULT_CORRUPT, "images", false },
		{ FAULT_BAD_INPUT, "check", false },
		{ FAULT_NONE, "restore", false },
		{ FAULT_COUNT, "restore", false },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		if (place_elsewhere(failures[i].fault, failures[i].step) != failures[i].elsewhere)
			fail_msg("%s in %s", fault_name(failures[i].fault), failures[i].step);
}

static void test_names(void **state)
{
	(void)state;
	for (int r = 0; r < PLACE_REASON_COUNT; r++)
		assert_true(strlen(place_reason_name((enum place_reason)r)) > 1);
	assert_string_equal(place_reason_name((enum place_reason)999), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),    cmocka_unit_test(test_properties),
		cmocka_unit_test(test_features), cmocka_unit_test(test_elsewhere),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
