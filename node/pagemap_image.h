/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGEMAP_IMAGE_H
#define ELSA_NODE_PAGEMAP_IMAGE_H

/*
 * CRIU's images of a memory that a checkpoint holds: which pages there are
 * (pagemap-*.img, CRIU's images/pagemap.proto) and what is in them
 * (pages-N.img, one page after the other).
 */

#include "base/buf.h"
#include "store/store.h"

/* The pagemap image of `memory`, whose pages are in pages-ID.img. -ENOMEM, -ENOBUFS. Pure. */
int pagemap_image(const struct store_memory *memory, uint32_t pages_id, struct buf *to);

/* Pages that a pagemap image leaves to a page service, ascending; allocated, NULL when there are
 * none. -EBADMSG. Pure. */
int pagemap_lazy_extents(const void *image, size_t len, struct store_extent **extents,
			 size_t *count, struct error *e);

/* All pages that a pagemap image names, likewise, and the number of the image that they are in. */
int pagemap_extents(const void *image, size_t len, uint32_t *pages_id,
		    struct store_extent **extents, size_t *count, struct error *e);

/* Which pages are written: all of them, or only those that CRIU does not leave to a page service.
 */
enum pages_part { PAGES_ALL, PAGES_EAGER };

/* What they take on a file system, about. */
uint64_t pagemap_images_bytes(struct store_read *read, enum pages_part part);

/* Both images of every memory of the checkpoint into `dir`; pages that are zero or not written are
 * holes. Blocking. */
int pagemap_images_write(struct store_read *read, enum pages_part part, const char *dir,
			 struct error *e);

#endif
