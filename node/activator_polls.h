/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_POLLS_H
#define ELSA_NODE_ACTIVATOR_POLLS_H

/* Which requests are an open page's and not a person's: wake.polls. Pure. */

#include "config/config.h"
#include "node/activator_head.h"

enum { POLL_PATH_SIZE = 1024 };

/* The path of a request's target below `base` ("/user/ada/"), percent-decoded, without a slash at
 * its end: "api/contents/a b". -EINVAL for what is not below it, or not in so plain a form. */
int poll_path(struct text target, const char *base, char to[POLL_PATH_SIZE]);

/* The value of a name in the target's query, as it is there; at: NULL when there is none. */
struct text poll_query(struct text target, const char *name);

/* The first that fits, or NULL. `path` is poll_path()'s. */
const struct config_poll *poll_find(const struct config_poll *polls, size_t count, const char *path,
				    struct text target);

#endif
