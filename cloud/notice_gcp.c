/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "cloud/notice_provider.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define INSTANCE "/computeMetadata/v1/instance/"

/* No time is said: 30 s after it, the machine is stopped. */
int notice_gcp_preempted(const char *text, size_t len, struct notice_items *to)
{
	char word[8];
	*to = (struct notice_items) { 0 };
	if (!notice_word(text, len, word, sizeof(word)))
		return -EBADMSG;
	if (strcasecmp(word, "TRUE") == 0)
		notice_add(to, "preempted", NOTICE_EVICT, word, sizeof(word));
	else if (strcasecmp(word, "FALSE") != 0)
		return -EBADMSG;
	return 0;
}

/* A machine that is moved to another host stands still for a moment. */
int notice_gcp_maintenance(const char *text, size_t len, struct notice_items *to)
{
	static const struct {
		const char *event;
		enum notice_kind kind;
	} events[] = {
		{ "NONE", NOTICE_NONE },
		{ "MIGRATE_ON_HOST_MAINTENANCE", NOTICE_FREEZE },
		{ "TERMINATE_ON_HOST_MAINTENANCE", NOTICE_EVICT },
	};
	char word[64];
	*to = (struct notice_items) { 0 };
	if (!notice_word(text, len, word, sizeof(word)) || !*word || strpbrk(word, "<>{}\"&"))
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (strcmp(events[i].event, word) == 0) {
			if (events[i].kind != NOTICE_NONE)
				notice_add(to, "maintenance-event", events[i].kind, word,
					   sizeof(word));
			return 0;
		}
	notice_odd(to, "an event that is not known", word);
	notice_add(to, "maintenance-event", NOTICE_REBALANCE, word, sizeof(word));
	return 0;
}

/* The last part of "projects/123/zones/europe-west4-a" */
static int take_last(const char *text, size_t len, char *to, size_t size)
{
	char word[128];
	int r = notice_fact(text, len, word, sizeof(word));
	if (r < 0)
		return r;
	const char *slash = strrchr(word, '/');
	snprintf(to, size, "%s", slash ? slash + 1 : word);
	return 0;
}

static int take_instance(const char *text, size_t len, struct notice_facts *to)
{
	return notice_fact(text, len, to->instance, sizeof(to->instance));
}

static int take_type(const char *text, size_t len, struct notice_facts *to)
{
	return take_last(text, len, to->type, sizeof(to->type));
}

static int take_zone(const char *text, size_t len, struct notice_facts *to)
{
	return take_last(text, len, to->zone, sizeof(to->zone));
}

static void set_price(struct notice_facts *to, bool spot)
{
	snprintf(to->price, sizeof(to->price), "%s", spot ? "spot" : "on-demand");
}

static int take_preemptible(const char *text, size_t len, struct notice_facts *to)
{
	char word[16];
	int r = notice_fact(text, len, word, sizeof(word));
	if (r == 0)
		set_price(to, strcasecmp(word, "TRUE") == 0);
	return r;
}

/* Newer than the other, and missing on some machines; so it is asked last and decides when it says
 * SPOT. */
static int take_model(const char *text, size_t len, struct notice_facts *to)
{
	char word[64];
	int r = notice_fact(text, len, word, sizeof(word));
	if (r == 0 && (strcasecmp(word, "SPOT") == 0 || !to->price[0]))
		set_price(to, strcasecmp(word, "SPOT") == 0);
	return r;
}

static const struct notice_path preempted[] = {
	{ .source = "gcp preempted",
	  .path = INSTANCE "preempted",
	  .every = 1,
	  .items = notice_gcp_preempted,
	  .may_lack = true,
	  .long_poll = true },
};

static const struct notice_path maintenance[] = {
	{ .source = "gcp maintenance-event",
	  .path = INSTANCE "maintenance-event",
	  .every = 1,
	  .items = notice_gcp_maintenance,
	  .may_lack = true,
	  .long_poll = true },
};

static const struct notice_path facts[] = {
	{ .path = INSTANCE "id", .facts = take_instance, .may_lack = true },
	{ .path = INSTANCE "machine-type", .facts = take_type, .may_lack = true },
	{ .path = INSTANCE "zone", .facts = take_zone, .may_lack = true },
	{ .path = INSTANCE "scheduling/preemptible", .facts = take_preemptible, .may_lack = true },
	{ .path = INSTANCE "scheduling/provisioning-model", .facts = take_model, .may_lack = true },
};

static const struct notice_channel channels[] = {
	{ preempted, ARRAY_SIZE(preempted) },
	{ maintenance, ARRAY_SIZE(maintenance) },
	{ facts, ARRAY_SIZE(facts) },
};

const struct notice_provider notice_gcp = {
	.url = "http://metadata.google.internal",
	.header = "Metadata-Flavor: Google",
	.flavor = "Google",
	.channels = channels,
	.channel_count = ARRAY_SIZE(channels),
};
