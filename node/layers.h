/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_LAYERS_H
#define ELSA_NODE_LAYERS_H

/*
 * The overlay's upper layer, the session's own files outside its home, as one
 * file "upper.tar" of a checkpoint, with all that a layer needs: whiteouts,
 * extended attributes, holes, hard links. It goes through a pipe between tar and
 * the store. Blocking.
 */

#include "store/store.h"

#define LAYERS_FILE "upper.tar"

int layers_save(const char *upper, struct store_write *write, int timeout_ms, struct error *e);
/* Into an `upper` that is empty, or holds what an earlier attempt left. */
int layers_load(const char *upper, struct store_read *read, int timeout_ms, struct error *e);

/* The same with a file on this machine. */
int layers_pack(const char *upper, const char *file, int timeout_ms, struct error *e);
int layers_unpack(const char *upper, const char *file, int timeout_ms, struct error *e);

#endif
