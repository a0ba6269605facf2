/* SPDX-License-Identifier: Apache-2.0 */
#include "node/asleep_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/lease.h"
#include "node/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

char *asleep_dir(const struct node *node, const char *id)
{
	return node_path(node, "asleep", id, "/" ASLEEP_TREE);
}

char *asleep_record_dir(const struct node *node, const char *id)
{
	return node_path(node, "asleep", id, "/" ASLEEP_TREE "/record");
}

/* --- its life --------------------------------------------------------------------- */

int asleep_open(struct node *node, struct error *e)
{
	struct error why = ERROR_INIT;
	struct asleep_all *all = calloc(1, sizeof(*all));
	if (!all)
		return error_set(e, ENOMEM, "out of memory");
	node->asleep = all;
	all->node = node;
	wake_queue_init(&all->queue);
	int r = activators_new(node->base, node->config, &all->activators, e);
	if (r < 0)
		return r;
	if (sleep_net_open(node->config, node->base, asleep_packet, all, &all->net, &why) < 0) {
		log_warning("sessions cannot sleep and be answered for here: %s -> %s", why.text,
			    why.remedy);
		all->lacks = strdup(why.text);
	}
	return 0;
}

static void free_asleep(struct asleep *a)
{
	struct asleep **link = &a->all->first;
	while (*link != a)
		link = &(*link)->next;
	*link = a->next;
	if (a->farewell)
		event_free(a->farewell);
	asleep_drop_packets(a);
	connections_deinit(&a->connections);
	doze_watch_free(a->watch);
	free(a);
}

/* Who comes while no elsa-node is here tries again, rather than to be refused by the kernel. */
static void let_go_of_all(struct asleep_all *all)
{
	for (struct session *s = all->node->sessions; s; s = s->next)
		if (s->asleep) {
			sleep_net_undirect(all->node->config, s->asleep->address, s->asleep->port,
					   NULL);
			s->asleep = NULL;
		}
	while (all->first) {
		activator_free(all->first->activator);
		free_asleep(all->first);
	}
}

void asleep_close(struct node *node)
{
	struct asleep_all *all = node->asleep;
	if (!all)
		return;
	let_go_of_all(all);
	activators_free(all->activators);
	sleep_net_close(all->net);
	free(all->lacks);
	free(all);
	node->asleep = NULL;
}

/* --- beginning --------------------------------------------------------------------- */

static int connect_to_session(void *arg, struct error *e)
{
	const struct asleep *a = arg;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr = a->in,
				  .sin_port = htons((uint16_t)a->port) };
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS))
		return error_errno(e, "cannot reach session %s", a->id);
	return steal_fd(&fd);
}

static void on_touched(void *arg, const char *what)
{
	asleep_touch(arg, what);
}

static void on_over(void *arg)
{
	struct asleep *a = arg;
	a->activator = NULL;
	free_asleep(a);
}

static struct asleep *new_asleep(struct asleep_all *all, const struct session *s, struct error *e)
{
	const struct session_spec *spec = &s->journal.session;
	struct asleep *a = calloc(1, sizeof(*a));
	if (!a) {
		error_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	*a = (struct asleep) { .next = all->first, .all = all, .port = spec->port };
	a->epoch = lease_epoch(all->node);
	a->kept_end = &a->kept;
	snprintf(a->id, sizeof(a->id), "%s", s->id);
	snprintf(a->address, sizeof(a->address), "%s", spec->address);
	inet_pton(AF_INET, a->address, &a->in);
	all->first = a;
	return a;
}

static int listen_for(struct asleep *a, const struct session_spec *spec, struct error *e)
{
	struct node *node = a->all->node;
	struct sockaddr_in listener;
	cleanup_free char *record = asleep_record_dir(node, a->id);
	int fd = record ? sleep_net_bind(a->id, &listener, e)
			: error_set(e, ENOMEM, "out of memory");
	if (fd < 0)
		return fd;
	const struct activator_options options = {
		.spec = spec,
		.record = record,
		.listen_fd = fd,
		.connect = connect_to_session,
		.touched = on_touched,
		.over = on_over,
		.arg = a,
	};
	int r = activator_begin(a->all->activators, &options, &a->activator, e);
	return r < 0 ? r : sleep_net_redirect(node->config, a->address, a->port, &listener, e);
}

static int begin(struct node *node, struct session *s, struct error *e)
{
	struct asleep_all *all = node->asleep;
	if (!all || !all->net) {
		int r = error_set(e, EOPNOTSUPP, "sessions cannot be answered for here: %s",
				  all && all->lacks ? all->lacks : "no reason was given");
		return error_remedy(e, r, "`elsa doctor` on that node says what it takes");
	}
	struct asleep *a = new_asleep(all, s, e);
	if (!a)
		return -ENOMEM;
	int r = listen_for(a, &s->journal.session, e);
	if (r < 0) {
		activator_free(a->activator);
		free_asleep(a);
		return r;
	}
	pthread_mutex_lock(&node->lock);
	s->asleep = a;
	s->touched_at = 0;
	journal_set(&s->unwoken, NULL, NULL);
	pthread_mutex_unlock(&node->lock);
	return 0;
}

/* Those that are open stay its own kernel's. */
static int watch(struct node *node, struct asleep *a, struct error *e)
{
	char interface[NET_INTERFACE_SIZE];
	net_interface(a->id, interface);
	return a->watch ? 0
			: doze_watch_new(node->base, interface, a->port, on_touched, a, &a->watch,
					 e);
}

int asleep_begin(struct node *node, struct session *s, enum asleep_kind kind, struct error *e)
{
	int r = s->asleep ? 0 : begin(node, s, e);
	if (r < 0)
		return r;
	s->asleep->kind = kind;
	if (kind == ASLEEP_DOZES)
		return watch(node, s->asleep, e);
	/* One that dozes is watched for as long as it is there. */
	if (session_alive(node, s))
		return 0;
	s->asleep->watch = doze_watch_free(s->asleep->watch);
	asleep_load(s->asleep);
	return sleep_net_route(node->config, s->asleep->address, e);
}

/* --- ending ------------------------------------------------------------------------ */

/* From here on it is nobody's but its callers'. */
static struct asleep *part(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	struct asleep *a = s->asleep;
	if (sleep_net_undirect(node->config, s->journal.session.address, s->journal.session.port,
			       &e) < 0)
		log_error("session %s: %s", s->id, e.text);
	if (!a)
		return NULL;
	asleep_unqueue(a);
	a->leaving = true;
	pthread_mutex_lock(&node->lock);
	s->asleep = NULL;
	pthread_mutex_unlock(&node->lock);
	asleep_drop_packets(a);
	connections_deinit(&a->connections);
	a->watch = doze_watch_free(a->watch);
	return a;
}

void asleep_end(struct node *node, struct session *s)
{
	struct asleep *a = part(node, s);
	if (a)
		activator_woken(a->activator);
	if (node->asleep)
		asleep_wake_next(node->asleep);
}

static void on_farewell(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct asleep *a = arg;
	a->activator = activator_free(a->activator);
	free_asleep(a);
}

void asleep_drop(struct node *node, struct session *s, const char *why)
{
	static const struct timeval time_to_read = { .tv_sec = 2 };
	enum { RETRY_S = 3 };
	struct asleep *a = part(node, s);
	if (!a)
		return;
	activator_failed(a->activator, why, RETRY_S);
	a->farewell = event_new(node->base, -1, 0, on_farewell, a);
	if (!a->farewell || event_add(a->farewell, &time_to_read) < 0)
		on_farewell(-1, 0, a);
	asleep_wake_next(node->asleep);
}

/* --- for steps --------------------------------------------------------------------- */

struct turn {
	struct effect *ef;
	enum { BEGIN, END, DROP } what;
	enum asleep_kind kind;
	const char *why;
	struct error error;
	int r;
	bool over;
	pthread_mutex_t lock;
	pthread_cond_t done;
};

static void on_turn(void *arg)
{
	struct turn *t = arg;
	struct node *node = t->ef->node;
	struct session *s = t->ef->session;
	if (t->what == BEGIN)
		t->r = asleep_begin(node, s, t->kind, &t->error);
	else if (t->what == END)
		asleep_end(node, s);
	else
		asleep_drop(node, s, t->why);
	pthread_mutex_lock(&t->lock);
	t->over = true;
	pthread_cond_signal(&t->done);
	pthread_mutex_unlock(&t->lock);
}

static int take_turn(struct turn *t, struct error *e)
{
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->done, NULL);
	int r = pool_post(t->ef->node->pool, on_turn, t, e);
	pthread_mutex_lock(&t->lock);
	while (r == 0 && !t->over)
		pthread_cond_wait(&t->done, &t->lock);
	pthread_mutex_unlock(&t->lock);
	pthread_cond_destroy(&t->done);
	pthread_mutex_destroy(&t->lock);
	if (r < 0 || t->r == 0)
		return r;
	*e = t->error;
	return t->r;
}

int asleep_begin_wait(struct effect *ef, enum asleep_kind kind, struct error *e)
{
	struct turn t = { .ef = ef, .what = BEGIN, .kind = kind, .error = ERROR_INIT };
	return take_turn(&t, e);
}

void asleep_end_wait(struct effect *ef)
{
	struct turn t = { .ef = ef, .what = END, .error = ERROR_INIT };
	struct error e = ERROR_INIT;
	take_turn(&t, &e);
}

void asleep_drop_wait(struct effect *ef, const char *why)
{
	struct turn t = { .ef = ef, .what = DROP, .why = why, .error = ERROR_INIT };
	struct error e = ERROR_INIT;
	take_turn(&t, &e);
}

bool asleep_is_touched(struct node *node, const struct session *s)
{
	pthread_mutex_lock(&node->lock);
	bool touched = s->asleep && s->asleep->touched;
	pthread_mutex_unlock(&node->lock);
	return touched;
}

int asleep_route(struct effect *ef, struct error *e)
{
	return sleep_net_route(ef->node->config, ef->request.session.address, e);
}

int asleep_unroute(struct effect *ef, struct error *e)
{
	return sleep_net_unroute(ef->node->config, ef->request.session.address, e);
}

/* --- the rest ---------------------------------------------------------------------- */

void asleep_recover(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	if (!s->journal.asleep || s->asleep || session_alive(node, s))
		return;
	if (asleep_begin(node, s, ASLEEP_STORED, &e) < 0)
		log_error("session %s is asleep and not answered for: %s", s->id, e.text);
	if (s->asleep)
		s->asleep->unsure = true;
}

int asleep_status(struct session *s, struct session_status *st, struct error *e)
{
	st->answering = s->journal.asleep && s->asleep && !st->running;
	st->touched_at = s->touched_at;
	return s->unwoken ? journal_set(&st->unwoken, s->unwoken, e) : 0;
}
