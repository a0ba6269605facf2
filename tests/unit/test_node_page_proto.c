/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "node/page_proto.h"
#include "node/pagemap_image.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PADDING 0xaa, 0xaa, 0xaa, 0xaa /* CRIU does not clear it */
#define ZEROS   0, 0, 0, 0, 0, 0, 0, 0

/* The memory of process 7: id 7 << 8 | 1. */
static const uint8_t open_long[32] = { 4, 0, 0, 0, PADDING, ZEROS, ZEROS, 1, 7 };
static const uint8_t open_short[24] = { 4, 0, 0, 0, 0, 0, 0, 0, ZEROS, 1, 7 };
/* Shared memory 0x1234, asked for its past. */
static const uint8_t parent_long[32] = { 5, 0, 0, 0, PADDING, ZEROS, ZEROS, 2, 0x34, 0x12 };
/* Two pages at 0x7000, present and lazy. */
static const uint8_t add_long[32] = { 6, 0, 6,    0, PADDING, 2, 0, 0, 0, 0, 0, 0,
				      0, 0, 0x70, 0, 0,       0, 0, 0, 0, 1, 7 };
static const uint8_t add_short[24] = { 6, 0, 6, 0, 2, 0, 0, 0, 0, 0x70, 0, 0, 0, 0, 0, 0, 1, 7 };
static const uint8_t close_long[32] = { 0x24, 0x10 };
static const uint8_t close_short[24] = { 0x23, 0x10 };

static void check(struct page_proto *p, const uint8_t *bytes, size_t len, enum page_command command,
		  uint64_t vaddr, uint64_t pages, uint32_t flags)
{
	struct page_message m;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(page_proto_parse(p, bytes, i, &m), 0);
	assert_int_equal(page_proto_parse(p, bytes, len, &m), len);
	assert_int_equal(m.command, command);
	assert_int_equal(m.vaddr, vaddr);
	assert_int_equal(m.pages, pages);
	assert_int_equal(m.flags, flags);
}

static void test_both_layouts(void **state)
{
	(void)state;
	struct page_proto p = { 0 };
	check(&p, open_long, 32, PAGE_OPEN, 0, 0, 0);
	check(&p, add_long, 32, PAGE_ADD, 0x7000, 2, PAGE_PRESENT | PAGE_LAZY);
	check(&p, close_long, 32, PAGE_CLOSE, 0, 0, 0);
	p = (struct page_proto) { 0 };
	check(&p, open_short, 24, PAGE_OPEN, 0, 0, 0);
	check(&p, add_short, 24, PAGE_ADD, 0x7000, 2, PAGE_PRESENT | PAGE_LAZY);
	check(&p, close_short, 24, PAGE_CLOSE, 0, 0, 0);
}

static void test_a_question_first(void **state)
{
	(void)state;
	struct page_proto p = { 0 };
	struct page_message m;
	assert_int_equal(page_proto_parse(&p, parent_long, 32, &m), 32);
	assert_int_equal(m.command, PAGE_PARENT);
	assert_int_equal(m.memory, PAGE_OF_SHMEM);
	assert_int_equal(m.id, 0x1234);
	assert_false(p.open);
}

static void test_nothing_dumped(void **state)
{
	(void)state;
	struct page_proto p = { 0 };
	check(&p, close_short, 24, PAGE_CLOSE, 0, 0, 0);
}

struct header {
	uint32_t command, padding;
	uint64_t pages, vaddr, memory;
};

static void test_refused(void **state)
{
	(void)state;
	static const struct header cases[] = {
		{ 6 | 4 << 16, 0, 0, 0x9000, 0x701 },                 /* no pages */
		{ 6 | 4 << 16, 0, 1, 0x8000, 0x701 },                 /* there already */
		{ 6 | 4 << 16, 0, 1, 0x9001, 0x701 },                 /* not a page's address */
		{ 6 | 4 << 16, 0, 1, 0x9000, 0x801 },                 /* another process's */
		{ 6 | 4 << 16, 0, 1, 0x9000, 0x702 },                 /* ... kind */
		{ 6 | 4 << 16, 0, UINT64_MAX / 4096, 0x9000, 0x701 }, /* too far */
		{ 6 | 4 << 16, 0, 2, UINT64_MAX - 0xfff, 0x701 },     /* ... from the end */
		{ 6 | 1 << 16, 0, 1, 0x9000, 0x701 },                 /* "as in the parent" */
		{ 6 | 2 << 16, 0, 1, 0x9000, 0x701 },                 /* kept back */
		{ 6, 0, 1, 0x9000, 0x701 },                           /* no flags */
		{ 6 | 12 << 16, 0, 1, 0x9000, 0x701 },                /* unknown ones */
		{ 4, 0, 0, 0, 0x703 },                                /* neither kind */
		{ 7, 0, 1, 0x9000, 0x701 },                           /* wants pages of us */
		{ 1, 0, 1, 0x9000, 0x701 },                           /* of old */
		{ 0xffff, 0, 0, 0, 0x701 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct page_proto p = { 0 };
		struct page_message m;
		check(&p, open_long, 32, PAGE_OPEN, 0, 0, 0);
		check(&p, add_long, 32, PAGE_ADD, 0x7000, 2, PAGE_PRESENT | PAGE_LAZY);
		if (page_proto_parse(&p, &cases[i], 32, &m) != -EPROTO)
			fail_msg("case %zu", i);
	}
}

static void test_pages_of_nothing(void **state)
{
	(void)state;
	struct page_proto p = { 0 };
	struct page_message m;
	assert_int_equal(page_proto_parse(&p, add_long, 32, &m), -EPROTO);
	check(&p, parent_long, 32, PAGE_PARENT, 0, 0, 0);
	assert_int_equal(page_proto_parse(&p, add_long, 32, &m), -EPROTO);
}

static void test_next_memory_starts_anew(void **state)
{
	(void)state;
	struct page_proto p = { 0 };
	check(&p, open_long, 32, PAGE_OPEN, 0, 0, 0);
	check(&p, add_long, 32, PAGE_ADD, 0x7000, 2, PAGE_PRESENT | PAGE_LAZY);
	check(&p, open_long, 32, PAGE_OPEN, 0, 0, 0);
	check(&p, add_long, 32, PAGE_ADD, 0x7000, 2, PAGE_PRESENT | PAGE_LAZY);
}

static void test_answers(void **state)
{
	(void)state;
	static const struct {
		enum page_command command;
		bool failed;
		size_t len;
		uint8_t bytes[4];
	} cases[] = {
		{ PAGE_OPEN, false, 1, { 0 } },
		{ PAGE_OPEN, true, 1, { 0 } },
		{ PAGE_PARENT, true, 4, { 0 } },
		{ PAGE_ADD, false, 0, { 0 } },
		{ PAGE_CLOSE, false, 4, { 0 } },
		{ PAGE_CLOSE, true, 4, { 0xff, 0xff, 0xff, 0xff } },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t answer[PAGE_PROTO_ANSWER];
		struct page_message m = { .command = cases[i].command };
		assert_int_equal(page_proto_answer(&m, cases[i].failed, answer), cases[i].len);
		assert_memory_equal(answer, cases[i].bytes, cases[i].len);
	}
}

static void test_names(void **state)
{
	(void)state;
	char name[PAGE_PROTO_NAME];
	page_proto_name(PAGE_OF_PROCESS, 12, name);
	assert_string_equal(name, "pagemap-12.img");
	page_proto_name(PAGE_OF_SHMEM, UINT64_MAX, name);
	assert_string_equal(name, "pagemap-shmem-18446744073709551615.img");
}

/* As CRIU 4.2 writes it, but for the number of pages in the old field, too. */
static void test_pagemap_image(void **state)
{
	(void)state;
	static const uint8_t image[] = {
		0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, /* two magic numbers */
		3,    0,    0,    0,    0x08, 0xac, 0x02,       /* pages_id 300 */
		10,   0,    0,    0,    0x08, 0x80, 0x80, 0x01, 0x10, 2,    0x20, 6,
		0x28, 2,    17,   0,    0,    0,    0x08, 0x80, 0xe0, 0xff, 0xff, 0xff,
		0xff, 0xff, 0x01, 0x10, 0x80, 0x02, 0x20, 4,    0x28, 0x80, 0x02,
	};
	struct store_extent extents[] = { { 0x4000, 2, 6 }, { 0x3fffffffff000, 256, 4 } };
	struct store_memory m = { .name = (char *)"pagemap-1.img",
				  .extents = extents,
				  .extent_count = 2 };
	cleanup_buf struct buf to = BUF_INIT(1000);
	assert_int_equal(pagemap_image(&m, 300, &to), 0);
	assert_int_equal(to.len, sizeof(image));
	assert_memory_equal(to.data, image, sizeof(image));
}

static void test_pagemap_image_is_capped(void **state)
{
	(void)state;
	struct store_memory m = { .name = (char *)"pagemap-1.img" };
	cleanup_buf struct buf to = BUF_INIT(10);
	assert_int_equal(pagemap_image(&m, 1, &to), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_layouts),
		cmocka_unit_test(test_a_question_first),
		cmocka_unit_test(test_nothing_dumped),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_pages_of_nothing),
		cmocka_unit_test(test_next_memory_starts_anew),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_pagemap_image),
		cmocka_unit_test(test_pagemap_image_is_capped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
