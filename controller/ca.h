/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CA_H
#define ELSA_CONTROLLER_CA_H

/*
 * elsad's certificate authority: the directory ca/ beside the database, made
 * when nodes.listen is first set. Its own certificate is controller.elsa's,
 * good for a year; the authority's is good for twenty. One thread.
 */

#include "controller/controller.h"
#include "io/x509.h"

struct ca {
	char *dir;
	char *ca_file;                 /* the authority's certificate */
	char *cert_file, *key_file;    /* controller.elsa's, with the authority's behind it */
	char digest[X509_DIGEST_SIZE]; /* SHA-256 of the authority's certificate */
	char *ca_key_file;
	char *pem; /* the authority's certificate */
	struct event *renewal;
};

/* Makes what is not there yet. An authority that is not the one the nodes on record joined is told
 * in the log: they have to join again. */
int ca_open(struct controller *c, struct ca **ca, struct error *e);
void *ca_close(struct ca *ca); /* returns NULL */

/* A certificate for the key of `csr`, and its serial. -EINVAL: not a request that will do. */
int ca_sign_node(const struct ca *ca, const char *csr, const char *name, int64_t for_ms, char **pem,
		 struct x509_facts *facts, struct error *e);

#endif
