/* SPDX-License-Identifier: Apache-2.0 */
#include "node/notices.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "node/evacuate.h"
#include "node/lease.h"
#include "node/notices_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DMI_DIR "/sys/class/dmi/id"
#define DRILL   "drill"
#define LOGIND  "logind PrepareForShutdown"
#define FILE_IS "file"
#define COMMAND "command"

/* What is announced days ahead is seen to when so much is left. */
enum { LEAD_MS = 10 * 60000 };

/* --- what a notice leads to ------------------------------------------------------------ */

/* Sessions must be out of here before it happens. */
static bool ends_sessions(const struct notices *n, const struct node_notice *notice)
{
	const char *rebalance = n->node->config->spot.rebalance;
	return notice->kind == NOTICE_EVICT || notice->kind == NOTICE_REBOOT ||
	       (notice->kind == NOTICE_REBALANCE && strcmp(rebalance, "evacuate") == 0);
}

static char **find_pressed(const struct notices *n, const char *id)
{
	char **p = n->pressed;
	while (p && *p && strcmp(*p, id) != 0)
		p++;
	return p && *p ? p : NULL;
}

static size_t count_pressed(const struct notices *n)
{
	size_t count = 0;
	while (n->pressed && n->pressed[count])
		count++;
	return count;
}

/* Forgetting one for want of memory means to tell it twice. */
static void remember_pressed(struct notices *n, const char *id)
{
	size_t count = count_pressed(n);
	char **more = realloc(n->pressed, (count + 2) * sizeof(*more));
	if (!more)
		return;
	n->pressed = more;
	more[count] = strdup(id);
	more[count + 1] = NULL;
}

static void forget_pressed(char **at)
{
	free(*at);
	for (; *at; at++)
		*at = at[1];
}

static void press(struct notices *n, const struct node_notice *notice)
{
	if (!find_pressed(n, notice->id))
		remember_pressed(n, notice->id);
	evacuate_noticed(n->node, notice);
}

static void release(struct notices *n, const struct node_notice *notice)
{
	char **at = find_pressed(n, notice->id);
	if (at)
		forget_pressed(at);
	/* Perhaps it was told of it before this program's restart. */
	evacuate_cancelled(n->node, notice->id);
}

/* Tells evacuation of what has come near, and comes back when something else will. */
static void look_ahead(struct notices *n)
{
	wall_ms now = clock_wall();
	int64_t soonest = INT64_MAX;
	event_del(n->lead);
	for (size_t i = 0; i < n->list.count; i++) {
		const struct node_notice *notice = &n->list.items[i];
		int64_t left = notice->at ? notice->at - now - LEAD_MS : 0;
		if (!ends_sessions(n, notice) || find_pressed(n, notice->id))
			continue;
		if (left <= 0)
			press(n, notice);
		else if (left < soonest)
			soonest = left;
	}
	if (soonest == INT64_MAX)
		return;
	/* The clock may be set meanwhile. */
	int64_t ms = soonest < 60000 ? soonest : 60000;
	const struct timeval pause = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(n->lead, &pause);
}

static void on_lead(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look_ahead(arg);
}

/* --- the list -------------------------------------------------------------------------- */

static void say(enum notice_change change, const struct node_notice *notice)
{
	static const char *const words[] = {
		[NOTICE_APPEARED] = "notice",
		[NOTICE_CHANGED] = "notice has changed",
		[NOTICE_CANCELLED] = "notice is cancelled",
	};
	char when[CLOCK_TEXT_SIZE] = "";
	char in[CLOCK_TEXT_SIZE] = "";
	if (notice->at) {
		clock_format(notice->at, when);
		clock_format_duration(notice->at - clock_wall(), in);
	}
	log_warning("%s: %s%s%s%s%s, says %s%s%s", words[change],
		    name_of(notice_kind_names, NOTICE_KIND_COUNT, notice->kind),
		    notice->at ? " in " : ", no time said", in, notice->at ? ", at " : "", when,
		    notice->source, notice->detail && notice->detail[0] ? ": " : "",
		    notice->detail ? notice->detail : "");
}

static void on_change(enum notice_change change, const struct node_notice *notice, void *arg)
{
	struct notices *n = arg;
	say(change, notice);
	lease_soon(n->node);
	if (change == NOTICE_CANCELLED || !ends_sessions(n, notice))
		release(n, notice);
	else if (change == NOTICE_CHANGED && find_pressed(n, notice->id))
		press(n, notice);
}

/* The order in which things are noted matters not: what is lost of the file is heard again. */
void notices_put(struct notices *n, const char *source, const struct notice_items *items)
{
	struct notice_list *list = &n->list;
	size_t count = list->count;
	bool any = items->count > 0;
	for (size_t i = 0; i < count; i++)
		any |= strcmp(list->items[i].source, source) == 0;
	if (!any)
		return;
	if (notice_list_put(list, source, items, clock_wall(), on_change, n) < 0)
		log_error("out of memory: a notice of %s may be missed", source);
	notices_save(n);
	look_ahead(n);
}

/* --- made by ourselves ------------------------------------------------------------------ */

static struct notice_items one_item(const char *key, enum notice_kind kind, int64_t in_ms,
				    const char *detail)
{
	struct notice_items items = { .count = 1 };
	struct notice_item *item = &items.items[0];
	item->kind = kind;
	item->at = clock_wall() + in_ms;
	snprintf(item->key, sizeof(item->key), "%s", key);
	snprintf(item->detail, sizeof(item->detail), "%s", detail);
	return items;
}

int notices_drill(struct node *node, enum notice_kind kind, int64_t in_ms, const char *who,
		  struct error *e)
{
	char detail[128];
	if (kind == NOTICE_NONE)
		return error_set(e, EINVAL, "kind: must be evict, rebalance, reboot or freeze");
	snprintf(detail, sizeof(detail), "asked for by %s", who);
	const struct notice_items items = one_item(DRILL, kind, in_ms, detail);
	notices_put(node->notices, DRILL, &items);
	return 0;
}

static bool has_source(const struct notices *n, const char *source)
{
	for (size_t i = 0; i < n->list.count; i++)
		if (strcmp(n->list.items[i].source, source) == 0)
			return true;
	return false;
}

int notices_drill_cancel(struct node *node, struct error *e)
{
	static const struct notice_items none;
	if (!has_source(node->notices, DRILL))
		return error_set(e, ENOENT, "there is no drill on this node");
	notices_put(node->notices, DRILL, &none);
	return 0;
}

static void on_shutdown(bool begins, int64_t delay_ms, void *arg)
{
	struct notices *n = arg;
	struct notice_items items = { 0 };
	if (begins) {
		items = one_item("shutdown", NOTICE_EVICT, delay_ms, "the machine shuts down");
		items.items[0].is_relative = true; /* heard anew after a restart: no later */
	}
	notices_put(n, LOGIND, &items);
}

/* --- for others -------------------------------------------------------------------------- */

int notices_get(const struct node *node, struct node_notice **items, size_t *count, struct error *e)
{
	if (notice_list_copy(&node->notices->list, items, count) < 0)
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

static int fill(char **to, const char *from, struct error *e)
{
	*to = from && *from ? strdup(from) : NULL;
	return *to || !from || !*from ? 0 : error_set(e, ENOMEM, "out of memory");
}

int notices_fill(const struct node *node, struct node_info *info, struct error *e)
{
	const struct notices *n = node->notices;
	const char *price = node->config->node.price;
	int r = fill(&info->cloud, notice_cloud_names[n->cloud], e);
	if (r == 0)
		r = fill(&info->instance, n->facts.instance, e);
	if (r == 0)
		r = fill(&info->instance_type, n->facts.type, e);
	if (r == 0)
		r = fill(&info->zone, n->facts.zone, e);
	if (r == 0)
		r = fill(&info->price, strcmp(price, "auto") == 0 ? n->facts.price : price, e);
	if (r == 0)
		r = notices_get(node, &info->notices, &info->notice_count, e);
	return r;
}

void notices_settled(struct node *node)
{
	struct notices *n = node->notices;
	if (!n)
		return;
	/* The hub's own host has more on it than sessions. */
	for (size_t i = 0; i < n->list.count && node->config->node.controller[0]; i++)
		if (n->list.items[i].kind == NOTICE_EVICT && find_pressed(n, n->list.items[i].id))
			notices_acknowledge(n, &n->list.items[i]);
	inhibit_let_go(n->inhibit);
}

size_t notices_load(const struct node *node)
{
	return node->notices ? notices_local_load(node->notices) : 0;
}

/* --- life ---------------------------------------------------------------------------------- */

static enum notice_cloud choose_cloud(const struct config *config)
{
	const char *asked = config->node.notices;
	if (strcmp(asked, "auto") == 0)
		return notice_cloud_of(DMI_DIR);
	int cloud = value_of(notice_cloud_names, NOTICE_CLOUD_COUNT, asked);
	return cloud < 0 ? NOTICE_CLOUD_NONE : (enum notice_cloud)cloud;
}

/* What is saved of sources that nobody asks any more would never be cancelled. */
static bool is_source_asked(const struct notices *n, const char *source)
{
	const char *cloud = notice_cloud_names[n->cloud];
	const char *local = n->node->config->node.notices;
	return strcmp(source, DRILL) == 0 || strcmp(source, LOGIND) == 0 ||
	       strcmp(source, local) == 0 ||
	       (cloud && strncmp(source, cloud, strlen(cloud)) == 0 &&
		source[strlen(cloud)] == ' ');
}

static int listen_to(struct notices *n, struct error *e)
{
	const char *asked = n->node->config->node.notices;
	int r = 0;
	if (strcmp(asked, FILE_IS) == 0 || strcmp(asked, COMMAND) == 0)
		r = notices_local_new(n, strcmp(asked, COMMAND) == 0, e);
	else if (n->cloud)
		r = notices_watch(n, e);
	else if (strcmp(asked, "auto") == 0)
		log_info("this machine is in no cloud that is known: nobody will say that it goes "
			 "away");
	if (r == 0)
		r = inhibit_new(n->node->base, on_shutdown, n, &n->inhibit, e);
	return r;
}

int notices_new(struct node *node, struct error *e)
{
	struct notices *n = calloc(1, sizeof(*n));
	if (!n)
		return error_set(e, ENOMEM, "out of memory");
	node->notices = n;
	n->node = node;
	n->cloud = choose_cloud(node->config);
	n->lead = evtimer_new(node->base, on_lead, n);
	if (!n->lead)
		return error_set(e, ENOMEM, "out of memory");
	notices_load_saved(n, is_source_asked);
	look_ahead(n);
	return listen_to(n, e);
}

void notices_free(struct node *node)
{
	struct notices *n = node->notices;
	if (!n)
		return;
	n->inhibit = inhibit_free(n->inhibit);
	notices_unwatch(n);
	notices_local_free(n);
	notice_list_deinit(&n->list);
	for (char **p = n->pressed; p && *p; p++)
		free(*p);
	free(n->pressed);
	if (n->lead)
		event_free(n->lead);
	free(n);
	node->notices = NULL;
}
