/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_TOKENS_H
#define ELSA_CONTROLLER_TOKENS_H

/*
 * Tokens by which nodes join, and who tries wrong ones: after a few, an address
 * is not listened to for a while that doubles with each. One thread.
 */

#include "controller/nodes_api.h"

struct tokens *tokens_new(void); /* or NULL */
void *tokens_free(struct tokens *t);

/* -EAGAIN while `address` has to wait; *retry_s then says how long. */
int tokens_listen_to(struct tokens *t, const char *address, mono_us now, int64_t *retry_s,
		     struct error *e);
void tokens_wrong(struct tokens *t, const char *address, mono_us now);
void tokens_right(struct tokens *t, const char *address);

/* The row of a token that its owner showed. -EACCES: no such token, or not its secret; it has
 * expired; or, with `again` unset, it has been used up. `again`: the same host asks once more,
 * since it may have missed the answer. */
int tokens_check(struct controller *c, const char *text, struct db_join_token *row,
		 struct error *e);
int tokens_take(struct controller *c, struct db_join_token *row, bool again, struct error *e);

#endif
