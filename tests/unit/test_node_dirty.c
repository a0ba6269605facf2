/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/dirty.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = STORE_PAGE, INSIDE = 7 };

#define THERE   (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define FILED   (UINT64_C(1) << 61)
#define WRITTEN (UINT64_C(1) << 55)

/* --- pure ------------------------------------------------------------------------------ */

static void test_runs(void **state)
{
	(void)state;
	static const struct {
		const char
			*pages; /* t: there, w: and written, s: swapped, f: a file's, -: nothing */
		uint64_t first; /* page */
		struct dirty_run runs[4];
		size_t count;
	} table[] = {
		{ "", 0, { { 0 } }, 0 },
		{ "----", 0, { { 0 } }, 0 },
		{ "sf-s", 0, { { 0 } }, 0 },
		{ "t", 5, { { 5, 1, false } }, 1 },
		{ "tttt", 0, { { 0, 4, false } }, 1 },
		{ "twtt", 0, { { 0, 4, true } }, 1 },
		{ "tt-w", 3, { { 3, 2, false }, { 6, 1, true } }, 2 },
		{ "tsttfw", 0, { { 0, 1, false }, { 2, 2, false }, { 5, 1, true } }, 3 },
		{ "tttt", 14, { { 14, 2, false }, { 16, 2, false } }, 2 },
		{ "ttwt", 14, { { 14, 2, false }, { 16, 2, true } }, 2 },
		{ "tttttttttttttttttt",
		  15,
		  { { 15, 1, false }, { 16, 16, false }, { 32, 1, false } },
		  3 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint64_t words[32] = { 0 };
		struct dirty_run runs[32];
		size_t n = strlen(table[i].pages);
		for (size_t k = 0; k < n; k++)
			words[k] = table[i].pages[k] == 't'   ? THERE
				   : table[i].pages[k] == 'w' ? THERE | WRITTEN
				   : table[i].pages[k] == 's' ? SWAPPED | WRITTEN
				   : table[i].pages[k] == 'f' ? THERE | FILED | WRITTEN
							      : 0;
		assert_int_equal(dirty_runs_of(words, n, table[i].first * PAGE, runs),
				 table[i].count);
		for (size_t k = 0; k < table[i].count; k++) {
			assert_int_equal(runs[k].address, table[i].runs[k].address * PAGE);
			assert_int_equal(runs[k].pages, table[i].runs[k].pages);
			assert_int_equal(runs[k].written, table[i].runs[k].written);
		}
	}
}

/* --- by content ------------------------------------------------------------------------ */

static struct dirty *make(const char *proc, enum dirty_means means)
{
	struct error e = ERROR_INIT;
	struct dirty *d;
	if (dirty_new(proc, means, &d, &e) < 0)
		fail_msg("%s", e.text);
	return d;
}

/* Goes over all of it; how many pages are said to have changed. */
static uint32_t go_over(struct dirty *d, unsigned char *memory, size_t pages)
{
	struct dirty_run runs[DIRTY_RUNS_MOST];
	struct error e = ERROR_INIT;
	uint64_t at = (uint64_t)(uintptr_t)memory, end = at + pages * PAGE;
	uint32_t changed = 0;
	assert_int_equal(dirty_begin(d, INSIDE, getpid(), NULL, 0, &e), 0);
	for (uint64_t next; at < end; at = next) {
		int n = dirty_runs(d, getpid(), at, end, runs, &next, &e);
		if (n < 0)
			fail_msg("%s", e.text);
		assert_true(next > at && next <= end);
		for (int i = 0; i < n; i++) {
			assert_true(dirty_may_have_changed(d, INSIDE, &runs[i]));
			int r = dirty_see(d, INSIDE, &runs[i],
					  (const void *)(uintptr_t)runs[i].address, &e);
			assert_true(r >= 0);
			changed += r ? runs[i].pages : 0;
		}
	}
	return changed;
}

static void test_content(void **state)
{
	(void)state;
	enum { PAGES = 3000 };
	unsigned char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	struct dirty *d = make("/proc", DIRTY_BY_CONTENT);
	assert_int_equal(go_over(d, memory, PAGES), 0);
	for (size_t i = 0; i < PAGES; i++)
		memory[i * PAGE] = (unsigned char)(i / 256);
	assert_int_equal(go_over(d, memory, PAGES), PAGES);
	assert_int_equal(go_over(d, memory, PAGES), 0);
	/* What is written is what it was. */
	memory[100 * PAGE] = memory[100 * PAGE];
	assert_int_equal(go_over(d, memory, PAGES), 0);
	memory[1000 * PAGE + PAGE - 1] ^= 1;
	uint32_t changed = go_over(d, memory, PAGES);
	assert_in_range(changed, 1, STORE_FRAME_PAGES);
	assert_int_equal(go_over(d, memory, PAGES), 0);
	/* And back again: what counts is the last look. */
	memory[1000 * PAGE + PAGE - 1] ^= 1;
	assert_int_equal(go_over(d, memory, PAGES), changed);
	/* The same at another place is another one. */
	memcpy(memory + 2000 * PAGE, memory + 1000 * PAGE, PAGE);
	assert_in_range(go_over(d, memory, PAGES), 1, STORE_FRAME_PAGES);
	dirty_free(d);
	munmap(memory, PAGES * PAGE);
}

static void test_ended(void **state)
{
	(void)state;
	struct dirty_run runs[DIRTY_RUNS_MOST];
	struct error e = ERROR_INIT;
	uint64_t next;
	const struct store_extent x = { .vaddr = PAGE, .pages = 1 };
	struct dirty *d = make("/proc", DIRTY_BY_BITS);
	assert_int_equal(dirty_runs(d, 0x7fffffff, PAGE, 2 * PAGE, runs, &next, &e), -ENOENT);
	assert_int_equal(dirty_begin(d, INSIDE, 0x7fffffff, &x, 1, &e), -ENOENT);
	dirty_free(d);
}

/* --- by what the kernel notes ------------------------------------------------------------ */

struct kernel {
	char proc[32];
	int map, clear;
};

static void open_kernel(struct kernel *k)
{
	char path[96];
	*k = (struct kernel) { .proc = "/tmp/elsa-dirty-XXXXXX" };
	assert_non_null(mkdtemp(k->proc));
	snprintf(path, sizeof(path), "%s/42", k->proc);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/42/pagemap", k->proc);
	k->map = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	snprintf(path, sizeof(path), "%s/42/clear_refs", k->proc);
	k->clear = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(k->map >= 0 && k->clear >= 0);
}

static void set(struct kernel *k, uint64_t first, size_t count, uint64_t word)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			pwrite(k->map, &word, sizeof(word), (off_t)((first + i) * sizeof(word))),
			sizeof(word));
}

static bool was_cleared(struct kernel *k)
{
	char said[4] = "";
	ssize_t n = pread(k->clear, said, sizeof(said) - 1, 0);
	assert_int_equal(ftruncate(k->clear, 0), 0);
	return n == 1 && said[0] == '4';
}

static void test_bits(void **state)
{
	(void)state;
	static unsigned char content[STORE_FRAME_BYTES];
	const struct store_extent extents[] = { { .vaddr = 16 * PAGE, .pages = 16 },
						{ .vaddr = 100 * PAGE, .pages = 8 } };
	const struct dirty_run first = { .address = 16 * PAGE, .pages = 16 },
			       second = { .address = 100 * PAGE, .pages = 8 },
			       longer = { .address = 100 * PAGE, .pages = 9 };
	struct kernel k;
	struct error e = ERROR_INIT;
	open_kernel(&k);
	set(&k, 16, 16, THERE | WRITTEN);
	set(&k, 100, 8, THERE | WRITTEN);
	struct dirty *d = make(k.proc, DIRTY_BY_BITS);

	assert_int_equal(dirty_begin(d, INSIDE, 42, extents, 2, &e), 0);
	assert_true(was_cleared(&k));
	assert_true(dirty_may_have_changed(d, INSIDE, &first));
	assert_int_equal(dirty_see(d, INSIDE, &first, content, &e), 1);
	assert_int_equal(dirty_see(d, INSIDE, &second, content, &e), 1);

	/* A page of the first one was written to, and no other. */
	set(&k, 16, 16, THERE);
	set(&k, 20, 1, THERE | WRITTEN);
	set(&k, 100, 8, THERE);
	assert_int_equal(dirty_begin(d, INSIDE, 42, extents, 2, &e), 0);
	assert_true(was_cleared(&k));
	assert_true(dirty_may_have_changed(d, INSIDE, &first));
	assert_false(dirty_may_have_changed(d, INSIDE, &second));
	assert_true(dirty_may_have_changed(d, INSIDE, &longer));
	assert_true(dirty_may_have_changed(d, INSIDE + 1, &second));
	/* Written with what was there. */
	assert_int_equal(dirty_see(d, INSIDE, &first, content, &e), 0);

	/* It is not for longer than a round. */
	set(&k, 16, 16, THERE);
	assert_int_equal(dirty_begin(d, INSIDE, 42, extents, 1, &e), 0);
	assert_false(dirty_may_have_changed(d, INSIDE, &first));
	assert_true(dirty_may_have_changed(d, INSIDE, &second));

	dirty_free(d);
	close(k.map);
	close(k.clear);
	fs_remove_tree(k.proc, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_content),
		cmocka_unit_test(test_ended),
		cmocka_unit_test(test_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
