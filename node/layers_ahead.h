/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_LAYERS_AHEAD_H
#define ELSA_NODE_LAYERS_AHEAD_H

/*
 * An overlay's upper layer that is copied to another node while its session goes
 * on changing it: first as it is, and when the session stands still what has
 * changed since, with the names of all that there is, by which the copy loses
 * what is gone. Blocking; thread-safe.
 *
 * What is trusted is a file's change time: it is new with every write(2) that
 * begins and every page of a mapping that is written to for the first time since
 * it was last on disk. So layers_see() is to be called behind layers_sync(), and
 * with the session frozen for the moment, when no call is under way.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where it can be relied on that, and where there is so much that it pays. */
bool layers_ahead_pays(const char *upper);

/* *since: for layers_see(). */
int layers_sync(const char *upper, int64_t *since_ns, struct error *e);

/* What there is, with its change times; what has one of about `since_ns` or later is as if it had
 * not been seen. */
struct layers_seen;
int layers_see(const char *upper, int64_t since_ns, struct layers_seen **seen, struct error *e);
void *layers_seen_free(struct layers_seen *seen); /* returns NULL */

/* What may have changed since, as an archive, and the names of all there is. */
int layers_pack_since(const char *upper, const struct layers_seen *seen, const char *file,
		      const char *names, int timeout_ms, struct error *e);

/* On the copy, before that archive is unpacked over it: removes what `names` does not have, or has
 * as something of another kind. */
int layers_prune(const char *upper, const char *names, struct error *e);

#endif
