/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rescue.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/capacity.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/nodes.h"
#include "controller/placing.h"
#include "controller/record.h"

#include <errno.h>

#define WHO      "rescue"
#define WHY      "short-of-memory"
#define AGAIN_US (5 * 1000000LL) /* between two tries */
#define MIB      (INT64_C(1) << 20)

static void note_raised(struct session *s, int64_t bytes)
{
	struct error e = ERROR_INIT;
	cleanup_free char *detail = str_printf(
		"from %lld to %lld MiB", (long long)s->memory_limit / MIB, (long long)bytes / MIB);
	if (session_set_memory(s, bytes, "node", "near-limit", detail, &e) < 0)
		log_error("%s: its memory's new limit cannot be recorded: %s", s->label, e.text);
}

/* The most that a session could ever have on another node than this one. */
static int64_t largest_elsewhere(const struct session *s)
{
	struct controller *c = s->controller;
	int64_t largest = 0;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n)) {
		int64_t has = n->info.memory_bytes - c->config->nodes.reserve_bytes;
		bool takes = n != s->node && node_in_reach(n) && !placing_is_doomed(n) &&
			     !placing_is_draining(n) && (!n->local || c->config->nodes.local);
		if (takes && has > largest)
			largest = has;
	}
	return capacity_can_grow(c) ? INT64_MAX : largest;
}

/* -EBUSY: in a moment. */
static int move(struct session *s, struct error *e)
{
	struct node *to = NULL;
	int r = migrate_place(s, NULL, &to, e);
	if (r == 0)
		r = migrate_begin(s, to, WHO, WHY, e);
	return r == -EINPROGRESS ? -EBUSY : r;
}

static void sleep_until_there_is_room(struct session *s)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = EVENT_HIBERNATE,
		.who = WHO,
		.why = WHY,
		.reason = "its node has no more memory for it: it goes on where there is room",
		.wish = WISH_AWAKE,
	};
	if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: it is short of memory, and cannot leave its node: %s", s->label,
			    e.text);
}

/* First, or it would be placed as small as it was. When it waits for its turn that is on record
 * already. */
static int record_wanted(struct session *s, int64_t bytes, struct error *e)
{
	int64_t before = s->memory_limit;
	if (bytes <= before)
		return 0;
	cleanup_free char *detail =
		str_printf("from %lld to %lld MiB, for which %s has no room",
			   (long long)before / MIB, (long long)bytes / MIB, node_name(s->node));
	return session_set_memory(s, bytes, WHO, WHY, detail, e);
}

/* `limit`: what its node has given it. */
static void take_elsewhere(struct session *s, int64_t wanted, int64_t limit)
{
	struct error e = ERROR_INIT;
	int64_t most = largest_elsewhere(s);
	int64_t bytes = wanted < most ? wanted : most;
	s->seen.rescued_at = clock_mono();
	if (bytes <= limit)
		return; /* its node lets it go on in the end */
	int r = record_wanted(s, bytes, &e);
	if (r == 0)
		r = move(s, &e);
	bool alone = !nodes_next(nodes_first(s->controller)) && !capacity_can_grow(s->controller);
	if (r == -EBUSY)
		s->seen.rescued_at = 0; /* others move: at the next look it may be its turn */
	if (r == 0 || r == -EBUSY || alone)
		return;
	log_info("%s: short of memory, and it cannot move as it runs: %s", s->label, e.text);
	sleep_until_there_is_room(s);
}

void rescue_seen(struct session *s, const struct session_status *status)
{
	s->seen.short_of = status->short_of;
	bool lately = s->seen.rescued_at && clock_mono() - s->seen.rescued_at < AGAIN_US;
	if (s->memory_limit > 0 && status->memory_limit > s->memory_limit && !s->size.asking)
		note_raised(s, status->memory_limit);
	if (status->short_of > 0 && s->state == SESSION_RUNNING && !s->effect && !lately)
		take_elsewhere(s, status->short_of, status->memory_limit);
}
