/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doze.h"

#include "base/log.h"
#include "node/asleep.h"
#include "node/doze_area.h"
#include "node/doze_kept.h"
#include "node/doze_out.h"
#include "node/doze_pressure.h"
#include "node/hold.h"
#include "node/lease.h"
#include "node/pool.h"
#include "node/unread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)

bool doze_is_dozing(struct node *node, const struct session *s)
{
	return hold_has(node, s, HOLD_DOZE);
}

/* --- what the node tells ------------------------------------------------------------------ */

void doze_init(struct node *node)
{
	struct error e = ERROR_INIT;
	if (doze_area_check(node->config, &e) == 0)
		return;
	node->doze_lacks = strdup(e.text);
	if (strcmp(node->config->doze.swap, "off") != 0)
		log_warning("sessions cannot doze here: %s %s", e.text, e.remedy);
}

void doze_tidy(struct node *node)
{
	bool any = false;
	for (const struct session *s = node->sessions; s; s = s->next)
		any |= doze_is_dozing(node, s);
	doze_area_tidy(node, any);
}

void doze_deinit(struct node *node)
{
	free(node->doze_lacks);
	node->doze_lacks = NULL;
}

int doze_fill(const struct node *node, struct node_info *info, struct error *e)
{
	struct doze_area area;
	struct pressure pressure;
	doze_area_look(node, &area);
	info->out_room_bytes = area.room_bytes;
	info->out_bytes = area.out_bytes;
	info->out_stored_bytes = area.stored_bytes;
	info->pressure_known = pressure_read(&pressure);
	if (info->pressure_known) {
		info->pressure_some = pressure.some;
		info->pressure_full = pressure.full;
	}
	return node->doze_lacks ? journal_set(&info->doze_lacks, node->doze_lacks, e)
				: journal_set(&info->doze, node->config->doze.swap, e);
}

/* --- what the first who comes wants of it ------------------------------------------------------
 */

/* Long enough for an answer; whoever works on touches more later, which is no news. */
static const struct timeval learn_after = { .tv_usec = 250 * 1000 };

struct lesson {
	struct node *node;
	char id[ID_SIZE];
	struct doze_kept *kept;
};

static void learn(void *arg)
{
	struct lesson *l = arg;
	struct cgroup cg;
	if (cgroup_init(&cg, l->node->config->node.cgroup, l->id, NULL) == 0) {
		l->kept = doze_kept_learn(&cg);
		cgroup_deinit(&cg);
	}
}

static void learned(void *arg)
{
	struct lesson *l = arg;
	struct session *s = session_find(l->node, l->id);
	if (s && l->kept) {
		pthread_mutex_lock(&l->node->lock);
		struct doze_kept *before = s->kept;
		s->kept = l->kept;
		pthread_mutex_unlock(&l->node->lock);
		l->kept = before;
	}
	doze_kept_free(l->kept);
	free(l);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct lesson *l = arg;
	if (pool_submit(l->node->pool, learn, learned, l, NULL) < 0)
		free(l);
}

static void learn_soon(struct node *node, const struct session *s)
{
	struct lesson *l = calloc(1, sizeof(*l));
	if (!l)
		return;
	l->node = node;
	memcpy(l->id, s->id, sizeof(l->id));
	if (event_base_once(node->base, -1, EV_TIMEOUT, on_time, l, &learn_after) < 0)
		free(l);
}

/* An effect has it while it pages out. */
static struct doze_kept *take_kept(struct effect *ef)
{
	pthread_mutex_lock(&ef->node->lock);
	struct doze_kept *kept = ef->session->kept;
	ef->session->kept = NULL;
	pthread_mutex_unlock(&ef->node->lock);
	return kept;
}

static void give_kept(struct effect *ef, struct doze_kept *kept)
{
	pthread_mutex_lock(&ef->node->lock);
	if (!ef->session->kept) {
		ef->session->kept = kept;
		kept = NULL;
	}
	pthread_mutex_unlock(&ef->node->lock);
	doze_kept_free(kept); /* there is a newer one */
}

/* --- somebody comes ------------------------------------------------------------------------ */

/* It runs before anybody is connected to it. */
void doze_touched(struct node *node, struct session *s, const char *what)
{
	struct error e = ERROR_INIT;
	if (!doze_is_dozing(node, s))
		return;
	if (hold_drop(node, s, HOLD_DOZE, &e) < 0)
		log_error("session %s should run again: %s", s->id, e.text);
	log_info("session %s dozes no more: %s", s->id, what);
	learn_soon(node, s);
	asleep_end(node, s);
	lease_news(node);
}

void doze_recover(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	const struct journal *j = &s->journal;
	bool unread = false;
	if (!doze_is_dozing(node, s) || !session_alive(node, s))
		return;
	int r = asleep_begin(node, s, ASLEEP_DOZES, &e);
	if (r == 0)
		r = unread_is_there((pid_t)j->pid, j->session.port, &unread, &e);
	if (r < 0)
		doze_touched(node, s, e.text);
	else if (unread)
		asleep_touched(node, s, "somebody came while no elsa-node ran");
}

void doze_is_over(struct effect *ef)
{
	if (ef->node->asleep && ef->request.kind != EFFECT_SLEEP &&
	    doze_is_dozing(ef->node, ef->session))
		asleep_drop_wait(ef, "It is not here any more.");
}

/* --- paging out ------------------------------------------------------------------------------ */

/* Somebody has come, or something waits for the end of this effect. */
static bool is_wanted(void *arg)
{
	struct effect *ef = arg;
	pthread_mutex_lock(&ef->node->lock);
	bool queued = ef->session->queued;
	pthread_mutex_unlock(&ef->node->lock);
	return queued || !doze_is_dozing(ef->node, ef->session);
}

/* What found no room would go to swap of the machine's own, if it has any. */
static bool is_to_stop(void *arg)
{
	const struct effect *ef = arg;
	struct doze_area area;
	if (is_wanted(arg))
		return true;
	doze_area_look(ef->node, &area);
	return area.room_bytes < DOZE_OUT_PIECE;
}

static int refuse_full(const struct effect *ef, const struct sandbox_usage *is, struct error *e)
{
	struct doze_area area;
	doze_area_look(ef->node, &area);
	int r = error_fault(e, FAULT_FULL,
			    "only %lld of session %s's %lld MiB could be paged out: there is room "
			    "for %lld MiB",
			    (long long)(is->out_bytes / MIB), ef->session->id,
			    (long long)((is->rss_bytes + is->out_bytes) / MIB),
			    (long long)(area.room_bytes / MIB));
	return error_remedy(e, r, "Let sessions that doze hibernate, or set doze.size higher.");
}

static int out(struct effect *ef, struct error *e)
{
	struct doze_kept *kept = take_kept(ef);
	int r = doze_out(&ef->sandbox, kept, is_to_stop, ef, e);
	give_kept(ef, kept);
	return r;
}

static int page_out(struct effect *ef, struct sandbox_usage *is, struct error *e)
{
	struct sandbox_usage was = { 0 };
	int r = sandbox_usage(&ef->sandbox, &was, e);
	if (r == 0)
		r = out(ef, e);
	if (r == 0)
		r = sandbox_usage(&ef->sandbox, is, e);
	/* Where it is not counted, what is gone is out. */
	if (r == 0 && is->out_bytes == 0 && was.rss_bytes > is->rss_bytes)
		is->out_bytes = was.rss_bytes - is->rss_bytes;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = is->rss_bytes + is->out_bytes;
	ef->result.out_bytes = is->out_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return r;
}

int doze_page_out(struct effect *ef, struct error *e)
{
	struct sandbox_usage is = { 0 };
	int r = page_out(ef, &is, e);
	if (r < 0)
		return r;
	if (is_wanted(ef))
		return error_set(e, EBUSY, "somebody came for session %s: it goes on",
				 ef->session->id);
	if (is.out_bytes < is.rss_bytes)
		return refuse_full(ef, &is, e);
	log_debug("session %s: %lld MiB of it are out, %lld MiB in memory", ef->session->id,
		  (long long)(is.out_bytes / MIB), (long long)(is.rss_bytes / MIB));
	return 0;
}

void doze_page_out_again(struct effect *ef)
{
	struct error e = ERROR_INIT;
	if (!doze_is_dozing(ef->node, ef->session))
		return;
	if (out(ef, &e) < 0)
		log_warning("session %s dozes on in memory: %s", ef->session->id, e.text);
}
