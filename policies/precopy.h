/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_PRECOPY_H
#define ELSA_POLICIES_PRECOPY_H

/*
 * A session is about to move: is its memory copied ahead while it still runs, and
 * for how long? Pure and thread-safe; sizes in bytes, durations in milliseconds.
 *
 * Ahead it goes where, following the session, it would be long on the way: until
 * all of it is there, the session hangs on two machines. On a quick link that is
 * soon, and whoever copies ahead only makes the move longer. So a little is
 * copied to see how quick the link is, and then, in rounds, first all of it and
 * then what has changed in the round before, until
 *
 *	- what changed would follow in a moment,
 *	- or the next round would leave hardly less of it than this one,
 *	- or there were rounds enough,
 *	- or it does not end in time: a machine that goes away has other uses for the
 *	  time that is left.
 *
 * To be asked before every piece that is copied.
 */

#include <stdbool.h>
#include <stdint.h>

enum precopy_mode {
	PRECOPY_AUTO = 0,
	PRECOPY_NEVER,
	PRECOPY_ALWAYS, /* wherever there is room and time */
	PRECOPY_MODE_COUNT
};
/* -1: none is called that. */
int precopy_mode_from(const char *name);

struct precopy_rules {
	int64_t least_bytes; /* of memory: with less it is not worth it */
	int64_t quick_per_s; /* a link that brings so many bytes a second is quick */
	int64_t follow_ms;   /* memory that would follow in so long may follow */
	int64_t soon_ms;     /* what has changed and would follow in so long need not go ahead */
	unsigned pieces;     /* by which a link is measured */
	unsigned rounds;     /* at most */
	double rewritten; /* share of what the link brings: who changes more is not caught up with
			   */
	double haste;     /* where time is short: all must end so many times over */
};
extern const struct precopy_rules precopy_defaults;

struct precopy_facts {
	enum precopy_mode mode;
	int64_t memory_bytes; /* of the session */
	int64_t room_bytes;   /* for a copy of it */
	int64_t link_per_s;   /* bytes a second; the quickest that was seen while it is measured */
	double share;         /* of it that may be used */
	int64_t left_ms;      /* until its machine goes away; negative: that is not known */
	int64_t most_ms;      /* for all of it */
	int64_t spent_ms;
	unsigned pieces;       /* so far */
	unsigned rounds;       /* that are over */
	int64_t to_go_bytes;   /* of this one, at most */
	int64_t changed_bytes; /* that the last one found changed; of the first: all */
	int64_t changed_ms;    /* the time in which they had changed; 0: the first one's */
};

enum precopy_why {
	PRECOPY_GOES_ON = 0,
	PRECOPY_TO_MEASURE, /* goes on, to see how quick the link is */
	PRECOPY_OFF,
	PRECOPY_SMALL,
	PRECOPY_NO_ROOM,
	PRECOPY_QUICK_LINK,
	PRECOPY_NO_TIME,
	PRECOPY_DONE,      /* the rest follows in a moment */
	PRECOPY_REWRITTEN, /* too quickly for this link */
	PRECOPY_ENOUGH,    /* rounds */
	PRECOPY_WHY_COUNT
};
extern const char *const precopy_why_names[PRECOPY_WHY_COUNT]; /* for people */

enum precopy_why precopy_decide(const struct precopy_rules *rules,
				const struct precopy_facts *facts);
static inline bool precopy_goes_on(enum precopy_why why)
{
	return why == PRECOPY_GOES_ON || why == PRECOPY_TO_MEASURE;
}

#endif
