/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* twalk_r */
#include "controller/sessions.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "controller/nodes.h"
#include "controller/operations.h"
#include "controller/rows.h"

#include <errno.h>
#include <math.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct sessions {
	void *by_id;   /* tsearch(3) trees */
	void *by_user; /* struct person */
	TAILQ_HEAD(, session) all;
	size_t count;
	size_t person_count;
};

static int compare_ids(const void *a, const void *b)
{
	const struct session *x = a;
	const struct session *y = b;
	return strcmp(x->row.id, y->row.id);
}

static int compare_persons(const void *a, const void *b)
{
	const struct person *x = a;
	const struct person *y = b;
	return strcmp(x->name, y->name);
}

struct person *sessions_person(struct controller *c, const char *user)
{
	const struct person key = { .name = (char *)user };
	struct person **found = tfind(&key, &c->sessions->by_user, compare_persons);
	return found ? *found : NULL;
}

struct session *sessions_find(struct controller *c, const char *user, const char *server)
{
	struct person *person = sessions_person(c, user);
	struct session *s;
	if (person)
		TAILQ_FOREACH(s, &person->sessions, by_person)
	if (strcmp(s->row.server, server) == 0)
		return s;
	return NULL;
}

struct session *sessions_by_id(struct controller *c, const char *id)
{
	struct session key = { 0 };
	if (!id_valid(id))
		return NULL;
	memcpy(key.row.id, id, ID_SIZE);
	struct session **found = tfind(&key, &c->sessions->by_id, compare_ids);
	return found ? *found : NULL;
}

size_t sessions_count(struct controller *c)
{
	return c->sessions->count;
}

struct session *sessions_first(struct controller *c)
{
	return TAILQ_FIRST(&c->sessions->all);
}

struct session *sessions_next(struct session *s)
{
	return TAILQ_NEXT(s, all);
}

struct person_list {
	struct person **items;
	size_t count;
};

static void collect_person(const void *node, VISIT visit, void *arg)
{
	struct person_list *list = arg;
	if (visit == postorder || visit == leaf)
		list->items[list->count++] = *(struct person *const *)node;
}

struct person **sessions_persons(struct controller *c, size_t *count)
{
	struct person_list list = { 0 };
	list.items = calloc(c->sessions->person_count + 1, sizeof(*list.items));
	if (list.items)
		twalk_r(c->sessions->by_user, collect_person, &list);
	*count = list.count;
	return list.items;
}

static void *person_free(struct person *person)
{
	for (char **group = person->groups; group && *group; group++)
		free(*group);
	free(person->groups);
	free(person->name);
	free(person);
	return NULL;
}

static struct person *person_for(struct controller *c, const char *user)
{
	struct person *person = sessions_person(c, user);
	if (person)
		return person;
	person = calloc(1, sizeof(*person));
	if (person)
		person->name = strdup(user);
	/* Half a table would lose sessions: as with every small allocation, give up at once and let
	 * the start after that put it right from the database. */
	if (!person || !person->name || !tsearch(person, &c->sessions->by_user, compare_persons))
		abort();
	TAILQ_INIT(&person->sessions);
	c->sessions->person_count++;
	return person;
}

char *session_make_label(const char *user, const char *server)
{
	struct buf label = BUF_INIT(4096);
	const char *parts[] = { user, *server ? "/" : "", server };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				buf_printf(&label, "\\x%02x", (unsigned)*p);
			else
				buf_append(&label, p, 1);
	return buf_steal(&label);
}

struct session *session_new(struct controller *c, const char *user, const char *server)
{
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->controller = c;
	s->node = c->nodes->local;
	s->state = SESSION_STOPPED;
	s->seen.cpu_share = NAN;
	id_new(s->row.id);
	s->row.user = strdup(user);
	s->row.server = strdup(server);
	s->row.state = strdup(session_state_name(s->state));
	s->label = session_make_label(user, server);
	if (!s->row.user || !s->row.server || !s->row.state || !s->label) {
		session_free(s);
		return NULL;
	}
	return s;
}

void session_free(struct session *s)
{
	db_session_deinit(&s->row);
	free(s->label);
	free(s->checkpoint_cpu);
	free(s->image);
	free(s->waiting);
	free(s->asleep.unwoken);
	free(s->report);
	json_decref(s->idle.inputs);
	free(s);
}

static void free_later(void *arg)
{
	session_free(arg);
}

void sessions_insert(struct session *s)
{
	struct sessions *table = s->controller->sessions;
	s->person = person_for(s->controller, s->row.user);
	if (!tsearch(s, &table->by_id, compare_ids))
		abort();
	TAILQ_INSERT_TAIL(&s->person->sessions, s, by_person);
	TAILQ_INSERT_TAIL(&table->all, s, all);
	table->count++;
}

static void take_out(struct session *s)
{
	struct sessions *table = s->controller->sessions;
	struct person *person = s->person;
	TAILQ_REMOVE(&table->all, s, all);
	TAILQ_REMOVE(&person->sessions, s, by_person);
	tdelete(s, &table->by_id, compare_ids);
	table->count--;
	s->person = NULL;
	if (TAILQ_EMPTY(&person->sessions)) {
		tdelete(person, &table->by_user, compare_persons);
		table->person_count--;
		person_free(person);
	}
}

void sessions_remove(struct session *s)
{
	operation_orphan(s);
	take_out(s);
	controller_later(s->controller, free_later, s);
}

bool session_has_processes(const struct session *s)
{
	return s->state == SESSION_RUNNING || s->state == SESSION_DOZING;
}

bool session_is_its_nodes(const struct session *s)
{
	return session_has_processes(s) || s->state == SESSION_ASLEEP;
}

int session_spec(const struct session *s, struct session_spec *spec, struct error *e)
{
	if (!s->row.spec)
		return error_set(e, ENOENT, "the session was never started");
	return wire_decode_text(&wire_session_spec, s->row.spec, strlen(s->row.spec), spec, e);
}

void session_take_spec(struct session *s)
{
	struct session_spec spec = { 0 };
	bool is_there = session_spec(s, &spec, NULL) == 0;
	s->port = is_there ? spec.port : 0;
	s->memory_limit = is_there ? spec.limits.memory_bytes : 0;
	s->cpu_limit = is_there ? spec.limits.cpus : 0;
	replace_text(&s->image, is_there ? spec.image : NULL);
	if (s->image)
		nodes_want_image(s->controller, s->image);
	wire_free(&wire_session_spec, &spec);
}

void session_take_checkpoint(struct session *s, const struct db_checkpoint *row)
{
	s->checkpoint_bytes = row ? row->stored_bytes : 0;
	s->checkpoint_memory = row ? row->memory_bytes : 0;
	replace_text(&s->checkpoint_cpu, row ? row->cpu : NULL);
}

void sessions_free(struct controller *c)
{
	struct session *s;
	if (!c->sessions)
		return;
	while ((s = TAILQ_FIRST(&c->sessions->all))) {
		take_out(s);
		session_free(s);
	}
	free(c->sessions);
	c->sessions = NULL;
}

static char *copy_text(const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	if (text && !copy)
		abort(); /* see person_for() */
	return copy;
}

struct db_session session_copy_row(const struct db_session *row)
{
	struct db_session copy = *row;
	copy.user = copy_text(row->user);
	copy.server = copy_text(row->server);
	copy.state = copy_text(row->state);
	copy.reason = copy_text(row->reason);
	copy.address = copy_text(row->address);
	copy.node = copy_text(row->node);
	copy.spec = copy_text(row->spec);
	copy.api_token = copy_text(row->api_token);
	copy.spawner = copy_text(row->spawner);
	copy.tried = copy_text(row->tried);
	copy.left_behind = copy_text(row->left_behind);
	copy.size = copy_text(row->size);
	return copy;
}

struct loading {
	struct controller *c;
	struct error *e;
};

static int load_session(const struct db_session *row, void *arg)
{
	struct loading *loading = arg;
	struct session *s = session_new(loading->c, row->user, row->server);
	if (!s)
		return error_set(loading->e, ENOMEM, "out of memory");
	db_session_deinit(&s->row);
	s->row = session_copy_row(row);
	s->node = nodes_of_row(loading->c, row->node);
	s->state = session_state_from_name(row->state);
	if (s->state == SESSION_STATE_COUNT) {
		int r = error_set(loading->e, EBADMSG, "%s is in the unknown state \"%s\"",
				  s->label, row->state);
		session_free(s);
		return r;
	}
	session_take_spec(s);
	sessions_insert(s);
	return 0;
}

static int load_checkpoint(const struct db_checkpoint *row, void *arg)
{
	struct session *s = sessions_by_id(arg, row->session);
	if (s && row->generation == s->row.checkpoint)
		session_take_checkpoint(s, row);
	return 0;
}

int sessions_new(struct controller *c, struct error *e)
{
	c->sessions = calloc(1, sizeof(*c->sessions));
	if (!c->sessions)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->sessions->all);
	struct loading loading = { .c = c, .e = e };
	int r = db_session_each(c->db, load_session, &loading, e);
	if (r < 0)
		return error_wrap(e, r, "cannot read the sessions from the database");
	return db_checkpoint_each(c->db, NULL, load_checkpoint, c, e);
}
