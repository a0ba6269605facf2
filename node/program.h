/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PROGRAM_H
#define ELSA_NODE_PROGRAM_H

#include "base/error.h"

/* Opens one of our own small programs, wherever this one was installed or built. A descriptor, or
 * negative with the remedy. Thread-safe. */
int program_open(const char *name, struct error *e);
/* Its path, for whoever opens it himself; allocated. */
int program_path(const char *name, char **path, struct error *e);

#endif
