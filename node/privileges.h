/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PRIVILEGES_H
#define ELSA_NODE_PRIVILEGES_H

#include "node/seccomp.h"

#include <sys/types.h>

/* Makes the calling process, which must be root and have one thread, an ordinary user's: no
 * supplementary groups, no capability in any set (bounding set included), no_new_privs, and the
 * filter. There is no way back. 0 or a negative errno, with the step in *what. */
int privileges_drop(uid_t uid, gid_t gid, const struct seccomp_program *filter, const char **what);

#endif
