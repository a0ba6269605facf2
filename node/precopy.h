/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PRECOPY_H
#define ELSA_NODE_PRECOPY_H

/*
 * The memory of a session that is about to come here, copied while it runs where
 * it is, if policies/precopy.h is for it. What has come is ef->move->ahead's.
 */

#include "node/effect.h"

/* A step of a migration. Negative: it does not come. What only went wrong with this is not that. */
int precopy_run(struct effect *ef, struct error *e);

#endif
