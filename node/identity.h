/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_IDENTITY_H
#define ELSA_NODE_IDENTITY_H

/*
 * Who a joined node is, in STATE_DIR/identity (0700): key.pem, cert.pem,
 * ca.pem, and in joined-by the name of the token it joined by. The certificate
 * is written last: when it is there and fits the others, the node has joined.
 * Each file is replaced durably, so a kill at any moment leaves an identity or
 * one that is seen not to fit. No lock: for the loop's thread, or for programs
 * that only read.
 */

#include "base/id.h"
#include "config/config.h"
#include "io/x509.h"

#include <stdbool.h>

struct identity {
	char *dir, *key_file, *cert_file, *ca_file, *token_file;
	/* Of what is there: */
	bool joined;
	struct x509_facts facts;
	char ca_digest[X509_DIGEST_SIZE];
	char token[ID_SIZE]; /* "": not known */
};

int identity_init(struct identity *id, const struct config *config, struct error *e);
void identity_deinit(struct identity *id); /* idempotent */

/* Reads what is there into `joined` and what follows. 0 also when there is nothing; negative when
 * what is there cannot be used, or is of another name than `name`: then it has not joined. */
int identity_load(struct identity *id, const char *name, struct error *e);

/* A request for a certificate, allocated; the key is made when there is none. */
int identity_request(const struct identity *id, const char *name, char **csr, struct error *e);

/* Takes a certificate that elsad gave, with the authority `ca` whose digest must be `ca_digest`,
 * and loads it. `token` NULL: it is a renewal. -EACCES: not ours, or of another authority. */
int identity_store(struct identity *id, const char *name, const char *certificate, const char *ca,
		   const char *ca_digest, const char *token, struct error *e);

/* When a new certificate is to be asked for: with a third of its time left. */
wall_ms identity_renew_at(const struct identity *id);

#endif
