/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_SECRETS_H
#define ELSA_CLI_SECRETS_H

#include <jansson.h>

/* elsad gives root the tokens of sessions, which the spawner needs; they have no place on a screen
 * or in a ticket. Takes them out of a session, an operation or a list of either. */
void drop_secrets(json_t *value);

#endif
