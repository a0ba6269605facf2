/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_IDENTITY_H
#define ELSA_NODE_ACTIVATOR_IDENTITY_H

/*
 * What a session's server says to who asks it "who am I?" (GET api/me), of somebody
 * else than it was recorded for. Pure.
 */

#include <stddef.h>

/* From what it said to `owner`: its answer to `guest`, allocated. By default a server knows no more
 * of anybody than the name that the Hub has told it, and says that; NULL when it has said more,
 * which of the guest only the session knows. */
char *identity_for(const char *recorded, size_t len, const char *owner, const char *guest);

#endif
