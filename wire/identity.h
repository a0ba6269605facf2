/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_WIRE_IDENTITY_H
#define ELSA_WIRE_IDENTITY_H

/*
 * What hosts are called in certificates, and the tokens by which a node joins.
 * Text in, text out. Thread-safe.
 */

#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>

#define CONTROLLER_HOST "controller.elsa" /* elsad's host name, and its common name */

#define NODE_NAME_MOST 63

/* Fit for a common name, for a part of a host name, and not elsad's own: letters, digits, "-" and
 * "." between them, NODE_NAME_MOST at most. */
bool node_name_valid(const char *name);

/* "NAME.node.elsa", in lower case, as a node of that name serves; allocated, or NULL. */
char *node_host(const char *name);

#define JOIN_SECRET_SIZE      33 /* 32 hexadecimal digits, and NUL */
#define JOIN_FINGERPRINT_SIZE 65

/* "elsa1.ID.SECRET.FINGERPRINT": what elsad has on record of it, what only its owner knows, and the
 * SHA-256 of the certificate of elsad's authority. */
struct join_token {
	char id[ID_SIZE];
	char secret[JOIN_SECRET_SIZE];
	char fingerprint[JOIN_FINGERPRINT_SIZE];
};

/* White space around it is no part of it. -EINVAL, with what is wrong but never the token. */
int join_token_parse(const char *text, struct join_token *token, struct error *e);
char *join_token_format(const struct join_token *token); /* allocated, or NULL */

#endif
