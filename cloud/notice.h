/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_NOTICE_H
#define ELSA_CLOUD_NOTICE_H

/*
 * What a cloud says will become of this machine, from its metadata service:
 * bytes in, bytes out. No clock, no socket: the caller asks what
 * notice_watch_next() wants, hands the answer to notice_watch_answer(), and
 * brings the time with both. node/notices.c does that.
 *
 * Formats and times are those of
 * - Amazon EC2 User Guide: "Use the Instance Metadata Service to access instance
 *   metadata", "Spot Instance interruption notices", "EC2 instance rebalance
 *   recommendations", "Scheduled events for Amazon EC2 instances"; EC2 Auto
 *   Scaling User Guide: "Retrieve the target lifecycle state through instance
 *   metadata"
 * - Google Compute Engine: "About VM metadata", "Query metadata server for
 *   maintenance event notices", "Preemptible VM instances"
 * - Azure Virtual Machines: "Scheduled Events for Linux VMs", "Azure Instance
 *   Metadata Service"
 *
 * What is heard that cannot be right:
 * - a time that has passed counts as now; one that cannot be read as not said
 * - a kind of event that is not known keeps new sessions away (NOTICE_REBALANCE)
 * - an answer that is no notice at all (HTML, cut JSON, too large) changes
 *   nothing: what was heard last stays. So it does while there is no answer.
 *
 * Not thread-safe; one thread per object.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "wire/messages.h"

#include <stdbool.h>
#include <stddef.h>

#define NOTICE_MOST      16 /* at once from one source; more are dropped */
#define NOTICE_BODY_MOST (64 << 10)

/* --- what a source says now ------------------------------------------------- */

struct notice_item {
	char key[72]; /* tells it from others of its source; letters, digits, "-_:/" */
	enum notice_kind kind;
	wall_ms at;       /* 0: not said */
	bool is_relative; /* `at` was counted from now by who says it */
	char detail[256]; /* cut */
};

struct notice_items {
	size_t count;
	struct notice_item items[NOTICE_MOST];
	char odd[160]; /* what was not understood of it; "" */
};

/* --- what has been heard ----------------------------------------------------- */

/* As wire/ has them: strings are owned. Zeroed: empty. */
struct notice_list {
	struct node_notice *items;
	size_t count;
};

enum notice_change { NOTICE_APPEARED, NOTICE_CHANGED, NOTICE_CANCELLED };

/* `notice` is valid during the call; the list must not be changed in it. */
typedef void (*notice_told)(enum notice_change change, const struct node_notice *notice, void *arg);

/* `items` is all that `source` says now: what of it is not in the list is added, what the list has
 * beyond it was cancelled. 0, or -ENOMEM with the list as it was or partly updated. */
int notice_list_put(struct notice_list *list, const char *source, const struct notice_items *items,
		    wall_ms now, notice_told told, void *arg);
void notice_list_deinit(struct notice_list *list); /* idempotent */

/* Copies; release with wire_free() of what they become part of. 0 or -ENOMEM. */
int notice_list_copy(const struct notice_list *list, struct node_notice **items, size_t *count);

/* When it happens, at the latest: `default_ms` after it was seen first when it does not say. */
wall_ms notice_deadline(const struct node_notice *notice, int64_t default_ms);

/* --- asking a metadata service ------------------------------------------------ */

enum notice_cloud { NOTICE_CLOUD_NONE, NOTICE_CLOUD_AWS, NOTICE_CLOUD_GCP, NOTICE_CLOUD_AZURE };
#define NOTICE_CLOUD_COUNT 4
extern const char *const notice_cloud_names[NOTICE_CLOUD_COUNT]; /* "aws"; [0] is NULL */

/* In which cloud this machine is, by the strings its firmware has in `dir` (/sys/class/dmi/id). */
enum notice_cloud notice_cloud_of(const char *dir);

/* "http://169.254.169.254" or its like. */
const char *notice_cloud_url(enum notice_cloud cloud);

/* What the machine is; "": not known. */
struct notice_facts {
	char instance[128], type[128], zone[128];
	char price[16]; /* "spot", "on-demand" */
	char name[128]; /* as the cloud calls it in notices for several machines */
};

struct notice_now {
	wall_ms wall;
	int64_t mono_ms; /* for what lasts */
};

struct notice_ask {
	const char *method;
	const char *path;       /* with the query */
	const char *headers[4]; /* "Name: value", NULL-terminated */
	const char *body;       /* NULL: none */
	int timeout_ms;
};

struct notice_answer {
	int status;       /* 0: none, and `why` */
	const char *why;  /* words for people */
	bool timed_out;   /* ... after a connection was made, or while it was */
	const char *body; /* not NULL */
	size_t len;
	const char *etag, *flavor, *token_ttl; /* headers ETag, Metadata-Flavor and
						* X-aws-ec2-metadata-token-ttl-seconds; NULL */
	int retry_after_s;
};

/* What an answer means. */
struct notice_heard {
	const char *source; /* NULL: nothing about notices; else what it says now is `items` */
	struct notice_items items;
	bool facts; /* the facts have changed */
	enum { NOTICE_SAY_NOTHING, NOTICE_SAY_INFO, NOTICE_SAY_WARNING } say;
	char text[320], remedy[256];
};

struct notice_watch;

/* Each cloud is asked by some watches side by side, which know nothing of each other but the
 * facts; `facts` is shared and outlives them. */
size_t notice_watch_count(enum notice_cloud cloud);
struct notice_watch *notice_watch_new(enum notice_cloud cloud, size_t which, int64_t interval_ms,
				      struct notice_facts *facts); /* NULL when out of memory */
void *notice_watch_free(struct notice_watch *w);                   /* returns NULL */

/* 0: *ask is to be asked now (its strings stay until the answer is given); else milliseconds after
 * which to call again. Not between a 0 and its answer. */
int64_t notice_watch_next(struct notice_watch *w, struct notice_now now, struct notice_ask *ask);
void notice_watch_answer(struct notice_watch *w, struct notice_now now,
			 const struct notice_answer *answer, struct notice_heard *heard);

/* Lets the cloud go on with what the notice `id` said, since all is put away: Azure's
 * StartRequests. False when this watch has no such thing. Takes effect at the next
 * notice_watch_next() that would have to wait. */
bool notice_watch_acknowledge(struct notice_watch *w, const struct node_notice *notice);

/* --- the formats, for tests and for sources that are no service ----------------- */

/* Each: 0, or -EBADMSG when it is no such thing. */
int notice_aws_action(const char *text, size_t len, struct notice_items *to);
int notice_aws_rebalance(const char *text, size_t len, struct notice_items *to);
int notice_aws_scheduled(const char *text, size_t len, struct notice_items *to);
int notice_aws_lifecycle(const char *text, size_t len, struct notice_items *to);
int notice_gcp_preempted(const char *text, size_t len, struct notice_items *to);
int notice_gcp_maintenance(const char *text, size_t len, struct notice_items *to);
int notice_azure_events(const char *text, size_t len, const char *name, struct notice_items *to);
int notice_azure_facts(const char *text, size_t len, struct notice_facts *to);

/* What a notice file holds or a command prints: nothing, or an object or list of objects
 *	{"kind": "evict", "at": "2026-11-29T10:00:00Z", "in": "30s", "detail": "...", "id": "..."}
 * of which all but `kind` may be left out, and only one of `at` and `in` (also seconds as a number;
 * counted from `from`) be there. -EBADMSG with *e saying what is wrong. */
int notice_file(const char *text, size_t len, wall_ms from, struct notice_items *to,
		struct error *e);

/* ISO 8601, or as in "Mon, 19 Sep 2016 18:29:47 GMT" with or without the day's name. 0, or -EINVAL
 * also for what lies before 1970 or after 9999. */
int notice_time(const char *text, wall_ms *t);

#endif
