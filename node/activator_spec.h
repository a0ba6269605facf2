/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_SPEC_H
#define ELSA_NODE_ACTIVATOR_SPEC_H

/* What JupyterHub has told a session in its environment. Pure. */

#include "wire/messages.h"

/* The value of NAME=VALUE, borrowed; NULL when there is none. */
const char *spec_variable(const struct session_spec *spec, const char *name);

/* "/user/ada/": with a slash at both ends; allocated, or NULL. */
char *spec_base_url(const struct session_spec *spec);

#endif
