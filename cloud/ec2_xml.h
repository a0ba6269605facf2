/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_EC2_XML_H
#define ELSA_CLOUD_EC2_XML_H

/*
 * The XML answers of Amazon's Query APIs: EC2 and EC2 Auto Scaling. No I/O,
 * thread-safe. What comes from outside is bounded: text longer than
 * EC2_TEXT_MAX, elements nested deeper than EC2_DEPTH_MAX or a document type
 * declaration are -EBADMSG, as is what is no XML.
 */

#include "cloud/capacity.h"
#include "cloud/capacity_call.h"

#include <stddef.h>

#define EC2_TEXT_MAX  4096
#define EC2_DEPTH_MAX 24

/* Called at the end of each element: `path` is "Outermost/.../Itself", `text` what stands directly
 * in it after its last child. Nonzero stops and is returned. */
typedef int (*ec2_element)(const char *path, const char *text, void *arg);
int ec2_xml_read(const char *data, size_t len, ec2_element each, void *arg);

/* Whether `path` ends in `end`, which begins with '/'. */
bool ec2_path_is(const char *path, const char *end);

/* <Error> of any of them; empty when there is none. */
void ec2_read_refusal(const char *data, size_t len, struct cloud_refusal *refusal);

/* DescribeAutoScalingGroups of one group; -ENOENT: there is no such group. */
int ec2_read_group(const char *data, size_t len, struct cloud_pool *pool);

/* DescribeScalingActivities: the newest try to launch into the pool's `refused`. */
int ec2_read_activities(const char *data, size_t len, struct cloud_pool *pool);

struct ec2_fleet {
	size_t launched;
	struct cloud_refusal refusal; /* the first of its errors */
};
/* CreateFleet of type instant. */
int ec2_read_fleet(const char *data, size_t len, struct ec2_fleet *fleet);

/* DescribeInstances: adds to the pool's. `next` gets the token of the next page; "" for the last.
 */
int ec2_read_instances(const char *data, size_t len, struct cloud_pool *pool, char next[2048]);

#endif
