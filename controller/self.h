/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_SELF_H
#define ELSA_CONTROLLER_SELF_H

/*
 * What a session may ask of elsad, with its own token and about itself alone
 * (docs/api.md): how long it slept, to be kept awake, to be put to sleep. One
 * thread.
 */

#include "controller/sessions.h"

/* Handlers below /elsa/users/{name}/ of the activity webhook's listener. */
void self_get_sleep(struct http_exchange *x, void *arg);
void self_post_sleep(struct http_exchange *x, void *arg);
void self_post_keep_awake(struct http_exchange *x, void *arg);

/* --- pure part ---------------------------------------------------------------------------------
 */

/* The last time it slept; zeroes: it did not, or nothing is known of it. */
struct self_facts {
	wall_ms slept_at, woke_at;
	int64_t woke_in_us;
};

/* Takes in the events of one session, the newest first, until true: older ones say nothing more. */
bool self_facts_add(struct self_facts *facts, const struct db_event *event);

#define SELF_BURST   20      /* questions at once */
#define SELF_PACE_US 2000000 /* for one more */

/* Takes one off what is left; false: it asks too often. */
bool self_pace_take(struct self_pace *pace, mono_us now);

/* Until when it is kept awake that asks for so long; no longer than the operator lets it. */
wall_ms self_awake_until(int64_t for_ms, int64_t most_ms, wall_ms now);

#endif
