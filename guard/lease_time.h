/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_GUARD_LEASE_TIME_H
#define ELSA_GUARD_LEASE_TIME_H

/*
 * When what is due of a lease, in microseconds of CLOCK_BOOTTIME. It counts from
 * the moment before it was asked for: whenever elsad answered, it was later, and
 * so is the end that elsad waits for. Pure.
 *
 *	sent  +1/6      +2/6  ...        80 %          90 %         100 %
 *	ask   ask again                  elsa-node     the guard    elsad restores
 *	                                 freezes       freezes      elsewhere
 */

#include <stdbool.h>
#include <stdint.h>

struct lease_time {
	int64_t sent_us;
	int64_t lease_us; /* 0: there never was one */
	int64_t skew_us;  /* CLOCK_REALTIME less CLOCK_BOOTTIME when it was granted */
};

enum { LEASE_ASKS = 6, LEASE_FREEZE_PERCENT = 80, LEASE_GUARD_PERCENT = 90 };
#define LEASE_STEP_US INT64_C(2000000) /* a wall clock is set by less than this every day */

static inline int64_t lease_part(const struct lease_time *t, int percent)
{
	return t->sent_us + t->lease_us / 100 * percent;
}

static inline int64_t lease_renew_at(const struct lease_time *t)
{
	return t->sent_us + t->lease_us / LEASE_ASKS;
}

static inline int64_t lease_freeze_at(const struct lease_time *t)
{
	return lease_part(t, LEASE_FREEZE_PERCENT);
}

static inline int64_t lease_guard_at(const struct lease_time *t)
{
	return lease_part(t, LEASE_GUARD_PERCENT);
}

static inline int64_t lease_ends_at(const struct lease_time *t)
{
	return t->sent_us + t->lease_us;
}

/*
 * How far time has come. A machine that is suspended goes on counting in
 * CLOCK_BOOTTIME; a virtual one that its host has paused does not, but then its
 * wall clock is often set forward when it runs again. So what that has gained
 * since the lease was granted counts as gone by. At worst a clock that is set
 * lets sessions stand still until the next answer.
 */
static inline int64_t lease_now(const struct lease_time *t, int64_t boot_us, int64_t real_us)
{
	int64_t gained = real_us - boot_us - t->skew_us;
	return t->lease_us > 0 && gained > LEASE_STEP_US ? boot_us + gained : boot_us;
}

static inline bool lease_is_held(const struct lease_time *t, int64_t now_us)
{
	return t->lease_us > 0 && now_us >= t->sent_us && now_us < lease_freeze_at(t);
}

#endif
