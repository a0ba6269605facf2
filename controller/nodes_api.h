/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODES_API_H
#define ELSA_CONTROLLER_NODES_API_H

/*
 * nodes.listen: where elsa-node of other hosts joins, renews its certificate
 * and its lease. TLS; all but joining needs a certificate of ours, which counts
 * only while the record has the node it names with its serial. One thread.
 */

#include "controller/ca.h"

struct tokens;

struct nodes_api {
	struct ca *ca;
	struct tokens *tokens;
	struct http_server *server;
};

int nodes_api_new(struct controller *c, struct error *e); /* nothing when nodes.listen is "" */
void nodes_api_free(struct controller *c);

/* Where the API of a joined node is, for a request to it: *base goes before the path of the URL,
 * both texts are allocated and must live until the call is made. -ENOENT: it has not joined, or was
 * removed. */
int node_link(struct controller *c, const char *name, char **base, char **connect_to,
	      struct http_request *request, struct error *e);

/* Where a node says that it listens: "10.0.0.5:8444", or with 0.0.0.0 for the address `peer` that
 * its question came from. *to is allocated. */
int node_listen_address(const char *listen, const char *peer, char **to, struct error *e);

/* A joined node says where it listens now, as above: 1 when that is another place than recorded,
 * and is recorded then; 0; negative. */
int node_moved(struct controller *c, const char *name, const char *listen, const char *peer,
	       struct error *e);

/* A token by which `uses` hosts (0: any number) may join within `ttl_ms`; allocated. */
int tokens_make(struct controller *c, int64_t ttl_ms, int64_t uses, char **token, wall_ms *expires,
		struct error *e);

/* https://host:port of nodes.listen as other hosts reach it; allocated, or NULL. */
char *nodes_api_url(const struct config *config);

#endif
