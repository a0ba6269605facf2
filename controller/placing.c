/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/placing.h"

#include "base/cleanup.h"
#include "controller/consolidate.h"
#include "controller/effects.h"
#include "controller/lease.h"
#include "controller/node.h"
#include "controller/nodes.h"
#include "controller/tried.h"
#include "policies/capacity.h"
#include "policies/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CPU_OVERCOMMIT 4.0 /* of a node's processors, before others come first */
#define EXPLAIN_MOST   900

int64_t placing_memory(const struct session *s)
{
	if (s->memory_limit > 0)
		return s->memory_limit;
	int64_t known = s->seen.rss_bytes > 0 ? s->seen.rss_bytes : s->checkpoint_memory;
	int64_t least = s->controller->config->nodes.memory_request_bytes;
	return known > least ? known : least;
}

struct placing placing_of(const struct session *s, bool restore)
{
	struct placing what = {
		.memory_bytes = placing_memory(s),
		.cpus = s->cpu_limit,
		.image = s->image,
	};
	if (!restore)
		return what;
	/* A checkpoint of which the store was not asked yet needs no more than its node has. */
	what.features = s->checkpoint_cpu ? s->checkpoint_cpu : s->node->info.features;
	return what;
}

struct placing placing_of_move(const struct session *s, const struct node *only, bool live)
{
	struct placing what = placing_of(s, !live);
	/* What runs may have found out what its processor can do, whatever its checkpoint needs. */
	if (live)
		what.features = s->node->info.features;
	what.leaves = s->node;
	what.only = only;
	what.live = live;
	return what;
}

static bool has_notice(const struct node *node, enum notice_kind kind)
{
	for (size_t i = 0; i < node->info.notice_count; i++)
		if (node->info.notices[i].kind == kind)
			return true;
	return false;
}

bool placing_is_doomed(const struct node *node)
{
	return node->info.evacuating || has_notice(node, NOTICE_EVICT) ||
	       has_notice(node, NOTICE_REBOOT);
}

bool placing_is_draining(const struct node *node)
{
	const char *rebalance = node->controller->config->spot.rebalance;
	return node->draining ||
	       (strcmp(rebalance, "evacuate") == 0 && has_notice(node, NOTICE_REBALANCE));
}

static bool is_avoided(const struct node *node)
{
	const char *rebalance = node->controller->config->spot.rebalance;
	if (consolidate_empties(node))
		return true;
	return strcmp(rebalance, "ignore") != 0 && has_notice(node, NOTICE_REBALANCE);
}

/* --- what is promised --------------------------------------------------------------------------
 */

/* `places` are of the nodes in their order. */
static void add_to(struct place_node *places, const struct node *node, const struct session *s,
		   bool arriving)
{
	int64_t memory = placing_memory(s);
	size_t i = 0;
	for (struct node *n = nodes_first(s->controller); n && n != node; n = nodes_next(n))
		i++;
	places[i].committed_bytes += memory;
	places[i].cpus_committed += s->cpu_limit;
	places[i].arriving_bytes += arriving ? memory : 0;
}

static bool is_arriving(const struct session *s)
{
	return s->state == SESSION_STARTING || s->state == SESSION_RESTORING;
}

static void add_sessions(struct controller *c, struct place_node *places)
{
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		if (!session_state_has_memory(s->state))
			continue;
		add_to(places, s->node, s, is_arriving(s));
		/* Until it is known where it stays it needs its room in both places. */
		if (s->state == SESSION_MIGRATING && s->effect)
			add_to(places, s->effect->node, s, true);
	}
}

/* What keeps a session that leaves its node from going to this one. */
static const char *unfit(const struct node *node, const struct placing *what)
{
	const struct node_info *info = &node->info;
	bool spot = info->price && strcmp(info->price, "spot") == 0;
	if (node == what->leaves)
		return "it is there already";
	if (what->spot && !spot)
		return what->spot;
	if (!what->live)
		return NULL;
	if (!info->move_port)
		return "takes no session that runs (node.move_listen)";
	const struct node_info *from = what->leaves ? &what->leaves->info : NULL;
	if (from && from->criu && info->criu && strcmp(from->criu, info->criu) != 0)
		return "has another version of CRIU";
	if (from && from->move_version && info->move_version &&
	    from->move_version != info->move_version)
		return "has another version of Elsa, which moves sessions otherwise";
	return NULL;
}

static struct place_node place_of(struct node *node, const struct session *s,
				  const struct placing *what, const struct tried *tried)
{
	const struct node_info *info = &node->info;
	return (struct place_node) {
		.name = node_name(node),
		.up = node_is_usable(node),
		.local = node->local,
		.draining = placing_is_draining(node),
		.doomed = placing_is_doomed(node),
		.avoid = is_avoided(node) || tried->gone,
		.memory_bytes = info->memory_bytes,
		.reserve_bytes = node->controller->config->nodes.reserve_bytes,
		.available_bytes =
			info->memory_available_bytes > 0 ? info->memory_available_bytes : -1,
		.cpus = (double)info->cpus,
		.features = info->features,
		.has_image = node_has_image(node, what->image) > 0,
		.price = info->price,
		.zone = info->zone,
		.last = s->node == node,
		.failed = tried->failed          ? tried->why
			  : what->not_on == node ? "tried last"
						 : NULL,
		.unfit = unfit(node, what),
	};
}

static int64_t left_on(const struct node *node, const struct place_node *promised)
{
	const struct config *config = node->controller->config;
	const struct node_info *info = &node->info;
	int64_t memory = info->memory_bytes - config->nodes.reserve_bytes;
	int64_t left = memory - promised->committed_bytes;
	int64_t measured = info->memory_available_bytes - promised->arriving_bytes;
	if (!node_is_usable(node) || placing_is_doomed(node) || placing_is_draining(node) ||
	    (node->local && !config->nodes.local))
		return 0;
	if (info->memory_available_bytes > 0 && measured < left)
		left = measured;
	return left > 0 ? left : 0;
}

int64_t *placing_left(struct controller *c)
{
	size_t count = 0, i = 0;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		count++;
	cleanup_free struct place_node *places = calloc(count, sizeof(*places));
	int64_t *left = calloc(count, sizeof(*left));
	if (!places || !left) {
		free(left);
		return NULL;
	}
	add_sessions(c, places);
	for (struct node *n = nodes_first(c); n; n = nodes_next(n), i++)
		left[i] = left_on(n, &places[i]);
	return left;
}

int64_t placing_free_bytes(struct controller *c)
{
	size_t i = 0;
	int64_t sum = 0;
	int64_t reserve = c->config->nodes.reserve_bytes;
	cleanup_free int64_t *left = placing_left(c);
	if (!left)
		return 0;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		sum += capacity_usable(left[i++], n->info.memory_bytes - reserve);
	return sum;
}

/* --- the choice --------------------------------------------------------------------------------
 */

struct choice {
	struct place_node *places;
	struct place_verdict *verdicts;
	struct node **nodes;
	struct tried *tried; /* of each */
	size_t count;
	bool asking; /* a node is being asked what it holds, or whether it has the image */
};

static void choice_deinit(struct choice *choice)
{
	free(choice->places);
	free(choice->verdicts);
	free(choice->nodes);
	free(choice->tried);
}

/* A node that has not answered yet, and may in a moment. One that does not renew its lease is lost
 * some time. That is waited for where the alternative is to give up a wake, or a move by
 * checkpoint, which may have been asked of an elsad before this one. */
static bool is_expected(const struct session *s, const struct placing *what, const struct node *n)
{
	bool wakes = s->row.tried || what->not_on || (what->leaves && !what->live);
	return wakes && !n->local && !n->up && node_in_reach(n) && what->not_on != n;
}

static void add_choice(const struct session *s, const struct placing *what, struct node *n,
		       struct choice *choice)
{
	struct tried *tried = &choice->tried[choice->count];
	*tried = tried_on(s->row.tried, node_name(n));
	bool asks =
		n->up && node_in_reach(n) && (!n->checked || node_has_image(n, what->image) < 0);
	bool matters = !what->only || n == what->only;
	if (matters && !tried->failed && (asks || is_expected(s, what, n)))
		choice->asking = true;
	choice->places[choice->count] = place_of(n, s, what, tried);
	choice->nodes[choice->count++] = n;
}

/* What was promised is known: the others are no matter. */
static void narrow(struct choice *choice, const struct node *only)
{
	for (size_t i = 0; only && i < choice->count; i++)
		if (choice->nodes[i] == only) {
			choice->places[0] = choice->places[i];
			choice->nodes[0] = choice->nodes[i];
			choice->count = 1;
		}
}

static int collect(struct session *s, const struct placing *what, struct choice *choice)
{
	struct controller *c = s->controller;
	size_t most = 1;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		most++;
	choice->places = calloc(most, sizeof(*choice->places));
	choice->verdicts = calloc(most, sizeof(*choice->verdicts));
	choice->nodes = calloc(most, sizeof(*choice->nodes));
	choice->tried = calloc(most, sizeof(*choice->tried));
	if (!choice->places || !choice->verdicts || !choice->nodes || !choice->tried)
		return -ENOMEM;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		add_choice(s, what, n, choice);
	add_sessions(c, choice->places);
	narrow(choice, what->only);
	return 0;
}

static int say_why_not(const struct session *s, const struct placing *what,
		       const struct place_request *request, const struct choice *choice,
		       struct error *e)
{
	char why[EXPLAIN_MOST];
	place_explain(request, choice->places, choice->verdicts, choice->count, why, sizeof(why));
	if (choice->asking)
		return error_set(e, EINPROGRESS, "the nodes are being asked what they have");
	int r = error_fault(e, FAULT_FULL, "no %smachine can take %s%s: %s",
			    what->leaves ? "other " : "", s->label, what->live ? " as it runs" : "",
			    why);
	error_remedy(e, r,
		     "hibernate what is not needed, or add a machine (elsa node token); see "
		     "'elsa node list'");
	return -EAGAIN;
}

static int choose(struct session *s, const struct placing *what, struct node **to, struct error *e)
{
	const struct config *config = s->controller->config;
	cleanup(choice_deinit) struct choice choice = { 0 };
	const struct place_request request = {
		.memory_bytes = what->memory_bytes > 0 ? what->memory_bytes : placing_memory(s),
		.cpus = what->cpus,
		.features = what->features,
		.price = strcmp(config->nodes.prefer, "none") != 0 ? config->nodes.prefer : NULL,
		/* Near to what it has read and written before. */
		.zone = s->row.started_at ? s->node->info.zone : NULL,
		.local_allowed = config->nodes.local,
		.cpu_overcommit = CPU_OVERCOMMIT,
	};
	if (collect(s, what, &choice) < 0)
		return error_set(e, ENOMEM, "out of memory");
	int i = place(&request, choice.places, choice.count, choice.verdicts);
	if (i < 0)
		return say_why_not(s, what, &request, &choice, e);
	*to = choice.nodes[i];
	return 0;
}

int placing_choose(struct session *s, const struct placing *what, struct node **to, struct error *e)
{
	struct controller *c = s->controller;
	*to = c->nodes->local;
	if (!nodes_next(c->nodes->local) && c->config->nodes.local && !what->leaves &&
	    !what->only && !what->spot)
		return 0;
	nodes_want_image(c, what->image);
	return choose(s, what, to, e);
}
