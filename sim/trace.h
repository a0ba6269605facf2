/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_TRACE_H
#define ELSA_SIM_TRACE_H

/*
 * Traces of what users do and clouds take away (docs/simulator.md): text, a
 * record on each line, in the order of time. Bytes in, records out; what is kept
 * meanwhile is one line and the names. Not thread-safe.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
	TRACE_POOL,      /* pool number `pool` is called so */
	TRACE_OPEN,      /* its user asks for the session */
	TRACE_BUSY,      /* its user lets it work for `duration_ms`, behind what it works at */
	TRACE_STOP,      /* its user ends it */
	TRACE_INTERRUPT, /* the cloud takes machines of a pool away */
	TRACE_END,
};

enum { TRACE_LINE_MOST = 1024, TRACE_NAMES_MOST = 4000000 };
#define TRACE_TIME_MOST   UNITS_TIME_MOST_MS
#define TRACE_MEMORY_MOST UNITS_SIZE_MOST

struct trace_record {
	enum trace_kind kind;
	wall_ms at;
	uint32_t session; /* its number; new ones come one after the other */
	int64_t duration_ms;
	int64_t memory_bytes; /* 0: as before */
	uint32_t pool;
	const char *name; /* of TRACE_POOL; borrowed */
	double share;     /* of the pool's machines, each for itself */
	int64_t notice_ms;
	int64_t dry_ms; /* the pool has none to give for so long */
};

/* Negative: reading ends with that error. */
typedef int (*trace_sink)(const struct trace_record *record, void *arg, struct error *e);

struct trace;
struct trace *trace_new(trace_sink sink, void *arg); /* NULL: out of memory */
struct trace *trace_free(struct trace *t);           /* NULL */
/* The next bytes. What is wrong is said with its line. */
int trace_feed(struct trace *t, const char *data, size_t len, struct error *e);
/* There are no more: an error when that is not where the trace says that it ends. */
int trace_end(struct trace *t, struct error *e);

/* Writing: the head, and a line. `session` and `pool` names are the caller's. */
int trace_write_head(struct buf *to, wall_ms begin);
int trace_write(struct buf *to, const struct trace_record *record, wall_ms begin, const char *name);

#endif
