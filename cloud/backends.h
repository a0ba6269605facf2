/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_BACKENDS_H
#define ELSA_CLOUD_BACKENDS_H

/* The kinds of object store, for cloud/object.c alone: `rest` is the URL after its scheme. */

#include "cloud/object.h"

int file_store_open(const char *rest, struct object_store **store, struct error *e);
/* object_list() below a directory; file_store_open()'s other half. */
int file_store_list(const char *root, const char *prefix,
		    int (*each)(const char *key, const struct object_stat *st, void *arg),
		    void *arg, struct error *e);
int memory_store_open(const char *rest, struct object_store **store, struct error *e);
int s3_store_open(const char *rest, struct object_store **store, struct error *e);
int gs_store_open(const char *rest, struct object_store **store, struct error *e);

#endif
