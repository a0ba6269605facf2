/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_X509_H
#define ELSA_IO_X509_H

/*
 * Keys and certificates (libcrypto): EC P-256, SHA-256, PEM. A certificate
 * says what its signer decided; of a request for one only the key is taken,
 * and the proof that the asker has it. Returned PEM is allocated. No state;
 * thread-safe.
 */

#include "base/clock.h"
#include "base/error.h"

#define X509_DIGEST_SIZE 65 /* SHA-256 in lower-case hexadecimal, and NUL */
#define X509_SERIAL_SIZE 64 /* in upper-case hexadecimal */
#define X509_NAME_SIZE   65 /* of a common name, as X.520 limits it */

struct x509_terms {
	const char *name; /* common name, 1 to 64 bytes */
	const char *host; /* DNS name a server of that certificate has; NULL: none */
	wall_ms from, until;
};

struct x509_facts {
	char name[X509_NAME_SIZE];
	char serial[X509_SERIAL_SIZE];
	char digest[X509_DIGEST_SIZE];     /* of the certificate: its fingerprint */
	char key_digest[X509_DIGEST_SIZE]; /* of its public key */
	wall_ms from, until;
};

/* A new private key in a file of mode 0600, durable; replaces what was there. */
int x509_make_key(const char *path, struct error *e);

/* A request for a certificate of that key. Nobody believes its name. */
int x509_make_csr(const char *key_file, const char *name, char **pem, struct error *e);

/* SHA-256 of the public key that `csr` asks for, once it has proved to have the private one;
 * -EINVAL for what is no request, or has another kind of key. */
int x509_check_csr(const char *csr, char key_digest[X509_DIGEST_SIZE], struct error *e);

/* A certificate of an authority, by its own key. */
int x509_make_ca(const char *key_file, const struct x509_terms *terms, char **pem, struct error *e);

/* A certificate for the key of `csr` (checked as above), by the authority `ca` (PEM). */
int x509_sign(const char *csr, const char *ca, const char *ca_key_file,
	      const struct x509_terms *terms, char **pem, struct error *e);

/* Of the first certificate in `pem`; -EINVAL when there is none. */
int x509_facts(const char *pem, struct x509_facts *facts, struct error *e);

/* 0 when `pem` was signed by `ca` and has the public key of `key_file`. */
int x509_check_pair(const char *pem, const char *ca, const char *key_file, struct error *e);

#endif
