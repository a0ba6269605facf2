/* SPDX-License-Identifier: Apache-2.0 */
/* The address map against a page-by-page model of an address space. */
#include "base/cleanup.h"
#include "node/pages_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE = 4096, SPACE = 64, NONE = 0 };

struct model {
	uint64_t at[SPACE]; /* page + 1, or NONE */
};

static void compare(const struct pages_map *m, const struct model *model)
{
	size_t named = 0, held = 0;
	for (uint64_t i = 0; i < SPACE; i++) {
		const struct pages_range *r = pages_map_at(m, i * PAGE);
		uint64_t page = r ? r->page + (i * PAGE - r->start) / PAGE + 1 : NONE;
		assert_true(page == model->at[i]);
		uint64_t gap = 0;
		while (i + gap < SPACE && model->at[i + gap] == NONE)
			gap++;
		assert_true(pages_map_gap(m, i * PAGE, (SPACE - i) * PAGE) == gap * PAGE);
		if (page == NONE)
			continue;
		named++;
		r = pages_map_of(m, page - 1);
		assert_non_null(r);
		assert_true(r->start + (page - 1 - r->page) * PAGE == i * PAGE);
	}
	for (size_t i = 0; i < m->count; i++) {
		held += (m->by_address[i].end - m->by_address[i].start) / PAGE;
		assert_true(m->by_address[i].start < m->by_address[i].end);
		if (i > 0) {
			assert_true(m->by_address[i - 1].end <= m->by_address[i].start);
			assert_true(m->by_page[i - 1].page < m->by_page[i].page);
		}
	}
	assert_int_equal(named, held);
}

enum act { ADD, DROP, MOVE };
struct step {
	enum act act;
	uint64_t at, count, arg; /* in pages; arg: page, or where to */
};

static void do_step(struct pages_map *m, struct model *model, struct step s)
{
	uint64_t start = s.at * PAGE, len = s.count * PAGE;
	struct model before = *model;
	int r = 0;
	if (s.act == ADD)
		r = pages_map_add(m, start, start + len, s.arg);
	else if (s.act == DROP)
		r = pages_map_drop(m, start, start + len);
	else
		r = pages_map_move(m, start, s.arg * PAGE, len);
	assert_int_equal(r, 0);
	for (uint64_t i = s.at; i < s.at + s.count; i++)
		model->at[i] = s.act == ADD ? s.arg + i - s.at + 1 : NONE;
	for (uint64_t i = 0; s.act == MOVE && i < s.count; i++)
		if (model->at[s.arg + i] == NONE)
			model->at[s.arg + i] = before.at[s.at + i];
	compare(m, model);
}

static void test_cases(void **state)
{
	(void)state;
	static const struct step cases[][6] = {
		{ { ADD, 2, 4, 100 }, { DROP, 3, 2, 0 } },
		{ { ADD, 2, 4, 100 }, { DROP, 0, 64, 0 } },
		{ { ADD, 2, 4, 100 }, { DROP, 0, 2, 0 }, { DROP, 6, 4, 0 } },
		{ { ADD, 2, 4, 100 }, { ADD, 6, 4, 200 }, { DROP, 5, 2, 0 } },
		{ { ADD, 2, 4, 100 }, { MOVE, 2, 4, 20 } },
		{ { ADD, 2, 4, 100 }, { MOVE, 3, 2, 20 }, { DROP, 20, 1, 0 } },
		/* To a lower address; across a hole; two ranges at once. */
		{ { ADD, 30, 4, 100 }, { ADD, 36, 2, 50 }, { MOVE, 29, 12, 1 } },
		/* Back again. */
		{ { ADD, 2, 8, 7 }, { MOVE, 4, 2, 40 }, { MOVE, 40, 2, 4 } },
		/* What is at the target stays. */
		{ { ADD, 2, 8, 100 }, { ADD, 42, 2, 7 }, { MOVE, 2, 8, 40 } },
		{ { ADD, 2, 8, 100 }, { ADD, 40, 9, 7 }, { MOVE, 2, 8, 40 } },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pages_map m = { 0 };
		struct model model = { 0 };
		for (size_t k = 0; cases[i][k].count; k++)
			do_step(&m, &model, cases[i][k]);
		pages_map_deinit(&m);
	}
}

static uint64_t next_number(uint64_t *seed, uint64_t below)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (*seed >> 33) % below;
}

static void test_at_random(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 300; round++) {
		uint64_t seed = round;
		struct pages_map m = { 0 }, copy;
		struct model model = { 0 };
		do_step(&m, &model, (struct step) { ADD, 0, 12, 100 });
		do_step(&m, &model, (struct step) { ADD, 14, 10, 500 });
		do_step(&m, &model, (struct step) { ADD, 30, 1, 7 });
		for (int i = 0; i < 40; i++) {
			struct step s = { next_number(&seed, 4) ? MOVE : DROP };
			s.count = 1 + next_number(&seed, s.act == MOVE ? 12 : 3);
			s.at = next_number(&seed, SPACE - s.count);
			s.arg = next_number(&seed, SPACE - s.count);
			/* As mremap(2) has it. */
			if (s.act == MOVE && s.arg + s.count > s.at && s.at + s.count > s.arg)
				continue;
			do_step(&m, &model, s);
		}
		assert_int_equal(pages_map_copy(&copy, &m), 0);
		pages_map_deinit(&m);
		compare(&copy, &model);
		pages_map_deinit(&copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_at_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
