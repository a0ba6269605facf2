/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_TRY_H
#define ELSA_CONTROLLER_TRY_H

/*
 * What another config would decide on the state of now, beside what the one in
 * force does; nothing is done. One thread.
 */

#include "controller/controller.h"

/* docs/api.md, POST /v1/policy/try: answers, when what is on record has been read. Takes the
 * config. */
void policy_try(struct controller *c, struct config *config, struct http_exchange *x);

#endif
