/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

wall_ms clock_wall(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (wall_ms)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

mono_us clock_mono(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_us)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

mono_us clock_boot(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (mono_us)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

const char *clock_format(wall_ms t, char to[CLOCK_TEXT_SIZE])
{
	to[0] = '\0';
	if (t <= 0)
		return to;
	time_t seconds = (time_t)(t / 1000);
	struct tm tm;
	if (!gmtime_r(&seconds, &tm))
		return to;
	size_t len = strftime(to, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(to + len, CLOCK_TEXT_SIZE - len, ".%03dZ", (int)(t % 1000));
	return to;
}

/* Reads a fraction ".123456" as milliseconds and moves past it. */
static int parse_fraction(const char **p)
{
	int ms = 0;
	int scale = 100;
	if (**p != '.')
		return 0;
	for ((*p)++; **p >= '0' && **p <= '9'; (*p)++) {
		ms += (**p - '0') * scale;
		scale /= 10;
	}
	return ms;
}

static int parse_zone(const char *p, int64_t *offset_ms)
{
	unsigned hours;
	unsigned minutes;
	char sign;
	int end = 0;
	*offset_ms = 0;
	if (*p == '\0' || strcmp(p, "Z") == 0 || strcmp(p, "z") == 0)
		return 0;
	if (sscanf(p, "%c%2u:%2u%n", &sign, &hours, &minutes, &end) != 3 || p[end] ||
	    (sign != '+' && sign != '-') || hours > 23 || minutes > 59)
		return -EINVAL;
	*offset_ms = (sign == '-' ? -1 : 1) * (int64_t)(hours * 60 + minutes) * 60000;
	return 0;
}

int clock_parse(const char *text, wall_ms *t)
{
	struct tm tm = { 0 };
	int64_t offset;
	const char *p = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (!p)
		return -EINVAL;
	int ms = parse_fraction(&p);
	if (parse_zone(p, &offset) < 0)
		return -EINVAL;
	*t = (wall_ms)timegm(&tm) * 1000 + ms - offset;
	return 0;
}

const char *clock_format_duration(int64_t ms, char to[CLOCK_TEXT_SIZE])
{
	if (ms < 1000)
		snprintf(to, CLOCK_TEXT_SIZE, "%d ms", (int)(ms < 0 ? 0 : ms));
	else if (ms < 120 * 1000)
		snprintf(to, CLOCK_TEXT_SIZE, "%.1f s", (double)ms / 1e3);
	else if (ms < 120 * 60000)
		snprintf(to, CLOCK_TEXT_SIZE, "%d min", (int)(ms / 60000));
	else if (ms < (int64_t)48 * 3600000)
		snprintf(to, CLOCK_TEXT_SIZE, "%d h", (int)(ms / 3600000));
	else
		snprintf(to, CLOCK_TEXT_SIZE, "%d d", (int)(ms / 86400000));
	return to;
}
