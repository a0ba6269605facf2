/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STORE_TRANSFER_H
#define ELSA_NODE_STORE_TRANSFER_H

/*
 * A pipe between a worker that reads or writes a tar and callers on the loop
 * that fetch or bring it part by part. Whoever asks for nothing for a minute is
 * taken for gone; the worker then meets the end of the pipe. On the loop but for
 * the two functions of the worker.
 */

#include "base/error.h"
#include "node/store_jobs.h"

#include <event2/event.h>
#include <stdbool.h>

struct transfer;

/* `out`: the worker writes. */
int transfer_new(struct event_base *base, bool out, struct transfer **transfer, struct error *e);
void transfer_free(struct transfer *t); /* the worker has ended; tells nobody */

/* The worker's. */
int transfer_worker_fd(const struct transfer *t);
void transfer_worker_ends(struct transfer *t); /* closes it */

/* After that, on the loop: how it ended, for who asks or will ask. */
void transfer_ended(struct transfer *t, const struct error *failure);

int transfer_take(struct transfer *t, size_t most, store_part *told, void *arg, struct error *e);
int transfer_give(struct transfer *t, const char *data, size_t len, store_part *told, void *arg,
		  struct error *e);
void transfer_give_up(struct transfer *t);    /* who asked has gone */
void transfer_cut(struct transfer *t);        /* no more of it */
bool transfer_busy(const struct transfer *t); /* there may be more of it; false for NULL */

#endif
