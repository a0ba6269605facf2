/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/controller.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/activity.h"
#include "controller/api.h"
#include "controller/budgets.h"
#include "controller/capacity.h"
#include "controller/consolidate.h"
#include "controller/drain.h"
#include "controller/effects.h"
#include "controller/hub.h"
#include "controller/idle.h"
#include "controller/lease.h"
#include "controller/ledger.h"
#include "controller/migrate.h"
#include "controller/nodes.h"
#include "controller/nodes_api.h"
#include "controller/observe.h"
#include "controller/operations.h"
#include "controller/overlay_state.h"
#include "controller/protect.h"
#include "controller/remains.h"
#include "controller/sessions.h"
#include "controller/size.h"
#include "controller/store_tasks.h"
#include "controller/usage.h"
#include "controller/wake.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MOST 4096

/* --- later -------------------------------------------------------------------------------------
 */

struct later {
	void (*fn)(void *arg);
	void *arg;
	STAILQ_ENTRY(later) entry;
};

static void run_laters(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct later *later;
	(void)fd;
	(void)what;
	while ((later = STAILQ_FIRST(&c->laters))) {
		STAILQ_REMOVE_HEAD(&c->laters, entry);
		later->fn(later->arg);
		free(later);
	}
}

void controller_later(struct controller *c, void (*fn)(void *arg), void *arg)
{
	static const struct timeval now;
	struct later *later = malloc(sizeof(*later));
	if (!later)
		return; /* it is only freed later: leaking it is the lesser evil */
	*later = (struct later) { .fn = fn, .arg = arg };
	STAILQ_INSERT_TAIL(&c->laters, later, entry);
	event_add(c->later_event, &now);
}

/* --- secrets -----------------------------------------------------------------------------------
 */

int controller_read_secret(const char *path, char **secret, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(SECRET_MOST);
	int r = fs_read(path, &text, e);
	if (r < 0)
		return r;
	const char *start = buf_text(&text);
	size_t len = strlen(start);
	while (len && isspace((unsigned char)start[len - 1]))
		len--;
	while (len && isspace((unsigned char)*start)) {
		start++;
		len--;
	}
	if (!len)
		return error_set(e, EINVAL, "%s is empty", path);
	*secret = strndup(start, len);
	return *secret ? 0 : error_set(e, ENOMEM, "out of memory");
}

bool secret_equal(const char *a, const char *b)
{
	size_t len = strlen(a);
	size_t other = strlen(b);
	volatile unsigned char differ = len != other;
	/* The length of what is given decides the time, never where it goes wrong. */
	for (size_t i = 0; i < len; i++)
		differ = (unsigned char)(differ | (a[i] ^ b[other ? i % other : 0]));
	return !differ;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static int open_record(struct controller *c, struct error *e)
{
	int r = db_open(c->config->controller.database, &c->db, e);
	if (r == 0)
		r = nodes_new(c, e);
	if (r == 0)
		r = sessions_new(c, e);
	if (r == 0)
		r = operations_new(c, e);
	if (r == 0)
		r = remains_new(c, e);
	return r;
}

static int start_parts(struct controller *c, struct error *e)
{
	int r = http_client_new(c->base, &c->client, e);
	if (r == 0)
		r = store_tasks_new(c, e);
	if (r == 0)
		r = observe_new(c, e);
	if (r == 0)
		r = usage_new(c, e);
	if (r == 0)
		r = ledger_new(c, e);
	if (r == 0)
		r = budgets_new(c, e);
	if (r == 0)
		r = size_new(c, e);
	if (r == 0)
		r = idle_new(c, e);
	if (r == 0)
		r = protect_new(c, e);
	if (r == 0)
		r = capacity_new(c, e);
	if (r == 0)
		r = hub_new(c, e);
	if (r == 0)
		r = activity_new(c, e);
	if (r == 0)
		r = lease_new(c, e);
	if (r == 0)
		r = wake_new(c, e);
	if (r == 0)
		r = migrate_new(c, e);
	if (r == 0)
		r = drain_new(c, e);
	if (r == 0)
		r = consolidate_new(c, e);
	if (r == 0)
		r = overlay_new(c, e);
	if (r == 0)
		r = nodes_api_new(c, e);
	if (r == 0)
		r = api_new(c, e);
	/* Last: what is taken up may end at once, and everybody who is told of it must be there. */
	if (r == 0)
		r = effects_resume(c, e);
	if (r == 0)
		nodes_start(c);
	return r;
}

int controller_new(struct event_base *base, const char *config_path, struct controller **to,
		   struct error *e)
{
	struct controller *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	c->base = base;
	c->config_path = config_path;
	STAILQ_INIT(&c->laters);
	c->later_event = evtimer_new(base, run_laters, c);
	int r = c->later_event ? config_load(config_path, &c->config, e)
			       : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = open_record(c, e);
	if (r == 0)
		r = start_parts(c, e);
	if (r < 0) {
		controller_free(c);
		return r;
	}
	*to = c;
	return 0;
}

void *controller_free(struct controller *c)
{
	if (!c)
		return NULL;
	api_free(c);
	nodes_api_free(c);
	overlay_free(c);
	consolidate_free(c);
	drain_free(c);
	migrate_free(c);
	wake_free(c);
	lease_free(c);
	activity_free(c);
	hub_free(c);
	capacity_free(c);
	protect_free(c);
	idle_free(c);
	size_free(c);
	budgets_free(c);
	ledger_free(c);
	usage_free(c);
	observe_free(c);
	store_tasks_free(c);
	for (struct session *s = c->sessions ? sessions_first(c) : NULL; s; s = sessions_next(s))
		if (s->effect)
			effect_drop(s->effect);
	if (c->later_event)
		run_laters(-1, 0, c);
	remains_free(c);
	operations_free(c);
	sessions_free(c);
	http_client_free(c->client);
	nodes_free(c);
	if (c->later_event)
		event_free(c->later_event);
	db_close(c->db);
	config_free(c->config);
	free(c);
	return NULL;
}

static void warn_unchanged(const char *name, const char *before, const char *after)
{
	if (strcmp(before ? before : "", after ? after : "") != 0)
		log_warning("%s was changed: that takes effect when elsad is restarted", name);
}

void controller_reload(struct controller *c)
{
	struct config *fresh = NULL;
	struct error e = ERROR_INIT;
	if (config_load(c->config_path, &fresh, &e) < 0) {
		log_error("the config is not reloaded, the old one stays: %s", e.text);
		return;
	}
	warn_unchanged("controller.socket", c->config->controller.socket, fresh->controller.socket);
	warn_unchanged("controller.listen", c->config->controller.listen, fresh->controller.listen);
	warn_unchanged("nodes.listen", c->config->nodes.listen, fresh->nodes.listen);
	warn_unchanged("network.overlay", c->config->network.overlay, fresh->network.overlay);
	warn_unchanged("controller.database", c->config->controller.database,
		       fresh->controller.database);
	warn_unchanged("controller.activity_listen", c->config->controller.activity_listen,
		       fresh->controller.activity_listen);
	warn_unchanged("capacity.provider", c->config->capacity.provider, fresh->capacity.provider);
	struct config *old = c->config;
	c->config = fresh;
	if (idle_reload(c, &e) < 0) {
		log_error("the config is not reloaded, the old one stays: %s", e.text);
		c->config = old;
		config_free(fresh);
		return;
	}
	config_free(old);
	hub_reload(c);
	ledger_reload(c);
	budgets_reload(c);
	size_reload(c);
	capacity_reload(c);
	consolidate_soon(c);
	log_info("config reloaded");
}
