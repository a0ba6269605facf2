/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_LEASE_PRIVATE_H
#define ELSA_NODE_LEASE_PRIVATE_H

/* What node/lease*.c share. */

#include "guard/guard.h"
#include "io/http_client.h"
#include "node/lease.h"

struct lease {
	struct node *node;
	struct guard_page *page;
	int file;
	_Atomic bool lapsed; /* sessions are held, or about to be */
	_Atomic unsigned epoch;

	/* The loop's: */
	struct lease_time time; /* as in the page */
	uint32_t freezes_seen;  /* of the page */
	bool frozen_together;   /* by the guard, and not seen to yet */
	bool guarded;           /* there was a guard at the last look */
	int64_t looked_us;      /* when that was */
	struct http_client *client;
	struct http_call *call;
	struct event *tick;
	int64_t asked_us, ask_at_us; /* ask_at_us 0: at once */
	int64_t news_us;             /* when there was news last; 0: never */
	bool late;                   /* the last question was not answered in time */
	bool leaves;                 /* it was given back: none is asked for any more */
	char *cert_file, *key_file, *ca_file;
	char (*strange)[ID_SIZE]; /* run here, and the last grant did not name them */
	size_t strange_count;
	char said[256]; /* why there is no lease, as it was logged last */
};

int64_t lease_boot_us(void);
int64_t lease_real_us(void);

/* --- node/lease_sessions.c ---------------------------------------------------------- */

/* All that have processes; those in an effect's hands are only noted. False when one could not even
 * be asked to freeze. */
bool lease_hold_all(struct node *node);
/* Those that are nobody's but this node's, by a listing of control groups, stand still. */
bool lease_all_frozen(struct node *node);
/* Of a new grant: those that it names go on. */
void lease_obey(struct lease *l, const struct lease_grant *grant);

/* --- node/lease_guard.c ------------------------------------------------------------- */

int lease_map(struct lease *l, struct error *e);
void lease_unmap(struct lease *l);
/* Starts one unless there is one. */
int lease_ensure_guard(struct lease *l, struct error *e);
/* Tells one that an earlier configuration has left to end. */
void lease_dismiss_guard(const struct node *node);
int lease_thaw_together(const struct node *node, struct error *e);
bool lease_is_frozen_together(const struct node *node);

#endif
