/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/doze.h"
#include "node/doze_area.h"
#include "node/hold.h"
#include "node/steps.h"

#include <errno.h>

/*
 * To doze is a reason to stand still like others (node/hold.h): noted before the
 * session is frozen, it is what a new life of elsa-node goes by. Nothing is lost in
 * any step, for nothing of the session goes but from one kind of memory to another.
 */

static int check_alive(struct effect *ef, struct error *e)
{
	if (session_alive(ef->node, ef->session))
		return 0;
	return error_set(e, ESRCH, "session %s does not run here", ef->session->id);
}

static int check(struct effect *ef, struct error *e)
{
	struct doze_area area;
	struct sandbox_usage usage;
	int r = check_alive(ef, e);
	if (r == 0)
		r = doze_area_make(ef->node, e);
	if (r == 0)
		r = sandbox_usage(&ef->sandbox, &usage, e);
	if (r < 0)
		return r;
	doze_area_look(ef->node, &area);
	if (area.room_bytes >= usage.rss_bytes / 2)
		return 0;
	r = error_fault(e, FAULT_FULL,
			"there is room for %lld MiB more of dozing sessions, and session %s has "
			"%lld MiB",
			(long long)(area.room_bytes >> 20), ef->session->id,
			(long long)(usage.rss_bytes >> 20));
	return error_remedy(e, r, "Let sessions that doze hibernate, or set doze.size higher.");
}

/* --- standing still --------------------------------------------------------------------- */

static int run_again(struct effect *ef, struct error *e)
{
	int cleared = hold_clear(ef->node, ef->session, HOLD_DOZE, e);
	int r = session_alive(ef->node, ef->session)
			? hold_settle(ef->node, ef->session, cleared < 0 ? NULL : e)
			: 0;
	steps_answers_itself(ef);
	return cleared < 0 ? cleared : r;
}

/* From before it stands still: whoever comes at any moment is either the session's, which then does
 * not doze, or takes the reason away. */
static int answer(struct effect *ef, struct error *e)
{
	hold_own(ef->node, ef->session);
	int r = hold_take(ef->node, ef->session, HOLD_DOZE, e);
	return r < 0 ? r : asleep_begin_wait(ef, ASLEEP_DOZES, e);
}

static int freeze(struct effect *ef, struct error *e)
{
	int r = sandbox_freeze(&ef->sandbox, e);
	return r < 0 ? r : steps_check_unanswered(ef, e);
}

/* The freezer is given back: it stands still from here on for its reason. */
static int keep(struct effect *ef, struct error *e)
{
	int r = hold_settle(ef->node, ef->session, e);
	if (r == 0 && !doze_is_dozing(ef->node, ef->session))
		r = error_set(e, EBUSY, "somebody came for session %s: it goes on",
			      ef->session->id);
	return r;
}

static int resume_doze(struct effect *ef, size_t at, struct error *e)
{
	(void)ef;
	(void)e;
	return at >= plan_doze.commit ? (int)at : -1;
}

static const struct step doze_steps[] = {
	{ .name = "check", .run = check },
	{ .name = "arrive", .run = arrival_wait },
	{ .name = "record", .run = steps_record },
	{ .name = "answer", .run = answer, .undo = run_again },
	{ .name = "freeze", .run = freeze },
	{ .name = "page-out", .run = doze_page_out },
	{ .name = "keep", .run = keep, .must = true },
};

const struct plan plan_doze = {
	.name = "doze",
	.steps = doze_steps,
	.count = ARRAY_SIZE(doze_steps),
	.commit = 6,
	.resume = resume_doze,
};

/* --- running again ------------------------------------------------------------------------ */

static int rouse(struct effect *ef, struct error *e)
{
	hold_own(ef->node, ef->session);
	int r = check_alive(ef, e);
	return r < 0 ? r : run_again(ef, e);
}

static int from_the_start(struct effect *ef, size_t at, struct error *e)
{
	(void)ef;
	(void)at;
	(void)e;
	return 0;
}

static const struct step rouse_steps[] = {
	{ .name = "thaw", .run = rouse, .must = true },
};

const struct plan plan_rouse = {
	.name = "rouse",
	.steps = rouse_steps,
	.count = ARRAY_SIZE(rouse_steps),
	.resume = from_the_start,
};
