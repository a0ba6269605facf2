/* SPDX-License-Identifier: Apache-2.0 */
#include "node/estimate.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/cgroup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SAMPLE_S = 10,
	BUSY_SHARE = 50, /* a fiftieth of a processor: more than an open page's polls */
	QUIET_MS = 60000 /* in use until so long after it was busy, or was begun */
};

struct estimate_item {
	char *id;
	int64_t last_at, last_bytes, before_at; /* struct evacuate_history */
	int64_t cpu_us, sampled_at, busy_at;    /* not kept */
};

struct estimates {
	struct evacuate_rates rates;
	struct estimate_item *items;
	size_t count;
	/* How many checkpoints are under way, and that over time. */
	int at_once;
	double area;
	mono_us area_at;
	struct event *sample;
};

#define AT(type, member) .offset = offsetof(struct type, member)

static const struct wire_field item_fields[] = {
	{ "id", WIRE_STRING, AT(estimate_item, id), .required = true },
	{ "last_at", WIRE_INT, AT(estimate_item, last_at) },
	{ "last_bytes", WIRE_INT, AT(estimate_item, last_bytes) },
	{ "before_at", WIRE_INT, AT(estimate_item, before_at) },
};
static const struct wire_struct wire_item = { "estimate", sizeof(struct estimate_item), item_fields,
					      ARRAY_SIZE(item_fields) };

static const struct wire_field estimates_fields[] = {
	{ "store_bytes_per_s", WIRE_INT, AT(estimates, rates.store_bytes_per_s) },
	{ "stream_bytes_per_s", WIRE_INT, AT(estimates, rates.stream_bytes_per_s) },
	{ "dump_stream_bytes_per_s", WIRE_INT, AT(estimates, rates.dump_stream_bytes_per_s) },
	{ "dump_bytes_per_s", WIRE_INT, AT(estimates, rates.dump_bytes_per_s) },
	{ "fixed_ms", WIRE_INT, AT(estimates, rates.fixed_ms) },
	{ "move_bytes_per_s", WIRE_INT, AT(estimates, rates.move_bytes_per_s) },
	{ "sessions", WIRE_LIST, AT(estimates, items), .nested = &wire_item,
	  .count_offset = offsetof(struct estimates, count) },
};
static const struct wire_struct wire_estimates = { "estimates", sizeof(struct estimates),
						   estimates_fields, ARRAY_SIZE(estimates_fields) };

/* --- the file ------------------------------------------------------------------------ */

static char *file_of(const struct node *node)
{
	return fs_join(node->config->node.run_dir, "estimates.json");
}

/* Nothing depends on it but how well is guessed. */
static void save(const struct node *node)
{
	struct error e = ERROR_INIT;
	cleanup_free char *path = file_of(node);
	cleanup_json json_t *json = wire_encode(&wire_estimates, node->estimates);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	if (path && text && fs_replace_soon(path, text, strlen(text), 0600, &e) < 0)
		log_warning("how fast checkpoints go is not kept: %s", e.text);
}

static void load(const struct node *node, struct estimates *to)
{
	struct estimates found;
	cleanup_free char *path = file_of(node);
	cleanup_buf struct buf text = BUF_INIT(16 << 20);
	if (!path || fs_read(path, &text, NULL) < 0 ||
	    wire_decode_text(&wire_estimates, buf_text(&text), text.len, &found, NULL) < 0)
		return;
	to->rates = found.rates;
	to->items = found.items;
	to->count = found.count;
}

/* --- sessions -------------------------------------------------------------------------- */

static struct estimate_item *find(struct estimates *all, const char *id)
{
	for (size_t i = 0; i < all->count; i++)
		if (strcmp(all->items[i].id, id) == 0)
			return &all->items[i];
	return NULL;
}

static struct estimate_item *find_or_add(struct estimates *all, const char *id)
{
	struct estimate_item *item = find(all, id);
	if (item)
		return item;
	struct estimate_item *more = realloc(all->items, (all->count + 1) * sizeof(*more));
	char *copy = more ? strdup(id) : NULL;
	if (more)
		all->items = more;
	if (!copy)
		return NULL;
	item = &all->items[all->count++];
	*item = (struct estimate_item) { .id = copy };
	return item;
}

static void drop(struct estimates *all, const char *id)
{
	struct estimate_item *item = find(all, id);
	if (!item)
		return;
	free(item->id);
	*item = all->items[--all->count];
}

static void sample(const struct node *node, struct estimate_item *item)
{
	struct cgroup cg;
	struct cgroup_usage usage;
	wall_ms now = clock_wall();
	if (cgroup_init(&cg, node->config->node.cgroup, item->id, NULL) < 0)
		return;
	if (cgroup_usage(&cg, &usage, NULL) == 0) {
		int64_t used = usage.cpu_us - item->cpu_us, gone = now - item->sampled_at;
		if (item->sampled_at && used * BUSY_SHARE > gone * 1000)
			item->busy_at = now;
		item->cpu_us = usage.cpu_us;
		item->sampled_at = now;
	}
	cgroup_deinit(&cg);
}

static void on_sample(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct node *node = arg;
	struct estimates *all = node->estimates;
	for (const struct session *s = node->sessions; s; s = s->next) {
		struct estimate_item *item = s->pidfd >= 0 ? find_or_add(all, s->id) : NULL;
		if (item)
			sample(node, item);
	}
}

void estimate_session(struct node *node, const struct session *s, struct evacuate_session *to)
{
	const struct estimate_item *item = find(node->estimates, s->id);
	struct evacuate_history h = { 0 };
	wall_ms now = clock_wall();
	if (item)
		h = (struct evacuate_history) { item->last_at, item->last_bytes, item->before_at };
	to->unsent_bytes = evacuate_unsent(&h, to->resident_bytes, now);
	to->snapshot_at = h.last_at;
	/* Without a note of it: it has one, and is no older than its processes. */
	pthread_mutex_lock(&node->lock);
	wall_ms started_at = s->journal.started_at;
	if (!h.last_at && s->journal.generation > 0)
		to->snapshot_at = started_at;
	pthread_mutex_unlock(&node->lock);
	/* Who has just begun or woken it is there. */
	to->in_use = now - started_at < QUIET_MS ||
		     (item && item->busy_at && now - item->busy_at < QUIET_MS);
}

/* --- effects ----------------------------------------------------------------------------- */

static bool is_checkpoint(const struct effect *ef)
{
	return ef->request.kind == EFFECT_HIBERNATE || ef->request.kind == EFFECT_SNAPSHOT;
}

static void count(struct estimates *all, int more)
{
	mono_us now = clock_mono();
	all->area += (double)all->at_once * (double)(now - all->area_at);
	all->area_at = now;
	all->at_once += more;
}

void estimate_begun(struct node *node, struct effect *ef)
{
	struct estimates *all = node->estimates;
	if (!all || !is_checkpoint(ef))
		return;
	count(all, 1);
	ef->beside.area = all->area;
	ef->beside.at = all->area_at;
}

static int64_t sum_ms(const struct effect_result *result, bool behind)
{
	int64_t us = 0;
	bool committed = false;
	for (size_t i = 0; i < result->timing_count; i++) {
		const struct step_timing *t = &result->timings[i];
		if (committed == behind && strcmp(t->name, "arrive") != 0)
			us += t->us;
		committed |= strcmp(t->name, "commit") == 0;
	}
	return us / 1000;
}

int64_t estimate_took_ms(const struct effect_result *result)
{
	return sum_ms(result, false);
}

int64_t estimate_behind_ms(const struct effect_result *result)
{
	return sum_ms(result, true);
}

/* Itself counted. */
static double mean_at_once(struct estimates *all, const struct effect *ef)
{
	count(all, 0);
	double gone = (double)(all->area_at - ef->beside.at);
	return ef->beside.at && gone > 0 ? (all->area - ef->beside.area) / gone : 1;
}

static void measure(struct estimates *all, const struct effect *ef)
{
	const struct effect_result *result = &ef->result;
	evacuate_measure(&all->rates, &(struct evacuate_sample) {
					      .resident_bytes = result->memory_bytes,
					      .sent_bytes = result->stored_bytes,
					      .took_ms = estimate_took_ms(result),
					      .at_once = mean_at_once(all, ef),
				      });
}

static void note(struct estimates *all, const struct effect *ef)
{
	struct estimate_item *item = find_or_add(all, ef->session->id);
	const struct effect_result *result = &ef->result;
	if (!item)
		return;
	bool woken = ef->request.kind == EFFECT_RESTORE;
	item->before_at = woken ? 0 : item->last_at;
	item->last_at = clock_wall() - (woken ? 0 : estimate_behind_ms(result));
	item->last_bytes = woken ? result->memory_bytes : result->stored_bytes;
}

void estimate_dropped(struct node *node, const struct effect *ef)
{
	if (node->estimates && ef->beside.at)
		count(node->estimates, -1);
}

/* Nothing about it is another by that. */
static bool is_kept(enum effect_kind kind)
{
	return kind == EFFECT_FENCE || kind == EFFECT_DOZE || kind == EFFECT_ROUSE;
}

void estimate_ended(struct node *node, const struct effect *ef)
{
	struct estimates *all = node->estimates;
	bool good = ef->result.state == EFFECT_DONE;
	if (!all)
		return;
	if (good && is_checkpoint(ef))
		measure(all, ef);
	if (is_checkpoint(ef) && ef->beside.at)
		count(all, -1);
	if (good && (ef->request.kind == EFFECT_SNAPSHOT || ef->request.kind == EFFECT_RESTORE))
		note(all, ef);
	else if (good && !is_kept(ef->request.kind))
		drop(all, ef->session->id); /* begun anew, or gone */
	if (good)
		save(node);
}

void estimate_moved(struct node *node, int64_t bytes, int64_t took_ms)
{
	if (!node->estimates)
		return;
	evacuate_measure_move(&node->estimates->rates, bytes, took_ms);
	save(node);
}

const struct evacuate_rates *estimate_rates(const struct node *node)
{
	return &node->estimates->rates;
}

int64_t estimate_upload(const struct node *node)
{
	if (!node->estimates)
		return 0;
	const struct evacuate_rates *r = &node->estimates->rates;
	return r->store_bytes_per_s ? r->store_bytes_per_s : r->stream_bytes_per_s;
}

/* --- its life ------------------------------------------------------------------------------ */

int estimate_init(struct node *node, struct error *e)
{
	static const struct timeval pause = { .tv_sec = SAMPLE_S };
	node->estimates = calloc(1, sizeof(*node->estimates));
	if (!node->estimates)
		return error_set(e, ENOMEM, "out of memory");
	load(node, node->estimates);
	node->estimates->sample = event_new(node->base, -1, EV_PERSIST, on_sample, node);
	if (!node->estimates->sample || event_add(node->estimates->sample, &pause) < 0)
		return error_set(e, ENOMEM, "cannot make a timer");
	return 0;
}

void estimate_free(struct node *node)
{
	struct estimates *all = node->estimates;
	if (!all)
		return;
	if (all->sample)
		event_free(all->sample);
	for (size_t i = 0; i < all->count; i++)
		free(all->items[i].id);
	free(all->items);
	free(all);
	node->estimates = NULL;
}
