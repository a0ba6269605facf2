/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_LISTEN_H
#define ELSA_IO_HTTP_LISTEN_H

/*
 * Listening sockets, for io/http_server.c.
 */

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct http_listen {
	int fd;     /* not blocking; -1 when closed or given away */
	char *path; /* of a unix socket; NULL for TCP */
	dev_t dev;  /* of what was made at `path`, to remove nothing else in the end */
	ino_t ino;
};

#define HTTP_LISTEN_INIT ((struct http_listen) { .fd = -1 })

/* `where` as http_server_new() takes it. */
int http_listen_open(struct http_listen *l, const char *where, struct error *e);
void http_listen_deinit(struct http_listen *l); /* idempotent */

#endif
