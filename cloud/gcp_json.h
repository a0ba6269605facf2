/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_GCP_JSON_H
#define ELSA_CLOUD_GCP_JSON_H

/* The JSON answers of Google's Compute API. No I/O, thread-safe. What cannot be read is -EBADMSG.
 */

#include "cloud/capacity.h"
#include "cloud/capacity_call.h"

/* {"error": ...}; empty when there is none. `code` is the first reason ("quotaExceeded"), or the
 * status ("PERMISSION_DENIED"). */
void gcp_read_refusal(const char *data, size_t len, struct cloud_refusal *refusal);

/* An instance group manager: its target size. */
int gcp_read_group(const char *data, size_t len, struct cloud_pool *pool);

/* listManagedInstances: adds to the pool's. `next` gets the next page's token; "" for the last. */
int gcp_read_instances(const char *data, size_t len, struct cloud_pool *pool, char next[2048]);

struct gcp_operation {
	char name[128];
	bool done;
	struct cloud_refusal refusal; /* it failed */
};
int gcp_read_operation(const char *data, size_t len, struct gcp_operation *operation);

#endif
