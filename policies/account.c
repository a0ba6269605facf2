/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/account.h"

#define GIB     ((double)(1 << 30))
#define HOUR_MS 3600000.0
#define DAY_MS  ((wall_ms)24 * 3600 * 1000)
#define CALM_MS ((int64_t)10 * 60 * 1000)

void account_sizes(const struct account_facts *facts, struct account_basis *to)
{
	int64_t resident = facts->resident_bytes;
	bool skeleton = facts->state == SESSION_DOZING && resident > 0;
	to->awake = session_state_has_processes(facts->state);
	to->held_bytes = !to->awake ? 0 : facts->placed_bytes;
	if (skeleton && resident < to->held_bytes)
		to->held_bytes = resident;
	/* What it is known to need awake stays so while it sleeps. */
	if (session_state_is_over(facts->state))
		to->whole_bytes = 0;
	else if ((to->awake && !skeleton) || facts->whole_bytes <= 0)
		to->whole_bytes = facts->placed_bytes;
	else
		to->whole_bytes = facts->whole_bytes;
}

static bool differs(int64_t a, int64_t b, double factor)
{
	double least = a < b ? (double)a : (double)b;
	double most = a < b ? (double)b : (double)a;
	return most > factor * least;
}

bool account_resized(const struct account_basis *charged, const struct account_basis *now,
		     int64_t since_ms)
{
	double factor = since_ms >= CALM_MS ? 1.25 : 2;
	return differs(charged->held_bytes, now->held_bytes, factor) ||
	       differs(charged->whole_bytes, now->whole_bytes, factor);
}

void account_add(struct account_sums *to, const struct account_basis *basis, int64_t ms)
{
	double hours = (double)ms / HOUR_MS;
	to->awake_ms += basis->awake ? ms : 0;
	to->open_ms += basis->whole_bytes > 0 ? ms : 0;
	to->always += (double)basis->whole_bytes / GIB * basis->demand_gib_hour * hours;
	to->machine += (double)basis->held_bytes / GIB * basis->machine_gib_hour * hours;
	to->store += (double)basis->stored_bytes / GIB * basis->store_gib_hour * hours;
}

int64_t account_day(wall_ms t)
{
	return t / DAY_MS;
}

wall_ms account_day_end(wall_ms t)
{
	return (t / DAY_MS + 1) * DAY_MS;
}
