/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_SOURCE_H
#define ELSA_NODE_MOVE_SOURCE_H

/*
 * The memory of a session that came here while it ran, as a source for the page
 * service (node/pages.h): which pages there are is told by CRIU's pagemap images,
 * what is in them by the node it came from. Connections are made when they are
 * needed, and again when they break; several fetch at once. Thread-safe.
 */

#include "node/move_conn.h"
#include "node/pages.h"

struct move_source_options {
	const char *images; /* with pagemap-PID.img of every process; read when it is opened */
	const char *departure, *session;
	const char *node, *at;                               /* where it is */
	struct move_tls *(*tls)(void *arg, struct error *e); /* a new one, with the certificate that
							      * counts now */
	void *arg;
};

int move_source_open(const struct move_source_options *options, struct page_source *source,
		     struct error *e);

#endif
