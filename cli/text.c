/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* wcwidth() */
#include "cli/text.h"

#include <stdint.h>
#include <string.h>
#include <wchar.h>

#define BAD 0xffffffffu

/* By its first byte; 0: it begins no character. */
static size_t character_bytes(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* RFC 3629. The bytes of the first character, and the character; one and BAD for what is none. */
static size_t decode(const char *text, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *b = (const unsigned char *)text;
	size_t len = character_bytes(b[0]);
	*c = BAD;
	if (len == 0)
		return 1;
	uint32_t value = len == 1 ? b[0] : b[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 1;
		value = value << 6 | (b[i] & 0x3f);
	}
	if (value < least[len] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		return 1;
	*c = value;
	return len;
}

/* C0 and C1 controls, line and paragraph separators, marks and overrides of direction. */
static bool is_obeyed(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == BAD;
}

void text_harmless(const char *from, char *to, size_t size)
{
	size_t n = 0;
	while (*from) {
		uint32_t c;
		size_t len = decode(from, &c);
		bool obeyed = is_obeyed(c);
		size_t room = obeyed ? 1 : len;
		if (n + room + 1 > size)
			break;
		memcpy(to + n, obeyed ? "?" : from, room);
		n += room;
		from += len;
	}
	to[n] = '\0';
}

static void print_but(FILE *to, const char *text, const char *kept)
{
	while (*text) {
		uint32_t c;
		size_t len = decode(text, &c);
		if (is_obeyed(c) && !strchr(kept, *text))
			fputc('?', to);
		else
			fwrite(text, 1, len, to);
		text += len;
	}
}

void text_print_name(FILE *to, const char *name)
{
	print_but(to, name, "");
}

void text_print(FILE *to, const char *text)
{
	print_but(to, text, "\n\t");
}

/* In a locale that knows no such character, each is taken for one column wide. */
static int character_width(uint32_t c)
{
	int width = c == BAD ? 1 : wcwidth((wchar_t)c);
	return width < 0 ? 1 : width;
}

int text_width(const char *text)
{
	int width = 0;
	while (*text) {
		uint32_t c;
		text += decode(text, &c);
		width += character_width(c);
	}
	return width;
}

void text_cut(char *text, size_t size, int columns)
{
	static const char more[] = "\u2026";
	int width = 0;
	char *cut = text;
	if (text_width(text) <= columns)
		return;
	for (char *p = text; *p;) {
		uint32_t c;
		p += decode(p, &c);
		width += character_width(c);
		if (width > columns - 1)
			break;
		cut = p;
	}
	snprintf(cut, size - (size_t)(cut - text), "%s", more);
}

bool text_is_utf8(const char *text)
{
	while (*text) {
		uint32_t c;
		text += decode(text, &c);
		if (c == BAD)
			return false;
	}
	return true;
}
