/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_RETRY_H
#define ELSA_CONTROLLER_RETRY_H

/* How long to wait before trying again: doubling, with a quarter of jitter either way. Thread-safe.
 */

#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>

static inline int64_t retry_delay_ms(int failures, int64_t first, int64_t most)
{
	int64_t delay = first;
	for (int i = 0; i < failures && delay < most; i++)
		delay *= 2;
	if (delay > most)
		delay = most;
	return delay * 3 / 4 + (int64_t)arc4random_uniform((uint32_t)(delay / 2 + 1));
}

static inline struct timeval retry_timeval(int64_t ms)
{
	return (struct timeval) { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

#endif
