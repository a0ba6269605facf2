/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/capacity.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/capacity_private.h"
#include "controller/idle.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/placing.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/sessions.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	PASS_LEAST_MS = 100,
	PASS_MOST_MS = 5000,
	PATIENCE_MS = 2000,
	DOOMED_MS = 15000, /* a want of a session on a doomed node, unless said again */
	DECISIONS = 64
};

/* --- facts -------------------------------------------------------------------------------------
 */

struct pass {
	struct capacity_facts facts;
	struct capacity_wanted *wanted;
	struct capacity_pool *pools;
	struct capacity_machine *machines;
	struct machine **of; /* facts.machines[i] is this one */
	wall_ms next_at;     /* somebody's patience ends; 0: nobody's */
};

static void pass_deinit(struct pass *pass)
{
	free(pass->wanted);
	free(pass->pools);
	free(pass->machines);
	free(pass->of);
}

static struct capacity_machine machine_facts(const struct capacity *cap, const struct machine *m)
{
	const struct node *node = m->node;
	wall_ms since = m->kept.since;
	/* It cannot join while elsad is not there. */
	if (since < cap->started_at)
		since = cap->started_at;
	struct capacity_machine f = {
		.pool = m->pool->index,
		.since = since,
		.joined = node,
		.refused = m->refused,
		.going = m->kept.giving,
	};
	if (!node)
		return f;
	f.up = node->up && node_in_reach(node);
	f.doomed = placing_is_doomed(node);
	f.held = node->draining && !m->kept.giving;
	/* With those of which nobody knows what they are. */
	f.sessions = node_sessions(node) + node->strange_count;
	f.empty_since = m->empty_since;
	return f;
}

/* A joined node that did not say since elsad's start what machine it is. */
static bool any_stranger(struct capacity *cap)
{
	for (struct node *n = nodes_first(cap->controller); n; n = nodes_next(n)) {
		const struct machine *m;
		bool known = n->local || !n->joined || n->info.name;
		TAILQ_FOREACH(m, &cap->machines, entry)
		known = known || m->node == n;
		if (!known)
			return true;
	}
	return false;
}

static void collect_pools(struct capacity *cap, struct pass *pass, wall_ms now)
{
	for (size_t i = 0; i < cap->pool_count; i++) {
		const struct pool *p = &cap->pools[i];
		pass->pools[i] = (struct capacity_pool) {
			.desired = p->described ? p->desired : -1,
			.most = p->most,
			.asked_at = p->kept.asked_at,
			.refused_at = p->kept.refused_at,
			.busy = pool_is_busy(p),
			.keeps = now < p->shrink_next_at,
			.can_lower = p->can_lower,
			.memory_bytes = p->kept.memory_bytes,
			.features = p->kept.features,
		};
	}
	pass->facts.pool_count = cap->pool_count;
}

static void collect_machines(struct capacity *cap, struct pass *pass)
{
	struct machine *m;
	size_t n = 0;
	TAILQ_FOREACH(m, &cap->machines, entry)
	{
		if (!m->pool->described || !m->seen || m->state == CLOUD_ENDING)
			continue;
		pass->of[n] = m;
		pass->machines[n++] = machine_facts(cap, m);
	}
	pass->facts.machine_count = n;
}

/* A node that does not answer for a moment, or since elsad's start, may have room as soon as it
 * does: only one whose lease has lapsed is not waited for. */
static wall_ms patience_until(const struct capacity *cap, const struct want *w)
{
	struct controller *c = cap->controller;
	wall_ms started = cap->started_at + 2 * c->config->nodes.lease_ms;
	bool silent = false;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		silent = silent || (!n->local && n->joined && !n->up && node_in_reach(n));
	if (w->doomed)
		return 0;
	return silent && started > w->since + PATIENCE_MS ? started : w->since + PATIENCE_MS;
}

static void collect_wanted(struct capacity *cap, struct pass *pass, wall_ms now)
{
	const struct want *w;
	TAILQ_FOREACH(w, &cap->wants, entry)
	{
		wall_ms until = patience_until(cap, w);
		if (until > now && (!pass->next_at || until < pass->next_at))
			pass->next_at = until;
		pass->wanted[pass->facts.wanted_count++] =
			(struct capacity_wanted) { .session = w->id,
						   .memory_bytes = w->memory_bytes,
						   .features = w->features,
						   .since = w->since,
						   .in_use = w->in_use && until <= now };
	}
}

static int collect(struct capacity *cap, struct pass *pass, wall_ms now)
{
	const struct machine *m;
	const struct want *w;
	size_t machines = 1, wants = 1;
	TAILQ_FOREACH(m, &cap->machines, entry)
	machines++;
	TAILQ_FOREACH(w, &cap->wants, entry)
	wants++;
	pass->wanted = calloc(wants, sizeof(*pass->wanted));
	pass->pools = calloc(cap->pool_count, sizeof(*pass->pools));
	pass->machines = calloc(machines, sizeof(*pass->machines));
	pass->of = calloc(machines, sizeof(struct machine *));
	if (!pass->wanted || !pass->pools || !pass->machines || !pass->of)
		return -ENOMEM;
	pass->facts = (struct capacity_facts) { .wanted = pass->wanted,
						.pools = pass->pools,
						.machines = pass->machines,
						.grown_at = cap->grown_at,
						.shrunk_at = cap->shrunk_at,
						.strangers = any_stranger(cap) };
	collect_pools(cap, pass, now);
	collect_machines(cap, pass);
	collect_wanted(cap, pass, now);
	return 0;
}

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

static void take_decision(struct capacity *cap, struct pass *pass,
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
static void take_outlook(struct capacity *cap, struct pass *pass,
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
static void untake(struct capacity *cap, struct pass *pass, const struct capacity_decision *d)
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
static int take_all(struct capacity *cap, struct pass *pass, const struct capacity_decision *list,
		    size_t count, const struct capacity_outlook *outlook, wall_ms now)
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

static struct want *want_find(struct capacity *cap, const char *session)
{
	struct want *w;
	TAILQ_FOREACH(w, &cap->wants, entry)
	if (strcmp(w->id, session) == 0)
		return w;
	return NULL;
}

static void want_drop(struct capacity *cap, struct want *w)
{
	TAILQ_REMOVE(&cap->wants, w, entry);
	free(w->features);
	free(w);
}

/* Sessions in use on a node that ends, and that no other has room for: they are wanted elsewhere
 * before they are put away. */
static void want_for_doomed(struct capacity *cap, wall_ms now)
{
	struct controller *c = cap->controller;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		const struct placing what = placing_of(s, true);
		struct node *node = NULL;
		if (!session_has_processes(s) || !placing_is_doomed(s->node) || !idle_in_use(s))
			continue;
		if (placing_choose(s, &what, &node, NULL) != -EAGAIN)
			continue;
		const struct capacity_want want = { .session = s->row.id,
						    .memory_bytes = what.memory_bytes,
						    .features = what.features,
						    .in_use = true,
						    .until = now + DOOMED_MS };
		if (capacity_wanted(c, &want))
			want_find(cap, s->row.id)->doomed = true;
	}
}

static void forget_wants(struct capacity *cap, wall_ms now)
{
	struct want *w, *next;
	for (w = TAILQ_FIRST(&cap->wants); w; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (w->until > now && sessions_by_id(cap->controller, w->id))
			continue;
		want_drop(cap, w);
	}
}

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

static struct capacity_rules rules_of(const struct config *config)
{
	int64_t pace = config->capacity.start_timeout_ms / 60;
	int64_t calm = config->capacity.empty_for_ms / 20;
	return (struct capacity_rules) {
		.min = config->capacity.min,
		.max = config->capacity.max,
		.cooldown_ms = config->capacity.cooldown_ms,
		.start_timeout_ms = config->capacity.start_timeout_ms,
		.empty_for_ms = config->capacity.empty_for_ms,
		.settle_ms = 15000,
		.grow_interval_ms = pace > 5000 ? 5000 : pace,
		.shrink_interval_ms = calm > 30000 ? 30000 : calm,
	};
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct capacity *cap = arg;
	struct pass pass = { 0 };
	struct capacity_decision list[DECISIONS];
	struct capacity_outlook outlook = { 0 };
	wall_ms now = clock_wall();
	const struct capacity_rules rules = rules_of(cap->controller->config);
	(void)fd;
	(void)what;
	want_for_doomed(cap, now);
	forget_wants(cap, now);
	machines_match(cap, now);
	if (collect(cap, &pass, now) == 0) {
		size_t count = capacity_decide(&rules, &pass.facts, now, list, DECISIONS, &outlook);
		/* What is not on record is not asked for. */
		if (take_all(cap, &pass, list, count, &outlook, now) == 0)
			for (size_t i = 0; i < cap->pool_count; i++)
				capacity_ask(cap, &cap->pools[i], now);
	}
	wall_ms next = outlook.next_at;
	if (pass.next_at && (!next || pass.next_at < next))
		next = pass.next_at;
	pass_deinit(&pass);
	pass_again(cap, next, now);
}

void capacity_changed(struct controller *c)
{
	static const struct timeval now;
	if (c->capacity)
		event_add(c->capacity->timer, &now);
}

/* --- who wants one -----------------------------------------------------------------------------
 */

bool capacity_can_grow(const struct controller *c)
{
	return strcmp(c->config->capacity.provider, "none") != 0;
}

bool capacity_wanted(struct controller *c, const struct capacity_want *want)
{
	struct capacity *cap = c->capacity;
	if (!cap)
		return false;
	struct want *w = want_find(cap, want->session);
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return false;
		snprintf(w->id, sizeof(w->id), "%s", want->session);
		w->since = clock_wall();
		w->coming = -1;
		TAILQ_INSERT_TAIL(&cap->wants, w, entry);
		for (size_t i = 0; i < cap->pool_count; i++)
			cap->pools[i].look_at = 0;
		capacity_changed(c);
	}
	w->memory_bytes = want->memory_bytes;
	w->in_use = want->in_use;
	w->until = want->until;
	replace_text(&w->features, want->features);
	return true;
}

void capacity_unwanted(struct controller *c, const char *session)
{
	struct want *w = c->capacity ? want_find(c->capacity, session) : NULL;
	if (w)
		want_drop(c->capacity, w);
}

void capacity_explain(struct controller *c, const char *session, char *to, size_t size)
{
	struct capacity *cap = c->capacity;
	const struct want *w = cap ? want_find(cap, session) : NULL;
	char ago[CLOCK_TEXT_SIZE];
	to[0] = '\0';
	if (!w)
		return;
	if (w->coming >= 0) {
		const struct pool_kept *k = &cap->pools[w->coming].kept;
		snprintf(to, size, "a machine of pool %s comes, asked for %s ago", k->name,
			 clock_format_duration(clock_wall() - k->asked_at, ago));
	} else {
		snprintf(to, size, "%s",
			 w->useless ? capacity_block_text(CAPACITY_USELESS)
				    : capacity_block_text(cap->block));
	}
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
	while (names && names[cap->pool_count])
		cap->pool_count++;
	if (!cap->pool_count) {
		r = error_set(e, EINVAL, "capacity.provider is \"%s\", but there are no pools",
			      config->capacity.provider);
		return error_remedy(e, r, "set capacity.pools");
	}
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
