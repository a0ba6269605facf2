/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_INIT_INIT_H
#define ELSA_INIT_INIT_H

/* What elsa-node knows of elsa-init. */

/* Its descriptors of the vault: what is sent into the one waits in the other. High enough to be out
 * of the way, low enough for any limit. */
enum { INIT_VAULT_IN = 100, INIT_VAULT_OUT = 101 };

/* Begins the line on standard error that says why the command does not run. */
#define INIT_REFUSAL "elsa-init: "

#endif
