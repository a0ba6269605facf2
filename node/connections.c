/* SPDX-License-Identifier: Apache-2.0 */
#include "node/connections.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/protobuf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* criu/include/magic.h */
#define FILES_MAGIC      0x56303138u
#define TCP_STREAM_MAGIC 0x51465506u

/* images/fdinfo.proto, images/sk-inet.proto, images/tcp-stream.proto */
enum { ENTRY_INET = 4 };
enum {
	INET_INODE = 2,
	INET_TYPE = 4,
	INET_STATE = 6,
	INET_PORT = 7,
	INET_PEER_PORT = 8,
	INET_PEER = 12
};
enum { STREAM_IN_SEQ = 2, STREAM_WINDOW_SCALE = 8, STREAM_WINDOW = 16 };

enum {
	IMAGE_MOST = 64 << 20,
	FILE_MOST = 64 << 10,
	TCP_ESTABLISHED_STATE = 1,
	STREAM = 1,
	WINDOW_UNKNOWN = 501
};

/* --- CRIU's images --------------------------------------------------------------- */

struct inet {
	uint32_t inode, type, state, port;
	uint32_t peer[4]; /* as they are on the wire; of IPv4 only the first */
	size_t words;
	struct packet_connection c;
};

static int read_inet(struct span s, struct inet *to)
{
	struct field f;
	int r;
	*to = (struct inet) { 0 };
	while ((r = protobuf_next(&s, &f)) > 0) {
		if (f.number == INET_INODE)
			to->inode = (uint32_t)f.value;
		else if (f.number == INET_TYPE)
			to->type = (uint32_t)f.value;
		else if (f.number == INET_STATE)
			to->state = (uint32_t)f.value;
		else if (f.number == INET_PORT)
			to->port = (uint32_t)f.value;
		else if (f.number == INET_PEER_PORT)
			to->c.peer_port = (uint16_t)f.value;
		else if (f.number == INET_PEER && to->words < 4)
			to->peer[to->words++] = (uint32_t)f.value;
	}
	return r;
}

/* Of a server that listens at IPv6 addresses, too, an IPv4 peer is ::ffff:A.B.C.D. */
static bool take_peer(struct inet *i)
{
	bool mapped =
		i->words == 4 && i->peer[0] == 0 && i->peer[1] == 0 && i->peer[2] == htonl(0xffff);
	i->c.peer.s_addr = i->peer[mapped ? 3 : 0];
	return i->words == 1 || mapped;
}

static int read_entry(struct span entry, int64_t port,
		      int (*each)(const struct packet_connection *c, uint32_t inode, void *arg),
		      void *arg)
{
	struct field f;
	struct inet inet;
	int r;
	while ((r = protobuf_next(&entry, &f)) > 0) {
		if (f.number != ENTRY_INET || !f.bytes.at)
			continue;
		r = read_inet(f.bytes, &inet);
		if (r == 0 && inet.port == port && inet.type == STREAM &&
		    inet.state == TCP_ESTABLISHED_STATE && take_peer(&inet))
			r = each(&inet.c, inet.inode, arg);
		if (r < 0)
			return r;
	}
	return r;
}

int connections_of_files(const void *data, size_t len, int64_t port,
			 int (*each)(const struct packet_connection *c, uint32_t inode, void *arg),
			 void *arg)
{
	struct span s = { data, (const uint8_t *)data + len };
	struct span entry;
	int r;
	if (!protobuf_image(&s, FILES_MAGIC))
		return -EBADMSG;
	while ((r = protobuf_message(&s, &entry)) > 0) {
		r = read_entry(entry, port, each, arg);
		if (r < 0)
			return r;
	}
	return r;
}

int connections_of_stream(const void *data, size_t len, struct packet_connection *c)
{
	struct span s = { data, (const uint8_t *)data + len };
	struct span message;
	struct field f;
	uint64_t window = 0, scale = 0;
	if (!protobuf_image(&s, TCP_STREAM_MAGIC) || protobuf_message(&s, &message) <= 0)
		return -EBADMSG;
	int r;
	while ((r = protobuf_next(&message, &f)) > 0) {
		if (f.number == STREAM_IN_SEQ)
			c->expects = (uint32_t)f.value;
		else if (f.number == STREAM_WINDOW_SCALE)
			scale = f.value;
		else if (f.number == STREAM_WINDOW)
			window = f.value;
	}
	window = scale < 15 ? window >> scale : 0;
	c->window = (uint16_t)(window && window <= UINT16_MAX ? window : WINDOW_UNKNOWN);
	return r;
}

/* --- keeping ------------------------------------------------------------------------ */

struct keeping {
	const char *images;
	struct buf text;
	size_t count;
};

static int keep_one(const struct packet_connection *found, uint32_t inode, void *arg)
{
	struct keeping *k = arg;
	struct packet_connection c = *found;
	char peer[INET_ADDRSTRLEN];
	cleanup_buf struct buf stream = BUF_INIT(IMAGE_MOST);
	cleanup_free char *path = str_printf("%s/tcp-stream-%" PRIx32 ".img", k->images, inode);
	if (!path)
		return -ENOMEM;
	if (fs_read(path, &stream, NULL) < 0 ||
	    connections_of_stream(buf_text(&stream), stream.len, &c) < 0)
		return 0; /* no more than comfort is lost */
	if (k->count++ >= CONNECTIONS_MOST)
		return 0;
	inet_ntop(AF_INET, &c.peer, peer, sizeof(peer));
	return buf_printf(&k->text, "%s %u %" PRIu32 " %u\n", peer, c.peer_port, c.expects,
			  c.window);
}

int connections_keep(const char *images, int64_t port, const char *dir, struct error *e)
{
	struct keeping k = { .images = images, .text = BUF_INIT(FILE_MOST) };
	cleanup_buf struct buf files = BUF_INIT(IMAGE_MOST);
	cleanup_free char *from = fs_join(images, "files.img");
	cleanup_free char *to = fs_join(dir, CONNECTIONS_FILE);
	int r = from && to ? fs_read(from, &files, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0) {
		r = connections_of_files(buf_text(&files), files.len, port, keep_one, &k);
		if (r < 0)
			error_set(e, -r, "cannot tell the session's connections from its images");
	}
	if (r == 0)
		r = fs_replace(to, buf_text(&k.text), k.text.len, 0600, e);
	buf_deinit(&k.text);
	return r;
}

/* --- loading ------------------------------------------------------------------------ */

static int parse_line(const char *line, struct packet_connection *c)
{
	char peer[INET_ADDRSTRLEN];
	unsigned port, window;
	int end = 0;
	if (sscanf(line, "%15[0-9.] %5u %10" SCNu32 " %5u%n", peer, &port, &c->expects, &window,
		   &end) != 4 ||
	    line[end] != '\n' || inet_pton(AF_INET, peer, &c->peer) != 1 || port > UINT16_MAX ||
	    window > UINT16_MAX)
		return -EBADMSG;
	c->peer_port = (uint16_t)port;
	c->window = (uint16_t)window;
	return 0;
}

int connections_parse(const char *text, struct connections *to)
{
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		struct packet_connection c = { 0 };
		if (!strchr(line, '\n') || to->count == CONNECTIONS_MOST ||
		    parse_line(line, &c) < 0)
			return -EBADMSG;
		void *more = realloc(to->items, (to->count + 1) * sizeof(*to->items));
		if (!more)
			return -ENOMEM;
		to->items = more;
		to->items[to->count++] = c;
	}
	return 0;
}

void connections_load(const char *dir, struct connections *to)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_MOST);
	cleanup_free char *path = fs_join(dir, CONNECTIONS_FILE);
	*to = (struct connections) { 0 };
	if (path && fs_read(path, &text, NULL) == 0 && connections_parse(buf_text(&text), to) < 0)
		connections_deinit(to);
}

void connections_deinit(struct connections *c)
{
	free(c->items);
	*c = (struct connections) { 0 };
}

struct packet_connection *connections_find(const struct connections *c, const struct packet *p)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->items[i].peer.s_addr == p->from.s_addr &&
		    c->items[i].peer_port == p->from_port)
			return &c->items[i];
	return NULL;
}
