/* SPDX-License-Identifier: Apache-2.0 */
/* What of a process a fork is to find empty, by CRIU's image of its mappings. */
#include "node/mm_image.h"

#include "base/cleanup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Two magic numbers, the length of the message, the message. */
#define HEAD(len)      "\x19\x43\x56\x54\x20\x28\x49\x57" len "\0\0\0"
#define WIPED          "\x80\x80\x10" /* 1 << 18 */
#define DONTDUMP       "\x80\x80\x04" /* 1 << 16 */
#define VMA(len, what) "\x72" len what
#define TEXT(text)     text, sizeof(text) - 1

static const struct {
	const char *name;
	const char *image;
	size_t len;
	int result;
	size_t count;
	struct mm_range ranges[2];
} cases[] = {
	{ "no mapping", TEXT(HEAD("\x02") "\x08\x05"), 0, 0, { { 0 } } },
	{ "none that is marked",
	  TEXT(HEAD("\x12") VMA("\x04", "\x08\x01\x10\x02")
		       VMA("\x0a", "\x08\x02\x10\x03\x48" DONTDUMP "\x28\x03")),
	  0,
	  0,
	  { { 0 } } },
	{ "one of two",
	  TEXT(HEAD("\x10") VMA("\x04", "\x08\x01\x10\x02")
		       VMA("\x08", "\x08\x02\x10\x05\x48" WIPED)),
	  0,
	  1,
	  { { 2, 5 } } },
	{ "both",
	  TEXT(HEAD("\x14") VMA("\x08", "\x08\x01\x10\x02\x48" WIPED)
		       VMA("\x08", "\x08\x02\x10\x05\x48" WIPED)),
	  0,
	  2,
	  { { 1, 2 }, { 2, 5 } } },
	{ "empty", TEXT(""), -EBADMSG, 0, { { 0 } } },
	{ "of another kind",
	  TEXT("\x19\x43\x56\x54\x21\x28\x49\x57\x02\0\0\0\x08\x05"),
	  -EBADMSG,
	  0,
	  { { 0 } } },
	{ "cut short", TEXT(HEAD("\x02") "\x08"), -EBADMSG, 0, { { 0 } } },
	{ "a mapping that is cut short",
	  TEXT(HEAD("\x03") VMA("\x04", "\x08")),
	  -EBADMSG,
	  0,
	  { { 0 } } },
	{ "a mapping that ends before it begins",
	  TEXT(HEAD("\x06") VMA("\x04", "\x08\x02\x10\x01")),
	  -EBADMSG,
	  0,
	  { { 0 } } },
};

static void test_wiped(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct error e = ERROR_INIT;
		cleanup_free struct mm_range *ranges = NULL;
		size_t count = 0;
		int r = mm_image_wiped(cases[i].image, cases[i].len, &ranges, &count, &e);
		if (r != cases[i].result || count != cases[i].count ||
		    (count && memcmp(ranges, cases[i].ranges, count * sizeof(*ranges)) != 0))
			fail_msg("%s: %d, %zu (%s)", cases[i].name, r, count, e.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_wiped) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
