/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_TEARDOWN_H
#define ELSA_NODE_TEARDOWN_H

/* `elsa-node teardown`: takes everything of ours off the host. The checkpoints and logs stay. */

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>

/* Refuses (-EBUSY) while a session runs, unless `all` says to end them. The daemon must not run. */
int teardown_run(const struct config *config, bool all, struct error *e);

/* One elsa-node per state directory; held until the process ends. -EBUSY when another has it. */
int teardown_lock(const struct config *config, struct error *e);

#endif
