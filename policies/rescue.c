/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/rescue.h"

#include "base/cleanup.h"
#include "base/names.h"

#define MIB (INT64_C(1) << 20)

const struct rescue_rules rescue_defaults = {
	.near = 0.85,
	.last = 0.97,
	.ahead_ms = 3000,
	.last_ms = 700,
	.step = 0.5,
	.horizon_ms = 10000,
	.least_bytes = 32 * MIB,
};

static const char *const reason_names[RESCUE_REASON_COUNT] = {
	[RESCUE_NO_LIMIT] = "no-limit", [RESCUE_FAR] = "far",   [RESCUE_NEAR] = "near",
	[RESCUE_NO_ROOM] = "no-room",   [RESCUE_MOST] = "most",
};

/* All in floating point: bytes a second over minutes do not fit. */
static double grown(const struct rescue_facts *f, int64_t ms)
{
	double growth = f->growth > 0 ? (double)f->growth * (double)ms / 1000 : 0;
	return (double)f->used_bytes + growth;
}

static bool reaches(const struct rescue_facts *f, double share, int64_t ms)
{
	double limit = (double)f->limit_bytes;
	return (double)f->used_bytes >= share * limit || grown(f, ms) >= limit;
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

static double most(double a, double b)
{
	return a > b ? a : b;
}

/* A raise by less is none. */
static double worth(const struct rescue_rules *rules, const struct rescue_facts *f)
{
	return (double)f->limit_bytes + (double)rules->least_bytes;
}

/* What it is to have, room or not. */
static double wanted(const struct rescue_rules *rules, const struct rescue_facts *f)
{
	double stepped = most((double)f->limit_bytes * (1 + rules->step), worth(rules, f));
	return least(most(stepped, grown(f, rules->horizon_ms)), (double)rules->most_bytes);
}

/* It wants that much. */
static struct rescue_decision help(const struct rescue_rules *rules, const struct rescue_facts *f,
				   double want)
{
	struct rescue_decision d = { .reason = RESCUE_NO_ROOM,
				     .wanted_bytes = (int64_t)want,
				     .waits = true };
	double can = least(want, (double)f->used_bytes + (double)f->room_bytes);
	if (f->room_bytes > 0 && can >= worth(rules, f)) {
		d.reason = RESCUE_NEAR;
		d.act = RESCUE_RAISE;
		d.limit_bytes = (int64_t)can;
	} else if (f->held) {
		d.act = RESCUE_HOLD;
	} else if (f->given_up) {
		d.waits = false;
	} else if (f->waiting || reaches(f, rules->last, rules->last_ms)) {
		d.act = RESCUE_HOLD;
	}
	return d;
}

struct rescue_decision rescue_decide(const struct rescue_rules *rules,
				     const struct rescue_facts *facts)
{
	struct rescue_decision d = { .reason = RESCUE_NO_LIMIT };
	if (facts->limit_bytes <= 0)
		return d;
	d.reason = RESCUE_FAR;
	d.waits = true;
	bool near = facts->held || facts->waiting;
	if (!near && !reaches(facts, rules->near, rules->ahead_ms))
		return d;
	double want = wanted(rules, facts);
	if (want >= worth(rules, facts))
		return help(rules, facts, want);
	d.reason = RESCUE_MOST;
	d.waits = false;
	return d;
}

const char *rescue_reason_name(enum rescue_reason reason)
{
	return name_of(reason_names, ARRAY_SIZE(reason_names), (int)reason);
}
