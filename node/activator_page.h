/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_PAGE_H
#define ELSA_NODE_ACTIVATOR_PAGE_H

/* What an activator says in its own words. Pure but for the buffer. */

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

/* One answer, whole. `body` is borrowed; `bare`: to a HEAD, which gets no body; `close`: it is the
 * connection's last. 0 or -ENOMEM. */
struct page {
	int status;
	const char *type;
	const char *body;
	size_t body_len;
	int retry_after_s; /* 0: not said */
	bool bare, close;
};
int page_write(const struct page *page, struct evbuffer *to);

/* 503: it sleeps on. To people as HTML, to programs as Jupyter's JSON. */
int page_unwoken(const char *why, int retry_after_s, bool html, bool bare, struct evbuffer *to);

/* As jupyter_server answers whom it does not know. */
int page_forbidden(bool bare, bool close, struct evbuffer *to);

/* 504: a poll that was held for too long. */
int page_unanswered(bool bare, struct evbuffer *to);

#endif
