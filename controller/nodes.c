/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/nodes.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/drain.h"
#include "controller/give_way.h"
#include "controller/lease.h"
#include "controller/node.h"
#include "controller/overlay_state.h"
#include "controller/rows.h"
#include "controller/sessions.h"
#include "controller/wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_FACT "node.local" /* what the node of this host is called */

/* When there was one node only its facts had these names, and sessions' rows any name it ever had.
 */
#define OLD_NAME_FACT "node.name"
#define OLD_BOOT_FACT "node.boot_id"

static int boot_fact_set(struct db *db, const char *name, const char *boot_id, struct error *e)
{
	cleanup_free char *key = str_printf("node.boot.%s", name);
	return key ? db_fact_set(db, key, boot_id, e) : error_set(e, ENOMEM, "out of memory");
}

static struct node *node_make(struct controller *c, const char *name)
{
	struct node *node = calloc(1, sizeof(*node));
	cleanup_free char *key = name ? str_printf("node.boot.%s", name) : NULL;
	if (!node || (name && !key))
		abort(); /* a session must not be without its node */
	node->controller = c;
	node->timer = node_look_timer(node);
	if (!node->timer)
		abort();
	replace_text(&node->name, name);
	if (key)
		db_fact_get(c->db, key, &node->boot_id, NULL);
	TAILQ_INSERT_TAIL(&c->nodes->all, node, entry);
	return node;
}

struct node *nodes_first(struct controller *c)
{
	return TAILQ_FIRST(&c->nodes->all);
}

struct node *nodes_next(struct node *node)
{
	return TAILQ_NEXT(node, entry);
}

struct node *nodes_find(struct controller *c, const char *name)
{
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		if (node->name && strcmp(node->name, name) == 0)
			return node;
	return NULL;
}

struct node *nodes_of_row(struct controller *c, const char *name)
{
	struct node *node = name ? nodes_find(c, name) : c->nodes->local;
	return node ? node : node_make(c, name);
}

bool node_in_reach(const struct node *node)
{
	return !node->lost;
}

bool node_is_usable(const struct node *node)
{
	return node->up && node->checked && node_in_reach(node);
}

struct node *nodes_for_store(struct controller *c)
{
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		if (node->up && !node->lost)
			return node;
	return c->nodes->local;
}

struct node *nodes_for_store_next(struct controller *c, const struct node *last)
{
	struct node *first = NULL;
	bool behind = false;
	for (struct node *node = nodes_first(c); node; node = nodes_next(node)) {
		bool fits = node->up && !node->lost && node != last;
		if (fits && behind)
			return node;
		if (fits && !first)
			first = node;
		behind = behind || node == last;
	}
	return first ? first : nodes_for_store(c);
}

/* --- root file systems -------------------------------------------------------------------------
 */

static bool is_root(const char *image)
{
	return !image || !*image || strcmp(image, "/") == 0;
}

int node_has_image(const struct node *node, const char *image)
{
	const struct nodes *nodes = node->controller->nodes;
	size_t i = 0;
	if (is_root(image))
		return 1;
	for (char **p = node->info.images; p && *p; p++)
		if (strcmp(*p, image) == 0)
			return 1;
	while (i < nodes->image_count && strcmp(nodes->images[i], image) != 0)
		i++;
	return i < node->images_asked ? 0 : -1;
}

void nodes_want_image(struct controller *c, const char *image)
{
	struct nodes *nodes = c->nodes;
	if (is_root(image))
		return;
	for (size_t i = 0; i < nodes->image_count; i++)
		if (strcmp(nodes->images[i], image) == 0)
			return;
	char **images = realloc(nodes->images, (nodes->image_count + 2) * sizeof(*images));
	if (!images)
		return;
	nodes->images = images;
	images[nodes->image_count] = images[nodes->image_count + 1] = NULL;
	replace_text(&images[nodes->image_count++], image);
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		if (node->up)
			node_look_soon(node);
}

/* --- what is kept of one -----------------------------------------------------------------------
 */

/* The local node may be given another name: what is on record of it follows. */
static int rename_local(struct node *node, const char *name, struct error *e)
{
	struct controller *c = node->controller;
	int r = db_fact_set(c->db, LOCAL_FACT, name, e);
	if (r == 0 && node->boot_id)
		r = boot_fact_set(c->db, name, node->boot_id, e);
	if (r == 0 && node->name)
		r = boot_fact_set(c->db, node->name, NULL, e);
	for (struct session *s = sessions_first(c); r == 0 && s; s = sessions_next(s))
		r = session_rename_node(s, node, name, e);
	return r;
}

void node_take_name(struct node *node, const char *name)
{
	struct db *db = node->controller->db;
	struct error e = ERROR_INIT;
	if (!node->local || (node->name && strcmp(node->name, name) == 0))
		return; /* what a joined node is called its certificate says */
	int r = db_begin(db, &e);
	if (r == 0) {
		r = rename_local(node, name, &e);
		if (r == 0)
			r = db_commit(db, &e);
		else
			db_rollback(db);
	}
	if (r < 0) {
		log_error("the name of this host's node cannot be recorded: %s", e.text);
		return;
	}
	replace_text(&node->name, name);
	for (struct session *s = sessions_first(node->controller); s; s = sessions_next(s))
		session_renamed_node(s, node);
}

void node_take_boot(struct node *node, const char *boot_id)
{
	struct error e = ERROR_INIT;
	if (boot_fact_set(node->controller->db, node_name(node), boot_id, &e) < 0)
		log_error("the boot of %s cannot be recorded: %s", node_name(node), e.text);
	else
		replace_text(&node->boot_id, boot_id);
}

/* --- the record of one node only ---------------------------------------------------------------
 */

static int adopt_row(const struct db_session *row, void *arg)
{
	struct db *db = ((void **)arg)[0];
	struct db_session copy = session_copy_row(row);
	replace_text(&copy.node, ((void **)arg)[1]);
	int r = db_session_put(db, &copy, NULL);
	db_session_deinit(&copy);
	return r;
}

static int migrate_facts(struct db *db, char *name, const char *boot_id, struct error *e)
{
	void *adopt[] = { db, name };
	int r = db_fact_set(db, LOCAL_FACT, name, e);
	if (r == 0 && boot_id)
		r = boot_fact_set(db, name, boot_id, e);
	if (r == 0)
		r = db_fact_set(db, OLD_NAME_FACT, NULL, e);
	if (r == 0)
		r = db_fact_set(db, OLD_BOOT_FACT, NULL, e);
	return r < 0 ? r : db_session_each(db, adopt_row, adopt, e);
}

static int migrate(struct db *db, struct error *e)
{
	cleanup_free char *name = NULL;
	cleanup_free char *boot_id = NULL;
	if (db_fact_get(db, OLD_NAME_FACT, &name, NULL) < 0)
		return 0;
	db_fact_get(db, OLD_BOOT_FACT, &boot_id, NULL);
	int r = db_begin(db, e);
	if (r < 0)
		return r;
	r = migrate_facts(db, name, boot_id, e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return error_wrap(e, r, "making the node's record one of several");
}

/* --- all ---------------------------------------------------------------------------------------
 */

static int take_row(const struct db_node *row, void *arg)
{
	struct node *node = nodes_of_row(arg, row->name);
	bool is_new = !node->was_joined;
	node->joined = true;
	node->draining = strcmp(row->state, "draining") == 0;
	replace_text(&node->overlay, row->overlay);
	replace_text(&node->listen, row->listen);
	if (is_new)
		lease_assume(node);
	return 0;
}

int nodes_reload(struct controller *c, struct error *e)
{
	struct node *node;
	for (node = nodes_first(c); node; node = nodes_next(node)) {
		node->was_joined = node->joined;
		node->joined = false;
	}
	int r = db_node_each(c->db, take_row, c, e);
	/* One that was removed can be asked nothing; what runs there does so until its lease
	 * lapses.
	 */
	for (node = nodes_first(c); node; node = nodes_next(node)) {
		if (r < 0)
			node->joined = node->was_joined;
		if (node->was_joined && !node->joined)
			node->up = false;
	}
	overlay_changed(c);
	drain_soon(c);
	wake_soon(c);
	return r;
}

int nodes_new(struct controller *c, struct error *e)
{
	cleanup_free char *name = NULL;
	c->nodes = calloc(1, sizeof(*c->nodes));
	if (!c->nodes)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->nodes->all);
	int r = migrate(c->db, e);
	if (r < 0)
		return r;
	db_fact_get(c->db, LOCAL_FACT, &name, NULL);
	c->nodes->local = node_make(c, name);
	c->nodes->local->local = true;
	return nodes_reload(c, e);
}

void nodes_start(struct controller *c)
{
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		node_look_soon(node);
}

static void node_free(struct node *node)
{
	event_free(node->timer);
	give_way_free(node);
	free(node->name);
	free(node->overlay);
	free(node->listen);
	free(node->boot_id);
	free(node->new_boot_id);
	free(node->lease_boot);
	free(node->strange);
	wire_free(&wire_node_info, &node->info);
	free(node);
}

void nodes_free(struct controller *c)
{
	struct node *node;
	if (!c->nodes)
		return;
	while ((node = TAILQ_FIRST(&c->nodes->all))) {
		TAILQ_REMOVE(&c->nodes->all, node, entry);
		node_free(node);
	}
	for (size_t i = 0; i < c->nodes->image_count; i++)
		free(c->nodes->images[i]);
	free(c->nodes->images);
	free(c->nodes);
	c->nodes = NULL;
}
