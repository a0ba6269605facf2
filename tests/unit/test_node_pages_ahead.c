/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of read-ahead; frames that are kept for later. */
#include "node/pages_ahead.h"
#include "node/pages_kept.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Faults one after the other, in pages; what is asked for with each. */
struct fault {
	uint64_t page;
	int32_t number;
	uint64_t start, end; /* the same: nothing */
	bool follows, scans;
};

static void check(const char *what, bool far, const struct fault *faults, size_t count)
{
	struct pages_ahead a = { 0 };
	for (size_t i = 0; i < count; i++) {
		const struct fault *f = &faults[i];
		struct pages_window w = pages_ahead(&a, f->number, f->page * 4096, far);
		bool right = f->start == f->end
				     ? w.start == w.end
				     : w.start == f->start * 4096 && w.end == f->end * 4096;
		if (!right || w.follows != f->follows || w.scans != f->scans)
			fail_msg("%s: fault %zu at page %llu: %llu to %llu, follows %d, scans %d",
				 what, i, (unsigned long long)f->page,
				 (unsigned long long)w.start / 4096,
				 (unsigned long long)w.end / 4096, w.follows, w.scans);
	}
}
#define CHECK(what, far, ...)                                                                      \
	do {                                                                                       \
		static const struct fault list[] = { __VA_ARGS__ };                                \
		check(what, far, list, ARRAY_SIZE(list));                                          \
	} while (0)

static void test_near(void **state)
{
	(void)state;
	CHECK("here and there", false, { 1000, 1 }, { 5000, 1 }, { 3000, 1 }, { 1020, 1 },
	      { 4980, 1 });
	CHECK("up", false, { 1000, 1 }, { 1001, 1 }, { 1002, 1, 1002, 1006, true },
	      { 1006, 1, 1006, 1014, true }, { 1014, 1, 1014, 1030, true },
	      { 1030, 1, 1030, 1062, true }, { 1062, 1, 1062, 1126, true },
	      { 1126, 1, 1126, 1254, true }, { 1254, 1, 1254, 1510, true },
	      { 1510, 1, 1510, 1766, true }, { 1766, 1, 1766, 2022, true },
	      { 2022, 1, 2022, 2278, true }, { 2278, 1, 2278, 2534, true, true });
	CHECK("down", false, { 1000, 1 }, { 999, 1 }, { 998, 1, 995, 999, true },
	      { 994, 1, 987, 995, true }, { 986, 1, 971, 987, true });
	CHECK("with small gaps", false, { 1000, 1 }, { 1005, 1 }, { 1008, 1, 1008, 1012, true },
	      { 1015, 1, 1015, 1023, true });
	CHECK("broken off", false, { 1000, 1 }, { 1001, 1 }, { 1002, 1, 1002, 1006, true },
	      { 9000, 1 }, { 9001, 1 }, { 1006, 1, 1006, 1014, true });
	CHECK("overtaken", false, { 1000, 1 }, { 1001, 1 }, { 1002, 1, 1002, 1006, true },
	      { 1003, 1 }, { 1004, 1 }, { 1006, 1, 1006, 1014, true });
	CHECK("in two spaces", false, { 1000, 1 }, { 1001, 2 }, { 1002, 3 }, { 1001, 1 },
	      { 1002, 2 }, { 1002, 1, 1002, 1006, true });
	CHECK("at the bottom", false, { 3, 1 }, { 2, 1 }, { 1, 1, 0, 2, true });
}

static void test_far(void **state)
{
	(void)state;
	CHECK("here and there", true, { 5000, 1, 4096, 5120 }, { 9000, 1, 8192, 9216 }, { 4200, 1 },
	      { 9100, 1 });
	CHECK("a megabyte", true, { 5000, 1, 4096, 5120 }, { 5001, 1 },
	      { 5002, 1, 5002, 6026, true }, { 6026, 1, 6026, 7050, true, true });
	CHECK("close by", true, { 5000, 1, 4096, 5120 }, { 5500, 1, 5120, 6144 },
	      { 4000, 1, 3072, 4096 });
}

/* The one used longest ago makes room. */
static void test_many_streams(void **state)
{
	(void)state;
	struct pages_ahead a = { 0 };
	for (uint64_t n = 0; n < 2; n++)
		for (uint64_t i = 0; i < PAGES_AHEAD_STREAMS; i++)
			pages_ahead(&a, 1, (i * 1000 + n) * 4096, false);
	pages_ahead(&a, 1, UINT64_C(900000) * 4096, false);
	struct pages_window w = pages_ahead(&a, 1, 1002 * UINT64_C(4096), false);
	assert_true(w.follows);
	w = pages_ahead(&a, 1, 2 * UINT64_C(4096), false);
	assert_false(w.follows);
}

static void test_kept(void **state)
{
	(void)state;
	struct pages_kept k = { 0 };
	struct pages_kept_frame f;
	char data[100];
	assert_null(pages_kept_find(&k, 0));
	assert_false(pages_kept_take(&k, &f));
	for (uint32_t i = 0; i < 200; i++) {
		memset(data, (int)i, sizeof(data));
		assert_int_equal(pages_kept_add(&k, i * 2, data, i % 100 + 1), 0);
	}
	for (uint32_t i = 0; i < 150; i++) {
		const struct pages_kept_frame *found = pages_kept_find(&k, i * 2);
		assert_non_null(found);
		assert_null(pages_kept_find(&k, i * 2 + 1));
		size_t bytes = k.bytes;
		assert_true(pages_kept_take(&k, &f));
		assert_true(f.frame == i * 2 && f.len == i % 100 + 1 &&
			    f.data[0] == (unsigned char)i);
		assert_int_equal(k.bytes, bytes - f.len);
		assert_null(pages_kept_find(&k, i * 2));
		free(f.data);
	}
	pages_kept_deinit(&k);
	pages_kept_deinit(&k);
	assert_int_equal(k.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near),
		cmocka_unit_test(test_far),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
