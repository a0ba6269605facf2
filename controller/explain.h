/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EXPLAIN_H
#define ELSA_CONTROLLER_EXPLAIN_H

/* Why a session is as it is, from what is on record, and what comes next, by the policies. One
 * thread. */

#include "controller/sessions.h"

#include <jansson.h>

json_t *explain_json(struct session *s, struct error *e); /* a new reference; NULL: *e says why */

#endif
