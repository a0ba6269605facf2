/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_PRESSURE_H
#define ELSA_NODE_DOZE_PRESSURE_H

/* How much work waits for memory, as the kernel tells it (PSI, /proc/pressure/memory). Thread-safe.
 */

#include <stdbool.h>

struct pressure {
	double some; /* percent of the last ten seconds in which somebody waited */
	double full; /* ... in which all did */
};

bool pressure_parse(const char *text, struct pressure *to); /* pure */
/* False where the kernel does not tell: without CONFIG_PSI, or booted with psi=0. */
bool pressure_read(struct pressure *to);

#endif
