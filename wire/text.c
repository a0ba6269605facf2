/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/text.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 sequence at `p` (RFC 3629: shortest form, no surrogates, up to U+10FFFF), or
 * 0. Never reads past a NUL. */
static size_t sequence_length(const unsigned char *p)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (p[0] < 0x80)
		return 1;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc0 || p[0] > 0xf4)
		return 0;
	uint32_t code = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < smallest[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return len;
}

static int replace_bad(const char *text, struct buf *to)
{
	static const char replacement[] = "\xef\xbf\xbd";
	int r = 0;
	while (*text && r == 0) {
		size_t len = sequence_length((const unsigned char *)text);
		r = buf_append(to, len ? text : replacement, len ? len : strlen(replacement));
		text += len ? len : 1;
	}
	return r;
}

json_t *wire_text(const char *text)
{
	json_t *json = json_string(text);
	if (json)
		return json;
	cleanup_buf struct buf clean = BUF_INIT(3 * strlen(text));
	if (replace_bad(text, &clean) < 0)
		return NULL;
	return json_string(buf_text(&clean));
}

const char *wire_text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

int64_t wire_number_at(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}
