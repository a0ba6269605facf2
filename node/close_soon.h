/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CLOSE_SOON_H
#define ELSA_NODE_CLOSE_SOON_H

/*
 * Closes a descriptor on a thread of its own. The kernel lets go of a packet socket,
 * and of a netfilter socket that has just removed something, when every processor
 * has passed through its scheduler, some 10 ms later: a session that is about to go
 * on does not wait for that. Thread-safe.
 */

void close_soon(int fd);

#endif
