/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_REAPER_H
#define ELSA_IO_HTTP_REAPER_H

/*
 * Ends connections that never get a request finished, for io/http_server.c.
 *
 * evhttp's timeout is for silence: a client that sends one byte now and then
 * keeps its connection, and enough of them keep all our descriptors. evhttp
 * has no list of its connections and tells nobody of a new one, so they are
 * found among the process's descriptors by the address of our end. The sockets
 * are only shut down, never closed: evhttp sees their end and closes them.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

struct http_reaper {
	struct sockaddr_storage local; /* of the listening socket */
	socklen_t local_len;
	struct http_reaper_seen {
		ino_t ino; /* a socket's inode number identifies it */
		mono_us since;
		unsigned round;
	} *seen;
	size_t count;
	unsigned round;
};

void http_reaper_init(struct http_reaper *r, int listen_fd);
void http_reaper_deinit(struct http_reaper *r);

/* A request was answered on `fd`: its time begins anew. */
void http_reaper_answered(struct http_reaper *r, int fd, mono_us now);

/* Shuts down the connections that have not been answered for `limit`, and those beyond `most`.
 * `is_busy` says for which a request is being worked on; these are left alone. Returns how many
 * connections there are. */
size_t http_reaper_run(struct http_reaper *r, mono_us now, mono_us limit, size_t most,
		       bool (*is_busy)(int fd, void *arg), void *arg);

#endif
