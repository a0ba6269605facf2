/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_SIM_KIT_H
#define ELSA_TESTS_SIM_KIT_H

/* Worlds of the simulator for unit tests, which begin at BEGIN. Behind cmocka.h. */

#include "sim/world.h"

#define BEGIN ((wall_ms)1767571200000)

/* At so many milliseconds from there. */
static inline void take(struct world *w, struct trace_record record)
{
	struct error e = ERROR_INIT;
	record.at += BEGIN;
	if (world_take(w, &record, &e) < 0)
		fail_msg("%s", e.text);
}

#endif
