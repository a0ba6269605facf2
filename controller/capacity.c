/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/capacity.h"

#include "base/fs.h"
#include "base/log.h"
#include "controller/capacity_private.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "rules/rules.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { PASS_LEAST_MS = 100, PASS_MOST_MS = 5000, DECISIONS = 64 };

/* --- decisions ---------------------------------------------------------------------------------
 */

/* "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx" of random digits. */
static char *make_token(void)
{
	char a[ID_SIZE], b[ID_SIZE];
	id_new(a);
	id_new(b);
	return str_printf("%.8s-%.4s-4%.3s-8%.3s-%.12s", a, a + 8, a + 12, b, b + 4);
}

static int take_growth(struct capacity *cap, struct pool *pool, const struct capacity_decision *d,
		       wall_ms now)
{
	int64_t more = d->desired - pool->desired;
	char *token = make_token();
	if (!token)
		return -ENOMEM;
	free(pool->kept.token);
	pool->kept.token = token;
	pool->kept.asked = d->desired;
	pool->kept.more = more > 0 ? more : 1;
	pool->kept.asked_at = now;
	cap->grown_at = now;
	capacity_note(cap, "capacity-asked", pool->kept.name,
		      "pool %s is to have %lld machines (%s)", pool->kept.name,
		      (long long)d->desired, capacity_why_name(d->why));
	return 0;
}

static void take_giving(struct capacity *cap, struct machine *m, const struct capacity_decision *d,
			wall_ms now)
{
	struct error e = ERROR_INIT;
	struct controller *c = cap->controller;
	/* From here on nothing new goes there; and nothing is there. */
	if (m->node &&
	    node_set_state(c, m->node->name, NODE_DRAINING, "capacity", "node-draining", &e) < 0) {
		log_error("node %s cannot be drained: %s", m->node->name, e.text);
		return;
	}
	m->kept.giving = true;
	replace_text(&m->kept.why, capacity_why_name(d->why));
	if (d->why == CAPACITY_EMPTY)
		cap->shrunk_at = now;
	if (d->why == CAPACITY_NEVER_JOINED || d->why == CAPACITY_REFUSED)
		m->pool->kept.refused_at = now;
	capacity_note(cap, "capacity-giving-back", m->kept.id, "machine %s of pool %s%s%s (%s)",
		      m->kept.id, m->kept.pool, m->node ? ", node " : "",
		      m->node ? m->node->name : "", m->kept.why);
}

static void take_decision(struct capacity *cap, struct capacity_pass *pass,
			  const struct capacity_decision *d, wall_ms now)
{
	struct pool *pool = &cap->pools[d->pool];
	switch (d->kind) {
	case CAPACITY_GROW:
		if (take_growth(cap, pool, d, now) < 0)
			log_error("out of memory");
		break;
	case CAPACITY_GIVE_UP:
		pool->kept.lower_to = d->desired;
		capacity_note(cap, "capacity-given-up", pool->kept.name,
			      "pool %s is to have %lld machines (%s)", pool->kept.name,
			      (long long)d->desired, capacity_why_name(d->why));
		break;
	case CAPACITY_SHRINK:
		take_giving(cap, pass->of[d->machine], d, now);
		break;
	}
}

/* That sessions are without a machine is said when it begins. */
static void take_outlook(struct capacity *cap, struct capacity_pass *pass,
			 const struct capacity_outlook *outlook)
{
	struct want *w;
	for (size_t i = 0; i < pass->facts.wanted_count; i++)
		TAILQ_FOREACH(w, &cap->wants, entry)
	if (strcmp(w->id, pass->wanted[i].session) == 0) {
		w->coming = pass->wanted[i].coming;
		w->useless = pass->wanted[i].useless;
	}
	if (outlook->block == cap->block)
		return;
	cap->block = outlook->block;
	/* Why a pool is not known has been said for itself. */
	if (outlook->block != CAPACITY_CLEAR && outlook->block != CAPACITY_PACED &&
	    outlook->block != CAPACITY_NOT_KNOWN)
		capacity_note(cap, "capacity-none", NULL, "%s",
			      capacity_block_text(outlook->block));
}

/* It could not be recorded: as if it had not been decided. */
static void untake(struct capacity *cap, struct capacity_pass *pass,
		   const struct capacity_decision *d)
{
	struct pool *pool = &cap->pools[d->pool];
	if (d->kind == CAPACITY_GROW)
		replace_text(&pool->kept.token, NULL);
	else if (d->kind == CAPACITY_GIVE_UP)
		pool->kept.lower_to = -1;
	else
		pass->of[d->machine]->kept.giving = false;
}

/* Everything a pass decides is recorded in one transaction; what it asks for comes after. */
static int take_all(struct capacity *cap, struct capacity_pass *pass,
		    const struct capacity_decision *list, size_t count,
		    const struct capacity_outlook *outlook, wall_ms now)
{
	struct controller *c = cap->controller;
	struct error e = ERROR_INIT;
	int r = db_begin(c->db, &e);
	if (r == 0) {
		for (size_t i = 0; i < count; i++)
			take_decision(cap, pass, &list[i], now);
		take_outlook(cap, pass, outlook);
		r = count || cap->dirty ? capacity_save(cap, &e) : 0;
		if (r == 0)
			r = db_commit(c->db, &e);
		else
			db_rollback(c->db);
	}
	cap->dirty = cap->dirty && r < 0;
	if (r < 0)
		log_error("what is to be asked of the cloud cannot be recorded: %s", e.text);
	for (size_t i = 0; r < 0 && i < count; i++)
		untake(cap, pass, &list[i]);
	if (r < 0)
		nodes_reload(c, NULL); /* whether they drain */
	return r;
}

/* --- a pass ------------------------------------------------------------------------------------
 */

static void pass_again(struct capacity *cap, wall_ms next, wall_ms now)
{
	int64_t delay = next ? next - now : PASS_MOST_MS;
	for (size_t i = 0; i < cap->pool_count; i++)
		if (!cap->pools[i].task && cap->pools[i].look_at - now < delay)
			delay = cap->pools[i].look_at - now;
	delay = delay < PASS_LEAST_MS ? PASS_LEAST_MS : delay > PASS_MOST_MS ? PASS_MOST_MS : delay;
	const struct timeval time = retry_timeval(delay);
	event_add(cap->timer, &time);
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct capacity *cap = arg;
	struct capacity_pass pass = { 0 };
	struct capacity_decision list[DECISIONS];
	struct capacity_outlook outlook = { 0 };
	wall_ms now = clock_wall();
	const struct capacity_rules rules = rules_capacity(cap->controller->config);
	(void)fd;
	(void)what;
	wants_for_doomed(cap, now);
	wants_forget(cap, now);
	machines_match(cap, now);
	if (capacity_collect(cap, &pass, now) == 0) {
		size_t count = capacity_decide(&rules, &pass.facts, now, list, DECISIONS, &outlook);
		/* What is not on record is not asked for. */
		if (take_all(cap, &pass, list, count, &outlook, now) == 0)
			for (size_t i = 0; i < cap->pool_count; i++)
				capacity_ask(cap, &cap->pools[i], now);
	}
	wall_ms next = outlook.next_at;
	if (pass.next_at && (!next || pass.next_at < next))
		next = pass.next_at;
	capacity_pass_deinit(&pass);
	pass_again(cap, next, now);
}

void capacity_changed(struct controller *c)
{
	static const struct timeval now;
	if (c->capacity)
		event_add(c->capacity->timer, &now);
}

/* --- all ---------------------------------------------------------------------------------------
 */

static char **copy_words(char *const *words)
{
	size_t n = 0;
	while (words && words[n])
		n++;
	char **copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++)
		replace_text(&copy[i], words[i]);
	return copy;
}

static void make_link(struct capacity *cap, const struct config *config)
{
	struct cloud_link *link = &cap->link;
	replace_text(&link->provider, config->capacity.provider);
	replace_text(&link->region, config->capacity.region);
	replace_text(&link->endpoint, config->capacity.endpoint);
	link->command = copy_words(config->capacity.command);
}

static int make_pools(struct capacity *cap, const struct config *config, struct error *e)
{
	char **names = config->capacity.pools;
	int r = 0;
	if (!names || !names[0]) {
		r = error_set(e, EINVAL, "capacity.provider is \"%s\", but there are no pools",
			      config->capacity.provider);
		return error_remedy(e, r, "set capacity.pools");
	}
	while (names[cap->pool_count])
		cap->pool_count++;
	cap->pools = calloc(cap->pool_count, sizeof(*cap->pools));
	if (!cap->pools)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < cap->pool_count && r == 0; i++) {
		cap->pools[i].index = i;
		cap->pools[i].kept.lower_to = -1;
		replace_text(&cap->pools[i].kept.name, names[i]);
		r = cloud_capacity_check_pool(config->capacity.provider, names[i], e);
	}
	return r;
}

/* What was asked for long ago is not asked again: a machine may have come since and gone. */
static void forget_stale(struct capacity *cap)
{
	for (size_t i = 0; i < cap->pool_count; i++) {
		struct pool_kept *k = &cap->pools[i].kept;
		int64_t age = cap->started_at - k->asked_at;
		k->lower_to = -1;
		if (k->token &&
		    (age < 0 || age > cap->controller->config->capacity.start_timeout_ms))
			replace_text(&k->token, NULL);
	}
}

int capacity_new(struct controller *c, struct error *e)
{
	if (strcmp(c->config->capacity.provider, "none") == 0)
		return 0;
	struct capacity *cap = c->capacity = calloc(1, sizeof(*cap));
	if (!cap)
		return error_set(e, ENOMEM, "out of memory");
	cap->controller = c;
	cap->started_at = clock_wall();
	TAILQ_INIT(&cap->machines);
	TAILQ_INIT(&cap->wants);
	make_link(cap, c->config);
	int r = make_pools(cap, c->config, e);
	if (r == 0)
		r = capacity_load(cap, e);
	if (r == 0)
		r = worker_new(c->base, &cap->worker, e);
	if (r < 0)
		return r;
	forget_stale(cap);
	cap->link.stop = worker_stop(cap->worker);
	cap->timer = evtimer_new(c->base, run_pass, cap);
	if (!cap->timer)
		return error_set(e, ENOMEM, "out of memory");
	capacity_changed(c);
	return 0;
}

void capacity_reload(struct controller *c)
{
	capacity_changed(c);
}

static void free_pools(struct capacity *cap)
{
	for (size_t i = 0; i < cap->pool_count && cap->pools; i++) {
		struct pool *p = &cap->pools[i];
		free(p->kept.name);
		free(p->kept.token);
		free(p->kept.features);
		free(p->problem);
	}
	free(cap->pools);
}

static void free_link(struct cloud_link *link)
{
	cloud_capacity_free(link->cloud);
	free(link->provider);
	free(link->region);
	free(link->endpoint);
	for (char **w = link->command; w && *w; w++)
		free(*w);
	free(link->command);
}

void capacity_free(struct controller *c)
{
	struct capacity *cap = c->capacity;
	struct machine *m;
	struct want *w;
	if (!cap)
		return;
	/* A task that is under way is dropped: what it asked for is on record. */
	if (cap->worker)
		worker_end(cap->worker);
	pid_t child = __atomic_load_n(&cap->link.child, __ATOMIC_ACQUIRE);
	if (child > 0)
		kill(-child, SIGTERM);
	worker_free(cap->worker, capacity_drop_task);
	if (cap->timer)
		event_free(cap->timer);
	while ((m = TAILQ_FIRST(&cap->machines)))
		machine_drop(cap, m);
	while ((w = TAILQ_FIRST(&cap->wants)))
		want_drop(cap, w);
	free_pools(cap);
	free_link(&cap->link);
	free(cap);
	c->capacity = NULL;
}
