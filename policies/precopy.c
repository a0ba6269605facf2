/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/precopy.h"

#include <string.h>

#define MIB (INT64_C(1) << 20)

const struct precopy_rules precopy_defaults = {
	.least_bytes = 64 * MIB,
	.quick_per_s = 200000000,
	.follow_ms = 2000,
	.soon_ms = 300,
	.pieces = 6,
	.rounds = 5,
	.rewritten = 0.7,
	.haste = 4,
};

static const char *const mode_names[PRECOPY_MODE_COUNT] = {
	[PRECOPY_AUTO] = "auto",
	[PRECOPY_NEVER] = "never",
	[PRECOPY_ALWAYS] = "always",
};

const char *const precopy_why_names[PRECOPY_WHY_COUNT] = {
	[PRECOPY_GOES_ON] = "it goes on",
	[PRECOPY_TO_MEASURE] = "the link is being measured",
	[PRECOPY_OFF] = "it is not wanted",
	[PRECOPY_SMALL] = "it is soon there in any case",
	[PRECOPY_NO_ROOM] = "there is no room for it",
	[PRECOPY_QUICK_LINK] = "the link is quick",
	[PRECOPY_NO_TIME] = "there is no time for it",
	[PRECOPY_DONE] = "what is left follows in a moment",
	[PRECOPY_REWRITTEN] = "it changes as quickly as the link brings it",
	[PRECOPY_ENOUGH] = "there were rounds enough",
};

int precopy_mode_from(const char *name)
{
	for (int mode = 0; mode < PRECOPY_MODE_COUNT; mode++)
		if (strcmp(mode_names[mode], name) == 0)
			return mode;
	return -1;
}

/* All in floating point: a slow link's milliseconds may be many. */
static double ms_for(int64_t bytes, double per_s)
{
	return per_s > 0 ? (double)bytes * 1000 / per_s : 0;
}

static double per_s(const struct precopy_facts *f)
{
	return (double)f->link_per_s * f->share;
}

/* What would be on its way for too short a time to make anything of it. */
static enum precopy_why judge_link(const struct precopy_rules *rules, const struct precopy_facts *f)
{
	if (f->link_per_s >= rules->quick_per_s)
		return PRECOPY_QUICK_LINK;
	if (f->pieces < rules->pieces)
		return PRECOPY_TO_MEASURE;
	if (ms_for(f->memory_bytes, (double)f->link_per_s) < (double)rules->follow_ms)
		return PRECOPY_SMALL;
	return PRECOPY_GOES_ON;
}

/* This round to its end; and where its machine goes away what then follows, both several times
 * over. */
static bool ends_in_time(const struct precopy_rules *rules, const struct precopy_facts *f)
{
	double round = ms_for(f->to_go_bytes, per_s(f));
	double follows = f->rounds == 0 ? 0 : ms_for(f->changed_bytes, (double)f->link_per_s);
	if ((double)f->spent_ms + (f->rounds == 0 ? round : 0) > (double)f->most_ms)
		return false;
	return f->left_ms < 0 || rules->haste * (round + follows) <= (double)f->left_ms;
}

static enum precopy_why judge_round(const struct precopy_rules *rules,
				    const struct precopy_facts *f)
{
	if (f->rounds >= rules->rounds)
		return PRECOPY_ENOUGH;
	/* What has changed meanwhile is not known before the second. */
	if (f->changed_ms == 0)
		return PRECOPY_GOES_ON;
	if (ms_for(f->changed_bytes, (double)f->link_per_s) <= (double)rules->soon_ms)
		return PRECOPY_DONE;
	double changes = (double)f->changed_bytes * 1000 / (double)f->changed_ms;
	return changes >= rules->rewritten * per_s(f) ? PRECOPY_REWRITTEN : PRECOPY_GOES_ON;
}

enum precopy_why precopy_decide(const struct precopy_rules *rules, const struct precopy_facts *f)
{
	if (f->mode == PRECOPY_NEVER)
		return PRECOPY_OFF;
	if (f->memory_bytes > f->room_bytes)
		return PRECOPY_NO_ROOM;
	if (f->mode == PRECOPY_AUTO && f->memory_bytes < rules->least_bytes)
		return PRECOPY_SMALL;
	/* It is judged once: what was begun goes on. */
	enum precopy_why why = f->pieces < rules->pieces ? PRECOPY_TO_MEASURE : PRECOPY_GOES_ON;
	if (f->mode == PRECOPY_AUTO && f->pieces <= rules->pieces)
		why = judge_link(rules, f);
	if (why != PRECOPY_GOES_ON)
		return why;
	if (!ends_in_time(rules, f))
		return PRECOPY_NO_TIME;
	return judge_round(rules, f);
}
