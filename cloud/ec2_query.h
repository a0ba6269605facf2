/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_EC2_QUERY_H
#define ELSA_CLOUD_EC2_QUERY_H

/* Calls of Amazon's Query APIs, for cloud/capacity_*.c: see cloud/capacity_call.h. */

#include "cloud/capacity.h"
#include "cloud/capacity_call.h"

struct ec2_service {
	const char *name;    /* "ec2", "autoscaling": as it is signed, and in its host's name */
	const char *version; /* "2016-11-15" */
};

int ec2_open(struct cloud_api *api, const struct ec2_service *service,
	     const struct cloud_options *options, struct error *e);

/* `what` is {"Name", "Value"} pairs up to a NULL name; `action` with its service, as a permission
 * is called: "ec2:CreateFleet". */
int ec2_call(struct cloud_api *api, struct cloud_call *call, const struct ec2_service *service,
	     const struct sigv4_pair *what, struct error *e);

#endif
