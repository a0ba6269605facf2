/* SPDX-License-Identifier: Apache-2.0 */
#include "config/values.h"

#include "base/cleanup.h"
#include "config/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* Largest first, so that formatting finds the shortest text. */
static const struct unit duration_units[] = {
	{ "w", 7 * INT64_C(86400000) },
	{ "d", INT64_C(86400000) },
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
};

static const struct unit size_units[] = {
	{ "T", INT64_C(1) << 40 },
	{ "G", INT64_C(1) << 30 },
	{ "M", INT64_C(1) << 20 },
	{ "K", INT64_C(1) << 10 },
	{ "", 1 },
};

static int parse_digits(const char **text, int64_t *value)
{
	const char *p = *text;
	*value = 0;
	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, *p - '0', value))
			return -ERANGE;
	*text = p;
	return 0;
}

static int parse_units(const char *text, const struct unit *units, size_t count, int64_t *value)
{
	int64_t number;
	int r = parse_digits(&text, &number);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, units[i].name) != 0)
			continue;
		return __builtin_mul_overflow(number, units[i].factor, value) ? -ERANGE : 0;
	}
	return -EINVAL;
}

static const char *format_units(int64_t value, const struct unit *units, size_t count,
				char to[VALUE_TEXT_SIZE])
{
	const struct unit *unit = &units[count - 1];
	for (size_t i = 0; i < count && value; i++) {
		if (value % units[i].factor == 0) {
			unit = &units[i];
			break;
		}
	}
	snprintf(to, VALUE_TEXT_SIZE, "%" PRId64 "%s", value / unit->factor, unit->name);
	return to;
}

int value_parse_duration(const char *text, int64_t *ms)
{
	return parse_units(text, duration_units, ARRAY_SIZE(duration_units), ms);
}

int value_parse_size(const char *text, int64_t *bytes)
{
	char plain[VALUE_TEXT_SIZE];
	size_t len = strlen(text);
	if (len > 3 && strcmp(text + len - 2, "iB") == 0)
		len -= 2;
	if (len >= sizeof(plain))
		return -EINVAL;
	memcpy(plain, text, len);
	plain[len] = '\0';
	return parse_units(plain, size_units, ARRAY_SIZE(size_units), bytes);
}

const char *value_format_duration(int64_t ms, char to[VALUE_TEXT_SIZE])
{
	return format_units(ms, duration_units, ARRAY_SIZE(duration_units), to);
}

const char *value_format_size(int64_t bytes, char to[VALUE_TEXT_SIZE])
{
	return format_units(bytes, size_units, ARRAY_SIZE(size_units), to);
}

static const char *const weekdays[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

static int parse_weekday(const char **text)
{
	for (size_t i = 0; i < ARRAY_SIZE(weekdays); i++) {
		if (strncasecmp(*text, weekdays[i], 3) == 0) {
			*text += 3;
			return (int)i;
		}
	}
	return -EINVAL;
}

/* "mon-fri,sun": ranges may wrap ("sat-mon"). */
static int parse_weekdays(const char **text, unsigned *days)
{
	*days = 0;
	for (;;) {
		int first = parse_weekday(text);
		int last = first;
		if (first >= 0 && **text == '-') {
			(*text)++;
			last = parse_weekday(text);
		}
		if (first < 0 || last < 0)
			return -EINVAL;
		for (int d = first;; d = (d + 1) % 7) {
			*days |= 1u << d;
			if (d == last)
				break;
		}
		if (**text != ',')
			return 0;
		(*text)++;
	}
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int parse_time_of_day(const char **text, int *minute)
{
	const char *p = *text;
	for (int i = 0; i < 5; i++)
		if (i == 2 ? p[i] != ':' : !is_digit(p[i]))
			return -EINVAL;
	int hours = (p[0] - '0') * 10 + p[1] - '0';
	int minutes = (p[3] - '0') * 10 + p[4] - '0';
	if (minutes > 59 || hours > 24 || (hours == 24 && minutes))
		return -EINVAL;
	*minute = hours * 60 + minutes;
	*text = p + 5;
	return 0;
}

int config_quiet_parse(const char *text, struct config_quiet *quiet)
{
	struct config_quiet q = { .weekdays = 0x7f };
	if (!is_digit(*text)) {
		if (parse_weekdays(&text, &q.weekdays) < 0 || *text != ' ')
			return -EINVAL;
		text += strspn(text, " ");
	}
	if (parse_time_of_day(&text, &q.from_minute) < 0 || *text++ != '-' ||
	    parse_time_of_day(&text, &q.to_minute) < 0 || *text)
		return -EINVAL;
	if (q.from_minute == q.to_minute || q.from_minute == 24 * 60)
		return -EINVAL;
	*quiet = q;
	return 0;
}

bool value_is_choice(const char *text, const char *choices)
{
	size_t len = strlen(text);
	if (len == 0 || strchr(text, ' '))
		return false;
	for (const char *p = choices; p; p = strchr(p, ' ')) {
		p += *p == ' ';
		if (strncmp(p, text, len) == 0 && (p[len] == ' ' || p[len] == '\0'))
			return true;
	}
	return false;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

enum { DISTANCE_MAX_LEN = 40 };

unsigned value_distance(const char *a, const char *b)
{
	size_t la = strlen(a);
	size_t lb = strlen(b);
	unsigned d[DISTANCE_MAX_LEN + 1][DISTANCE_MAX_LEN + 1];
	if (la > DISTANCE_MAX_LEN || lb > DISTANCE_MAX_LEN)
		return DISTANCE_MAX_LEN;
	for (unsigned i = 0; i <= la; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= lb; j++)
		d[0][j] = j;
	for (unsigned i = 1; i <= la; i++) {
		for (unsigned j = 1; j <= lb; j++) {
			unsigned differs = a[i - 1] != b[j - 1];
			d[i][j] = least(d[i - 1][j - 1] + differs,
					least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[la][lb];
}
