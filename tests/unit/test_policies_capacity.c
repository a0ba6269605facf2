/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/capacity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Times of the table are seconds before NOW; T(0) is never. */
#define NOW  ((wall_ms)1700000000000)
#define T(s) ((s) ? NOW - (s) * 1000 : 0)

static const struct capacity_rules rules = { .min = 0,
					     .max = 4,
					     .cooldown_ms = 120000,
					     .start_timeout_ms = 300000,
					     .empty_for_ms = 600000,
					     .settle_ms = 15000,
					     .grow_interval_ms = 5000,
					     .shrink_interval_ms = 30000 };

/* Sessions wait for this long. */
#define W(memory)    { .memory_bytes = (memory), .in_use = true, .since = T(20) }
#define POOL(n, ...) { .desired = (n), .memory_bytes = 8, __VA_ARGS__ }
#define COMING(p, s) { .pool = (p), .since = T(s) }
/* Nodes. */
#define EMPTY(p, s, ...)                                                                           \
	{ .pool = (p),                                                                             \
	  .since = T(9000),                                                                        \
	  .joined = true,                                                                          \
	  .up = true,                                                                              \
	  .empty_since = T(s),                                                                     \
	  __VA_ARGS__ }
#define FULL(p, ...)                                                                               \
	{ .pool = (p), .since = T(9000), .joined = true, .up = true, .sessions = 1, __VA_ARGS__ }

static const struct capacity_case {
	const char *name;
	int64_t min, spare, free;
	struct capacity_wanted wanted[4];
	struct capacity_pool pools[3];
	struct capacity_machine machines[5];
	wall_ms grown_at, shrunk_at;
	bool strangers;
	const char *want; /* the decisions, then the block, then seconds to the next look */
} cases[] = {
	{ "nothing to do", .pools = { POOL(0) }, .want = "" },
	{ "one machine for one session", .wanted = { W(4) }, .pools = { POOL(0) },
	  .want = "grow 0 to 1: wanted" },
	{ "two small ones share it", .wanted = { W(4), W(4) }, .pools = { POOL(0) },
	  .want = "grow 0 to 1: wanted" },
	{ "three need two", .wanted = { W(4), W(4), W(4) }, .pools = { POOL(0) },
	  .want = "grow 0 to 2: wanted" },
	{ "large ones are packed first", .wanted = { W(2), W(6), W(2), W(6) }, .pools = { POOL(0) },
	  .want = "grow 0 to 2: wanted" },
	{ "a pool nobody has seen a machine of: one first", .wanted = { W(4), W(40), W(4) },
	  .pools = { { .desired = 0 } }, .want = "grow 0 to 1: wanted" },
	{ "it is on its way already", .wanted = { W(4) }, .pools = { POOL(1, .asked_at = T(30)) },
	  .want = "next 270" },
	{ "it is starting", .wanted = { W(4) }, .pools = { POOL(1) }, .machines = { COMING(0, 60) },
	  .want = "next 240" },
	{ "one more than is on its way", .wanted = { W(8), W(8) }, .pools = { POOL(1) },
	  .machines = { COMING(0, 60) }, .want = "grow 0 to 2: wanted; next 240" },
	{ "a machine that has just joined will take it", .wanted = { W(4) }, .pools = { POOL(1) },
	  .machines = { EMPTY(0, 5) }, .want = "next 10" },
	{ "a machine that does not take it is no help: the next pool", .wanted = { W(4) },
	  .pools = { POOL(1), POOL(0) }, .machines = { EMPTY(0, 100) },
	  .want = "grow 1 to 1: wanted; next 500" },
	{ "and when there is none, none", .wanted = { W(4) }, .pools = { POOL(1) },
	  .machines = { EMPTY(0, 100) },
	  .want = "no pool has machines that could take it; next 500" },
	{ "too large for the first pool", .wanted = { W(12) },
	  .pools = { POOL(0), { .desired = 0, .memory_bytes = 16 } },
	  .want = "grow 1 to 1: wanted" },
	{ "too large for any", .wanted = { W(12) }, .pools = { POOL(0), POOL(0) },
	  .want = "no pool has machines that could take it" },
	{ "the wrong processor",
	  .wanted = { { .memory_bytes = 1, .in_use = true, .features = "x86_64 avx512f" } },
	  .pools = { POOL(0, .features = "x86_64 avx"), POOL(0, .features = "x86_64 avx avx512f") },
	  .want = "grow 1 to 1: wanted" },
	{ "only a spot machine will do: not of a pool that is known to have others",
	  .wanted = { { .memory_bytes = 4, .in_use = true, .spot = true } },
	  .pools = { POOL(0, .not_spot = true), POOL(0) }, .want = "grow 1 to 1: wanted" },
	{ "nor is one that comes there any help",
	  .wanted = { { .memory_bytes = 4, .in_use = true, .spot = true }, W(4) },
	  .pools = { POOL(1, .not_spot = true), POOL(0) }, .machines = { COMING(0, 60) },
	  .want = "grow 1 to 1: wanted; next 240" },
	{ "and where all have others none is asked",
	  .wanted = { { .memory_bytes = 4, .in_use = true, .spot = true } },
	  .pools = { POOL(0, .not_spot = true) },
	  .want = "no pool has machines that could take it" },
	{ "a pool that had nothing to give cools down", .wanted = { W(4) },
	  .pools = { POOL(0, .refused_at = T(30)), POOL(0) },
	  .want = "grow 1 to 1: wanted; next 90" },
	{ "all cool down", .wanted = { W(4) },
	  .pools = { POOL(0, .refused_at = T(30)), POOL(0, .refused_at = T(50)) },
	  .want = "no pool had a machine to give, lately; next 70" },
	{ "cooled down", .wanted = { W(4) }, .pools = { POOL(0, .refused_at = T(120)) },
	  .want = "grow 0 to 1: wanted" },
	{ "refused after it was asked: given up, the next one asked", .wanted = { W(4) },
	  .pools = { POOL(2, .asked_at = T(40), .refused_at = T(10), .can_lower = true), POOL(0) },
	  .machines = { FULL(0) },
	  .want = "grow 1 to 1: wanted; give up 0 to 1: refused; next 110" },
	{ "where it cannot be given up it may come late, and counts for nothing",
	  .wanted = { W(4) }, .pools = { POOL(4, .asked_at = T(40), .refused_at = T(10)), POOL(0) },
	  .want = "grow 1 to 1: wanted; next 110" },
	{ "asked again, it is not asked for more", .wanted = { W(4) },
	  .pools = { POOL(3, .asked_at = T(400), .refused_at = T(300)) },
	  .want = "grow 0 to 3: wanted" },
	{ "nothing launched in time: given up",
	  .pools = { POOL(1, .asked_at = T(301), .can_lower = true) },
	  .want = "give up 0 to 0: late" },
	{ "a machine that never joined", .pools = { POOL(1) }, .machines = { COMING(0, 300) },
	  .want = "shrink 0: never-joined" },
	{ "unless it may be one of the nodes nobody has asked yet", .pools = { POOL(1) },
	  .machines = { COMING(0, 300) }, .strangers = true, .want = "" },
	{ "a pool that nobody could look at yet", .wanted = { W(4) }, .pools = { POOL(-1) },
	  .want = "the pools could not be looked at yet" },
	{ "it does not hold up the next one", .wanted = { W(4) }, .pools = { POOL(-1), POOL(0) },
	  .want = "grow 1 to 1: wanted" },
	{ "a pool that is being asked", .wanted = { W(4) }, .pools = { POOL(0, .busy = true) },
	  .want = "" },
	{ "not so soon again", .wanted = { W(4) }, .pools = { POOL(0) }, .grown_at = T(2),
	  .want = "machines were asked for a moment ago; next 3" },
	{ "not above the maximum", .wanted = { W(8), W(8) }, .pools = { POOL(3) },
	  .machines = { FULL(0), FULL(0), FULL(0) },
	  .want = "grow 0 to 4: wanted; there are as many machines as capacity.max or the pools "
		  "allow" },
	{ "a doomed one does not count for it", .wanted = { W(8) }, .pools = { POOL(4) },
	  .machines = { FULL(0), FULL(0), FULL(0), FULL(0, .doomed = true) },
	  .want = "grow 0 to 5: wanted" },
	{ "nobody waits: no machine for it", .wanted = { { .memory_bytes = 4 } },
	  .pools = { POOL(0) }, .want = "" },
	{ "the minimum", .min = 2, .pools = { POOL(0) }, .want = "grow 0 to 2: min" },
	{ "a minimum that cannot be had", .min = 1, .pools = { POOL(0, .refused_at = T(20)) },
	  .want = "no pool had a machine to give, lately; next 100" },
	{ "a doomed one is none of the minimum", .min = 1, .pools = { POOL(1) },
	  .machines = { FULL(0, .doomed = true) }, .want = "grow 0 to 2: min" },
	{ "too little is free", .spare = 10, .free = 4, .pools = { POOL(1) },
	  .machines = { FULL(0) }, .want = "grow 0 to 2: spare" },
	{ "enough is free", .spare = 10, .free = 10, .pools = { POOL(2) },
	  .machines = { FULL(0), FULL(0) }, .want = "" },
	{ "enough is coming", .spare = 10, .free = 4, .pools = { POOL(2) },
	  .machines = { FULL(0), COMING(0, 60) }, .want = "next 240" },
	{ "what is wanted now is not spare", .spare = 10, .free = 4, .wanted = { W(6) },
	  .pools = { POOL(1) }, .machines = { FULL(0) }, .want = "grow 0 to 3: wanted" },
	{ "what has just joined counts once", .spare = 5, .free = 8, .wanted = { W(4) },
	  .pools = { POOL(1) }, .machines = { EMPTY(0, 5) },
	  .want = "grow 0 to 2: spare; next 10" },
	{ "a size that nobody knows: one at a time", .spare = 100, .pools = { { .desired = 0 } },
	  .want = "grow 0 to 1: spare" },
	{ "no more than the maximum for it", .spare = 100, .pools = { POOL(0) },
	  .want = "grow 0 to 4: spare; there are as many machines as capacity.max or the pools "
		  "allow" },
	{ "an empty one that is the spare stays", .spare = 8, .free = 8, .pools = { POOL(1) },
	  .machines = { EMPTY(0, 900) }, .want = "" },
	{ "one that is not goes", .spare = 8, .free = 16, .pools = { POOL(2) },
	  .machines = { EMPTY(0, 900), EMPTY(0, 800) }, .want = "shrink 0: empty" },
	{ "empty for long", .pools = { POOL(1) }, .machines = { EMPTY(0, 600) },
	  .want = "shrink 0: empty" },
	{ "not that long", .pools = { POOL(1) }, .machines = { EMPTY(0, 599) }, .want = "next 1" },
	{ "one at a time, of the last pool the longest empty", .pools = { POOL(2), POOL(2) },
	  .machines = { EMPTY(0, 900), EMPTY(1, 700), EMPTY(1, 800), EMPTY(0, 800) },
	  .want = "shrink 2: empty" },
	{ "and not one after the other", .pools = { POOL(2) },
	  .machines = { EMPTY(0, 900), EMPTY(0, 700) }, .shrunk_at = T(10), .want = "next 20" },
	{ "the minimum stays", .min = 2, .pools = { POOL(2) },
	  .machines = { EMPTY(0, 900), FULL(0) }, .want = "" },
	{ "a pool's own maximum: the next one", .wanted = { W(8) },
	  .pools = { POOL(1, .most = 1), POOL(0) }, .machines = { FULL(0) },
	  .want = "grow 1 to 1: wanted" },
	{ "one that the cloud cannot make is taken back, the next pool asked", .wanted = { W(8) },
	  .pools = { POOL(1, .refused_at = T(1)), POOL(0) },
	  .machines = { { .pool = 0, .since = T(20), .refused = true } },
	  .want = "grow 1 to 1: wanted; shrink 0: refused; next 119" },
	{ "a pool that would not give one back is not asked again at once",
	  .pools = { POOL(1, .keeps = true) }, .machines = { EMPTY(0, 900) }, .want = "" },
	{ "an operator's stays", .pools = { POOL(1) }, .machines = { EMPTY(0, 900, .held = true) },
	  .want = "" },
	{ "one that goes already", .pools = { POOL(1) },
	  .machines = { EMPTY(0, 900, .going = true) }, .want = "" },
	{ "a doomed one goes as soon as it is empty", .pools = { POOL(1) },
	  .machines = { EMPTY(0, 1, .doomed = true) }, .want = "shrink 0: doomed" },
	{ "and not before", .pools = { POOL(1) }, .machines = { FULL(0, .doomed = true) },
	  .want = "" },
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

static void tell(const struct capacity_decision *list, size_t count,
		 const struct capacity_outlook *out, char *to, size_t size)
{
	for (size_t i = 0; i < count; i++) {
		const struct capacity_decision *x = &list[i];
		const char *why = capacity_why_name(x->why);
		if (x->kind == CAPACITY_SHRINK)
			append(to, size, "shrink %zu: %s", x->machine, why);
		else
			append(to, size, "%s %zu to %d: %s",
			       x->kind == CAPACITY_GROW ? "grow" : "give up", x->pool,
			       (int)x->desired, why);
	}
	if (out->block)
		append(to, size, "%s", capacity_block_text(out->block));
	if (out->next_at)
		append(to, size, "next %d", (int)((out->next_at - NOW) / 1000));
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct capacity_case *c = &cases[i];
		struct capacity_rules r = rules;
		struct capacity_wanted wanted[4];
		struct capacity_facts f = { .wanted = wanted,
					    .pools = c->pools,
					    .machines = c->machines,
					    .grown_at = c->grown_at,
					    .shrunk_at = c->shrunk_at,
					    .strangers = c->strangers,
					    .free_bytes = c->free };
		r.min = c->min;
		r.spare_bytes = c->spare;
		memcpy(wanted, c->wanted, sizeof(wanted));
		while (f.wanted_count < 4 && wanted[f.wanted_count].memory_bytes)
			f.wanted_count++;
		while (f.pool_count < 3 &&
		       (c->pools[f.pool_count].memory_bytes || (f.pool_count == 0)))
			f.pool_count++;
		while (f.machine_count < 5 && c->machines[f.machine_count].since)
			f.machine_count++;
		struct capacity_decision list[16];
		struct capacity_outlook out;
		char got[256] = "";
		size_t count = capacity_decide(&r, &f, NOW, list, ARRAY_SIZE(list), &out);
		tell(list, count, &out, got, sizeof(got));
		if (strcmp(got, c->want) != 0)
			fail_msg("%s: \"%s\" instead of \"%s\"", c->name, got, c->want);
	}
}

static void test_coming(void **state)
{
	(void)state;
	struct capacity_wanted wanted[] = { W(5), W(100), W(7) };
	struct capacity_pool pools[] = { POOL(0), POOL(0) };
	struct capacity_facts f = {
		.wanted = wanted, .wanted_count = 3, .pools = pools, .pool_count = 2
	};
	struct capacity_decision list[4];
	struct capacity_outlook out;
	capacity_decide(&rules, &f, NOW, list, 4, &out);
	assert_true(wanted[0].memory_bytes == 100 && wanted[0].useless && wanted[0].coming == -1);
	assert_true(wanted[1].coming == 0 && !wanted[1].useless);
	assert_true(wanted[2].coming == 0);
	/* No room for the decisions is no harm. */
	assert_int_equal(capacity_decide(&rules, &f, NOW, list, 0, &out), 0);
}

/* --- a cloud that does as it likes, in steps of a second --- */

enum { POOLS = 3, MACHINES = 64, SESSIONS = 24, SIZE = 8 };

static struct world {
	struct capacity_rules rules;
	int64_t desired[POOLS];
	wall_ms asked_at[POOLS], refused_at[POOLS];
	bool dry[POOLS]; /* gives nothing */
	bool lowers[POOLS];
	struct capacity_machine machines[MACHINES];
	wall_ms starts_at[MACHINES]; /* joins then; 0: never */
	size_t machine_count;
	struct {
		int64_t memory; /* 0: not there */
		int machine;    /* -1: wanted */
		wall_ms since;
	} sessions[SESSIONS];
	wall_ms grown_at, shrunk_at;
	unsigned grows, shrinks;
} w;

static uint64_t seed;

static unsigned dice(unsigned sides)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (unsigned)(seed >> 20) % sides;
}

static int64_t used_of(size_t machine)
{
	int64_t used = 0;
	for (size_t i = 0; i < SESSIONS; i++)
		if (w.sessions[i].memory && w.sessions[i].machine == (int)machine)
			used += w.sessions[i].memory;
	return used;
}

static void place_sessions(wall_ms now)
{
	for (size_t i = 0; i < SESSIONS; i++)
		for (size_t k = 0; k < w.machine_count && w.sessions[i].memory; k++) {
			struct capacity_machine *m = &w.machines[k];
			if (w.sessions[i].machine >= 0 || !m->joined || m->doomed || m->going ||
			    used_of(k) + w.sessions[i].memory > SIZE)
				continue;
			w.sessions[i].machine = (int)k;
			m->sessions++;
			m->empty_since = 0;
		}
	(void)now;
}

static void remove_machine(size_t k, wall_ms now)
{
	size_t last = --w.machine_count;
	for (size_t i = 0; i < SESSIONS; i++) {
		if (w.sessions[i].machine == (int)k) {
			w.sessions[i].machine = -1;
			w.sessions[i].since = now;
		} else if (w.sessions[i].machine == (int)last) {
			w.sessions[i].machine = (int)k;
		}
	}
	w.machines[k] = w.machines[last];
	w.starts_at[k] = w.starts_at[last];
}

static void end_session(size_t i, wall_ms now)
{
	int k = w.sessions[i].machine;
	w.sessions[i].memory = 0;
	w.sessions[i].machine = -1;
	if (k >= 0 && --w.machines[k].sessions == 0)
		w.machines[k].empty_since = now;
}

static void cloud_step(wall_ms now, bool wild)
{
	int64_t there[POOLS] = { 0 };
	for (size_t k = 0; k < w.machine_count; k++)
		there[w.machines[k].pool]++;
	for (size_t p = 0; p < POOLS; p++) {
		if (there[p] < w.desired[p] && w.dry[p] && dice(10) == 0)
			w.refused_at[p] = now;
		while (there[p] < w.desired[p] && !w.dry[p] && w.machine_count < MACHINES) {
			w.machines[w.machine_count] =
				(struct capacity_machine) { .pool = p, .since = now };
			w.starts_at[w.machine_count++] =
				wild && dice(12) == 0 ? 0 : now + 20000 + dice(60) * 1000;
			there[p]++;
		}
		if (wild && dice(400) == 0)
			w.dry[p] = !w.dry[p];
	}
	for (size_t k = 0; k < w.machine_count; k++) {
		struct capacity_machine *m = &w.machines[k];
		if (!m->joined && w.starts_at[k] && w.starts_at[k] <= now) {
			m->joined = m->up = true;
			m->empty_since = now;
		}
		if (wild && m->joined && dice(2000) == 0)
			m->doomed = true;
		else if (m->doomed && dice(60) == 0)
			remove_machine(k--, now); /* and the cloud replaces it by itself */
	}
}

static void people_step(wall_ms now, unsigned come, unsigned go)
{
	for (size_t i = 0; i < SESSIONS; i++) {
		if (w.sessions[i].memory && go && dice(go) == 0)
			end_session(i, now);
		else if (!w.sessions[i].memory && come && dice(come) == 0) {
			w.sessions[i].memory = 1 + dice(SIZE);
			w.sessions[i].machine = -1;
			w.sessions[i].since = now;
		}
	}
}

static int64_t healthy(void)
{
	int64_t n = 0;
	for (size_t k = 0; k < w.machine_count; k++)
		n += w.machines[k].joined && !w.machines[k].doomed;
	return n;
}

static void carry_out(const struct capacity_decision *x, wall_ms now, size_t *removed)
{
	struct capacity_machine *m = &w.machines[x->machine];
	if (x->kind == CAPACITY_GIVE_UP) {
		assert_true(w.lowers[x->pool] && x->desired <= w.desired[x->pool]);
		w.desired[x->pool] = x->desired;
	} else if (x->kind == CAPACITY_GROW) {
		assert_true(x->desired >= w.desired[x->pool]);
		assert_true(!w.refused_at[x->pool] ||
			    now - w.refused_at[x->pool] >= w.rules.cooldown_ms);
		assert_true(!w.grown_at || now == w.grown_at ||
			    now - w.grown_at >= w.rules.grow_interval_ms);
		w.grows += now != w.grown_at;
		w.grown_at = now;
		w.asked_at[x->pool] = now;
		w.desired[x->pool] = x->desired;
	} else {
		assert_int_equal(m->sessions, 0);
		if (x->why == CAPACITY_EMPTY) {
			assert_true(now - m->empty_since >= w.rules.empty_for_ms);
			assert_true(!w.shrunk_at ||
				    now - w.shrunk_at >= w.rules.shrink_interval_ms);
			assert_true(healthy() - 1 >= w.rules.min);
			w.shrunk_at = now;
			w.shrinks++;
		}
		if (x->why == CAPACITY_NEVER_JOINED) {
			assert_true(!m->joined && now - m->since >= w.rules.start_timeout_ms);
			w.refused_at[x->pool] = now;
		}
		m->going = true;
		w.desired[x->pool]--;
		*removed += 1;
	}
}

static void policy_step(wall_ms now)
{
	struct capacity_wanted wanted[SESSIONS];
	struct capacity_pool pools[POOLS];
	struct capacity_decision list[64], again[64];
	struct capacity_outlook out;
	struct capacity_facts f = { .wanted = wanted,
				    .pools = pools,
				    .pool_count = POOLS,
				    .machines = w.machines,
				    .machine_count = w.machine_count,
				    .grown_at = w.grown_at,
				    .shrunk_at = w.shrunk_at };
	for (size_t i = 0; i < SESSIONS; i++)
		if (w.sessions[i].memory && w.sessions[i].machine < 0)
			wanted[f.wanted_count++] =
				(struct capacity_wanted) { .memory_bytes = w.sessions[i].memory,
							   .since = w.sessions[i].since,
							   .in_use = true };
	for (size_t p = 0; p < POOLS; p++)
		pools[p] = (struct capacity_pool) { .desired = w.desired[p],
						    .asked_at = w.asked_at[p],
						    .refused_at = w.refused_at[p],
						    .can_lower = w.lowers[p],
						    .memory_bytes = SIZE };
	size_t count = capacity_decide(&w.rules, &f, now, list, ARRAY_SIZE(list), &out);
	assert_int_equal(capacity_decide(&w.rules, &f, now, again, ARRAY_SIZE(again), &out), count);
	assert_memory_equal(list, again, count * sizeof(*list));
	assert_true(!out.next_at || out.next_at > now);
	size_t removed = 0;
	for (size_t i = 0; i < count; i++)
		carry_out(&list[i], now, &removed);
	for (size_t k = 0; k < w.machine_count; k++)
		if (w.machines[k].going)
			remove_machine(k--, now);
	/* Where all can be taken back, there are never more than the maximum. */
	int64_t total = 0;
	for (size_t p = 0; p < POOLS; p++)
		total += w.desired[p];
	for (size_t k = 0; k < w.machine_count; k++)
		total -= w.machines[k].doomed;
	if (w.lowers[0] && w.lowers[1] && w.lowers[2])
		assert_true(total <= w.rules.max);
}

static void run(wall_ms *now, int seconds, bool wild, unsigned come, unsigned go)
{
	for (int s = 0; s < seconds; s++, *now += 1000) {
		people_step(*now, come, go);
		cloud_step(*now, wild);
		place_sessions(*now);
		policy_step(*now);
	}
}

static size_t count_wanted(void)
{
	size_t n = 0;
	for (size_t i = 0; i < SESSIONS; i++)
		n += w.sessions[i].memory && w.sessions[i].machine < 0;
	return n;
}

static void begin_world(unsigned round)
{
	memset(&w, 0, sizeof(w));
	w.rules = rules;
	w.rules.min = dice(3);
	w.rules.max = SESSIONS;
	w.rules.empty_for_ms = 60000 + dice(10) * 60000;
	for (size_t i = 0; i < SESSIONS; i++)
		w.sessions[i].machine = -1;
	for (size_t p = 0; p < POOLS; p++)
		w.lowers[p] = round % 2 || dice(2);
}

static void test_a_cloud(void **state)
{
	(void)state;
	seed = 88172645463325252u;
	for (unsigned round = 0; round < 60; round++) {
		wall_ms now = NOW;
		begin_world(round);
		run(&now, 3600, true, 300, 600);
		/* Calm: whoever waits gets a machine, */
		memset(w.dry, 0, sizeof(w.dry));
		for (size_t k = 0; k < w.machine_count; k++)
			if (!w.starts_at[k])
				w.starts_at[k] = now;
		run(&now, 600, false, 0, 0);
		assert_int_equal(count_wanted(), 0);
		/* then all is quiet, */
		unsigned grows = w.grows;
		run(&now, 600, false, 0, 0);
		assert_int_equal(w.grows, grows);
		/* and when all have gone the minimum stays. */
		for (size_t i = 0; i < SESSIONS; i++)
			if (w.sessions[i].memory)
				end_session(i, now);
		run(&now, 3600, false, 0, 0);
		assert_int_equal(w.machine_count, w.rules.min);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_coming),
		cmocka_unit_test(test_a_cloud),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
