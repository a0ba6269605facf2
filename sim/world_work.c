/* SPDX-License-Identifier: Apache-2.0 */
/* What a session works at: one thing after the other, as a kernel does, and only while it runs. */
#include "sim/world_private.h"

static int64_t left(const struct world *w, const struct sim_session *s)
{
	if (!s->runs)
		return s->left_ms;
	return s->busy_until > w->now ? s->busy_until - w->now : 0;
}

int64_t work_done(const struct world *w, const struct sim_session *s)
{
	return s->assigned_ms - left(w, s);
}

bool work_busy(const struct world *w, const struct sim_session *s)
{
	return left(w, s) > 0;
}

void work_add(struct world *w, struct sim_session *s, int64_t ms)
{
	w->result.work.asked_ms += ms;
	s->assigned_ms += ms;
	if (s->runs)
		s->busy_until = w->now + left(w, s) + ms;
	else
		s->left_ms += ms;
}

void work_pause(struct world *w, struct sim_session *s)
{
	if (w->sizes && s->runs)
		size_seen(w, s);
	s->left_ms = left(w, s);
	s->runs = false;
	/* From here on it says when the session was at work last. */
	if (s->busy_until > w->now)
		s->busy_until = w->now;
}

void work_resume(struct world *w, struct sim_session *s)
{
	if (s->runs)
		return;
	s->runs = true;
	/* When it has nothing to do, its last end stays the last sign of it. */
	if (s->left_ms)
		s->busy_until = w->now + s->left_ms;
	s->left_ms = 0;
	if (w->sizes)
		size_awake(w, s);
}

/* What is not done stays to be done: its kernel runs in the checkpoint, too. */
void work_roll_back(struct world *w, struct sim_session *s)
{
	int64_t lost = work_done(w, s) - s->saved_ms;
	w->result.work.lost_ms += lost;
	s->assigned_ms -= lost;
}

static void forget(struct world *w, struct sim_session *s)
{
	work_pause(w, s);
	s->assigned_ms = s->left_ms = s->saved_ms = s->frozen_ms = 0;
}

void work_lose(struct world *w, struct sim_session *s)
{
	w->result.work.lost_ms += s->assigned_ms;
	forget(w, s);
}

void work_end(struct world *w, struct sim_session *s)
{
	int64_t done = work_done(w, s);
	w->result.work.kept_ms += done;
	w->result.work.cut_ms += s->assigned_ms - done;
	forget(w, s);
}
