/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doze_pressure.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <stdio.h>
#include <string.h>

static bool find(const char *text, const char *which, double *to)
{
	char format[32];
	snprintf(format, sizeof(format), "%s avg10=", which);
	const char *at = strstr(text, format);
	if (!at || sscanf(at + strlen(format), "%lf", to) != 1)
		return false;
	return *to >= 0 && *to <= 100;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same of "full". */
bool pressure_parse(const char *text, struct pressure *to)
{
	return find(text, "some", &to->some) && find(text, "full", &to->full);
}

bool pressure_read(struct pressure *to)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	return fs_read("/proc/pressure/memory", &text, NULL) == 0 &&
	       pressure_parse(buf_text(&text), to);
}
