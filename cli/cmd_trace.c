/* SPDX-License-Identifier: Apache-2.0 */
/* Traces made: after published shapes, or of what a JupyterHub has written down. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/trace_hub.h"
#include "sim/generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_MOST = 1 << 20, OUT_FULL = 64 << 10 };
/* 2026-01-05, a Monday: the same seed gives the same trace on every day. */
#define BEGIN ((wall_ms)1767571200000)

/* --- generate ------------------------------------------------------------------------------------
 */

static int flush(struct buf *out)
{
	size_t n = fwrite(out->data, 1, out->len, stdout);
	bool whole = n == out->len;
	buf_reset(out);
	return whole ? 0 : -EIO;
}

static int write_user(const char *name, void *arg)
{
	struct buf *out = arg;
	int r = buf_printf(out, "user %s\n", name);
	return r == 0 && out->len > OUT_FULL ? flush(out) : r;
}

static int write_record(const struct trace_record *record, const char *name, void *arg)
{
	struct buf *out = arg;
	int r = trace_write(out, record, BEGIN, name);
	return r == 0 && out->len > OUT_FULL ? flush(out) : r;
}

int cmd_trace_generate(struct cli *cli, struct error *e)
{
	cleanup_buf struct buf out = BUF_INIT(OUT_MOST);
	struct generate_shape shape;
	generate_shape_init(&shape);
	shape.seed = (uint64_t)cli->seed;
	shape.users = (uint32_t)cli->users;
	shape.days = cli->days;
	int r = trace_write_head(&out, BEGIN);
	if (r == 0)
		r = generate(&shape, BEGIN, write_user, write_record, &out);
	if (r == 0)
		r = flush(&out);
	return r < 0 ? error_set(e, -r, "cannot write the trace") : 0;
}

/* --- from a hub
 * ----------------------------------------------------------------------------------- */

static int add(struct hub_trace *trace, const struct hub_event *event)
{
	int r = hub_trace_add(trace, event);
	return r == 0 && trace->to->len > OUT_FULL ? flush(trace->to) : r;
}

static int from_log(FILE *from, struct hub_trace *trace, struct error *e)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	struct hub_event event;
	int r = 0;
	while (r == 0 && getline(&line, &size, from) >= 0)
		if (hub_read_log(line, &event))
			r = add(trace, &event);
	if (r == 0 && ferror(from))
		return error_errno(e, "cannot read");
	if (r < 0)
		return error_set(e, -r, "cannot write the trace");
	if (trace->begin)
		return 0;
	r = error_fault(e, FAULT_BAD_INPUT, "no line of it tells of a server");
	return error_remedy(e, r, "what is read is JupyterHub's own log at level INFO or below");
}

static int from_database(const char *path, struct hub_trace *trace, struct error *e)
{
	struct hub_event *events = NULL;
	size_t count = 0;
	wall_ms end = 0;
	int r = hub_read_database(path, &events, &count, &end, e);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (add(trace, &events[i]) < 0)
			r = error_set(e, EIO, "cannot write the trace");
	free(events);
	trace->at = end > trace->at && trace->begin ? end : trace->at;
	return r;
}

static bool is_database(FILE *file)
{
	static const char magic[16] = "SQLite format 3";
	char first[sizeof(magic)] = "";
	size_t n = fread(first, 1, sizeof(first), file);
	return n == sizeof(first) && memcmp(first, magic, sizeof(magic)) == 0;
}

static int from_opened(FILE *file, const char *path, struct hub_trace *trace, struct error *e)
{
	if (is_database(file))
		return from_database(path, trace, e);
	if (fseek(file, 0, SEEK_SET) == 0)
		return from_log(file, trace, e);
	int r = error_errno(e, "cannot read it from its beginning");
	return error_remedy(e, r, "a log that comes through a pipe is -");
}

static int from_file(const char *path, struct hub_trace *trace, struct error *e)
{
	if (strcmp(path, "-") == 0)
		return from_log(stdin, trace, e);
	FILE *file = fopen(path, "re");
	if (!file)
		return error_errno(e, "cannot open it");
	int r = from_opened(file, path, trace, e);
	fclose(file);
	return r;
}

int cmd_trace_from_hub(struct cli *cli, struct error *e)
{
	cleanup_buf struct buf out = BUF_INIT(OUT_MOST);
	struct hub_trace trace = { .memory_bytes = cli->memory_bytes, .to = &out };
	int r = from_file(cli->argument, &trace, e);
	if (r == 0 && (hub_trace_end(&trace, trace.at) < 0 || flush(&out) < 0))
		r = error_set(e, EIO, "cannot write the trace");
	hub_trace_deinit(&trace);
	return r < 0 ? error_wrap(e, r, "%s", cli->argument) : 0;
}
