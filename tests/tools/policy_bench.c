/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures one pass of decisions over many sessions: who may sleep, by a dozen rules, who is to be
 * snapshotted, and which of their nodes could be emptied.
 *
 *	policy_bench SESSIONS PASSES
 *
 * Says as JSON what the middle one of the passes took, in milliseconds of the processor.
 */
#include "base/cleanup.h"
#include "policies/consolidate.h"
#include "policies/idle.h"
#include "policies/protect.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RULES = 12, NODES = 40, NAME = 32 };
#define NOW    1795413600000LL
#define MINUTE 60000LL

struct bench {
	size_t count;
	char (*names)[NAME];
	struct idle_facts *idle;
	struct idle_decision *idle_said;
	struct protect_facts *protect;
	struct protect_decision *protect_said;
	struct consolidate_session *placed; /* sorted by each pass */
};

static double processor_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Each in another way of being idle, busy or unknown. */
static void fill(struct bench *b)
{
	static const char *const groups[][3] = { { "students", "staff", NULL },
						 { "course-7", NULL } };
	for (size_t i = 0; i < b->count; i++) {
		snprintf(b->names[i], NAME, "user-%zu", i);
		b->idle[i] = (struct idle_facts) {
			.user = b->names[i],
			.server = i % 10 ? "" : "lab",
			.groups = groups[i % 2],
			.admin = i % 100 == 0,
			.started_at = NOW - (wall_ms)(i % 600) * MINUTE,
			.created_at = NOW - 1000 * MINUTE,
			.kernel_activity_at = NOW - (wall_ms)(i % 240) * MINUTE,
			.request_at = NOW - (wall_ms)(i % 300) * MINUTE,
			.server_seen = i % 50 != 0,
			.kernel_busy = i % 7 == 0,
			.busy_since = NOW - 90 * MINUTE,
			.cpu_share = i % 20 ? (double)(i % 100) / 1000 : NAN,
			.cpu_quiet_since = NOW - 50 * MINUTE,
			.memory_bytes = (int64_t)(i % 64) << 26,
		};
		b->protect[i] = (struct protect_facts) {
			.node = i % NODES,
			.wanted = true,
			.started_at = NOW - (wall_ms)(i % 600) * MINUTE,
			.frozen_at = NOW - (wall_ms)(i % 11) * MINUTE,
			.memory_bytes = (int64_t)(i % 64) << 26,
			.cost_ms = 900,
			.cost_bytes = 10 << 20,
		};
	}
}

/* Half full, each with as many in use as not. */
static void fill_nodes(struct bench *b, struct consolidate_node nodes[NODES])
{
	static const char *const names[] = { "a", "b", "c", "d" };
	int64_t size = (int64_t)(b->count / NODES + 1) << 30;
	for (size_t i = 0; i < NODES; i++)
		nodes[i] = (struct consolidate_node) {
			.name = names[i % 4],
			.memory_bytes = size,
			.left_bytes = size / 2,
			.features = "x86_64 avx avx2 fma",
			.kind = "4.2",
			.pooled = true,
			.serving = true,
			.gives = true,
			.takes = true,
			.price = 0.1,
		};
	for (size_t i = 0; i < b->count; i++)
		b->placed[i] = (struct consolidate_session) {
			.id = b->names[i],
			.node = i % NODES,
			.memory_bytes = (int64_t)(900 + i % 200) << 20,
			.use = i / NODES % 2 ? CONSOLIDATE_IN_USE : CONSOLIDATE_ASLEEP,
		};
}

static double pass_over_nodes(struct bench *b)
{
	static const struct consolidate_rules rules = {
		.steady_ms = 10 * MINUTE, .moves_per_hour = 1000, .at_once = 1, .fill = 0.85
	};
	struct consolidate_node nodes[NODES];
	struct consolidate_decision said[8];
	wall_ms next;
	fill_nodes(b, nodes);
	struct consolidate_facts facts = { .nodes = nodes,
					   .node_count = NODES,
					   .sessions = b->placed,
					   .session_count = b->count,
					   .emptying = CONSOLIDATE_NONE };
	double begin = processor_ms();
	consolidate_decide(&rules, &facts, NOW, said, ARRAY_SIZE(said), &next);
	return processor_ms() - begin;
}

static double pass(struct bench *b)
{
	static const char *const patterns[] = { "course-*", "teacher?", NULL };
	static const struct idle_window quiet = { .from_minute = 60, .to_minute = 120 };
	static const struct protect_node nodes[NODES];
	static const struct protect_rules protect = { .rpo_ms = 5 * MINUTE, .share = 0.25 };
	struct idle_rule rules[RULES] = { 0 };
	for (int i = 0; i < RULES; i++)
		rules[i] = (struct idle_rule) {
			.name = "rule",
			.users = i + 1 < RULES ? patterns : NULL,
			.groups = i % 2 ? patterns : NULL,
			.admins = -1,
			.timeout_ms = 60 * MINUTE,
			.cpu_threshold = 0.05,
			.stuck_busy_ms = 720 * MINUTE,
		};
	const struct idle_policy policy = {
		.rules = rules,
		.rule_count = RULES,
		.quiet = &quiet,
		.quiet_count = 1,
		.concurrency = 20,
		.interval_ms = MINUTE,
	};
	double begin = processor_ms();
	idle_decide(&policy, b->idle, b->count, 0, NOW, b->idle_said);
	protect_decide(&protect, nodes, NODES, b->protect, b->count, NOW, b->protect_said);
	return processor_ms() - begin + pass_over_nodes(b);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	size_t passes = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct bench b = { .count = argc == 3 ? strtoul(argv[1], NULL, 10) : 0 };
	if (!b.count || !passes) {
		fprintf(stderr, "usage: policy_bench SESSIONS PASSES\n");
		return 2;
	}
	b.names = calloc(b.count, sizeof(*b.names));
	b.idle = calloc(b.count, sizeof(*b.idle));
	b.idle_said = calloc(b.count, sizeof(*b.idle_said));
	b.protect = calloc(b.count, sizeof(*b.protect));
	b.protect_said = calloc(b.count, sizeof(*b.protect_said));
	b.placed = calloc(b.count, sizeof(*b.placed));
	cleanup_free double *took = calloc(passes, sizeof(*took));
	if (!b.names || !b.idle || !b.idle_said || !b.protect || !b.protect_said || !b.placed ||
	    !took)
		return 9;
	fill(&b);
	for (size_t i = 0; i < passes; i++)
		took[i] = pass(&b);
	qsort(took, passes, sizeof(*took), by_size);
	printf("{\"sessions\": %zu, \"ms\": %.3f}\n", b.count, took[passes / 2]);
	free(b.names);
	free(b.idle);
	free(b.idle_said);
	free(b.protect);
	free(b.protect_said);
	free(b.placed);
	return 0;
}
