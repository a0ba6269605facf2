/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_EC2_QUERY_H
#define ELSA_CLOUD_EC2_QUERY_H

/* Calls of Amazon's Query APIs, for cloud/capacity_*.c, and what its providers have in common: see
 * cloud/capacity_call.h. */

#include "cloud/capacity.h"
#include "cloud/capacity_call.h"

struct ec2_service {
	const char *name;    /* "ec2", "autoscaling": as it is signed, and in its host's name */
	const char *version; /* "2016-11-15" */
};

int ec2_capacity_open(const struct ec2_service *service, const struct cloud_options *options,
		      struct cloud_capacity **capacity, struct error *e);
void ec2_capacity_free(struct cloud_capacity *c);
struct cloud_api *ec2_capacity_api(struct cloud_capacity *c);

/* `what` is {"Name", "Value"} pairs up to a NULL name; `action` with its service, as a permission
 * is called: "ec2:CreateFleet". */
int ec2_capacity_call(struct cloud_capacity *c, struct cloud_call *call,
		      const struct sigv4_pair *what, struct error *e);
/* The same that ends an instance: one that is not there is none the less ended. `call` is freed. */
int ec2_capacity_end(struct cloud_capacity *c, struct cloud_call *call,
		     const struct sigv4_pair *what, struct error *e);

#endif
