/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes from the node that a session has left (docs/migration.md). */
#define _GNU_SOURCE
#include "node/arrival_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/move_client.h"
#include "node/move_source.h"
#include "node/working_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGEMAP "pagemap-"

enum { IMAGE_MOST = 256 << 20 };

/* RUN_DIR/moved/ID: the images that say what is missing, until nothing is. */
static char *images_dir(const struct node *node, const char *id)
{
	return str_printf("%s/moved/%s", node->config->node.run_dir, id);
}

/* --- the source ------------------------------------------------------------------------ */

struct who {
	struct node *node;
	char id[ID_SIZE];
	char *departure;
	bool said;
};

static void free_who(void *arg)
{
	struct who *w = arg;
	if (w)
		free(w->departure);
	free(w);
}

static struct who *make_who(struct node *node, const char *id, const char *departure)
{
	struct who *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->node = node;
	snprintf(w->id, sizeof(w->id), "%s", id);
	w->departure = strdup(departure);
	if (w->departure)
		return w;
	free_who(w);
	return NULL;
}

/* Under the lock. What it was said of: the same journey of the same session. */
static struct session *find_moved(const struct who *w)
{
	struct session *s = session_find(w->node, w->id);
	const char *id = s ? s->journal.moved_id : NULL;
	return id && strcmp(id, w->departure) == 0 ? s : NULL;
}

static struct move_tls *tls_of(void *arg, struct error *e)
{
	const struct who *w = arg;
	struct move_tls *tls = NULL;
	move_client_tls(w->node, &tls, e);
	return tls;
}

/* Under the lock. That node is told to end it as soon as nothing is missing here, while some thread
 * may still ask it for what another one has brought; and until the service has been taken up again
 * it is not known whether anything is. */
static bool is_lost(const struct session *s)
{
	struct pages_status st;
	if (!s->source_empty || !s->arrival || s->journal.arriving != ARRIVING_MOVED)
		return false;
	pages_status(s->arrival->pages, &st);
	return st.missing > 0;
}

/* It can never go on where it misses something, and would stand there for ever. Not in the midst of
 * an effect, nor of its end. */
static void end_lost(void *arg)
{
	struct who *w = arg;
	pthread_mutex_lock(&w->node->lock);
	struct session *s = find_moved(w);
	bool ends = s && !s->effect && is_lost(s);
	if (ends) {
		s->memory_lost = true;
		log_error("session %s: node %s has nothing of its memory any more, and some of it "
			  "is not here: it cannot go on",
			  s->id, s->journal.moved_from);
	}
	pthread_mutex_unlock(&w->node->lock);
	if (ends)
		effect_session_ended(s, w->node);
	free_who(w);
}

void arrival_end_lost_soon(struct node *node, const struct session *s)
{
	struct who *w = s->journal.moved_id ? make_who(node, s->id, s->journal.moved_id) : NULL;
	if (w && pool_post(node->pool, end_lost, w, NULL) < 0)
		free_who(w);
}

/* Before it may be ours that node has taken it up again by now, at the latest when its patience is
 * over: CRIU need not wait for pages of it. After that, what that node says counts, and silence is
 * waited for. */
static void lost_on_loop(void *arg)
{
	struct who *w = arg;
	pthread_mutex_lock(&w->node->lock);
	struct session *s = find_moved(w);
	bool ours = s && s->journal.arriving == ARRIVING_MOVED;
	if (s && !ours)
		s->source_gone = true;
	if (ours && w->said)
		s->source_empty = true;
	pthread_mutex_unlock(&w->node->lock);
	end_lost(w);
}

static void on_gone(void *arg, bool said)
{
	const struct who *w = arg;
	struct who *mine = make_who(w->node, w->id, w->departure);
	if (!mine)
		return;
	mine->said = said;
	if (pool_post(w->node->pool, lost_on_loop, mine, NULL) < 0)
		free_who(mine);
}

int arrival_lines(struct node *node, const char *id, const struct arrival_place *place,
		  struct move_lines **lines, struct error *e)
{
	struct who *w = make_who(node, id, place->departure);
	if (!w)
		return error_set(e, ENOMEM, "out of memory");
	const struct move_lines_options options = {
		.departure = place->departure,
		.session = id,
		.node = place->node,
		.at = place->at,
		.tls = tls_of,
		.gone = on_gone,
		.patience_ms = node->config->move.patience_ms,
		.drop = free_who,
		.arg = w,
	};
	return move_lines_new(&options, lines, e);
}

int arrival_open_moved(struct node *node, const char *id, struct move_lines *lines,
		       struct move_ahead *ahead, struct page_source *source, struct error *e)
{
	cleanup_free char *images = images_dir(node, id);
	if (!images) {
		move_lines_free(lines);
		move_ahead_free(ahead);
		return error_set(e, ENOMEM, "out of memory");
	}
	const struct move_source_options options = { .images = images,
						     .lines = lines,
						     .ahead = ahead };
	return move_source_open(&options, source, e);
}

/* --- for the steps of a migration ------------------------------------------------------- */

static int keep_image(const char *from, const char *to, const char *name, struct error *e)
{
	cleanup_buf struct buf image = BUF_INIT(IMAGE_MOST);
	cleanup_free char *source = fs_join(from, name);
	cleanup_free char *target = fs_join(to, name);
	if (!source || !target)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(source, &image, e);
	return r < 0 ? r : fs_replace_soon(target, buf_text(&image), image.len, 0600, e);
}

static int keep_images(const char *from, const char *to, struct error *e)
{
	int r = fs_remove_tree(to, e);
	if (r == 0)
		r = fs_mkdirs(to, 0700, e);
	if (r < 0)
		return r;
	cleanup_dir DIR *d = opendir(from);
	if (!d)
		return error_errno(e, "cannot read %s", from);
	for (const struct dirent *at; r == 0 && (at = readdir(d));)
		if (strncmp(at->d_name, PAGEMAP, strlen(PAGEMAP)) == 0)
			r = keep_image(from, to, at->d_name, e);
	return r;
}

/* It came with the images, if that node has one. */
static int take_working_set(const struct effect *ef, const struct arrival *a, struct error *e)
{
	cleanup_buf struct buf set = BUF_INIT(WORKING_SET_BYTES);
	cleanup_free char *from = fs_join(ef->laid_out, WORKING_SET_FILE);
	cleanup_free char *to = fs_join(a->dir, WORKING_SET_FILE);
	if (!from || !to)
		return error_set(e, ENOMEM, "out of memory");
	if (fs_read(from, &set, NULL) < 0 ||
	    fs_replace_soon(to, buf_text(&set), set.len, 0600, NULL) < 0)
		unlink(to);
	return 0;
}

int arrival_connect_moved(struct effect *ef, struct error *e)
{
	struct move_client *c = ef->move;
	const struct arrival_place place = { .node = c->from,
					     .at = c->at,
					     .departure = c->departure };
	int r = arrival_lines(ef->node, ef->session->id, &place, &c->lines, e);
	if (r == 0)
		move_lines_connect(c->lines);
	return r;
}

int arrival_listen_moved(struct effect *ef, struct error *e)
{
	struct page_source source;
	struct arrival *a = NULL;
	cleanup_free char *images = images_dir(ef->node, ef->session->id);
	cleanup_free char *criu = fs_join(ef->laid_out, "criu");
	int r = images && criu ? keep_images(criu, images, e)
			       : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = arrival_new_for(ef, &a, e);
	if (r == 0 && !(a->from = strdup(ef->move->from)))
		r = error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = take_working_set(ef, a, e);
	if (r == 0)
		r = arrival_open_moved(ef->node, ef->session->id, steal_ptr(&ef->move->lines),
				       steal_ptr(&ef->move->ahead), &source, e);
	if (r < 0) {
		arrival_free(a);
		return r;
	}
	struct pages_options options = arrival_options(a);
	return arrival_begin(ef, a, &source, &options, e);
}

/* --- when all is here --------------------------------------------------------------------- */

struct telling {
	struct node *node;
	char id[ID_SIZE];
	bool once; /* the session is no more: nobody will try again */
	struct move_client *client;
	int result;
	struct error error;
};

static void tell_work(void *arg)
{
	struct telling *t = arg;
	t->result = move_client_arrived(t->client, &t->error);
}

static bool is_of(const struct session *s, const struct telling *t)
{
	return s->journal.moved_id && strcmp(s->journal.moved_id, t->client->departure) == 0;
}

static void forget_source(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	cleanup_free char *images = images_dir(node, s->id);
	pthread_mutex_lock(&node->lock);
	journal_set(&s->journal.moved_from, NULL, NULL);
	journal_set(&s->journal.moved_from_at, NULL, NULL);
	journal_set(&s->journal.moved_id, NULL, NULL);
	pthread_mutex_unlock(&node->lock);
	if (images)
		fs_remove_tree(images, NULL);
	if (journal_note(node, &s->journal, &e) < 0)
		log_warning("session %s: %s", s->id, e.text);
}

static void told(void *arg)
{
	struct telling *t = arg;
	struct session *s = t->once ? NULL : session_find(t->node, t->id);
	if (s)
		s->taking_up = false;
	if (t->result < 0)
		log_warning("session %s: node %s does not know that its memory is not needed any "
			    "more: %s",
			    t->id, t->client->from, t->error.text);
	/* Otherwise it is told once more, which does no harm. */
	else if (s && !s->effect && is_of(s, t))
		forget_source(t->node, s);
	move_client_free(t->client);
	free(t);
}

static int submit(struct node *node, struct session *s, bool once)
{
	const struct journal *j = &s->journal;
	struct telling *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->node = node;
	t->once = once;
	snprintf(t->id, sizeof(t->id), "%s", s->id);
	int r = move_client_new(node, j->moved_id, s->id, j->moved_from, j->moved_from_at,
				&t->client, NULL);
	if (r == 0)
		r = pool_submit(node->pool, tell_work, told, t, NULL);
	if (r < 0) {
		move_client_free(t->client);
		free(t);
	}
	return r;
}

void arrival_tell_source(struct node *node, struct session *s)
{
	const struct journal *j = &s->journal;
	/* Before an open migration is decided that node may still have it. */
	if (s->effect || j->effect || s->taking_up || !j->moved_id || !j->moved_from ||
	    !j->moved_from_at)
		return;
	s->taking_up = submit(node, s, false) == 0;
}

void arrival_forget(struct effect *ef, bool tell)
{
	struct session *s = ef->session;
	struct journal *j = effect_journal(ef);
	cleanup_free char *images = images_dir(ef->node, s->id);
	if (tell && j->moved_id && j->moved_from && j->moved_from_at)
		submit(ef->node, s, true);
	pthread_mutex_lock(&ef->node->lock);
	journal_set(&j->moved_from, NULL, NULL);
	journal_set(&j->moved_from_at, NULL, NULL);
	journal_set(&j->moved_id, NULL, NULL);
	pthread_mutex_unlock(&ef->node->lock);
	if (images)
		fs_remove_tree(images, NULL);
}
