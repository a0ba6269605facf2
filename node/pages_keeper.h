/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_KEEPER_H
#define ELSA_NODE_PAGES_KEEPER_H

/*
 * The one moment in which a kill would lose a descriptor: the kernel tells of a
 * fork and puts the child's userfaultfd into our table, and we have not yet put
 * it into the vault. The keeper is a process that shares our table, so what is in
 * it outlives us; when it sees us gone, it puts such a descriptor into the vault
 * and ends. One for this program, whatever number of sessions. Thread-safe.
 */

#include "base/error.h"
#include "node/pages_record.h"
#include "node/vault.h"

struct pages_keeper; /* what it watches for one session */

/* Starts it if it does not run. Best early: it is a fork of this program. */
int pages_keeper_start(struct error *e);

/* Before this program becomes another one: the keeper would hold on to all of its descriptors. */
void pages_keeper_stop(void);

/* `v` stays open until unwatch. */
int pages_keeper_watch(const struct vault *v, struct pages_keeper **keeper, struct error *e);
void *pages_keeper_unwatch(struct pages_keeper *keeper); /* returns NULL */

/* An event is about to be read into the next entry of the record. */
void pages_keeper_expect(struct pages_keeper *keeper, const struct pages_record *r);

#endif
