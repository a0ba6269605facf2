/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/squeeze.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(struct squeezer *, squeezer_free)

enum { FRAME = 65536 };

static struct squeezer *squeezer(void)
{
	struct squeezer *s;
	struct error e = ERROR_INIT;
	if (squeezer_new(&s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static uint64_t noise(uint64_t i)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void put_word(unsigned char *to, size_t at, size_t len, uint64_t word)
{
	memcpy(to + at, &word, len - at < 8 ? len - at : 8);
}

static uint64_t random_word(uint64_t i)
{
	return noise(i);
}

static uint64_t zero_word(uint64_t i)
{
	(void)i;
	return 0;
}

static uint64_t counter_word(uint64_t i)
{
	return i;
}

static uint64_t real_word(uint64_t i)
{
	double x = (double)(noise(i) >> 11) / (double)(UINT64_C(1) << 53);
	uint64_t word;
	memcpy(&word, &x, 8);
	return word;
}

static uint64_t pointer_word(uint64_t i)
{
	return 0x7f1234000000 + noise(i) % 65536 * 48;
}

static uint64_t choice_word(uint64_t i)
{
	return noise(noise(i) % 100);
}

static uint64_t text_word(uint64_t i)
{
	static const char words[4][9] = { "session ", "is ready", "kernel, ", "the node" };
	uint64_t word;
	memcpy(&word, words[noise(i) % 4], 8);
	return word;
}

/* With the most that each may take of 100, and how it must be done (0, 1, 2; 9: no matter). */
static const struct {
	const char *name;
	uint64_t (*word)(uint64_t i);
	int most, how;
} kinds[] = {
	{ "random", random_word, 101, 0 },   { "zeros", zero_word, 1, 9 },
	{ "counter", counter_word, 5, 2 },   { "reals", real_word, 87, 2 },
	{ "pointers", pointer_word, 45, 9 }, { "choices", choice_word, 40, 9 },
	{ "text", text_word, 20, 9 },
};

static const size_t lengths[] = { 0,        1,         7,     8,         9,       127,
				  128,      129,       4095,  4096,      4097,    8192,
				  5 * 4096, FRAME - 1, FRAME, FRAME + 1, 1000003, 3 << 20 };

static size_t there_and_back(struct squeezer *s, uint64_t (*word)(uint64_t), size_t len, int *how)
{
	struct error e = ERROR_INIT;
	cleanup_free unsigned char *data = malloc(len + 1), *back = malloc(len + 1);
	cleanup_free unsigned char *to = malloc(squeeze_most(len));
	for (size_t at = 0; at < len; at += 8)
		put_word(data, at, len, word(at / 8));
	size_t n = squeeze(s, data, len, to);
	assert_in_range(n, 1, len + 1);
	*how = to[0];
	/* Exactly as large as needed, for the sanitizers. */
	cleanup_free unsigned char *exact = malloc(n);
	memcpy(exact, to, n);
	if (unsqueeze(s, exact, n, back, len, &e) < 0)
		fail_msg("%zu bytes: %s", len, e.text);
	assert_memory_equal(data, back, len);
	return n;
}

static void all_kinds_come_back(void **state)
{
	(void)state;
	cleanup(squeezer_freep) struct squeezer *s = squeezer();
	int how;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
			there_and_back(s, kinds[k].word, lengths[i], &how);
}

static void each_kind_gets_as_small_as_it_should(void **state)
{
	(void)state;
	cleanup(squeezer_freep) struct squeezer *s = squeezer();
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		int how;
		size_t n = there_and_back(s, kinds[k].word, FRAME, &how);
		if (n * 100 > (size_t)kinds[k].most * FRAME ||
		    (kinds[k].how != 9 && kinds[k].how != how))
			fail_msg("%s: %zu bytes by %d", kinds[k].name, n, how);
	}
}

/* The way of the last frame must not be taken for one of another kind. */
static void kinds_in_turn(void **state)
{
	(void)state;
	cleanup(squeezer_freep) struct squeezer *s = squeezer();
	for (size_t i = 0; i < 200; i++) {
		int how;
		size_t k = noise(i) % ARRAY_SIZE(kinds);
		size_t n = there_and_back(s, kinds[k].word, FRAME, &how);
		if (n * 100 > (size_t)kinds[k].most * FRAME)
			fail_msg("%s: %zu bytes by %d", kinds[k].name, n, how);
	}
}

static void refused(struct squeezer *s, const void *data, size_t data_len, size_t len)
{
	struct error e = ERROR_INIT;
	cleanup_free unsigned char *exact = malloc(data_len + !data_len), *to = malloc(len + 1);
	if (data_len)
		memcpy(exact, data, data_len);
	to[len] = 'x';
	assert_int_equal(unsqueeze(s, exact, data_len, to, len, &e), -EBADMSG);
	assert_true(e.text[0]);
	assert_int_equal(to[len], 'x');
}

static void wrong_lengths_are_refused(void **state)
{
	(void)state;
	cleanup(squeezer_freep) struct squeezer *s = squeezer();
	cleanup_free unsigned char *data = malloc(FRAME), *to = malloc(squeeze_most(FRAME));
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (size_t at = 0; at < FRAME; at += 8)
			put_word(data, at, FRAME, kinds[k].word(at / 8));
		size_t n = squeeze(s, data, FRAME, to);
		refused(s, to, n, FRAME - 1);
		refused(s, to, n, FRAME + 1);
		refused(s, to, n, FRAME + 4096);
		refused(s, to, n, 0);
		refused(s, to, n - 1, FRAME);
		refused(s, to, n / 2, FRAME);
		refused(s, to, 2, FRAME);
		refused(s, to, 1, FRAME);
		refused(s, to, 0, FRAME);
	}
}

static void garbage_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *data;
		size_t data_len, len;
	} garbage[] = {
		{ "\x03"
		  "abc",
		  4, 3 },
		{ "\xff"
		  "abc",
		  4, 3 },
		{ "\x01"
		  "abc",
		  4, 3 },
		{ "\x02", 1, 0 },
		{ "\x02\xff", 2, FRAME },
		{ "\x02\x00"
		  "abc",
		  5, 4 },
		{ "\x02\x00"
		  "abcd",
		  6, 3 },
		{ "\x02\x01"
		  "abc"
		  "\x28\xb5\x2f\xfd",
		  9, 3 },
	};
	cleanup(squeezer_freep) struct squeezer *s = squeezer();
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++)
		refused(s, garbage[i].data, garbage[i].data_len, garbage[i].len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_kinds_come_back),
		cmocka_unit_test(each_kind_gets_as_small_as_it_should),
		cmocka_unit_test(kinds_in_turn),
		cmocka_unit_test(wrong_lengths_are_refused),
		cmocka_unit_test(garbage_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
