/* SPDX-License-Identifier: Apache-2.0 */
#include "node/asleep_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/net_keep.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	KEPT_MOST = 64 << 10, /* bytes for a session */
	ANSWERS_MOST = 256,   /* in a second: no connection has reason to ask so often */
	SECOND_US = 1000000,
};

/* A peer that has not heard of its packet sends it again and again. */
static bool is_kept(const struct asleep *a, const struct packet *p)
{
	const struct kept_packet *k = a->kept;
	while (k && (k->seq != p->seq || k->from_port != p->from_port))
		k = k->next;
	return k;
}

/* False: there is no room for it. */
static bool keep(struct asleep *a, const struct packet *p, const void *data, size_t len)
{
	struct kept_packet *k = NULL;
	pthread_mutex_lock(&a->all->node->lock);
	bool known = is_kept(a, p);
	if (!known && a->kept_bytes + len <= KEPT_MOST)
		k = malloc(sizeof(*k) + len);
	if (k) {
		*k = (struct kept_packet) { .seq = p->seq, .from_port = p->from_port, .len = len };
		memcpy(k->data, data, len);
		*a->kept_end = k;
		a->kept_end = &k->next;
		a->kept_bytes += len;
	}
	pthread_mutex_unlock(&a->all->node->lock);
	return known || k;
}

static struct kept_packet *take_kept(struct asleep *a)
{
	struct kept_packet *first = a->kept;
	a->kept = NULL;
	a->kept_end = &a->kept;
	a->kept_bytes = 0;
	return first;
}

static void free_kept(struct kept_packet *k)
{
	while (k) {
		struct kept_packet *next = k->next;
		free(k);
		k = next;
	}
}

void asleep_drop_packets(struct asleep *a)
{
	pthread_mutex_lock(&a->all->node->lock);
	struct kept_packet *all = take_kept(a);
	pthread_mutex_unlock(&a->all->node->lock);
	free_kept(all);
}

/* --- what is said to have come ------------------------------------------------------- */

/*
 * A ping is nobody, and yet its sender's kernel sends nothing behind it before it is
 * acknowledged. So it is, once it is written down to be given to the session: then
 * this program may be killed, but not forget it. (A machine that loses its power
 * takes the connections of what is on it along; one from elsewhere breaks.)
 */
#define KEPT_FILE "kept"

static char *kept_path(const struct node *node, const char *id)
{
	cleanup_free char *dir = asleep_dir(node, id);
	return dir ? fs_join(dir, KEPT_FILE) : NULL;
}

/* All of it or nothing: behind a part nothing more could be read. */
static bool append(int fd, const void *data, size_t len)
{
	const uint32_t size = (uint32_t)len;
	const struct iovec parts[] = { { (void *)&size, sizeof(size) }, { (void *)data, len } };
	off_t before = lseek(fd, 0, SEEK_END);
	ssize_t n = before < 0 ? -1 : writev(fd, parts, 2);
	if (n == (ssize_t)(sizeof(size) + len))
		return true;
	if (n > 0 && ftruncate(fd, before) < 0)
		log_warning("what came for a sleeping session cannot be written down");
	return false;
}

static bool write_down(const struct asleep *a, const void *data, size_t len)
{
	cleanup_free char *path = kept_path(a->all->node, a->id);
	cleanup_fd int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
	return fd >= 0 && append(fd, data, len);
}

static void each_written(const struct node *node, const char *id,
			 void (*each)(const void *packet, size_t len, void *arg), void *arg)
{
	cleanup_free char *path = kept_path(node, id);
	cleanup_buf struct buf all = BUF_INIT(2 * KEPT_MOST);
	if (!path || fs_read(path, &all, NULL) < 0)
		return;
	const char *at = buf_text(&all), *end = at + all.len;
	for (uint32_t size; (size_t)(end - at) >= sizeof(size); at += size) {
		memcpy(&size, at, sizeof(size));
		at += sizeof(size);
		if (size > (size_t)(end - at))
			return;
		each(at, size, arg);
	}
}

static void load_written(const void *packet, size_t len, void *arg)
{
	struct asleep *a = arg;
	struct packet p;
	struct packet_connection *c =
		packet_parse(packet, len, &p) ? connections_find(&a->connections, &p) : NULL;
	if (c && p.seq == c->expects && keep(a, &p, packet, len))
		c->expects += (uint32_t)p.len;
}

void asleep_load(struct asleep *a)
{
	cleanup_free char *dir = asleep_dir(a->all->node, a->id);
	connections_deinit(&a->connections);
	asleep_drop_packets(a);
	a->given = false;
	if (dir)
		connections_load(dir, &a->connections);
	each_written(a->all->node, a->id, load_written, a);
}

/* --- for the session that runs again --------------------------------------------------- */

static void put_written(const void *packet, size_t len, void *keep_at)
{
	net_keep_put(keep_at, packet, len);
}

/* It runs, for all that is known, and nothing answers for it any more. Twice does no harm. */
bool asleep_must_give(const struct effect *ef)
{
	cleanup_free char *path = kept_path(ef->node, ef->session->id);
	return ef->recovering && path && access(path, F_OK) == 0;
}

void asleep_give_packets(struct effect *ef, struct net_keep *keep_at)
{
	struct kept_packet *all = NULL;
	pthread_mutex_lock(&ef->node->lock);
	struct asleep *a = ef->session->asleep;
	if (a) {
		all = take_kept(a);
		a->given = true;
	}
	pthread_mutex_unlock(&ef->node->lock);
	for (const struct kept_packet *k = all; k && keep_at; k = k->next)
		net_keep_put(keep_at, k->data, k->len);
	free_kept(all);
	if (asleep_must_give(ef))
		each_written(ef->node, ef->session->id, put_written, keep_at);
}

/* --- what they mean ----------------------------------------------------------------- */

static void answer(struct asleep *a, const struct packet *p, const struct packet_connection *c)
{
	uint8_t packet[PACKET_ANSWER_MOST];
	mono_us now = clock_mono();
	if (now - a->answers_since >= SECOND_US) {
		a->answers_since = now;
		a->answers = 0;
	}
	if (a->answers++ < ANSWERS_MOST)
		sleep_net_send(a->all->net, packet, packet_answer(p, c, packet));
}

/* In its turn only; what comes before its turn comes again. */
static void take_idle(struct asleep *a, const struct packet *p, struct packet_connection *c,
		      const void *data, size_t len)
{
	if (p->seq != c->expects)
		return;
	if (p->flags & (PACKET_FIN | PACKET_RST)) {
		keep(a, p, data, len);
		return;
	}
	if (!keep(a, p, data, len) || !write_down(a, data, len)) {
		asleep_touch(a, "data on a connection that was open");
		return;
	}
	c->expects += (uint32_t)p->len;
	answer(a, p, c);
}

/* An open page asks by a connection that its proxy has kept. Only the session can answer there, so
 * it waits; and so does what is left of the same request. */
static bool is_poll(const struct asleep *a, const struct packet *p, struct packet_connection *c)
{
	if (p->seq == c->expects)
		c->polls = activator_is_poll(a->activator, p->payload, p->len);
	return c->polls;
}

static struct asleep *find(const struct asleep_all *all, const struct packet *p)
{
	struct asleep *a = all->first;
	while (a && (a->leaving || a->in.s_addr != p->to.s_addr))
		a = a->next;
	return a && a->port == p->to_port ? a : NULL;
}

void asleep_packet(const void *data, size_t len, void *arg)
{
	struct packet p;
	struct asleep *a = packet_parse(data, len, &p) ? find(arg, &p) : NULL;
	struct packet_connection *c = a ? connections_find(&a->connections, &p) : NULL;
	enum packet_meaning meaning = c ? packet_meaning(&p, c) : PACKET_NOBODY;
	if (meaning == PACKET_TOUCH && is_poll(a, &p, c)) {
		keep(a, &p, data, len);
		return;
	}
	if (meaning == PACKET_PROBE)
		answer(a, &p, c);
	else if (meaning == PACKET_KEEP && p.len)
		take_idle(a, &p, c, data, len);
	else if (meaning == PACKET_KEEP || meaning == PACKET_TOUCH)
		keep(a, &p, data, len);
	if (meaning == PACKET_TOUCH)
		asleep_touch(a, "data on a connection that was open");
}

/* --- those that came meanwhile ------------------------------------------------------ */

struct look {
	struct asleep_all *all;
	char id[ID_SIZE];
	struct connections connections;
	int64_t port;
	bool touched;
};

static void look_at(const void *packet, size_t len, void *arg)
{
	struct look *l = arg;
	struct packet p;
	if (!packet_parse(packet, len, &p) || p.to_port != l->port)
		return;
	const struct packet_connection *c = connections_find(&l->connections, &p);
	l->touched |= c && packet_meaning(&p, c) == PACKET_TOUCH;
}

static void looked(void *arg)
{
	struct look *l = arg;
	struct session *s = session_find(l->all->node, l->id);
	if (s && s->asleep)
		asleep_touch(s->asleep, "data came while it was about to sleep");
	free(l);
}

void asleep_look_at_kept(struct effect *ef, struct net_keep *from)
{
	struct look *l = calloc(1, sizeof(*l));
	char *dir = asleep_dir(ef->node, ef->session->id);
	if (l && dir) {
		l->all = ef->node->asleep;
		l->port = ef->request.session.port;
		memcpy(l->id, ef->session->id, sizeof(l->id));
		connections_load(dir, &l->connections);
		net_keep_each(from, look_at, l);
		connections_deinit(&l->connections);
	}
	free(dir);
	if (!l || !l->touched || pool_post(ef->node->pool, looked, l, NULL) < 0)
		free(l);
}
