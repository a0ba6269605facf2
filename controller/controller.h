/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CONTROLLER_H
#define ELSA_CONTROLLER_CONTROLLER_H

/*
 * What elsad is made of, tied together. Everything runs on one thread, on one
 * event loop; every function of this directory must be called there.
 */

#include "base/error.h"
#include "config/config.h"
#include "db/db.h"
#include "io/http_client.h"
#include "io/http_server.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct controller {
	struct event_base *base;
	const char *config_path; /* borrowed; NULL: built-in defaults */
	struct config *config;   /* swapped by a reload: hold no pointer into it over an event */
	struct db *db;
	struct http_client *client;
	struct sessions *sessions;
	struct operations *operations;
	struct nodes *nodes;
	struct nodes_api *nodes_api; /* NULL: nodes.listen is not set */
	struct hub *hub;
	struct observer *observer;
	struct idle *idle;
	struct ledger *ledger;
	struct budgets *budgets;
	struct usage *usage;
	struct size *size;
	struct protect *protect;
	struct capacity *capacity; /* NULL: nobody gives machines */
	struct consolidate *consolidate;
	struct leases *leases;
	struct wake *wake;
	struct drain *drain;
	struct remains_table *remains;
	struct migrate *migrate;
	struct overlay *overlay;
	struct activity *activity;
	struct store_tasks *store_tasks;
	struct api *api;
	STAILQ_HEAD(, later) laters; /* see controller_later() */
	struct event *later_event;
};

/* Opens the database, takes up what was under way, listens. The loop is the caller's. */
int controller_new(struct event_base *base, const char *config_path, struct controller **c,
		   struct error *e);
void *controller_free(struct controller *c); /* returns NULL */

/* Reads the config again. What is wrong with it is logged and the old one stays. */
void controller_reload(struct controller *c);

/* Calls fn(arg) from the loop, when no caller is left on the stack: the place to free what a
 * callback works on. */
void controller_later(struct controller *c, void (*fn)(void *arg), void *arg);

/* A file with one secret, its white space at the ends taken off; allocated. */
int controller_read_secret(const char *path, char **secret, struct error *e);

/* Compares in a time that tells nothing about where they differ. */
bool secret_equal(const char *a, const char *b);

#endif
