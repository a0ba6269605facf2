/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NOTICES_PRIVATE_H
#define ELSA_NODE_NOTICES_PRIVATE_H

/* The parts of node/notices*.c, for one another. */

#include "cloud/notice.h"
#include "node/inhibit.h"
#include "node/notices.h"

struct notice_watcher;
struct notice_local;

struct notices {
	struct node *node;
	struct notice_list list;
	char **pressed; /* ids of those that evacuation has been told of; NULL-terminated */
	struct event *lead;

	enum notice_cloud cloud;
	struct notice_facts facts;
	struct http_client *client;
	struct notice_watcher *watchers;
	size_t watcher_count;

	struct notice_local *local;
	struct inhibit *inhibit;
};

/* All that this source says now. */
void notices_put(struct notices *n, const char *source, const struct notice_items *items);

/* node/notices_watch.c: the metadata service of n->cloud. */
int notices_watch(struct notices *n, struct error *e);
void notices_unwatch(struct notices *n);
void notices_acknowledge(struct notices *n, const struct node_notice *notice);

/* node/notices_local.c: node.notice_file or node.notice_command. */
int notices_local_new(struct notices *n, bool command, struct error *e);
void notices_local_free(struct notices *n);
size_t notices_local_load(const struct notices *n);

/* node/notices_record.c: RUN_DIR/notices.json. */
void notices_save(const struct notices *n);
/* Of the same boot, and of sources for which `wanted` says so; none when there is no such file. */
void notices_load_saved(struct notices *n,
			bool (*wanted)(const struct notices *n, const char *source));

#endif
