/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODES_H
#define ELSA_CONTROLLER_NODES_H

/*
 * The nodes there are: the one of this host, over node.socket, and those that
 * joined. One that is not on record any more, but that sessions name, is there
 * too: nothing is known of it but that. One thread.
 *
 * A struct node stays for elsad's life, since questions under way hold it.
 */

#include "base/clock.h"
#include "base/id.h"
#include "controller/controller.h"
#include "policies/consolidate.h"
#include "wire/messages.h"

struct node {
	struct controller *controller;
	char *name; /* NULL: it did not say yet, which only the local one need */
	bool local;
	bool joined;     /* on another host, and on record */
	bool was_joined; /* of nodes_reload() */
	bool draining;   /* its sessions are to leave it */
	bool leaving;    /* it gave its lease back, and did not come again */
	bool drained;    /* ... and have */
	char *listen;    /* of its API; NULL */
	char *overlay;   /* its address there; NULL */
	struct http_call *overlay_call;
	uint64_t overlay_told, overlay_acked; /* revision of the overlay */
	bool overlay_failed;
	bool up;
	wall_ms seen_at; /* of its last lease; 0: none since elsad began */
	mono_us lease_until;
	char *lease_boot;       /* in which it was asked for last; NULL */
	int64_t lease_asked_at; /* when, in its own time */
	int64_t lease_news_at;  /* the news that it told of last, in its own time */
	mono_us back_at;        /* when it renewed its lapsed lease; 0: never */
	bool lost;              /* its lease has lapsed: nothing runs there */
	bool checked;           /* its effects and checkpoints were compared since it came up */
	char *boot_id;          /* as recorded; NULL: never seen */
	char *new_boot_id;      /* it rebooted, and not all sessions know it yet */
	struct node_info info;  /* as it said last; zeroed until then */
	enum {
		EVACUATION_UNKNOWN, /* on record, or not */
		EVACUATION_OPEN,
		EVACUATION_OVER, /* or there was none */
	} evacuation;            /* controller/evacuations.h */
	bool noticed;            /* it had notices when its evacuation was asked about last */
	mono_us look_at; /* when the look under way began: what is younger it cannot judge */
	struct event *timer;
	struct http_call *call;
	bool look_again; /* what is under way may have missed something */
	size_t images_in_question;
	size_t images_asked;      /* so many of struct nodes' were in the last question answered */
	char (*strange)[ID_SIZE]; /* sessions nobody knows, already reported */
	size_t strange_count;
	struct { /* as decided last; controller/consolidate.h */
		bool known;
		enum consolidate_reason reason;
		wall_ms fits_since, until;
		int64_t in_use, in_use_bytes, short_bytes;
	} consolidation;
	LIST_HEAD(, giving) giving; /* what it is being asked to end: give_way.c */
	TAILQ_ENTRY(node) entry;
};

struct nodes {
	TAILQ_HEAD(node_list, node) all; /* the local one first */
	struct node *local;
	char **images; /* root file systems that were ever wanted, besides "/"; NULL-terminated */
	size_t image_count;
};

int nodes_new(struct controller *c, struct error *e); /* of the record; asks nobody yet */
void nodes_start(struct controller *c);               /* the first look at each */
void nodes_free(struct controller *c);

struct node *nodes_first(struct controller *c); /* never NULL */
struct node *nodes_next(struct node *node);
struct node *nodes_find(struct controller *c, const char *name); /* or NULL */

/* The record of joined nodes has changed. */
int nodes_reload(struct controller *c, struct error *e);

/* Whether it has that root file system: 1, 0, or -1: it is not known yet. */
int node_has_image(const struct node *node, const char *image);
void nodes_want_image(struct controller *c, const char *image);

/* What a row of the record means: NULL is the local one; one that is not known is made. */
struct node *nodes_of_row(struct controller *c, const char *name);

/* Its sessions may run, and it may be asked for something. */
bool node_in_reach(const struct node *node);
/* It answers, too, and what it has was compared with the record: something new may go there. */
bool node_is_usable(const struct node *node);

/* Who does work on the store: any node can. One that is up, the local one if it is. */
struct node *nodes_for_store(struct controller *c);
/* The same, but another one than the last, if there is. */
struct node *nodes_for_store_next(struct controller *c, const struct node *last);

/* For looks: what is kept of a node. Failures are logged: the next look says the same again. */
void node_take_name(struct node *node, const char *name);
void node_take_boot(struct node *node, const char *boot_id);

#endif
