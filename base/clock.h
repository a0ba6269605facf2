/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_CLOCK_H
#define ELSA_BASE_CLOCK_H

/*
 * Time. Wall clock in milliseconds since 1970 UTC wherever a time is kept or
 * shown (`*_ms_t` or `*_at`), monotonic microseconds for durations. Only the
 * daemons' edges read a clock; everything below is handed `now`. Thread-safe.
 */

#include <stddef.h>
#include <stdint.h>

typedef int64_t wall_ms; /* 0: never / not known */
typedef int64_t mono_us;

wall_ms clock_wall(void);
mono_us clock_mono(void);
mono_us clock_boot(void); /* since the machine was booted; counts while it is suspended, too */

#define CLOCK_TEXT_SIZE 32

/* "2026-11-23T04:05:06.789Z"; "" for 0. Returns `to`. */
const char *clock_format(wall_ms t, char to[CLOCK_TEXT_SIZE]);

/* Reads ISO 8601 / RFC 3339 as JupyterHub and the clouds write it: date 'T' time, up to nine
 * fraction digits, 'Z' or +hh:mm or nothing (UTC). 0 or -EINVAL. */
int clock_parse(const char *text, wall_ms *t);

/* "4.2 s", "3 min", "2 h", "5 d": a duration for people. Returns `to`. */
const char *clock_format_duration(int64_t ms, char to[CLOCK_TEXT_SIZE]);

#endif
