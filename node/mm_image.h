/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MM_IMAGE_H
#define ELSA_NODE_MM_IMAGE_H

/* What CRIU's image of a process's mappings (mm-PID.img, images/mm.proto) says. Pure. */

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct mm_range {
	uint64_t start, end; /* addresses */
};

/* Mappings that are marked MADV_WIPEONFORK, ascending as in the image; allocated, NULL when there
 * are none. -EBADMSG. */
int mm_image_wiped(const void *image, size_t len, struct mm_range **ranges, size_t *count,
		   struct error *e);

#endif
