/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_REPORT_H
#define ELSA_SIM_REPORT_H

/*
 * Results side by side as one HTML page, with its plots in it: it needs no
 * network, and the same results give the same bytes. Thread-safe.
 */

#include "base/buf.h"
#include "sim/world.h"

struct report {
	const struct sim_result *const *results;
	size_t count;
	wall_ms begin, end; /* of the trace */
	const char *title;  /* any text */
	const struct prices *prices;
	uint64_t seed;
	bool sizes; /* there are size classes */
};

int report_html(const struct report *report, struct buf *to);

double report_cost(const struct sim_result *r); /* money, all of it */

#endif
