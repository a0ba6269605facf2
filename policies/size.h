/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_SIZE_H
#define ELSA_POLICIES_SIZE_H

/*
 * Right size: of the classes that there are, the cheapest that a session has room in, by what it
 * was seen to use (docs/size.md). Pure and thread-safe; sizes in bytes, durations in milliseconds.
 *
 *	need = the most of   what it holds, and a quarter
 *	                     its 95th percentile, and `headroom`
 *	                     its peak, and `peak_room`
 *
 * It grows as soon as it needs more than it has. It shrinks only where it would still fit with
 * `slack`, when it was seen for long enough, and when its last change has settled: so its size
 * changes at most as often as there are classes in each `settle_ms`. For want of processors nobody
 * grows, and nobody gets fewer than he uses.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What it used in a while. */
struct size_sample {
	int64_t awake_ms;
	int64_t p95_bytes, peak_bytes;
	int64_t cpu_ms;
};

struct size_use {
	int64_t observed_ms; /* awake */
	int64_t p95_bytes, peak_bytes;
	double cpus; /* that it uses at most, but for a twentieth of the time */
};

/* Of all samples together, each counting for as long as it was awake. Sorts them. */
struct size_use size_use_of(struct size_sample *samples, size_t count);

struct size_class {
	const char *name;
	int64_t memory_bytes;
	double cpus; /* 0: no limit */
	double cost; /* in any unit that all have */
};

struct size_rules {
	double headroom;     /* a share of what it uses but for a twentieth of the time */
	double peak_room;    /* ... at its peak */
	double slack;        /* ... of its need, to become smaller */
	int64_t observed_ms; /* awake, before it becomes smaller */
	int64_t settle_ms;   /* likewise, since its size was changed last */
};
extern const struct size_rules size_defaults;

struct size_facts {
	int64_t memory_bytes; /* its limit; 0: it has none */
	double cpus;          /* likewise */
	int64_t held_bytes;   /* that it has now, or in its checkpoint */
	struct size_use use;
	int64_t since_ms; /* that its limit was changed last; negative: it never was */
	int chosen;       /* the class that its user has chosen; -1: none */
};

enum size_reason {
	SIZE_NO_CLASSES = 0,
	SIZE_CHOSEN,   /* its user has */
	SIZE_HOLDS,    /* more than what was chosen has */
	SIZE_GROWS,    /* it needs more than it has */
	SIZE_LARGEST,  /* it needs more than any class has */
	SIZE_CHEAPER,  /* there is a cheaper one that will do */
	SIZE_FITS,     /* there is none */
	SIZE_UNSEEN,   /* there may be; it was not seen for long enough */
	SIZE_SETTLING, /* there is; its size was changed lately */
	SIZE_REASON_COUNT
};

struct size_decision {
	int to; /* the class whose limits it is to get; -1: what it has stays */
	enum size_reason reason;
	int fits; /* what its use alone asks for; -1: none, or not seen for long enough */
	int64_t need_bytes;
	double need_cpus;
	int64_t wait_ms; /* until it is decided otherwise though nothing else changes; -1: never */
};

/* `to` is never a class with less memory than it holds, and never the one that it has. Applied and
 * asked again it is -1. */
struct size_decision size_decide(const struct size_rules *rules, const struct size_class *classes,
				 size_t count, const struct size_facts *facts);

const char *size_reason_name(enum size_reason reason);
const char *size_reason_text(enum size_reason reason); /* for people */

#endif
