/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeps and writers beside each other: every step of one against every step of the other. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/race_kit.h"

static void put_text(struct store *s, const char *key, const char *text)
{
	assert_int_equal(object_put(s->objects, key, text, strlen(text), false, NULL), 0);
}

/* The text of the mark of a process that has ended, on this machine. */
static void kill_mark(struct store *s, const char *key)
{
	cleanup_buf struct buf b = BUF_INIT(4096);
	char id[17];
	long pid;
	unsigned long long ticks;
	assert_int_equal(object_read_all(s->objects, key, &b, NULL), 0);
	assert_int_equal(sscanf(buf_text(&b), "1 %16s %ld %llu", id, &pid, &ticks), 3);
	cleanup_free char *text = str_printf("1 0000000000000000 %ld %llu\n%s", pid, ticks + 1,
					     strchr(buf_text(&b), '\n') + 1);
	put_text(s, key, text);
}

static int write_next(struct race *race)
{
	struct error e = ERROR_INIT;
	return model_try(race->s, 3, race->next, NULL, &e);
}

static int remove_basis(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	int r = store_remove(race->s, SESSION, 2, &e);
	return r < 0 ? r : store_gc(race->s, &gc, &e);
}

static void doom(struct race *race)
{
	struct count mark = kit_count(race->s, ".mark");
	if (mark.count)
		kill_mark(race->s, mark.last);
}

/* What was committed is whole; what was not has left nothing behind that is not found. */
static void check_after(struct race *race, bool must_succeed)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	assert_int_equal(race->r[1], 0);
	if (must_succeed && race->r[0] < 0)
		fail_msg("the writer failed: %d", race->r[0]);
	assert_int_equal(kit_count(race->s, "/3/manifest").count, race->r[0] == 0);
	if (race->r[0] == 0) {
		model_check(race->s, 3, race->next);
		assert_int_equal(kit_verify(race->s, 3, &e), 0);
	}
	assert_int_equal(store_gc(race->s, &gc, &e), 0);
	if (race->r[0] == 0)
		assert_int_equal(kit_verify(race->s, 3, &e), 0);
	assert_int_equal(kit_count(race->s, "sweep-").count, 0);
	/* All objects are named now. */
	gc = (struct store_gc) { .dry_run = true };
	assert_int_equal(store_gc(race->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
}

static void race_all(struct kit *k, void (*between)(struct race *race), bool writer_first)
{
	struct model first;
	struct model next;
	tiny_model(&first);
	tiny_model(&next);
	next.memories[0].seeds[7] = 12345;
	int failed = 0;
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		assert_true(i < 100);
		for (int j = i % RACE_STRIDE; !over; j += RACE_STRIDE) {
			race_fresh_store(k, k->key);
			struct race race = { .s = k->s, .next = &next, .single = writer_first };
			race.run[0] = writer_first ? write_next : remove_basis;
			race.run[1] = writer_first ? remove_basis : write_next;
			assert_true(j < 100);
			model_write(k->s, 1, &first, NULL);
			model_write(k->s, 2, &first, NULL);
			put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "garbage");
			more_i = race_play(&race, i, j, between, &over);
			if (!writer_first) {
				int r = race.r[0];
				race.r[0] = race.r[1];
				race.r[1] = r;
			}
			failed += race.r[0] < 0;
			check_after(&race, !between);
		}
	}
	if (between)
		assert_true(failed > 0); /* it was taken for dead in time */
	model_deinit(&first);
	model_deinit(&next);
}

static void test_sweep_within_write(void **state)
{
	race_all(*state, NULL, true);
}

static void test_write_within_sweep(void **state)
{
	race_all(*state, NULL, false);
}

/* A writer whose mark is wrongly taken for one of a dead process loses nothing: it fails. */
static void test_sweep_of_the_living(void **state)
{
	race_all(*state, doom, true);
}

static int forget_it(struct race *race)
{
	struct error e = ERROR_INIT;
	int r = store_forget(race->s, SESSION, &e);
	return r == -EBUSY ? 0 : r;
}

/* Either the writer fails or the checkpoint comes after the end of the session, and is whole. */
static void test_forget_within_write(void **state)
{
	struct kit *k = *state;
	struct model next;
	tiny_model(&next);
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		for (int j = i % RACE_STRIDE; !over; j += RACE_STRIDE) {
			struct error e = ERROR_INIT;
			struct store_gc gc = { 0 };
			race_fresh_store(k, k->key);
			struct race race = { .s = k->s, .next = &next, .single = 1 };
			race.run[0] = write_next;
			race.run[1] = forget_it;
			model_write(k->s, 1, &next, NULL);
			more_i = race_play(&race, i, j, NULL, &over);
			assert_int_equal(race.r[1], 0);
			bool there = kit_count(k->s, "/3/manifest").count;
			if (there)
				assert_int_equal(kit_verify(k->s, 3, &e), 0);
			assert_int_equal(store_gc(k->s, &gc, &e), 0);
			if (there)
				assert_int_equal(kit_verify(k->s, 3, &e), 0);
			else
				assert_int_equal(kit_count(k->s, "/3/").count, 0);
		}
	}
	model_deinit(&next);
}

int main(void)
{
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		MEMORY(test_sweep_within_write),
		MEMORY(test_write_within_sweep),
		MEMORY(test_sweep_of_the_living),
		MEMORY(test_forget_within_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
