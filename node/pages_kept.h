/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_KEPT_H
#define ELSA_NODE_PAGES_KEPT_H

/* Frames that have been read and are put into place later, first in, first out. Pure; not
 * thread-safe. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pages_kept_frame {
	uint32_t frame;
	size_t len;
	unsigned char *data; /* NULL: taken out */
};

struct pages_kept {
	struct pages_kept_frame *list;
	size_t count, size;
	size_t next;  /* to be taken out */
	size_t bytes; /* kept */
};
void pages_kept_deinit(struct pages_kept *k); /* idempotent */

/* A copy of it; -ENOMEM. */
int pages_kept_add(struct pages_kept *k, uint32_t frame, const void *data, size_t len);
/* Until it is taken out; NULL. */
const struct pages_kept_frame *pages_kept_find(const struct pages_kept *k, uint32_t frame);
/* Its data is the caller's to free. False: there is none. */
bool pages_kept_take(struct pages_kept *k, struct pages_kept_frame *to);

#endif
