/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/asleep.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/hub.h"
#include "controller/node.h"
#include "controller/nodes.h"
#include "controller/placing.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/wake.h"

#include <errno.h>
#include <string.h>

#define WHO            "nodes"
#define RETRY_FIRST_MS 1000
#define RETRY_MOST_MS  60000
#define FAILURES_MOST  3 /* until the Hub is told, for nobody answers for it */

bool asleep_may_try(const struct session *s)
{
	return clock_mono() >= s->asleep.again_at;
}

static void failed(struct session *s)
{
	int64_t delay = retry_delay_ms(s->asleep.failures++, RETRY_FIRST_MS, RETRY_MOST_MS);
	s->asleep.again_at = clock_mono() + delay * 1000;
}

void asleep_settled(struct session *s, enum session_state before)
{
	bool not_answered = before == SESSION_ANSWERING && s->state == SESSION_HIBERNATED;
	bool not_moved = (before == SESSION_RESTORING || before == SESSION_RELEASING) &&
			 s->state == SESSION_ASLEEP;
	if (not_answered || not_moved)
		failed(s);
	else if (s->state == SESSION_ASLEEP || s->state == SESSION_RUNNING)
		s->asleep.failures = 0;
	if (not_answered && s->row.wish == WISH_ANSWER && s->asleep.failures >= FAILURES_MOST)
		hub_tell_asleep(s);
	if (s->state != SESSION_ASLEEP && s->state != SESSION_DOZING)
		s->asleep.touched_at = 0;
	if (s->state != SESSION_ASLEEP)
		replace_text(&s->asleep.unwoken, NULL);
}

/* --- what its node says ------------------------------------------------------------------------
 */

/* Somebody came, and where it is it cannot be woken: it is for us to say where. */
static void take_unwoken(struct session *s, const char *why)
{
	struct error e = ERROR_INIT;
	if (!s->asleep.unwoken || strcmp(s->asleep.unwoken, why) != 0)
		record_note(s->controller, &(struct record) { .session = s,
							      .who = "node",
							      .what = "unwoken",
							      .why = node_name(s->node),
							      .detail = why });
	replace_text(&s->asleep.unwoken, why);
	if (s->row.wish != WISH_AWAKE && session_set_wish(s, WISH_AWAKE, &e) < 0)
		log_error("%s: that somebody came for it cannot be recorded: %s", s->label, e.text);
	wake_soon(s->controller);
}

void asleep_looked(struct session *s, const struct session_status *status)
{
	s->asleep.touched_at = status->touched_at;
	if (status->unwoken)
		take_unwoken(s, status->unwoken);
	else
		replace_text(&s->asleep.unwoken, NULL);
}

/* --- what is to become of it -------------------------------------------------------------------
 */

bool asleep_wants(const struct session *s)
{
	if (s->effect)
		return false;
	if (s->state == SESSION_HIBERNATED)
		return s->row.wish == WISH_ANSWER;
	return s->state == SESSION_ASLEEP && s->row.wish != WISH_ANSWER;
}

/* One that has room to wake it, too; else the hub's own host, whatever it has. */
static int choose(struct session *s, struct node **to, struct error *e)
{
	const struct placing what = placing_of(s, true);
	int r = placing_choose(s, &what, to, e);
	if (r != -EAGAIN)
		return r;
	error_clear(e);
	*to = s->controller->nodes->local;
	return 0;
}

static int have_answered(struct session *s, struct error *e)
{
	struct session_change change = { .event = EVENT_ANSWER, .who = WHO, .why = "unseen" };
	int r = choose(s, &change.node, e);
	return r < 0 ? r : session_apply(s, &change, NULL, e);
}

static int release(struct session *s, struct error *e)
{
	const struct session_change change = { .event = EVENT_HIBERNATE,
					       .who = WHO,
					       .why = "seen" };
	return session_apply(s, &change, NULL, e);
}

void asleep_see_to(struct session *s)
{
	struct error e = ERROR_INIT;
	if (!asleep_may_try(s))
		return;
	int r = s->state == SESSION_ASLEEP ? release(s, &e) : have_answered(s, &e);
	if (r == 0 || r == -EINPROGRESS)
		return;
	log_warning("%s: who is to answer for it is not settled: %s", s->label, e.text);
	failed(s);
}

/* --- what somebody wants of it -----------------------------------------------------------------
 */

void asleep_move_on(struct session *s, const char *who, const char *why)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = EVENT_RELEASE, .who = who, .why = why };
	if (asleep_may_try(s) && session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: its node goes on answering for it: %s", s->label, e.text);
}

int asleep_rouse(struct session *s, const char *who, const char *why, struct error *e)
{
	const struct session_change change = { .event = EVENT_START, .who = who, .why = why };
	if (s->state == SESSION_DOZING)
		return session_apply(s, &change, NULL, e);
	int r = session_set_wish(s, WISH_AWAKE, e);
	s->asleep.again_at = 0;
	wake_soon(s->controller);
	return r;
}
