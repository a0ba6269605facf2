/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls, and what it is offered. */
#include "node/depart_talk.h"

#include <errno.h>
#include <string.h>

enum { HELLO_MS = 10000 };

int depart_say_why_not(const struct departing *d, struct error *e)
{
	if (d->dropped)
		return error_set(e, ENOENT, "departure %s is not granted any more", d->id);
	if (d->why.fault != FAULT_NONE && d->state != DEPARTURE_GIVEN) {
		*e = d->why;
		e->fault = FAULT_CONFLICT;
		return error_wrap(e, -fault_errno(FAULT_CONFLICT), "session %s stays here",
				  d->session);
	}
	return error_fault(e, FAULT_CONFLICT, "departure %s is %s", d->id,
			   departure_state_names[d->state]);
}

static int check_hello(const struct departing *d, const struct move_hello *hello, const char *peer,
		       struct error *e)
{
	if (hello->version != MOVE_VERSION)
		return error_fault(e, FAULT_REFUSED,
				   "it speaks version %lld of the move protocol, "
				   "this node %d",
				   (long long)hello->version, MOVE_VERSION);
	if (!d)
		return error_set(e, ENOENT, "departure %s is not known here", hello->departure);
	if (!*d->to) /* it is not known any more whose it was; but what came of it is */
		return depart_say_why_not(d, e);
	if (strcmp(d->to, peer) != 0)
		return error_set(e, EACCES, "departure %s is not node %s's", d->id, peer);
	if (strcmp(d->session, hello->session) != 0)
		return error_fault(e, FAULT_CONFLICT, "departure %s is of another session", d->id);
	return 0;
}

static int take_hello(struct depart_talk *t, const struct move_hello *hello, struct error *e)
{
	pthread_mutex_lock(&t->all->lock);
	struct departing *d = departing_find(t->all, hello->departure);
	int r = check_hello(d, hello, move_conn_peer(t->conn), e);
	if (r == 0) {
		departing_use(d);
		t->d = d;
		t->control = hello->control;
		d->controls += hello->control;
		d->heard_at = clock_mono();
	}
	pthread_mutex_unlock(&t->all->lock);
	return r;
}

/* Of one that is over nothing is known any more; who asks knows that, too. */
static int fill_offer(const struct depart_talk *t, struct move_offer *to, struct error *e)
{
	struct node *node = t->all->node;
	char *none[] = { NULL };
	struct session_spec unknown = session_spec_of(t->d->session);
	unknown.cmd = unknown.env = none;
	unknown.port = 1;
	pthread_mutex_lock(&node->lock);
	const struct session *s = session_find(node, t->d->session);
	const struct journal *j = s ? &s->journal : NULL;
	int r = journal_copy_spec(&to->spec, j && j->session.id ? &j->session : &unknown, e);
	if (j) {
		to->generation = j->generation;
		to->fence = j->fence;
		to->tried = j->tried;
		to->started_at = j->started_at;
	}
	pthread_mutex_unlock(&node->lock);
	if (r == 0)
		r = journal_set(&to->criu, node->criu.version, e);
	return r < 0 ? r : journal_set(&to->cpu, node->cpu ? node->cpu : "", e);
}

static int64_t resident(const struct depart_talk *t)
{
	struct cgroup cg;
	struct cgroup_usage usage = { 0 };
	if (cgroup_init(&cg, t->all->node->config->node.cgroup, t->d->session, NULL) < 0)
		return 0;
	if (cgroup_exists(&cg))
		cgroup_usage(&cg, &usage, NULL);
	cgroup_deinit(&cg);
	return usage.memory_bytes;
}

static int send_offer(const struct depart_talk *t, struct error *e)
{
	struct move_offer offer = { .version = MOVE_VERSION, .memory_bytes = resident(t) };
	int r = fill_offer(t, &offer, e);
	if (r == 0)
		r = move_send_text(t->conn, MOVE_OFFER, &wire_move_offer, &offer, e);
	else
		r = move_send_error(t->conn, e);
	wire_free(&wire_move_offer, &offer);
	return r;
}

int depart_greet(struct depart_talk *t, struct error *e)
{
	enum move_type type;
	struct move_hello hello = { 0 };
	int r = move_recv(t->conn, &type, &t->body, HELLO_MS, e);
	if (r == 0 && type != MOVE_HELLO)
		r = error_set(e, EBADMSG, "it does not say hello");
	if (r == 0)
		r = wire_decode_text(&wire_move_hello, buf_text(&t->body), t->body.len, &hello, e);
	if (r == 0)
		r = take_hello(t, &hello, e);
	wire_free(&wire_move_hello, &hello);
	if (r < 0) {
		move_send_error(t->conn, e);
		return r;
	}
	return t->control ? send_offer(t, e) : move_send(t->conn, MOVE_OK, NULL, 0, e);
}
