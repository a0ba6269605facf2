/* SPDX-License-Identifier: Apache-2.0 */
#include "node/protobuf.h"

#include <errno.h>
#include <string.h>

static bool take_varint(struct span *s, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; s->at < s->end && shift < 64; shift += 7) {
		uint8_t byte = *s->at++;
		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static bool skip(struct span *s, uint64_t len)
{
	if (len > (uint64_t)(s->end - s->at))
		return false;
	s->at += len;
	return true;
}

int protobuf_next(struct span *s, struct field *f)
{
	uint64_t key, len;
	*f = (struct field) { .all.at = s->at };
	if (s->at == s->end)
		return 0;
	if (!take_varint(s, &key))
		return -EBADMSG;
	f->number = (uint32_t)(key >> 3);
	bool ok = false;
	switch (key & 7) {
	case WIRE_VARINT:
		ok = take_varint(s, &f->value);
		break;
	case WIRE_FIXED64:
		ok = skip(s, 8);
		break;
	case WIRE_FIXED32:
		ok = skip(s, 4);
		break;
	case WIRE_BYTES:
		ok = take_varint(s, &len);
		f->bytes.at = s->at;
		ok = ok && skip(s, len);
		f->bytes.end = s->at;
		break;
	default:
		break;
	}
	f->all.end = s->at;
	return ok ? 1 : -EBADMSG;
}

bool protobuf_u32(struct span *s, uint32_t *value)
{
	if (s->end - s->at < 4)
		return false;
	memcpy(value, s->at, 4);
	s->at += 4;
	return true;
}

bool protobuf_image(struct span *s, uint32_t magic)
{
	uint32_t common, kind;
	return protobuf_u32(s, &common) && protobuf_u32(s, &kind) &&
	       common == PROTOBUF_IMAGE_MAGIC && kind == magic;
}

int protobuf_message(struct span *s, struct span *message)
{
	uint32_t size;
	if (s->at == s->end)
		return 0;
	if (!protobuf_u32(s, &size))
		return -EBADMSG;
	message->at = s->at;
	if (!skip(s, size))
		return -EBADMSG;
	message->end = s->at;
	return 1;
}
