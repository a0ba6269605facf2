/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_HOME_H
#define ELSA_NODE_HOME_H

/*
 * The home directory of a session's user, outside the sandbox. Blocking, for
 * worker threads.
 */

#include "base/error.h"
#include "wire/messages.h"

/* Makes spec->home, private to its user, unless it is there. For new sessions only: a restored one
 * has lived in its home, and where that is missing now a file system is not mounted. */
int home_make(const struct session_spec *spec, struct error *e);

#endif
