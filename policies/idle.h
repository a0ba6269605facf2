/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_IDLE_H
#define ELSA_POLICIES_IDLE_H

/*
 * Who may sleep: from what was seen of every session and the operator's rules
 * to a decision with a reason for each, and the time to look again. Pure and
 * thread-safe; all times are wall-clock milliseconds, durations milliseconds.
 *
 * Idle means that the person is away, not that the socket is quiet: polls of
 * an open tab are not among the inputs.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How deep it sleeps: each costs less than the one before, and wakes later. */
enum idle_tier {
	IDLE_AWAKE = 0,
	IDLE_DOZING, /* frozen in place, memory out of the way */
	IDLE_ASLEEP, /* in the store; wakes when somebody comes, and nobody else need know */
	IDLE_STOPPED /* in the store, and the Hub knows: its user starts it */
};

/* What was seen of one session. 0 for a time never seen. */
struct idle_facts {
	const char *user;
	const char *server;        /* "" for the default server */
	const char *const *groups; /* NULL-terminated; may be NULL */
	bool admin;
	wall_ms started_at; /* this run of its processes: start or restore; a sign of a person */
	wall_ms created_at; /* its first start */
	wall_ms kernel_activity_at; /* newest last_activity of its kernels */
	wall_ms terminal_activity_at;
	wall_ms request_at;      /* last mutating request or websocket data frame */
	wall_ms hub_activity_at; /* JupyterHub's last_activity; used if nothing better is known */
	bool server_seen; /* the server itself was asked and answered: the above are fresh. If
			   * not, but it answered before, a silent cell may run: stays awake */
	bool kernel_busy;
	wall_ms busy_since;      /* when kernel_busy */
	double cpu_share;        /* of one core, over the last observation window; NAN: not known */
	wall_ms cpu_quiet_since; /* since when cpu_share is below the rule's threshold; 0: not */
	wall_ms keep_awake_until; /* asked for by its user or the operator; 0: not */
	wall_ms refused_at;       /* last refusal by CRIU; 0: never */
	int64_t memory_bytes;
	enum idle_tier tier;     /* the rest is for those that are not awake, or might doze: */
	wall_ms slept_at;        /* since when nothing of it runs */
	wall_ms person_at;       /* the last sign of a person that was known before; 0: none */
	bool can_doze;           /* its node can have it doze */
	wall_ms doze_refused_at; /* when it could not be, last; 0: never */
	double pressure; /* of its node: percent of the time in which something there waited for
			  * memory, of late; 0: not known */
	int64_t budget_timeout_ms; /* its group's budget is spent: away this long suffices, whatever
				    * the rule's timeout; 0: it is not, or that is no matter */
};

/* A daily window; minutes since midnight UTC + offset. to <= from: it ends on the next day. */
struct idle_window {
	int from_minute, to_minute;
	unsigned weekdays; /* bit 0: Monday ... 6: Sunday; of the day it begins on. 0: every day */
};

/* One rule; the first whose matches all hold decides. NULL or empty: matches everything. */
struct idle_rule {
	const char *name;           /* for people and reasons */
	const char *const *users;   /* shell patterns (fnmatch) */
	const char *const *groups;  /* shell patterns; one of the user's groups must match */
	const char *const *servers; /* shell patterns; "" is the default server, "?*" all named */
	int admins;                 /* 1: admins only, 0: others only, -1: both */

	bool exempt;               /* never hibernated */
	int64_t timeout_ms;        /* away this long: hibernate. 0: never for idleness */
	int64_t max_age_ms;        /* this run is older: hibernate when not busy, even with somebody
				    * there. 0: no */
	int64_t min_uptime_ms;     /* not before it ran this long */
	double cpu_threshold;      /* share of one core from which on it is working. 0: no matter */
	int64_t stuck_busy_ms;     /* "busy" with no CPU this long is reported. 0: never */
	int64_t refused_retry_ms;  /* after a refusal, not again for so long */
	bool transparent;          /* hibernated is asleep, else stopped */
	int64_t doze_ms;           /* away this long: doze. 0: never */
	int64_t pressure_after_ms; /* away this long suffices where memory is short. 0: no */
	int64_t stop_after_ms;     /* asleep this long: stopped. 0: never */
	/* In these, what slept when they began is woken ahead: its user is expected. */
	const struct idle_window *wake_ahead;
	size_t wake_ahead_count;
};

struct idle_policy {
	const struct idle_rule *rules;
	size_t rule_count;
	const struct idle_window *quiet; /* nothing is hibernated then, nor put to doze */
	size_t quiet_count;
	int utc_offset_minutes;
	int concurrency; /* most hibernations at once; 0: 1 */
	double pressure; /* from which on a node is short of memory. 0: none is */
	bool dry_run;    /* decide and record, do nothing: `hibernate` then says what would be, for
			  * all that are due; the caller must not act on it */
	int64_t interval_ms; /* longest time until the next decision. 0: none */
};

enum idle_reason {
	IDLE_NO_RULE = 0, /* nothing matched: stays awake */
	IDLE_EXEMPT,
	IDLE_KEEP_AWAKE, /* asked for */
	IDLE_YOUNG,      /* below the minimum uptime */
	IDLE_KERNEL_BUSY,
	IDLE_STUCK_BUSY, /* busy without CPU: reported, not hibernated */
	IDLE_CPU,        /* it works */
	IDLE_PERSON,     /* somebody was there within the timeout */
	IDLE_UNKNOWN,    /* the server could not be asked, the Hub knows nothing */
	IDLE_REFUSED,    /* refused lately; waits */
	IDLE_QUIET_HOURS,
	IDLE_CONCURRENCY, /* its turn comes */
	IDLE_TIMEOUT,     /* hibernate: nobody there */
	IDLE_MAX_AGE,     /* hibernate: too old */
	IDLE_PRESSURE,    /* hibernate: nobody there, and its node is short of memory */
	IDLE_BUDGET,      /* hibernate: nobody there, and its group's budget is spent */
	IDLE_DOZE,        /* doze: nobody there for a while */
	IDLE_SLEEPS,      /* nobody came */
	IDLE_LONG_ASLEEP, /* stop: nobody came for very long */
	IDLE_AHEAD,       /* wake: its user is expected */
	IDLE_REASON_COUNT
};

struct idle_decision {
	enum idle_tier to; /* what it is to be now; as it is: nothing is to be done */
	bool hibernate;    /* a checkpoint is to be written for that */
	bool report;       /* tell the operator (stuck busy) */
	enum idle_reason reason;
	const struct idle_rule *rule;
	wall_ms person_at; /* last sign of a person, as decided from the facts */
	wall_ms next_at;   /* when this may change by the passing of time alone; 0: never */
};

/* The rule that decides about a session: cpu_quiet_since is measured by its threshold. NULL: none.
 */
const struct idle_rule *idle_rule_for(const struct idle_policy *policy,
				      const struct idle_facts *facts);

/* decisions[i] answers facts[i]. `under_way`: hibernations running now. Sessions longest away get
 * the free slots first. Returns the earliest time to decide again (0: only on news). */
wall_ms idle_decide(const struct idle_policy *policy, const struct idle_facts *facts, size_t count,
		    int under_way, wall_ms now, struct idle_decision *decisions);

/* When the quiet hours around `now` end: `now` outside of them, INT64_MAX if they cover the whole
 * week. */
wall_ms idle_quiet_until(const struct idle_policy *policy, wall_ms now);

const char *idle_tier_name(enum idle_tier tier);       /* "asleep" */
const char *idle_reason_name(enum idle_reason reason); /* "kernel-busy" */
const char *idle_reason_text(enum idle_reason reason); /* a sentence for people */

#endif
