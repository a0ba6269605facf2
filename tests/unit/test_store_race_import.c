/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeps and imports beside each other: every step of one against every step of the other. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/race_kit.h"

static int import_it(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_meta meta = { 0 };
	int fd = dup(race->tar);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	int r = store_import(race->s, fd, &meta, NULL, NULL, &e);
	store_meta_deinit(&meta);
	close(fd);
	return r;
}

static int just_sweep(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	return store_gc(race->s, &gc, &e);
}

/* Packs that are garbage until the import needs them under their old names. */
static void race_import(struct kit *k, bool import_first)
{
	struct model m;
	struct kit *from;
	struct error e = ERROR_INIT;
	tiny_model(&m);
	m.last_file = 3 * MIB; /* more than one piece of a pack is handed on */
	assert_int_equal(kit_memory((void **)&from), 0);
	model_write(from->s, 3, &m, NULL);
	cleanup_fd int tar = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(store_export(from->s, SESSION, 3, tar, NULL, NULL, &e), 0);
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		/* While it waits for the sweep an import makes requests without end. */
		for (int j = i % RACE_STRIDE; !over && j < 25; j += RACE_STRIDE) {
			race_fresh_store(k, from->key);
			struct race race = {
				.s = k->s, .next = &m, .tar = tar, .single = import_first
			};
			race.run[!import_first] = import_it;
			race.run[import_first] = just_sweep;
			assert_int_equal(import_it(&race), 0);
			assert_int_equal(
				object_remove(k->s->objects, "s/" SESSION "/3/manifest", NULL), 0);
			more_i = race_play(&race, i, j, NULL, &over);
			assert_int_equal(race.r[import_first], 0);
			assert_int_equal(race.r[!import_first], 0);
			assert_int_equal(kit_verify(k->s, 3, &e), 0);
		}
	}
	kit_close((void **)&from);
	model_deinit(&m);
}

static void test_sweep_within_import(void **state)
{
	race_import(*state, true);
}

static void test_import_within_sweep(void **state)
{
	race_import(*state, false);
}

int main(void)
{
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		MEMORY(test_sweep_within_import),
		MEMORY(test_import_within_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
