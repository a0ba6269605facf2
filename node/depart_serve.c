/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered to the node that fetches a session. */
#include "node/depart_talk.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/depart_memory.h"
#include "store/seal.h"

#include <errno.h>
#include <stdlib.h>

enum {
	IDLE_MS = 5000, /* between looks whether this program ends */
	SLICE_MS = 500, /* between looks whether the other node is there */
	EARLY_MS = 5,   /* ... at what CRIU is through with */
	NAMES_MOST = 1 << 20,
};

/* --- it stands still --------------------------------------------------------------- */

/* What it is waited for. */
enum point { SEEN, STILL, PACKED, WRITTEN };

static bool is_reached(const struct departing *d, enum point point)
{
	bool reached = d->ready || (d->packed && point <= PACKED) || (d->still && point <= STILL);
	return reached || (d->seen && point == SEEN);
}

static bool is_on_its_way(const struct departing *d, enum point point)
{
	return !d->dropped && ((d->state == DEPARTURE_GRANTED && d->asked) ||
			       (d->state == DEPARTURE_UNDER_WAY && !is_reached(d, point)));
}

/* Nothing is to come while it waits for us. */
static int look_at_peer(struct depart_talk *t, struct error *e)
{
	enum move_type type;
	struct error quiet = ERROR_INIT;
	int r = move_recv(t->conn, &type, &t->body, 1, &quiet);
	if (r == -ETIMEDOUT)
		return 0;
	if (e)
		*e = quiet;
	return r < 0 ? r : error_set(e, EBADMSG, "it asks before it was answered");
}

typedef int look_meanwhile(struct depart_talk *t, void *arg, struct error *e);

/* Every `ms`, and with every change, it is looked, should that be wanted, and at the peer. */
static int wait_looking(struct depart_talk *t, enum point point, int ms, look_meanwhile *meanwhile,
			void *arg, struct error *e)
{
	int r = 0;
	pthread_mutex_lock(&t->all->lock);
	while (r == 0 && is_on_its_way(t->d, point) && !t->all->closing) {
		departing_wait(t->all, ms);
		if (!is_on_its_way(t->d, point))
			break;
		pthread_mutex_unlock(&t->all->lock);
		r = meanwhile ? meanwhile(t, arg, e) : 0;
		if (r == 0)
			r = look_at_peer(t, e);
		pthread_mutex_lock(&t->all->lock);
	}
	pthread_mutex_unlock(&t->all->lock);
	return r;
}

static int wait_until(struct depart_talk *t, enum point point, struct error *e)
{
	return wait_looking(t, point, SLICE_MS, NULL, NULL, e);
}

/* 1: it is; 0: it will not be, which the other node was told; negative: that one is gone. */
static int answer_until(struct depart_talk *t, enum point point, struct error *e)
{
	struct error why = ERROR_INIT;
	int r = wait_until(t, point, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&t->all->lock);
	bool reached = is_reached(t->d, point);
	if (!reached)
		depart_say_why_not(t->d, &why);
	pthread_mutex_unlock(&t->all->lock);
	return reached ? 1 : move_send_error(t->conn, &why);
}

static int refuse(struct depart_talk *t)
{
	struct error why = ERROR_INIT;
	pthread_mutex_lock(&t->all->lock);
	depart_say_why_not(t->d, &why);
	pthread_mutex_unlock(&t->all->lock);
	return move_send_error(t->conn, &why);
}

/* What was given is not given again: who asks from the start has lost what it had, and elsad
 * is to say what comes of that. */
static bool is_given(struct depart_talk *t)
{
	pthread_mutex_lock(&t->all->lock);
	bool given = t->d->state == DEPARTURE_GIVEN || t->d->state == DEPARTURE_OVER;
	pthread_mutex_unlock(&t->all->lock);
	return given;
}

static int answer_freeze(struct depart_talk *t, struct error *e)
{
	t->ahead = depart_ahead_free(t->ahead);
	if (is_given(t))
		return refuse(t);
	pthread_mutex_lock(&t->all->lock);
	if (t->d->state == DEPARTURE_GRANTED && !t->d->dropped) {
		t->d->asked = true;
		t->d->ahead = false;
		error_clear(&t->d->why);
	}
	t->d->freeze = true;
	departing_wake(t->all);
	pthread_mutex_unlock(&t->all->lock);
	depart_look_soon(t->all);
	int r = answer_until(t, STILL, e);
	return r > 0 ? move_send(t->conn, MOVE_OK, NULL, 0, e) : r;
}

static int answer_written(struct depart_talk *t, struct error *e)
{
	int r = answer_until(t, WRITTEN, e);
	if (r <= 0)
		return r;
	pthread_mutex_lock(&t->all->lock);
	struct move_skeleton skeleton = t->d->skeleton;
	pthread_mutex_unlock(&t->all->lock);
	return move_send_text(t->conn, MOVE_SKELETON, &wire_move_skeleton, &skeleton, e);
}

static bool is_still(struct depart_talk *t)
{
	pthread_mutex_lock(&t->all->lock);
	bool still = t->d->state == DEPARTURE_GIVEN ||
		     (t->d->state == DEPARTURE_UNDER_WAY && t->d->ready);
	pthread_mutex_unlock(&t->all->lock);
	return still;
}

/* Its effect begins, and gets as far as it can while the session runs. */
static void ask_ahead(struct depart_talk *t)
{
	struct departing *d = t->d;
	pthread_mutex_lock(&t->all->lock);
	if (d->state == DEPARTURE_GRANTED && !d->dropped) {
		d->asked = d->ahead = true;
		d->freeze = false;
		error_clear(&d->why);
	}
	pthread_mutex_unlock(&t->all->lock);
	depart_look_soon(t->all);
}

/* All has been done that can be while it runs, which it does. */
static bool runs_on(struct depart_talk *t, bool *worth)
{
	pthread_mutex_lock(&t->all->lock);
	bool runs = t->d->state == DEPARTURE_UNDER_WAY && t->d->seen && !t->d->freeze;
	if (worth)
		*worth = t->d->layer;
	pthread_mutex_unlock(&t->all->lock);
	return runs;
}

/* Its layer alone, as far as that pays. */
static int answer_ahead(struct depart_talk *t, struct error *e)
{
	bool worth;
	struct error own = ERROR_INIT;
	if (is_still(t))
		return refuse(t);
	ask_ahead(t);
	int r = answer_until(t, SEEN, e);
	if (r <= 0)
		return r;
	if (!runs_on(t, &worth))
		return refuse(t);
	/* An archive of nothing is two blocks of zeros. */
	static const char nothing[1024];
	r = worth ? depart_files_ahead(t->all->node, t->d->session, t->conn, &own)
		  : move_send(t->conn, MOVE_DATA, nothing, sizeof(nothing), &own);
	return r < 0 ? move_send_error(t->conn, &own) : move_send(t->conn, MOVE_OK, NULL, 0, e);
}

static int answer_memory_ahead(struct depart_talk *t, struct error *e)
{
	struct error own = ERROR_INIT;
	if (!runs_on(t, NULL))
		return refuse(t);
	if (depart_ahead_next(t, &own) < 0) {
		/* That it stays here is only said of the departure itself. */
		if (own.fault == FAULT_CONFLICT || own.fault == FAULT_NOT_FOUND)
			own.fault = FAULT_INTERNAL;
		return move_send_error(t->conn, &own);
	}
	return move_send(t->conn, MOVE_DATA, t->answer.data, t->answer.len, e);
}

/* Behind what has been sent. */
static int end_files(struct depart_talk *t, int result, const struct error *why, struct error *e)
{
	return result < 0 ? move_send_error(t->conn, why) : move_send(t->conn, MOVE_OK, NULL, 0, e);
}

static int answer_layer(struct depart_talk *t, struct error *e)
{
	struct error own = ERROR_INIT;
	int r = answer_until(t, PACKED, e);
	if (r <= 0)
		return r;
	r = depart_files_layer(t->all->node, t->d->session, t->conn, &own);
	return end_files(t, r, &own, e);
}

static int send_early(struct depart_talk *t, void *so_far, struct error *e)
{
	return depart_files_early(t->all->node, t->d->session, t->conn, so_far, e);
}

static int answer_early(struct depart_talk *t, struct error *e)
{
	struct error own = ERROR_INIT;
	struct depart_early so_far = { .names = BUF_INIT(NAMES_MOST) };
	int r = answer_until(t, STILL, e);
	if (r <= 0)
		return r;
	r = wait_looking(t, WRITTEN, EARLY_MS, send_early, &so_far, &own);
	buf_deinit(&so_far.names);
	return end_files(t, r, &own, e);
}

static int answer_files(struct depart_talk *t, struct error *e)
{
	struct error own = ERROR_INIT;
	if (!is_still(t))
		return refuse(t);
	int r = depart_files_send(t->all->node, t->d->session, t->conn, &t->body, &own);
	return end_files(t, r, &own, e);
}

/* --- it is given ------------------------------------------------------------------- */

/* Says it to the worker, who may have been told otherwise before, and waits for what comes of it.
 */
static enum departure_state say_word(struct depart_talk *t, enum depart_word word)
{
	struct departing *d = t->d;
	pthread_mutex_lock(&t->all->lock);
	if (d->state == DEPARTURE_UNDER_WAY && d->word == DEPART_NO_WORD &&
	    (d->ready || word == DEPART_ABORT))
		d->word = word;
	departing_wake(t->all);
	while (d->state == DEPARTURE_UNDER_WAY && d->word != DEPART_NO_WORD && !d->dropped &&
	       !t->all->closing)
		departing_wait(t->all, SLICE_MS);
	enum departure_state state = d->state;
	pthread_mutex_unlock(&t->all->lock);
	return state;
}

static int answer_give(struct depart_talk *t, struct error *e)
{
	enum departure_state state = say_word(t, DEPART_GIVE);
	if (state == DEPARTURE_GIVEN || state == DEPARTURE_OVER)
		return move_send(t->conn, MOVE_OK, NULL, 0, e);
	/* Neither yes nor no: it asks again. */
	if (state == DEPARTURE_UNDER_WAY)
		return error_set(e, ECONNRESET, "elsa-node ends");
	return refuse(t);
}

static void withdraw(struct depart_talk *t)
{
	pthread_mutex_lock(&t->all->lock);
	if (t->d->state == DEPARTURE_GRANTED && !t->d->asked) {
		t->d->state = DEPARTURE_KEPT;
		t->d->kept_at = clock_wall();
		error_fault(&t->d->why, FAULT_UNAVAILABLE, "node %s gave up", t->d->to);
	}
	pthread_mutex_unlock(&t->all->lock);
}

static int answer_abort(struct depart_talk *t, struct error *e)
{
	withdraw(t);
	enum departure_state state = say_word(t, DEPART_ABORT);
	if (state == DEPARTURE_GIVEN || state == DEPARTURE_OVER)
		return refuse(t);
	return move_send(t->conn, MOVE_OK, NULL, 0, e);
}

static int answer_arrived(struct depart_talk *t, struct error *e)
{
	struct departing *d = t->d;
	pthread_mutex_lock(&t->all->lock);
	if (d->state == DEPARTURE_GIVEN) {
		d->ending = true;
		if (!d->arrived_at)
			d->arrived_at = clock_mono();
	}
	pthread_mutex_unlock(&t->all->lock);
	depart_look_soon(t->all);
	pthread_mutex_lock(&t->all->lock);
	while (d->state == DEPARTURE_GIVEN && d->ending && !d->dropped && !t->all->closing)
		departing_wait(t->all, SLICE_MS);
	enum departure_state state = d->state;
	pthread_mutex_unlock(&t->all->lock);
	if (state != DEPARTURE_OVER)
		return refuse(t);
	return move_send(t->conn, MOVE_OK, NULL, 0, e);
}

/* --- its memory ----------------------------------------------------------------------------------
 */

/* Memory that was there and is no more never will be again: not found is for that. */
static int refuse_pages(struct depart_talk *t)
{
	struct error why = ERROR_INIT;
	pthread_mutex_lock(&t->all->lock);
	enum departure_state state = t->d->state;
	depart_say_why_not(t->d, &why);
	pthread_mutex_unlock(&t->all->lock);
	if (state == DEPARTURE_OVER || state == DEPARTURE_KEPT)
		why.fault = FAULT_NOT_FOUND;
	return move_send_error(t->conn, &why);
}

/* Looked at before and behind: what was read while it was let run is nobody's memory. */
static int answer_by(struct depart_talk *t, int (*look)(struct depart_talk *t, struct error *e),
		     struct error *e)
{
	struct error own = ERROR_INIT;
	if (!is_still(t))
		return refuse_pages(t);
	int r = look(t, &own);
	if (!is_still(t))
		return refuse_pages(t);
	if (r < 0)
		return move_send_error(t->conn, &own);
	return move_send(t->conn, MOVE_DATA, t->answer.data, t->answer.len, e);
}

static int answer_pages(struct depart_talk *t, struct error *e)
{
	return answer_by(t, depart_pages_read, e);
}

static int answer_same(struct depart_talk *t, struct error *e)
{
	return answer_by(t, depart_pages_same, e);
}

/* --- one question after the other -------------------------------------------------- */

static const struct {
	int (*answer)(struct depart_talk *t, struct error *e);
	bool control; /* only by the one that speaks for the session */
} answers[] = {
	[MOVE_FREEZE] = { answer_freeze, true },    [MOVE_FILES] = { answer_files, false },
	[MOVE_GIVE] = { answer_give, true },        [MOVE_PAGES] = { answer_pages, false },
	[MOVE_ARRIVED] = { answer_arrived, false }, [MOVE_ABORT] = { answer_abort, true },
	[MOVE_WRITTEN] = { answer_written, true },  [MOVE_AHEAD] = { answer_memory_ahead, true },
	[MOVE_SAME] = { answer_same, false },       [MOVE_LAYER_AHEAD] = { answer_ahead, true },
	[MOVE_LAYER] = { answer_layer, true },      [MOVE_EARLY] = { answer_early, true },
};

static void note_heard(struct depart_talk *t)
{
	pthread_mutex_lock(&t->all->lock);
	t->d->heard_at = clock_mono();
	pthread_mutex_unlock(&t->all->lock);
}

static int answer(struct depart_talk *t, enum move_type type, struct error *e)
{
	bool known = type < ARRAY_SIZE(answers) && answers[type].answer;
	if (!known || (answers[type].control && !t->control))
		return error_set(e, EBADMSG, "it asks what is no question here (%d)", (int)type);
	note_heard(t);
	int r = answers[type].answer(t, e);
	note_heard(t);
	return r;
}

static bool is_closing(struct depart_talk *t)
{
	pthread_mutex_lock(&t->all->lock);
	bool closing = t->all->closing;
	pthread_mutex_unlock(&t->all->lock);
	return closing;
}

static int talk(struct depart_talk *t, struct error *e)
{
	enum move_type type;
	int r = depart_greet(t, e);
	while (r == 0 && !is_closing(t)) {
		r = move_recv(t->conn, &type, &t->body, IDLE_MS, e);
		if (r == -ETIMEDOUT)
			r = 0;
		else if (r == 0)
			r = answer(t, type, e);
	}
	return r;
}

static void leave(struct depart_talk *t)
{
	if (!t->d)
		return;
	pthread_mutex_lock(&t->all->lock);
	t->d->controls -= t->control;
	if (t->control && t->d->controls == 0)
		t->d->left_at = clock_mono();
	departing_leave(t->all, t->d);
	departing_wake(t->all);
	pthread_mutex_unlock(&t->all->lock);
}

void depart_serve(struct departures *all, struct move_conn *conn)
{
	struct error e = ERROR_INIT;
	struct depart_talk t = { .all = all,
				 .conn = conn,
				 .body = BUF_INIT(MOVE_BODY_MOST),
				 .answer = BUF_INIT(MOVE_BODY_MOST) };
	int r = talk(&t, &e);
	if (r < 0 && r != -ECONNRESET)
		log_warning("node %s fetches a session: %s", move_conn_peer(conn), e.text);
	leave(&t);
	depart_memory_free(t.memory);
	depart_ahead_free(t.ahead);
	sealer_free(t.sealer);
	free(t.pages);
	buf_deinit(&t.body);
	buf_deinit(&t.answer);
}
