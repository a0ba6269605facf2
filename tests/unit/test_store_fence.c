/* SPDX-License-Identifier: Apache-2.0 */
/* Fences: what takes a number, against writers of it at every step, and with every request failing.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/race_kit.h"

#include "store/fence.h"

static void take(struct store *s, int64_t at_least, int64_t taken, int64_t newest)
{
	struct error e = ERROR_INIT;
	int64_t got = -1;
	int64_t checkpoint = -1;
	if (store_take(s, SESSION, at_least, "node/one", &got, &checkpoint, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(got, taken);
	assert_int_equal(checkpoint, newest);
}

/* --- the object --------------------------------------------------------------------------- */

static struct fence sample(void)
{
	struct fence f = { .session = SESSION,
			   .generation = INT64_C(1) << 49,
			   .writer = OTHER_SESSION,
			   .taken_at = 1700000000000 };
	fence_set_by(&f, "a node \"with\" a name that is much longer than anybody would give one, "
			 "and \xc3\xa9");
	return f;
}

static void test_bytes(void **state)
{
	(void)state;
	const struct seal_key key = { { 1, 2, 3 } };
	const struct seal_key other = { { 1, 2, 4 } };
	struct error e = ERROR_INIT;
	struct fence f = sample();
	struct fence back;
	cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
	assert_int_equal(fence_encode(&f, &key, &text, &e), 0);
	assert_true(fence_is(text.data, text.len));
	assert_int_equal(fence_decode(text.data, text.len, &key, &back, &e), 0);
	assert_memory_equal(&back, &f, sizeof(f));
	assert_int_equal(strlen(f.by), FENCE_BY - 1);
	assert_int_equal(fence_decode(text.data, text.len, &other, &back, &e), -EBADMSG);
	assert_int_equal(fence_decode(text.data, text.len, NULL, &back, &e), 0);
	for (size_t i = 0; i < text.len; i++) {
		text.data[i] ^= 1;
		assert_int_equal(fence_decode(text.data, text.len, &key, &back, NULL), -EBADMSG);
		text.data[i] ^= 1;
		assert_int_equal(fence_decode(text.data, i, &key, &back, NULL), -EBADMSG);
	}
	struct manifest m;
	assert_int_equal(manifest_decode(text.data, text.len, &key, &m, &e), -EBADMSG);
}

/* --- what it does ---------------------------------------------------------------------------- */

static int count_one(const struct store_meta *meta, void *arg)
{
	(void)meta;
	++*(int *)arg;
	return 0;
}

static int count_fence(const char *session, int64_t generation, int64_t taken_at, const char *by,
		       void *arg)
{
	assert_string_equal(session, SESSION);
	assert_true(generation > 0 && taken_at > 0);
	assert_string_equal(by, "node_one");
	++*(int *)arg;
	return 0;
}

static void check_listed(struct store *s, int checkpoints, int fences)
{
	struct error e = ERROR_INIT;
	int count = 0;
	assert_int_equal(store_list(s, SESSION, count_one, NULL, &count, &e), 0);
	assert_int_equal(count, checkpoints);
	count = 0;
	assert_int_equal(store_list_fences(s, NULL, count_fence, &count, &e), 0);
	assert_int_equal(count, fences);
}

static void test_of_nothing(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	tiny_model(&m);
	take(k->s, 0, 1, 0);
	assert_int_equal(kit_newest(k->s), -ENOENT);
	assert_int_equal(model_try(k->s, 1, &m, NULL, &e), -EEXIST);
	assert_non_null(strstr(e.text, "fenced at 20"));
	assert_non_null(strstr(e.text, "by node_one"));
	check_listed(k->s, 0, 1);
	model_write(k->s, 2, &m, NULL);
	take(k->s, 2, 3, 2);
	check_listed(k->s, 1, 2);
	assert_int_equal(kit_count(k->s, ".mark").count, 0);
	model_deinit(&m);
}

/* Every number that somebody may have been told to use. */
static void test_numbers(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_numbers n;
	tiny_model(&m);
	model_write(k->s, 3, &m, NULL);
	take(k->s, 5, 6, 3);
	for (int64_t g = 4; g <= 6; g++)
		assert_int_equal(model_try(k->s, g, &m, NULL, &e), -EEXIST);
	assert_int_equal(store_numbers(k->s, SESSION, &n, &e), 0);
	assert_int_equal(n.checkpoint, 3);
	assert_int_equal(n.fence, 6);
	assert_int_equal(n.used, 6);
	take(k->s, 2, 7, 3);
	model_write(k->s, 8, &m, NULL);
	assert_int_equal(store_set_aside(k->s, SESSION, 8, &e), 0);
	take(k->s, 8, 9, 3);
	/* Many are not looked after: nobody has been told those. */
	take(k->s, 1000, 1001, 3);
	assert_int_equal(kit_count(k->s, "/manifest").count, 2 + 3 + 1 + 1 + STORE_TAKEN_MOST);
	assert_int_equal(model_try(k->s, 500, &m, NULL, &e), -EEXIST);
	assert_non_null(strstr(e.text, "fenced"));
	assert_int_equal(kit_count(k->s, "/500/").count, 0);
	model_deinit(&m);
}

/* It is no checkpoint to anything that deals with them. */
static void test_is_no_checkpoint(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	struct error e = ERROR_INIT;
	struct store_read *read;
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	take(k->s, 1, 2, 1);
	assert_int_equal(kit_newest(k->s), 1);
	assert_int_equal(store_read_open(k->s, SESSION, 2, &read, &e), -ENOENT);
	assert_non_null(strstr(e.text, "taken, fenced at"));
	assert_int_equal(store_export(k->s, SESSION, 2, -1, NULL, NULL, &e), -ENOENT);
	assert_int_equal(store_set_aside(k->s, SESSION, 2, &e), -ENOENT);
	assert_int_equal(store_remove(k->s, SESSION, 2, &e), -EBUSY);
	/* What comes next builds on the checkpoint below. */
	model_write(k->s, 3, &m, &meta);
	assert_int_equal(meta.basis, 1);
	store_meta_deinit(&meta);
	assert_int_equal(store_remove(k->s, SESSION, 1, &e), 0);
	model_check(k->s, 3, &m);
	int64_t count;
	assert_int_equal(store_rekey(k->s, &count, NULL, NULL, &e), 0);
	take(k->s, 3, 4, 3);
	assert_int_equal(store_forget(k->s, SESSION, &e), 0);
	assert_int_equal(kit_count(k->s, "").count, 0);
	model_deinit(&m);
}

static void test_is_proven(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_read *read;
	take(k->s, 0, 1, 0);
	cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
	const char *key = "s/" SESSION "/1/manifest";
	assert_int_equal(object_read_all(k->s->objects, key, &text, NULL), 0);
	char *by = memmem(text.data, text.len, "node_one", 8);
	by[0] = 'x';
	assert_int_equal(object_put(k->s->objects, key, text.data, text.len, false, NULL), 0);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), -EBADMSG);
	by[0] = 'n';
	/* Another number's. */
	assert_int_equal(object_put(k->s->objects, "s/" SESSION "/2/manifest", text.data, text.len,
				    false, NULL),
			 0);
	assert_int_equal(store_read_open(k->s, SESSION, 2, &read, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "belongs to generation 1"));
}

/* Kept as long as somebody may come back whom it concerns. */
static void test_kept(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	take(k->s, 1, 2, 1);
	model_write(k->s, 3, &m, NULL);
	take(k->s, 3, 4, 3);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	const struct timespec old[2] = { { .tv_sec = time(NULL) - 8 * 24 * 3600 },
					 { .tv_sec = time(NULL) - 8 * 24 * 3600 } };
	for (int g = 2; g <= 4; g += 2) {
		cleanup_free char *path = str_printf("%s/s/" SESSION "/%d/manifest", k->root, g);
		assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	}
	gc.dry_run = true;
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 1);
	gc.dry_run = false;
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	check_listed(k->s, 2, 1);
	assert_int_equal(kit_count(k->s, "/4/manifest").count, 1);
	model_check(k->s, 1, &m);
	model_check(k->s, 3, &m);
	model_deinit(&m);
}

/* --- beside writers
 * ------------------------------------------------------------------------------- */

static int64_t got_taken;
static int64_t got_newest;

static int write_second(struct race *race)
{
	struct error e = ERROR_INIT;
	int r = model_try(race->s, 2, race->next, NULL, &e);
	if (r == -EEXIST)
		assert_non_null(strstr(e.text, "fenced"));
	return r;
}

static int take_it(struct race *race)
{
	struct error e = ERROR_INIT;
	return store_take(race->s, SESSION, 1, "taker", &got_taken, &got_newest, &e);
}

static int take_too(struct race *race)
{
	struct error e = ERROR_INIT;
	int64_t taken;
	int64_t newest;
	return store_take(race->s, SESSION, 1, "another", &taken, &newest, &e);
}

static int sweep_it(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	return store_gc(race->s, &gc, &e);
}

/* Either the writer was first, and what it stored is what the taker tells; or it fails, and nothing
 * of it is left. No order of their requests gives anything else. */
static void check_one_truth(struct race *race, int writer, const struct model *first)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { .dry_run = true };
	struct store_numbers n;
	int w = race->r[writer];
	assert_int_equal(race->r[!writer], 0);
	assert_true(w == 0 || w == -EEXIST);
	assert_int_equal(got_newest, w == 0 ? 2 : 1);
	assert_int_equal(got_taken, w == 0 ? 3 : 2);
	assert_int_equal(store_numbers(race->s, SESSION, &n, &e), 0);
	assert_int_equal(n.checkpoint, got_newest);
	assert_int_equal(n.fence, got_taken);
	model_check(race->s, 1, first);
	if (w == 0)
		model_check(race->s, 2, race->next);
	else
		assert_int_equal(kit_count(race->s, "/2/").count, 1);
	assert_int_equal(store_gc(race->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(kit_count(race->s, ".mark").count, 0);
	/* And no further writer of that number comes through. */
	if (w != 0)
		assert_int_equal(model_try(race->s, 2, race->next, NULL, &e), -EEXIST);
}

static void race_writer(struct kit *k, int writer)
{
	struct model first;
	struct model next;
	tiny_model(&first);
	tiny_model(&next);
	next.memories[0].seeds[7] = 12345;
	int lost = 0;
	int won = 0;
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		assert_true(i < 100);
		for (int j = i % RACE_STRIDE; !over; j += RACE_STRIDE) {
			race_fresh_store(k, k->key);
			/* A taker makes all its requests on one thread. */
			struct race race = { .s = k->s, .next = &next, .single = !writer };
			race.run[writer] = write_second;
			race.run[!writer] = take_it;
			assert_true(j < 100);
			model_write(k->s, 1, &first, NULL);
			more_i = race_play(&race, i, j, NULL, &over);
			lost += race.r[writer] < 0;
			won += race.r[writer] == 0;
			check_one_truth(&race, writer, &first);
		}
	}
	assert_true(lost > 0 && won > 0);
	model_deinit(&first);
	model_deinit(&next);
}

static void test_take_within_write(void **state)
{
	race_writer(*state, 0);
}

static void test_write_within_take(void **state)
{
	race_writer(*state, 1);
}

/* Two nodes that fence the same session, and one that sweeps meanwhile. */
static void race_taker(struct kit *k, int (*other)(struct race *race))
{
	struct model first;
	tiny_model(&first);
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		for (int j = i % RACE_STRIDE; !over; j += RACE_STRIDE) {
			struct error e = ERROR_INIT;
			struct store_numbers n;
			race_fresh_store(k, k->key);
			struct race race = { .s = k->s, .single = 0 };
			race.run[0] = take_it;
			race.run[1] = other;
			model_write(k->s, 1, &first, NULL);
			more_i = race_play(&race, i, j, NULL, &over);
			assert_int_equal(race.r[0], 0);
			assert_int_equal(race.r[1], 0);
			assert_int_equal(store_numbers(k->s, SESSION, &n, &e), 0);
			assert_int_equal(n.checkpoint, 1);
			assert_int_equal(n.fence, other == take_too ? 3 : 2);
			model_check(k->s, 1, &first);
		}
	}
	model_deinit(&first);
}

static void test_take_within_take(void **state)
{
	race_taker(*state, take_too);
}

static void test_sweep_within_take(void **state)
{
	race_taker(*state, sweep_it);
}

/* --- faults
 * ---------------------------------------------------------------------------------------- */

struct trouble {
	int at;
	bool forever, done;
	int r;
};

static int fail_at(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	const struct trouble *f = arg;
	(void)call;
	(void)key;
	if (number != f->at && !(f->forever && number > f->at))
		return 0;
	if (!f->done)
		return f->r;
	*after = f->r;
	return 0;
}

/* Done, or failed and done when asked again; never a number that is thought to be taken and is not,
 * and never one below what was told. */
static bool take_with(struct kit *k, const struct trouble *f, const struct model *m)
{
	struct error e = ERROR_INIT;
	int64_t taken = 0;
	int64_t newest = 0;
	race_fresh_store(k, k->key);
	model_write(k->s, 1, m, NULL);
	hook_on(k->s);
	hook.arg = (void *)f;
	hook.before = fail_at;
	atomic_store(&hook.number, 0);
	int r = store_take(k->s, SESSION, 1, "x", &taken, &newest, &e);
	int requests = atomic_load(&hook.number);
	hook.before = NULL;
	if (r < 0) {
		assert_true(e.text[0] && e.fault != FAULT_NONE);
		int64_t before = kit_count(k->s, "/2/manifest").count ? 2 : 1;
		assert_int_equal(store_take(k->s, SESSION, 1, "x", &taken, &newest, &e), 0);
		assert_int_equal(taken, before + 1);
	} else {
		assert_true(taken == 2 || taken == 3);
	}
	assert_int_equal(newest, 1);
	for (int64_t g = 2; g <= taken; g++)
		assert_int_equal(model_try(k->s, g, m, NULL, &e), -EEXIST);
	model_check(k->s, 1, m);
	return requests > f->at;
}

static void test_take_fails(void **state)
{
	static const struct trouble troubles[] = {
		{ .r = -EHOSTDOWN },
		{ .r = -ECONNRESET, .forever = true },
		{ .r = -ETIMEDOUT, .done = true },
		{ .r = -ETIMEDOUT, .done = true, .forever = true },
		{ .r = -EBADMSG },
		{ .r = -EEXIST, .done = true }, /* a request that was made twice */
	};
	struct kit *k = *state;
	struct model m;
	tiny_model(&m);
	for (size_t i = 0; i < ARRAY_SIZE(troubles); i++) {
		struct trouble f = troubles[i];
		while (take_with(k, &f, &m))
			assert_true(++f.at < 50);
		assert_true(f.at >= 6);
	}
	model_deinit(&m);
}

/* A writer whose put's answer is lost, and that is fenced before it can look. */
struct lost_answer {
	struct kit *k;
	bool after; /* it was put before */
};

static int lose_answer(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	struct lost_answer *l = arg;
	(void)number;
	if (call != HOOK_PUT || !strstr(key, "/2/manifest"))
		return 0;
	hook.before = NULL;
	if (l->after) {
		*after = -ETIMEDOUT;
		return 0;
	}
	take(l->k->s, 1, 2, 1);
	return -ETIMEDOUT;
}

static void test_answers_are_lost(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	tiny_model(&m);
	for (int after = 0; after < 2; after++) {
		struct lost_answer l = { k, after };
		race_fresh_store(k, k->key);
		model_write(k->s, 1, &m, NULL);
		hook_on(k->s);
		hook.arg = &l;
		hook.before = lose_answer;
		int r = model_try(k->s, 2, &m, NULL, &e);
		hook.before = NULL;
		assert_int_equal(r, after ? 0 : -EEXIST);
		if (after)
			take(k->s, 1, 3, 2);
		else
			assert_int_equal(kit_count(k->s, "/2/").count, 1);
	}
	model_deinit(&m);
}

/* What is there and whole stays, though the store fails when it is looked after: somebody may have
 * fenced us behind it, and restore it at this moment. */
static int fail_behind_put(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	bool *put = arg;
	(void)number;
	(void)after;
	if (call == HOOK_PUT && strstr(key, "/2/manifest"))
		*put = true;
	return *put && call == HOOK_LIST ? -EHOSTUNREACH : 0;
}

static void test_whole_one_stays(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	bool put = false;
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	hook_on(k->s);
	hook.arg = &put;
	hook.before = fail_behind_put;
	assert_int_equal(model_try(k->s, 2, &m, NULL, &e), -EHOSTUNREACH);
	hook.before = NULL;
	take(k->s, 1, 3, 2);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

int main(void)
{
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
#define FILES(test)  cmocka_unit_test_setup_teardown(test, kit_file, kit_close)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),   MEMORY(test_of_nothing),
		MEMORY(test_numbers),           MEMORY(test_is_no_checkpoint),
		MEMORY(test_is_proven),         FILES(test_kept),
		MEMORY(test_take_fails),        MEMORY(test_answers_are_lost),
		MEMORY(test_whole_one_stays),   MEMORY(test_take_within_take),
		MEMORY(test_sweep_within_take), MEMORY(test_take_within_write),
		MEMORY(test_write_within_take),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
