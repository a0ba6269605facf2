/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_H
#define ELSA_CLOUD_S3_H

/* The parts of the S3 and Google backend, for one another; see cloud/object.h for what they do. */

#include "cloud/s3_call.h"

int s3_list(struct object_store *store, const char *prefix,
	    int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg,
	    struct error *e);
int s3_read(struct object_store *store, const char *key, uint64_t offset, void *to, size_t len,
	    struct error *e);
int s3_read_all(struct object_store *store, const char *key, struct buf *to, struct error *e);
int s3_stat(struct object_store *store, const char *key, struct object_stat *st, struct error *e);
int s3_put(struct object_store *store, const char *key, const void *data, size_t len,
	   bool if_absent, struct error *e);

#endif
