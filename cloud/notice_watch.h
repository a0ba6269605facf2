/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_NOTICE_WATCH_H
#define ELSA_CLOUD_NOTICE_WATCH_H

/* A watch from inside, for cloud/notice.c, which asks, and cloud/notice_answer.c. */

#include "cloud/notice_provider.h"

enum {
	NOTICE_POLL_S = 20, /* a long poll waits; no longer, lest a dead connection hide much */
	NOTICE_ACKNOWLEDGE_TRIES = 3,
};

struct path_state {
	bool known;            /* has been answered, so or so */
	int64_t failing_since; /* mono_ms; 0: not */
	bool warned;
	bool odd_told;
	char etag[64];
};

struct notice_watch {
	const struct notice_provider *provider;
	const struct notice_channel *channel;
	struct notice_facts *facts;
	int64_t interval_ms;
	struct path_state paths[NOTICE_PATHS_MOST];

	size_t at;      /* path to ask next; channel->count: the round is over */
	unsigned round; /* counts up */
	int64_t wait_until;
	unsigned failures; /* one after the other */
	enum { ASKING_NOTHING, ASKING_TOKEN, ASKING_PATH, ASKING_ACKNOWLEDGE } asking;

	char *token; /* "X-aws-ec2-metadata-token: ..." */
	int64_t token_until;
	bool token_is_fresh; /* nothing was asked with it yet */
	bool token_warned;

	char acknowledge[72]; /* the key of what may go on; "" */
	unsigned acknowledge_tries;

	char *path, *body; /* of the question */
};

/* The next path of this round that is due; false when there is none. */
bool notice_find_due(struct notice_watch *w);

#endif
