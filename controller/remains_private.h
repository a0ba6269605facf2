/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_REMAINS_PRIVATE_H
#define ELSA_CONTROLLER_REMAINS_PRIVATE_H

/* What controller/remains.c and controller/remains_clear.c share. */

#include "controller/remains.h"

enum { REMAINS_TIMEOUT_MS = 30000 }; /* of a question to a node */

/* They are not settled for good; `r` is only compared. */
bool remains_exist(const struct controller *c, const void *r);

/* What a node has of a session, if there is anything but its end to tell; NULL. */
const struct session_status *remains_status(const struct session_status_list *list, const char *id);

#endif
