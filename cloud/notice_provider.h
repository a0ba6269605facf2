/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_NOTICE_PROVIDER_H
#define ELSA_CLOUD_NOTICE_PROVIDER_H

/* What each cloud's metadata service is asked, as tables for cloud/notice.c; and what the readers
 * of its answers share. */

#include "cloud/notice.h"

#include <jansson.h>

/* Things said of a machine, or facts about it. */
struct notice_path {
	const char *source; /* of its notices: "aws spot/instance-action"; NULL: facts */
	const char *path;
	unsigned every; /* asked in each so many-th round; 0: until it has been answered */
	int (*items)(const char *text, size_t len, struct notice_items *to);
	int (*items_for)(const char *text, size_t len, const char *name, struct notice_items *to);
	int (*facts)(const char *text, size_t len, struct notice_facts *to);
	bool may_lack;        /* 404: there is nothing to say */
	bool long_poll;       /* answers when it changes */
	int first_timeout_ms; /* of the first answer; 0: as the others */
};

struct notice_channel { /* a watch: asks its paths in this order, then waits */
	const struct notice_path *paths;
	size_t count;
};

struct notice_provider {
	const char *url;
	const char *header;           /* in each question; NULL */
	bool token;                   /* sessions by IMDSv2 */
	const char *flavor;           /* Metadata-Flavor that each answer must have; NULL */
	const char *acknowledge_path; /* NULL: notices are not acknowledged */
	const struct notice_channel *channels;
	size_t channel_count;
};

extern const struct notice_provider notice_aws, notice_gcp, notice_azure;

enum { NOTICE_PATHS_MOST = 8 };

/* NULL when there are too many, or one of this key. Its key is made fit for ids; the text is cut.
 */
struct notice_item *notice_add(struct notice_items *to, const char *key, enum notice_kind kind,
			       const char *detail, size_t detail_len);

/* Fills item->at; words that are no time are noted in `to` and count as not said. */
void notice_set_time(struct notice_items *to, struct notice_item *item, const char *text);

/* Says what was not understood, unless something was said before. */
void notice_odd(struct notice_items *to, const char *what, const char *value);

/* The word that the answer is, without white space around; false when it is not one. */
bool notice_word(const char *text, size_t len, char *to, size_t size);

/* The same as a fact: printable ASCII. 0 or -EBADMSG. */
int notice_fact(const char *text, size_t len, char *to, size_t size);

/* Strict JSON, not nested deeply; NULL: it is none. New reference. */
json_t *notice_json(const char *text, size_t len);

#endif
