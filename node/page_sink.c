/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/page_sink.h"

#include "base/cleanup.h"
#include "io/job.h"
#include "node/page_proto.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKET_BUFFER = 4 << 20, DISCARD_BYTES = 256 << 10 };

struct page_sink {
	struct store_write *write; /* borrowed */
	int socket;
	pthread_t thread;
	bool started;
	struct page_proto proto;
	struct store_memory_write *memory;
	uint64_t left;    /* bytes of the present extent not yet taken */
	bool unreachable; /* nothing more comes over the socket, or makes no sense */
	atomic_bool given_up;
	int result;
	struct error error;
};

/* --- the socket --------------------------------------------------------------- */

static int take(struct page_sink *s, void *to, size_t len, struct error *e)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = recv(s->socket, (char *)to + done, len - done, MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		s->unreachable = n <= 0;
		if (n < 0)
			return error_errno(e, "cannot take memory from CRIU");
		if (n == 0)
			return error_set(e, EPIPE, "CRIU has hung up");
		done += (size_t)n;
	}
	return 0;
}

static int take_message(struct page_sink *s, struct page_message *m, struct error *e)
{
	uint8_t bytes[PAGE_PROTO_LONG];
	size_t want = s->proto.header ? s->proto.header : PAGE_PROTO_SHORT;
	int r = take(s, bytes, want, e);
	if (r < 0)
		return r;
	int used = page_proto_parse(&s->proto, bytes, want, m);
	if (used == 0) { /* the first, and a long one */
		r = take(s, bytes + want, PAGE_PROTO_LONG - want, e);
		if (r < 0)
			return r;
		used = page_proto_parse(&s->proto, bytes, PAGE_PROTO_LONG, m);
	}
	if (used > 0)
		return 0;
	s->unreachable = true;
	return error_set(e, EPROTO, "this CRIU sends memory in a way that is not known");
}

static int answer(struct page_sink *s, const struct page_message *m, struct error *e)
{
	uint8_t bytes[PAGE_PROTO_ANSWER];
	size_t len = page_proto_answer(m, s->result < 0, bytes);
	if (len == 0 || send(s->socket, bytes, len, MSG_NOSIGNAL) == (ssize_t)len)
		return 0;
	s->unreachable = true;
	return error_errno(e, "cannot answer CRIU");
}

/* --- into the store ----------------------------------------------------------- */

/* A store_fill: from the socket to where it belongs. */
static int fill(void *to, size_t len, void *arg, struct error *e)
{
	struct page_sink *s = arg;
	if (s->given_up && s->result == 0)
		return error_set(e, ETIMEDOUT, "the store took too long");
	int r = take(s, to, len, e);
	s->left -= len;
	return r;
}

static int end_memory(struct page_sink *s, struct error *e)
{
	struct store_memory_write *memory = steal_ptr(&s->memory);
	return memory ? store_memory_end(memory, e) : 0;
}

/* What CRIU restores itself, here and there in a memory, is wanted before a session runs. Shared
 * memory is too, but lies together anyway. */
static uint32_t store_flags(const struct page_message *m)
{
	bool soon = m->memory == PAGE_OF_PROCESS && !(m->flags & PAGE_LAZY);
	return m->flags | (soon ? STORE_SOON : 0);
}

static int store_message(struct page_sink *s, const struct page_message *m, struct error *e)
{
	char name[PAGE_PROTO_NAME];
	int r = 0;
	if (m->command == PAGE_OPEN || m->command == PAGE_CLOSE)
		r = end_memory(s, e);
	if (r == 0 && m->command == PAGE_OPEN) {
		page_proto_name(m->memory, m->id, name);
		r = store_memory_begin(s->write, name, &s->memory, e);
	}
	if (r == 0 && m->command == PAGE_ADD)
		r = store_memory_extent(s->memory, m->vaddr, m->pages, store_flags(m), fill, s, e);
	return r;
}

static int discard(struct page_sink *s, struct error *e)
{
	cleanup_free char *nowhere = malloc(DISCARD_BYTES);
	int r = nowhere ? 0 : error_set(e, ENOMEM, "out of memory");
	while (r == 0 && s->left)
		r = fill(nowhere, s->left < DISCARD_BYTES ? (size_t)s->left : DISCARD_BYTES, s, e);
	return r;
}

/* Only the first failure is told. */
static void note(struct page_sink *s, int r, const struct error *e)
{
	if (r == 0 || s->result < 0)
		return;
	s->result = r;
	s->error = *e;
}

/*
 * When the store has failed the rest is taken all the same, and CRIU is told at
 * the end: it then lets go of the processes in order. One that loses its page
 * server in the middle does so too, but says of it only "Broken pipe".
 */
static void *thread_main(void *arg)
{
	struct page_sink *s = arg;
	struct page_message m = { .command = PAGE_OPEN };
	while (!s->unreachable && m.command != PAGE_CLOSE) {
		struct error e = ERROR_INIT;
		int r = take_message(s, &m, &e);
		if (r == 0)
			s->left = m.command == PAGE_ADD ? m.pages * PAGE_PROTO_PAGE : 0;
		if (r == 0 && s->result == 0)
			r = store_message(s, &m, &e);
		note(s, r, &e);
		if (!s->unreachable && s->left)
			note(s, discard(s, &e), &e);
		if (!s->unreachable)
			note(s, answer(s, &m, &e), &e);
	}
	end_memory(s, NULL);
	shutdown(s->socket, SHUT_RDWR);
	return NULL;
}

/* --- beginning and ending ------------------------------------------------------ */

/* CRIU calls it a TCP socket, and warns that it cannot be corked; it splices into this one as well,
 * and with less ado. */
static int connect_pair(int *ours, int *theirs, struct error *e)
{
	static const int size = SOCKET_BUFFER;
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(e, "cannot make a socket for CRIU");
	*ours = ends[0];
	*theirs = ends[1];
	/* FORCE needs CAP_NET_ADMIN; without it the limit is net.core.wmem_max. */
	if (setsockopt(*theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(*theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return job_above_stdio(theirs) < 0 ? error_errno(e, "cannot make a socket for CRIU") : 0;
}

int page_sink_start(struct store_write *write, struct page_sink **sink, int *socket,
		    struct error *e)
{
	cleanup_fd int theirs = -1;
	struct page_sink *s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(e, ENOMEM, "out of memory");
	s->write = write;
	s->socket = -1;
	int r = connect_pair(&s->socket, &theirs, e);
	int code = r == 0 ? pthread_create(&s->thread, NULL, thread_main, s) : 0;
	if (code)
		r = error_set(e, code, "cannot start a thread for memory: %s", strerror(code));
	s->started = r == 0;
	if (r < 0) {
		page_sink_free(s);
		return r;
	}
	*sink = s;
	*socket = steal_fd(&theirs);
	return 0;
}

void page_sink_give_up(struct page_sink *s)
{
	s->given_up = true;
}

int page_sink_wait(struct page_sink *s, struct error *e)
{
	if (s->started)
		pthread_join(s->thread, NULL);
	s->started = false;
	if (s->result < 0 && e)
		*e = s->error;
	return s->result;
}

void *page_sink_free(struct page_sink *s)
{
	if (!s)
		return NULL;
	if (s->started)
		shutdown(s->socket, SHUT_RDWR);
	page_sink_wait(s, NULL);
	cleanup_close_fd(&s->socket);
	free(s);
	return NULL;
}
