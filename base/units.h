/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_UNITS_H
#define ELSA_BASE_UNITS_H

/* Numbers with units as people write them. 0 or -EINVAL. Thread-safe. */

#include <stdint.h>

#define UNITS_TIME_MOST_MS ((int64_t)3653 * 24 * 3600 * 1000) /* ten years */
#define UNITS_SIZE_MOST    ((int64_t)1 << 44)

int units_parse_seconds(const char *text, int64_t *ms); /* "1.5", seconds */
int units_parse_size(const char *text, int64_t *bytes); /* "512M" */

#endif
