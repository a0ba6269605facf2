/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/trace.h"

#include <errno.h>
#include <stdio.h>

int trace_write_head(struct buf *to, wall_ms begin)
{
	char when[CLOCK_TEXT_SIZE];
	return buf_printf(to, "elsa-trace 1\nbegin %s\n", clock_format(begin, when));
}

/* "12.5": no more digits than it needs. */
static void format_seconds(int64_t ms, char to[32])
{
	int n = snprintf(to, 32, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000));
	while (to[n - 1] == '0')
		n--;
	to[to[n - 1] == '.' ? n - 1 : n] = '\0';
}

static int write_memory(struct buf *to, int64_t bytes)
{
	if (!bytes)
		return buf_append(to, "\n", 1);
	if (bytes % (1 << 20) == 0)
		return buf_printf(to, " %lldM\n", (long long)(bytes >> 20));
	return buf_printf(to, " %lld\n", (long long)bytes);
}

int trace_write(struct buf *to, const struct trace_record *record, wall_ms begin, const char *name)
{
	char at[32], seconds[32], dry[32];
	int r = 0;
	format_seconds(record->at - begin, at);
	switch (record->kind) {
	case TRACE_POOL:
		return buf_printf(to, "pool %s\n", name);
	case TRACE_OPEN:
		r = buf_printf(to, "%s open %s", at, name);
		return r < 0 ? r : write_memory(to, record->memory_bytes);
	case TRACE_BUSY:
		format_seconds(record->duration_ms, seconds);
		r = buf_printf(to, "%s busy %s %s", at, name, seconds);
		return r < 0 ? r : write_memory(to, record->memory_bytes);
	case TRACE_STOP:
		return buf_printf(to, "%s stop %s\n", at, name);
	case TRACE_INTERRUPT:
		format_seconds(record->notice_ms, seconds);
		format_seconds(record->dry_ms, dry);
		return buf_printf(to, "%s interrupt %s %.4g %s %s\n", at, name, record->share,
				  seconds, dry);
	case TRACE_END:
		return buf_printf(to, "%s end\n", at);
	}
	return -EINVAL;
}
