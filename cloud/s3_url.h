/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_URL_H
#define ELSA_CLOUD_S3_URL_H

/*
 * Where an S3 or Google store is, from its URL:
 *
 *	s3://BUCKET[/PREFIX][?OPTION=VALUE&...]
 *	gs://BUCKET[/PREFIX][?...]
 *
 *	endpoint=URL      another server than Amazon's or Google's
 *	region=NAME       what requests are signed for
 *	path_style=0|1    /BUCKET/KEY rather than BUCKET.host/KEY; with an endpoint, 1
 *	ca=FILE           trust only these certificates
 *	profile=NAME      of ~/.aws/credentials and ~/.aws/config
 *	timeout=SECONDS   longest silence on a connection; of small requests less at first
 *	                  (retry_patience() in cloud/retry.h)
 *	tries=NUMBER      how often a request is made before it has failed (cloud/retry.h)
 *	metadata=URL      the machine's metadata service
 *
 * Pure, no I/O. Thread-safe.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum s3_kind { S3_AMAZON, S3_GOOGLE };

struct s3_url { /* strings are owned; NULL: not given */
	enum s3_kind kind;
	char *bucket;
	char *prefix; /* "" or ends in '/' */
	char *endpoint, *region, *ca, *profile, *metadata;
	int path_style; /* -1: not given */
	int timeout_ms;
	unsigned tries;
};

/* `rest` follows "s3://". On failure nothing is left to free. */
int s3_url_parse(enum s3_kind kind, const char *rest, struct s3_url *url, struct error *e);
void s3_url_deinit(struct s3_url *url); /* idempotent */

/* "https", "host:port" and the path before keys ("" or "/BUCKET") by which the bucket is reached;
 * allocated. Needs url->region. */
struct s3_place {
	char *scheme, *host, *base;
};
int s3_url_place(const struct s3_url *url, struct s3_place *place, struct error *e);
void s3_place_deinit(struct s3_place *place);

#endif
