/* SPDX-License-Identifier: Apache-2.0 */
/* Why a session is as it is and what comes next, in a sentence for people. */
#include "controller/idle.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/node.h"

#include <string.h>

/* What its user should know: its memory is not all there yet, or its machine goes away without it;
 * allocated, NULL: nothing. */
char *idle_note(const struct session *s)
{
	const struct seen *seen = &s->seen;
	char at[CLOCK_TEXT_SIZE];
	if (seen->unsaved[0])
		return str_printf("its machine goes away, and it cannot be saved, so files should "
				  "be: %s",
				  seen->unsaved);
	if (seen->stalled_since)
		return str_printf("stalled since %s: %s", clock_format(seen->stalled_since, at),
				  seen->stalled);
	if (seen->short_of > 0)
		return str_printf("stands still: it needs %lld MiB of memory, and its node has no "
				  "room for that",
				  (long long)(seen->short_of >> 20));
	if (seen->missing_bytes <= 0)
		return NULL;
	return str_printf("waking: %lld MiB to come",
			  (long long)((seen->missing_bytes + (1 << 20) - 1) >> 20));
}

static char *explain_running(const struct session *s)
{
	char at[CLOCK_TEXT_SIZE];
	char person[CLOCK_TEXT_SIZE];
	if (s->seen.stalled_since)
		return strdup(
			"awake, but what it touches of its memory does not come; nothing is "
			"lost, and it goes on as soon as the store answers: see that the node "
			"can reach it");
	if (!s->idle.known)
		return strdup("awake; the idle policy has not looked at it yet");
	clock_format(s->idle.next_at, at);
	clock_format(idle_person_at(s), person);
	return str_printf("awake: %s%s%s%s; last sign of a person: %s%s%s",
			  idle_reason_text(s->idle.reason), *s->idle.rule ? " (rule \"" : "",
			  s->idle.rule, *s->idle.rule ? "\")" : "", *person ? person : "none",
			  *at ? "; may change at " : "", at);
}

/* Nobody but who asks sees that it sleeps. */
static char *explain_asleep(const struct session *s)
{
	const char *node = node_name(s->node);
	char since[CLOCK_TEXT_SIZE];
	char stop[CLOCK_TEXT_SIZE];
	clock_format(s->row.slept_at, since);
	clock_format(s->idle.known ? s->idle.next_at : 0, stop);
	if (s->row.wish == WISH_AWAKE)
		return str_printf(
			"asleep since %s; somebody came for it, and it is woken as soon as a "
			"machine has room%s%s",
			since, s->waiting || s->asleep.unwoken ? ": " : "",
			s->waiting          ? s->waiting
			: s->asleep.unwoken ? s->asleep.unwoken
					    : "");
	return str_printf(
		"asleep since %s, unseen: %s answers for it, and wakes it from checkpoint %lld "
		"when somebody comes%s%s",
		since, node, (long long)s->row.checkpoint, *stop ? "; may change at " : "", stop);
}

/* What sleeps with a wish goes on by itself. */
static char *explain_wish(const struct session *s)
{
	const char *why = s->waiting ? s->waiting : "";
	if (s->row.wish == WISH_ANSWER)
		return strdup("asleep, unseen; a node is to answer for it in a moment");
	return str_printf("it was in use and is woken as soon as a machine has room%s%s",
			  *why ? ": " : "", why);
}

char *idle_explain(const struct session *s)
{
	switch (s->state) {
	case SESSION_RUNNING:
		return explain_running(s);
	case SESSION_DOZING:
		return strdup("frozen in place; it wakes when it is used");
	case SESSION_ASLEEP:
		return explain_asleep(s);
	case SESSION_SNAPSHOTTING:
		return strdup("awake; a checkpoint of it is being taken, after which it goes on");
	case SESSION_FENCING:
		return strdup("its node is not heard of; it goes on from its newest checkpoint "
			      "when nothing of that node can come between");
	case SESSION_HIBERNATED:
		if (s->row.wish != WISH_NONE)
			return explain_wish(s);
		if (s->row.checkpoint)
			return str_printf("asleep; the next start wakes it from checkpoint %lld",
					  (long long)s->row.checkpoint);
		return strdup(
			"asleep, but its checkpoint is set aside or not on record: only a fresh "
			"start is possible");
	case SESSION_STOPPED:
		return strdup("ended; the next start is a fresh one");
	case SESSION_FAILED:
		return s->row.checkpoint
			       ? strdup("its checkpoint is kept: start it again, or start it fresh "
					"to have the checkpoint set aside")
			       : strdup("start it again when what failed is mended");
	case SESSION_LOST:
		return s->row.checkpoint
			       ? strdup("its processes are gone; an older checkpoint is there")
			       : strdup("its processes are gone and there is no checkpoint; its "
					"files are untouched");
	default:
		return str_printf("%s now", session_state_name(s->state));
	}
}
