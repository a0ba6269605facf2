/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "cloud/notice_provider.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define EVENTS "/metadata/scheduledevents?api-version=2020-07-01"
#define FACTS  "/metadata/instance/compute?api-version=2021-02-01&format=json"

/* A machine's first question switches the service on, which takes up to two minutes. */
enum { FIRST_MS = 150000 };

/* All machines of an availability set or scale set hear of each other's events. While it is not
 * known what this one is called, they are taken for its own: better to put sessions away for
 * nothing than to lose them. */
static bool is_ours(const json_t *event, const char *name)
{
	const json_t *resources = json_object_get(event, "Resources");
	size_t i;
	const json_t *resource;
	if (!name || !*name || !json_is_array(resources))
		return true;
	json_array_foreach (resources, i, resource) {
		const char *text = json_string_value(resource);
		if (text && strcasecmp(text, name) == 0)
			return true;
	}
	return false;
}

static enum notice_kind kind_of(struct notice_items *to, const json_t *event)
{
	static const struct {
		const char *type;
		enum notice_kind kind;
	} types[] = {
		{ "Preempt", NOTICE_EVICT },  { "Terminate", NOTICE_EVICT },
		{ "Redeploy", NOTICE_EVICT }, { "Reboot", NOTICE_REBOOT },
		{ "Freeze", NOTICE_FREEZE },
	};
	const char *type = wire_text_at(event, "EventType");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(types[i].type, type) == 0)
			return types[i].kind;
	notice_odd(to, "an event that is not known", type);
	return NOTICE_REBALANCE;
}

static void add_event(struct notice_items *to, const json_t *event)
{
	const char *status = wire_text_at(event, "EventStatus");
	char detail[256];
	if (strcmp(status, "Completed") == 0 || strcmp(status, "Canceled") == 0)
		return;
	snprintf(detail, sizeof(detail), "%s %s: %s", wire_text_at(event, "EventType"), status,
		 wire_text_at(event, "Description"));
	struct notice_item *item = notice_add(to, wire_text_at(event, "EventId"),
					      kind_of(to, event), detail, sizeof(detail));
	/* Empty once it has begun: then the list keeps the time from before. */
	if (item)
		notice_set_time(to, item, wire_text_at(event, "NotBefore"));
}

int notice_azure_events(const char *text, size_t len, const char *name, struct notice_items *to)
{
	*to = (struct notice_items) { 0 };
	cleanup_json json_t *root = notice_json(text, len);
	const json_t *events = json_object_get(root, "Events");
	size_t i;
	const json_t *event;
	if (!json_is_array(events))
		return -EBADMSG;
	json_array_foreach (events, i, event) {
		if (!*wire_text_at(event, "EventId"))
			return -EBADMSG;
		if (is_ours(event, name))
			add_event(to, event);
	}
	return 0;
}

static int take_string(const json_t *root, const char *name, char *to, size_t size)
{
	const char *text = wire_text_at(root, name);
	return notice_fact(text, strlen(text), to, size);
}

int notice_azure_facts(const char *text, size_t len, struct notice_facts *to)
{
	cleanup_json json_t *root = notice_json(text, len);
	char location[64];
	char zone[16];
	if (!json_is_object(root) || !*wire_text_at(root, "vmId") ||
	    take_string(root, "vmId", to->instance, sizeof(to->instance)) < 0 ||
	    take_string(root, "name", to->name, sizeof(to->name)) < 0 ||
	    take_string(root, "vmSize", to->type, sizeof(to->type)) < 0 ||
	    take_string(root, "location", location, sizeof(location)) < 0 ||
	    take_string(root, "zone", zone, sizeof(zone)) < 0)
		return -EBADMSG;
	/* Zones are numbers within a location; some locations have none. */
	snprintf(to->zone, sizeof(to->zone), "%s%s%s", location, *zone ? "-" : "", zone);
	const char *priority = wire_text_at(root, "priority");
	bool spot = strcasecmp(priority, "Spot") == 0 || strcasecmp(priority, "Low") == 0;
	snprintf(to->price, sizeof(to->price), "%s", spot ? "spot" : "on-demand");
	return 0;
}

static const struct notice_path paths[] = {
	/* First, since it says which of the events are ours. */
	{ .path = FACTS, .facts = notice_azure_facts },
	{ .source = "azure scheduledevents",
	  .path = EVENTS,
	  .every = 1,
	  .items_for = notice_azure_events,
	  .first_timeout_ms = FIRST_MS },
};

static const struct notice_channel channel = { paths, ARRAY_SIZE(paths) };

const struct notice_provider notice_azure = {
	.url = "http://169.254.169.254",
	.header = "Metadata: true",
	.acknowledge_path = EVENTS,
	.channels = &channel,
	.channel_count = 1,
};
