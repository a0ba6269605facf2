/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NODE_H
#define ELSA_NODE_NODE_H

/*
 * What all parts of elsa-node share. Made once by main.c. The loop's thread
 * serves the API and watches the sessions; effects run on the pool's threads.
 *
 * `lock` guards the list of sessions, what is in them and the results of
 * effects, except where session.h and effect.h say whose a field is. It is held
 * for moments only, never while something blocks.
 */

#include "base/clock.h"
#include "base/error.h"
#include "config/config.h"
#include "node/acknowledged.h"
#include "node/criu.h"
#include "node/fault.h"
#include "node/pool.h"
#include "node/proc.h"
#include "store/store.h"
#include "wire/messages.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>

struct session;
struct asleep_all;
struct estimates;
struct evacuate;
struct notices;
struct store_jobs;
struct join;
struct departures;
struct lease;
struct rescue;
struct http_server;

struct node {
	const struct config *config; /* borrowed */
	char boot_id[BOOT_ID_SIZE];
	struct criu_features criu;
	char *cpu; /* features, as node/cpu.h writes them */
	struct fault_plan fault;
	int event; /* keeps CRIU's breakpoints quick; -1 */

	struct event_base *base;
	struct pool *pool;
	struct http_server *server;
	struct http_server *tls_server; /* for elsad on another host */
	struct join *join;              /* node/join.h; NULL: elsad is on this host */
	struct store_jobs *jobs;        /* node/store_jobs.h */
	struct estimates *estimates;    /* node/estimate.h */
	struct evacuate *evacuate;      /* node/evacuate.h */
	atomic_bool evacuating;         /* ... is under way */
	_Atomic wall_ms evacuate_by;    /* ... and is to be over by then; 0: not known yet */
	struct departures *departures;  /* node/depart.h */
	struct asleep_all *asleep;      /* node/asleep.h */
	struct overlay_state overlay;   /* the loop's; what is in effect, see node/overlay.h */
	char *doze_lacks;               /* node/doze.h: why sessions cannot doze here, or NULL */
	struct notices *notices;        /* node/notices.h */
	struct lease *lease;            /* node/lease.h; NULL: it needs none */
	struct rescue *rescue;          /* node/rescue.h */

	pthread_mutex_t lock;
	struct session *sessions;
	pthread_mutex_t hold_lock;        /* node/hold.h */
	atomic_bool stopping;             /* set on the loop: nothing new is begun */
	struct acknowledged acknowledged; /* the loop's */

	pthread_mutex_t store_lock;
	struct store *store; /* NULL until node_store() could open it */
};

/* Directories, boot id, processor, CRIU, the host's network. The node is zeroed but for `config`,
 * `fault` and `base`. */
int node_init(struct node *node, struct error *e);
void node_deinit(struct node *node); /* idempotent */

/* The store, opened when first needed: sessions go on running without it. Thread-safe. */
int node_store(struct node *node, struct store **store, struct error *e);

/* For GET /v1/node; release with wire_free(). */
int node_info(const struct node *node, struct node_info *info, struct error *e);

/* What it has for sessions, and what of that is free. */
int node_memory(const struct node *node, int64_t *total, int64_t *available, struct error *e);

/* As configured, or the machine's; allocated, or NULL. */
char *node_name(const struct node *node);

/* STATE_DIR/WHAT/ID + suffix; allocated, or NULL. */
char *node_path(const struct node *node, const char *what, const char *id, const char *suffix);

#endif
