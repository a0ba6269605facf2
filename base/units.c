/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <errno.h>
#include <string.h>

int units_parse_seconds(const char *text, int64_t *ms)
{
	int64_t whole = 0, part = 0, unit = 100;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++) {
		whole = whole * 10 + (*p - '0');
		if (whole > UNITS_TIME_MOST_MS / 1000)
			return -EINVAL;
	}
	if (p == text)
		return -EINVAL;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9' && unit; p++, unit /= 10)
			part += (*p - '0') * unit;
		if (p[-1] == '.')
			return -EINVAL;
	}
	*ms = whole * 1000 + part;
	return *p ? -EINVAL : 0;
}

int units_parse_size(const char *text, int64_t *bytes)
{
	static const char units[] = "KMGT";
	int64_t value = 0;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (*p - '0');
		if (value > UNITS_SIZE_MOST)
			return -EINVAL;
	}
	const char *unit = *p ? strchr(units, *p) : NULL;
	if (p == text || (*p && (!unit || p[1])))
		return -EINVAL;
	for (; unit && unit >= units; unit--) {
		value *= 1024;
		if (value > UNITS_SIZE_MOST)
			return -EINVAL;
	}
	*bytes = value;
	return 0;
}
