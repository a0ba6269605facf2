/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGE_SINK_H
#define ELSA_NODE_PAGE_SINK_H

/*
 * The receiving side of `criu dump --page-server --ps-socket FD`: memory goes
 * from CRIU through a socket straight into a checkpoint being written, and
 * nothing of it lies on a disk in the clear. A memory is called as CRIU's image
 * would be: "pagemap-PID.img" or "pagemap-shmem-ID.img". One thread of its own.
 */

#include "store/store.h"

struct page_sink;

/* *socket: CRIU's end; the caller closes it once CRIU has it. `write` is borrowed until wait(). */
int page_sink_start(struct store_write *write, struct page_sink **sink, int *socket,
		    struct error *e);
/* No more is stored; the rest is taken all the same, and CRIU told that the dump has failed, so
 * that it lets go of the processes in order. For a store that takes too long. */
void page_sink_give_up(struct page_sink *sink);
/* After CRIU has ended or said that it has dumped, and the caller has closed CRIU's end: all pages
 * have been taken, or why not. -EPIPE: CRIU went away before that; what it says itself says more.
 */
int page_sink_wait(struct page_sink *sink, struct error *e);
/* Hangs up if it is still at it. Returns NULL. */
void *page_sink_free(struct page_sink *sink);

#endif
