/* SPDX-License-Identifier: Apache-2.0 */
#include "node/recover.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/doze.h"
#include "node/effect.h"
#include "node/hold.h"
#include "node/lease.h"

#include <errno.h>
#include <string.h>

static int load(const char *id, void *arg)
{
	struct node *node = arg;
	struct error e = ERROR_INIT;
	struct journal j;
	if (journal_load(node, id, &j, &e) < 0) {
		/* Its processes, if there are any, go on; elsad can stop the session. */
		log_error("session %s is left alone: %s", id, e.text);
		return 0;
	}
	struct session *s = session_add(node, id);
	if (!s) {
		journal_deinit(&j);
		return -ENOMEM;
	}
	s->journal = j;
	/* Its end was all but written down: what is left of it is a stray's. */
	if (session_is_over(s)) {
		hold_forget(node, s);
		session_remove(node, s);
		return journal_remove(node, id, &e) < 0 ? -EIO : 0;
	}
	return 0;
}

static void recover_session(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	int r = 0;
	hold_recover(node, s);
	asleep_recover(node, s);
	doze_recover(node, s);
	if (s->journal.effect)
		r = effect_recover(node, s, &e);
	else if (s->journal.pid)
		r = session_watch(node, s, effect_session_ended, node, &e);
	if (r < 0)
		log_error("session %s: %s", s->id, e.text);
	arrival_take_up(node, s);
}

/* --- sandboxes of no session ---------------------------------------------------- */

struct stray {
	struct stray *next;
	char id[ID_SIZE];
};

struct strays {
	struct node *node;
	struct stray *first;
};

/* Only noted here: what is walked over must not be changed meanwhile. */
static int note_stray(const char *id, void *arg)
{
	struct strays *all = arg;
	if (session_find(all->node, id))
		return 0;
	struct stray *one = calloc(1, sizeof(*one));
	if (!one)
		return -ENOMEM;
	snprintf(one->id, sizeof(one->id), "%s", id);
	one->next = all->first;
	all->first = one;
	return 0;
}

/* What an effect had under way when the machine went down. */
static int remove_work(const struct node *node, const char *id, struct error *e)
{
	static const char *const names[] = { "criu", "images", "pages", "asleep" };
	cleanup_free char *near = str_printf("%s/images/%s", node->config->node.run_dir, id);
	int r = near ? fs_remove_tree(near, e) : error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		cleanup_free char *path = node_path(node, names[i], id, "");
		r = path ? fs_remove_tree(path, e) : error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

static void clear_stray(struct node *node, char *id)
{
	struct session_spec spec = session_spec_of(id);
	struct sandbox sb;
	struct sandbox_usage usage = { 0 };
	struct error e = ERROR_INIT;
	int r = sandbox_init(&sb, node->config, &spec, &e);
	if (r == 0 && sandbox_usage(&sb, &usage, NULL) == 0 && usage.processes > 0) {
		log_error("session %s has processes, but it is not known what they are: left alone",
			  id);
	} else if (r == 0) {
		log_info("removing what is left of session %s", id);
		r = sandbox_teardown(&sb, true, &e);
		if (r == 0)
			r = remove_work(node, id, &e);
	}
	if (r < 0)
		log_warning("session %s: %s", id, e.text);
	sandbox_deinit(&sb);
}

static int clear_strays(struct node *node, struct error *e)
{
	struct strays all = { .node = node };
	int r = sandbox_each(node->config, note_stray, &all, e);
	while (all.first) {
		struct stray *one = all.first;
		all.first = one->next;
		clear_stray(node, one->id);
		free(one);
	}
	return r;
}

/* --- all of it ------------------------------------------------------------------ */

int recover_all(struct node *node, struct error *e)
{
	int r = journal_each(node, load, node, e);
	if (r < 0)
		return r;
	lease_take_over(node);
	r = clear_strays(node, e);
	if (r < 0)
		return r;
	for (struct session *s = node->sessions, *next; s; s = next) {
		next = s->next;
		recover_session(node, s);
	}
	return 0;
}

void recover_undecided(struct node *node)
{
	for (struct session *s = node->sessions; s; s = s->next) {
		struct error e = ERROR_INIT;
		if (s->journal.effect && !s->effect && effect_recover(node, s, &e) < 0)
			log_error("session %s: %s", s->id, e.text);
		arrival_take_up(node, s);
		if (!s->effect)
			asleep_recover(node, s);
	}
}
