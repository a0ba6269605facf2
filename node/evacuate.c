/* SPDX-License-Identifier: Apache-2.0 */
#include "node/evacuate.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/evacuate_private.h"
#include "node/hold.h"
#include "node/notices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOONEST_MS = 20, LATEST_MS = 60000 };
#define CANCELLED "the notice was cancelled: it runs on"

bool evacuate_was(const struct journal *j)
{
	return j->ended && strcmp(j->ended, EVACUATED) == 0;
}

bool evacuate_under_way(const struct node *node)
{
	return atomic_load(&node->evacuating);
}

int64_t evacuate_left_ms(const struct node *node)
{
	int64_t left = atomic_load(&node->evacuate_by) - clock_wall();
	return !evacuate_under_way(node) ? -1 : left > 0 ? left : 0;
}

const struct evacuation *evacuate_last(const struct node *node)
{
	const struct evacuate *ev = node->evacuate;
	return ev && ev->record.begun_at ? &ev->record : NULL;
}

static void look_in(struct evacuate *ev, int64_t ms)
{
	ms = ms < 0 ? 0 : ms < LATEST_MS ? ms : LATEST_MS;
	const struct timeval pause = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	if (event_add(ev->look, &pause) < 0)
		log_error("cannot set the evacuation's timer");
}

/* Decided is later: whoever has called is in the midst of ending this one. */
void evacuate_effect_ended(struct node *node, const struct effect *ef)
{
	struct evacuate *ev = node->evacuate;
	if (!ev || !ev->record.begun_at)
		return;
	int i = evacuate_find(ev, ef->session->id);
	if (i >= 0 && evacuate_is_open(ev))
		evacuate_note_end(ev, (size_t)i, ef);
	if (evacuate_is_open(ev) || ev->notice_count)
		look_in(ev, 0);
}

size_t evacuate_load(const struct node *node)
{
	const struct evacuate *ev = node->evacuate;
	size_t n = 0;
	for (size_t i = 0; ev && evacuate_is_open(ev) && i < ev->record.session_count; i++) {
		enum evacuee_state state = ev->record.sessions[i].state;
		n += state == EVACUEE_SAVING || state == EVACUEE_MOVING ||
		     (state == EVACUEE_WAITING && ev->notice_count);
	}
	return n;
}

/* --- its end ---------------------------------------------------------------------------- */

static size_t count(const struct evacuate *ev, enum evacuee_state state)
{
	size_t n = 0;
	for (size_t i = 0; i < ev->record.session_count; i++)
		n += ev->record.sessions[i].state == state;
	return n;
}

static bool is_saved(const struct evacuee *s)
{
	return s->state == EVACUEE_SAVED || s->state == EVACUEE_MOVED;
}

static wall_ms last_saved(const struct evacuate *ev)
{
	wall_ms last = 0;
	for (size_t i = 0; i < ev->record.session_count; i++) {
		const struct evacuee *s = &ev->record.sessions[i];
		if (is_saved(s) && s->ended_at > last)
			last = s->ended_at;
	}
	return last;
}

static void report(const struct evacuate *ev)
{
	char took[CLOCK_TEXT_SIZE], margin[CLOCK_TEXT_SIZE];
	const struct evacuation *rec = &ev->record;
	int64_t left = rec->margin_ms;
	clock_format_duration(rec->ended_at - rec->begun_at, took);
	clock_format_duration(left < 0 ? -left : left, margin);
	size_t moved = count(ev, EVACUEE_MOVED);
	log_warning("evacuation: %zu of %zu sessions saved (%zu while they ran) in %s, %s %s the "
		    "deadline",
		    count(ev, EVACUEE_SAVED) + moved, rec->session_count, moved, took, margin,
		    left < 0 ? "behind" : "before");
}

static bool all_saved(const struct evacuate *ev)
{
	for (size_t i = 0; i < ev->record.session_count; i++)
		if (!is_saved(&ev->record.sessions[i]))
			return false;
	return true;
}

static void finish(struct evacuate *ev)
{
	struct evacuation *rec = &ev->record;
	wall_ms last = last_saved(ev);
	rec->ended_at = clock_wall();
	rec->margin_ms = rec->notice.at - (last ? last : rec->ended_at);
	atomic_store(&ev->node->evacuating, false);
	report(ev);
	evacuate_save(ev, true);
	if (ev->notice_count && all_saved(ev))
		notices_settled(ev->node);
}

/* Nothing is left that could still be done. */
static bool is_done(const struct evacuate *ev)
{
	for (size_t i = 0; i < ev->record.session_count; i++) {
		enum evacuee_state state = ev->record.sessions[i].state;
		bool under_way = state == EVACUEE_SAVING || state == EVACUEE_MOVING;
		if (!ev->more[i].over && (ev->notice_count || under_way))
			return false;
	}
	return true;
}

/* --- the look --------------------------------------------------------------------------- */

static void call_off(struct evacuate *ev)
{
	for (size_t i = 0; i < ev->record.session_count; i++) {
		struct evacuee *to = &ev->record.sessions[i];
		struct session *s = session_find(ev->node, to->session);
		to->to_move = false;
		if (to->state == EVACUEE_SAVING || to->state == EVACUEE_MOVING || ev->more[i].over)
			continue;
		if (s)
			evacuate_let_go(ev, s, to);
		if (to->state == EVACUEE_FAILED)
			continue;
		to->state = EVACUEE_WAITING;
		evacuate_say(to, CANCELLED);
	}
}

static wall_ms soonest_retry(const struct evacuate *ev, wall_ms now, wall_ms wake)
{
	for (size_t i = 0; i < ev->record.session_count; i++) {
		const struct evacuee_more *m = &ev->more[i];
		if (!m->over && m->retry_at > now && (!wake || m->retry_at < wake))
			wake = m->retry_at;
	}
	return wake;
}

static void set_deadline(struct evacuate *ev)
{
	const struct node_notice *notice = NULL;
	struct error e = ERROR_INIT;
	wall_ms deadline = evacuate_deadline(ev, &notice);
	struct evacuation *rec = &ev->record;
	atomic_store(&ev->node->evacuate_by, deadline - ev->node->config->spot.margin_ms);
	if (!notice || (rec->notice.id && strcmp(rec->notice.id, notice->id) == 0 &&
			rec->notice.at == deadline))
		return;
	struct node_notice copy;
	if (evacuate_copy_notice(&copy, notice, &e) < 0) {
		log_error("the evacuation's notice cannot be recorded: %s", e.text);
		return;
	}
	wire_free(&wire_node_notice, &rec->notice);
	rec->notice = copy;
	rec->notice.at = deadline;
}

static void reopen_for_new(struct evacuate *ev)
{
	if (!ev->notice_count || evacuate_is_open(ev) || is_done(ev))
		return;
	ev->record.ended_at = 0;
	atomic_store(&ev->node->evacuating, true);
}

static void decide(struct evacuate *ev)
{
	wall_ms now = clock_wall(), wake = 0;
	if (!ev->record.begun_at)
		return;
	evacuate_settle(ev);
	if (ev->notice_count)
		evacuate_find_sessions(ev);
	reopen_for_new(ev);
	if (!evacuate_is_open(ev))
		return;
	set_deadline(ev);
	if (ev->notice_count)
		wake = evacuate_act(ev, now);
	else
		call_off(ev);
	if (is_done(ev)) {
		finish(ev);
		return;
	}
	evacuate_save(ev, false);
	wake = soonest_retry(ev, now, wake);
	if (wake)
		look_in(ev, wake - now > SOONEST_MS ? wake - now : SOONEST_MS);
}

static void look(struct evacuate *ev)
{
	decide(ev);
	evacuate_tell_users(ev);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
}

/* --- notices ------------------------------------------------------------------------------ */

/* Notes of the one before are this one's to take away. */
static void keep_noted(struct evacuate *ev, const struct evacuation *before)
{
	for (size_t i = 0; i < before->session_count; i++)
		if (before->sessions[i].noted &&
		    evacuate_add(ev, before->sessions[i].session, NULL) == 0)
			ev->record.sessions[ev->record.session_count - 1].noted = true;
}

static void begin(struct evacuate *ev)
{
	struct evacuation before = ev->record;
	evacuate_drop_more(ev);
	ev->record = (struct evacuation) { 0 };
	keep_noted(ev, &before);
	wire_free(&wire_evacuation, &before);
	ev->record.begun_at = clock_wall();
	atomic_store(&ev->node->evacuating, true);
}

static void say_when(const struct evacuate *ev)
{
	char left[CLOCK_TEXT_SIZE];
	wall_ms deadline = evacuate_deadline(ev, NULL), now = clock_wall();
	clock_format_duration(deadline > now ? deadline - now : 0, left);
	log_warning("evacuation: this machine goes away in %s", left);
}

/* An evacuation that is over was another notice's, or this one's, and then there may be somebody
 * new. */
void evacuate_noticed(struct node *node, const struct node_notice *notice)
{
	struct evacuate *ev = node->evacuate;
	struct error e = ERROR_INIT;
	bool first = ev->notice_count == 0;
	int r = evacuate_put_notice(ev, notice, &e);
	if (r < 0) {
		log_error("a notice cannot be followed: %s", e.text);
		return;
	}
	if (first && !evacuate_is_open(ev))
		begin(ev);
	if (r > 0)
		say_when(ev);
	look_in(ev, 0);
}

void evacuate_cancelled(struct node *node, const char *id)
{
	struct evacuate *ev = node->evacuate;
	if (!evacuate_drop_notice(ev, id))
		return;
	if (!ev->notice_count)
		log_warning("evacuation: called off");
	evacuate_save(ev, false);
	look_in(ev, 0);
}

int evacuate_refuses(struct node *node, const struct effect_request *request, struct error *e)
{
	const struct evacuate *ev = node->evacuate;
	char when[CLOCK_TEXT_SIZE];
	bool begins = request->kind == EFFECT_START || request->kind == EFFECT_RESTORE ||
		      request->kind == EFFECT_MIGRATE;
	if (!ev || !ev->notice_count || !begins || request->force)
		return 0;
	clock_format(evacuate_deadline(ev, NULL), when);
	return error_fault(e, FAULT_UNAVAILABLE, "this node goes away at %s", when);
}

/* --- its life ------------------------------------------------------------------------------- */

/* Whoever stood still for an evacuation that is no more. */
static void release_all(struct evacuate *ev)
{
	struct evacuee nobody = { 0 };
	for (struct session *s = ev->node->sessions; s; s = s->next)
		evacuate_let_go(ev, s, &nobody);
}

int evacuate_init(struct node *node, struct error *e)
{
	bool same_boot;
	struct error bad = ERROR_INIT;
	struct evacuate *ev = calloc(1, sizeof(*ev));
	if (!ev)
		return error_set(e, ENOMEM, "out of memory");
	node->evacuate = ev;
	ev->node = node;
	ev->look = event_new(node->base, -1, 0, on_look, ev);
	if (!ev->look)
		return error_set(e, ENOMEM, "cannot make a timer");
	if (evacuate_read(ev, &same_boot, &bad) < 0)
		log_error("what an evacuation has come to is not known: %s", bad.text);
	atomic_store(&node->evacuating, evacuate_is_open(ev));
	if (!evacuate_is_open(ev))
		release_all(ev);
	else
		log_info("taking up the evacuation again");
	look_in(ev, 0);
	return 0;
}

void evacuate_free(struct node *node)
{
	struct evacuate *ev = node->evacuate;
	if (!ev)
		return;
	node->evacuate = NULL;
	evacuate_deinit(ev);
	free(ev);
}
