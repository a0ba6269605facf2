/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "cloud/notice_provider.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define META "/latest/meta-data/"

/* Whatever the action is: the machine is taken. Of hibernate the guide says that it begins at once,
 * not after two minutes; its time is then about now. */
int notice_aws_action(const char *text, size_t len, struct notice_items *to)
{
	*to = (struct notice_items) { 0 };
	cleanup_json json_t *root = notice_json(text, len);
	const char *action = wire_text_at(root, "action");
	if (!json_is_object(root) || (!*action && !json_object_get(root, "time")))
		return -EBADMSG;
	struct notice_item *item = notice_add(to, "instance-action", NOTICE_EVICT, text, len);
	if (strcmp(action, "terminate") != 0 && strcmp(action, "stop") != 0 &&
	    strcmp(action, "hibernate") != 0)
		notice_odd(to, "an action that is not known", action);
	if (!json_is_string(json_object_get(root, "time")))
		notice_odd(to, "no time in it", "");
	notice_set_time(to, item, wire_text_at(root, "time"));
	return 0;
}

/* Its time is when the recommendation was made, not when something happens. */
int notice_aws_rebalance(const char *text, size_t len, struct notice_items *to)
{
	*to = (struct notice_items) { 0 };
	cleanup_json json_t *root = notice_json(text, len);
	if (!json_is_object(root) || !json_object_get(root, "noticeTime"))
		return -EBADMSG;
	notice_add(to, "rebalance", NOTICE_REBALANCE, text, len);
	return 0;
}

static bool is_over(const json_t *event)
{
	const char *state = wire_text_at(event, "State");
	const char *description = wire_text_at(event, "Description");
	return strcmp(state, "completed") == 0 || strcmp(state, "canceled") == 0 ||
	       strncmp(description, "[Completed]", strlen("[Completed]")) == 0 ||
	       strncmp(description, "[Canceled]", strlen("[Canceled]")) == 0;
}

static void add_event(struct notice_items *to, const json_t *event)
{
	static const struct {
		const char *code;
		enum notice_kind kind;
	} codes[] = {
		{ "instance-stop", NOTICE_EVICT },       { "instance-retirement", NOTICE_EVICT },
		{ "instance-reboot", NOTICE_REBOOT },    { "system-reboot", NOTICE_REBOOT },
		{ "system-maintenance", NOTICE_FREEZE },
	};
	enum notice_kind kind = NOTICE_NONE;
	const char *code = wire_text_at(event, "Code");
	const char *id = wire_text_at(event, "EventId");
	char detail[256];
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (strcmp(codes[i].code, code) == 0)
			kind = codes[i].kind;
	if (kind == NOTICE_NONE) {
		notice_odd(to, "an event that is not known", code);
		kind = NOTICE_REBALANCE;
	}
	snprintf(detail, sizeof(detail), "%s: %s", code, wire_text_at(event, "Description"));
	struct notice_item *item = notice_add(to, *id ? id : code, kind, detail, sizeof(detail));
	if (item)
		notice_set_time(to, item, wire_text_at(event, "NotBefore"));
}

int notice_aws_scheduled(const char *text, size_t len, struct notice_items *to)
{
	*to = (struct notice_items) { 0 };
	cleanup_json json_t *root = notice_json(text, len);
	size_t i;
	const json_t *event;
	if (!json_is_array(root))
		return -EBADMSG;
	json_array_foreach (root, i, event) {
		if (!json_is_object(event))
			return -EBADMSG;
		if (!is_over(event))
			add_event(to, event);
	}
	return 0;
}

/* Where the Auto Scaling group is taking it. A warm pool keeps machines that are switched off; out
 * of the group, or on standby in it, the machine goes on, but should get nothing new. */
int notice_aws_lifecycle(const char *text, size_t len, struct notice_items *to)
{
	static const struct {
		const char *state;
		enum notice_kind kind;
	} states[] = {
		{ "InService", NOTICE_NONE },          { "Terminated", NOTICE_EVICT },
		{ "Warmed:Stopped", NOTICE_EVICT },    { "Warmed:Hibernated", NOTICE_EVICT },
		{ "Warmed:Terminated", NOTICE_EVICT }, { "Warmed:Running", NOTICE_REBALANCE },
		{ "Detached", NOTICE_REBALANCE },      { "Standby", NOTICE_REBALANCE },
	};
	char state[64];
	enum notice_kind kind = NOTICE_REBALANCE;
	bool known = false;
	*to = (struct notice_items) { 0 };
	if (!notice_word(text, len, state, sizeof(state)) || !*state || strpbrk(state, "<>{}\"&"))
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (strcmp(states[i].state, state) == 0) {
			kind = states[i].kind;
			known = true;
		}
	if (!known)
		notice_odd(to, "a state that is not known", state);
	if (kind != NOTICE_NONE)
		notice_add(to, "target-lifecycle-state", kind, state, sizeof(state));
	return 0;
}

static int take_instance(const char *text, size_t len, struct notice_facts *to)
{
	return notice_fact(text, len, to->instance, sizeof(to->instance));
}

static int take_type(const char *text, size_t len, struct notice_facts *to)
{
	return notice_fact(text, len, to->type, sizeof(to->type));
}

static int take_zone(const char *text, size_t len, struct notice_facts *to)
{
	return notice_fact(text, len, to->zone, sizeof(to->zone));
}

/* Also "scheduled" and "capacity-block", which are not taken at short notice. */
static int take_price(const char *text, size_t len, struct notice_facts *to)
{
	char word[64];
	int r = notice_fact(text, len, word, sizeof(word));
	if (r == 0)
		snprintf(to->price, sizeof(to->price), "%s",
			 strcmp(word, "spot") == 0 ? "spot" : "on-demand");
	return r;
}

static const struct notice_path paths[] = {
	{ .source = "aws spot/instance-action",
	  .path = META "spot/instance-action",
	  .every = 1,
	  .items = notice_aws_action,
	  .may_lack = true },
	{ .source = "aws autoscaling/target-lifecycle-state",
	  .path = META "autoscaling/target-lifecycle-state",
	  .every = 2,
	  .items = notice_aws_lifecycle,
	  .may_lack = true },
	{ .source = "aws events/recommendations/rebalance",
	  .path = META "events/recommendations/rebalance",
	  .every = 2,
	  .items = notice_aws_rebalance,
	  .may_lack = true },
	{ .source = "aws events/maintenance/scheduled",
	  .path = META "events/maintenance/scheduled",
	  .every = 15, /* made known days ahead */
	  .items = notice_aws_scheduled,
	  .may_lack = true },
	{ .path = META "instance-id", .facts = take_instance, .may_lack = true },
	{ .path = META "instance-type", .facts = take_type, .may_lack = true },
	{ .path = META "placement/availability-zone", .facts = take_zone, .may_lack = true },
	{ .path = META "instance-life-cycle", .facts = take_price, .may_lack = true },
};

static const struct notice_channel channel = { paths, ARRAY_SIZE(paths) };

const struct notice_provider notice_aws = {
	.url = "http://169.254.169.254",
	.token = true,
	.channels = &channel,
	.channel_count = 1,
};
