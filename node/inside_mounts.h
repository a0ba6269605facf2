/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_INSIDE_MOUNTS_H
#define ELSA_NODE_INSIDE_MOUNTS_H

#include "node/inside.h"

/* The session's mounts, in its own new mount namespace, and the change to its root. Allocates
 * nothing. 0 or a negative errno, with the step in *what. */
int inside_mount_all(const struct inside *in, const char **what);

#endif
