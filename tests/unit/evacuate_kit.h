/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that goes away at a time of its own, for test_policies_evacuate*.c. */
#include "policies/evacuate.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
enum { S = 1000 };
#define NOW ((wall_ms)1000000000)

/* 100 MiB/s to the store by one stream and by all, memory read five times as fast. */
static inline struct evacuate_facts facts(int64_t window_ms, size_t workers)
{
	return (struct evacuate_facts) { .now = NOW,
					 .deadline = NOW + window_ms,
					 .margin_ms = 5 * S,
					 .store_bytes_per_s = 100 * MIB,
					 .stream_bytes_per_s = 100 * MIB,
					 .dump_bytes_per_s = 500 * MIB,
					 .fixed_ms = 500,
					 .workers = workers };
}

#define SESSION(id_, mib, ...)                                                                     \
	{ .id = id_, .resident_bytes = (mib) * MIB, .unsent_bytes = (mib) * MIB, __VA_ARGS__ }

/* C checkpoint, W wait, F freeze, L leave, M move, R recall, "." nothing. */
static inline char letter(enum evacuate_what what)
{
	return ".CWFLMR"[what];
}

/* Numbers that are the same in each run. */
static uint64_t seed;

static inline int64_t random_to(int64_t most)
{
	seed = seed * 6364136223846793005U + 1442695040888963407U;
	return (int64_t)((seed >> 16) % (uint64_t)(most + 1));
}
