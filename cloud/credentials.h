/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CREDENTIALS_H
#define ELSA_CLOUD_CREDENTIALS_H

/*
 * Whom we are to a cloud's services, by the chains that the clouds' own tools use.
 *
 * Amazon: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN);
 * the profile AWS_PROFILE in AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials)
 * and AWS_CONFIG_FILE (~/.aws/config); the container's endpoint
 * (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI, with
 * AWS_CONTAINER_AUTHORIZATION_TOKEN or _TOKEN_FILE); the machine's role by
 * IMDSv2 (AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_EC2_METADATA_DISABLED).
 *
 * Google: an HMAC key in GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY; the
 * service account's token from the metadata service (GCE_METADATA_HOST).
 *
 * What expires is fetched again some minutes before. Thread-safe: one thread
 * fetches, the others wait for it.
 */

#include "base/clock.h"
#include "base/error.h"

#include <stdbool.h>

enum credentials_cloud { CREDENTIALS_AMAZON, CREDENTIALS_GOOGLE };

struct credentials_options {
	enum credentials_cloud cloud;
	const char *profile;  /* NULL: AWS_PROFILE or "default" */
	const char *metadata; /* base URL of the metadata service; NULL: the cloud's own */
	/* For people; literals: what they are for (NULL: object storage), and whose they are (NULL:
	 * elsa-node). */
	const char *service, *program;
};

/* Strings are owned; either an access key and its secret, or a bearer token. */
struct credentials_value {
	char *access_key, *secret;
	char *session_token; /* NULL: none */
	char *bearer;
	wall_ms expires_at; /* 0: never */
};
void credentials_value_deinit(struct credentials_value *v); /* idempotent */

struct credentials;

int credentials_new(const struct credentials_options *options, struct credentials **c,
		    struct error *e);
void *credentials_free(struct credentials *c); /* returns NULL */

/* A copy. `refused`: what the server refused as expired, or NULL; then others are fetched unless
 * that happened meanwhile. May block for some seconds. */
int credentials_get(struct credentials *c, const struct credentials_value *refused,
		    struct credentials_value *v, struct error *e);

/* AWS_REGION, AWS_DEFAULT_REGION or the profile's; allocated, or NULL when none says. */
char *credentials_region(const struct credentials_options *options);
/* The region of the EC2 machine we run on, by IMDSv2; allocated, or NULL when none says. May block
 * for some seconds. */
char *credentials_machine_region(const struct credentials_options *options);

#endif
