/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CAPACITY_COMMAND_H
#define ELSA_CLOUD_CAPACITY_COMMAND_H

/*
 * What the command of provider "command" prints when it is asked to describe a
 * pool: {"desired": 2, "instances": [{"id": "m1", "state": "running", "zone": ...,
 * "type": ..., "price": ..., "refused": ...}]}. "desired" and all but "id" may be
 * left out. Pure, thread-safe; -EBADMSG.
 */

#include "cloud/capacity.h"

int command_read_pool(const char *data, size_t len, struct cloud_pool *pool, struct error *e);

#endif
