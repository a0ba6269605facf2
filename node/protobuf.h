/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PROTOBUF_H
#define ELSA_NODE_PROTOBUF_H

/*
 * Reading CRIU's images: messages of protobuf, field by field, each with its
 * length before it (criu/protobuf.c). Pure; bytes are borrowed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct span {
	const uint8_t *at, *end;
};

struct field {
	uint32_t number;
	uint64_t value;    /* of a varint */
	struct span bytes; /* of a length-delimited one; `at` NULL of others */
	struct span all;   /* with its key, to be copied */
};

/* 1 and a field, 0 at the end, -EBADMSG. */
int protobuf_next(struct span *s, struct field *f);

/* What each image begins with: this number, then one of its kind (criu/include/magic.h). */
#define PROTOBUF_IMAGE_MAGIC 0x54564319u
/* Skips both; false when it is no image of that kind. */
bool protobuf_image(struct span *s, uint32_t magic);

/* The host's order, as CRIU writes it. False at the end. */
bool protobuf_u32(struct span *s, uint32_t *value);

/* The next message of an image: 1, 0 at the end, -EBADMSG. */
int protobuf_message(struct span *s, struct span *message);

#endif
