/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* CRIU's side of the conversation, played by the test; the store is a real one in memory. */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/page_sink.h"
#include "node/pagemap_image.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SESSION "00000000000000a1"

enum { OPEN2 = 4, PARENT = 5, ADD_F = 6, FORCE_CLOSE = 0x1024, PRESENT = 4, LAZY = 2 };

struct place {
	char dir[64];
	struct store *store;
	struct store_write *write;
	struct page_sink *sink;
	int socket;
	bool old; /* CRIU 4.1's headers */
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	signal(SIGPIPE, SIG_IGN);
	snprintf(p->dir, sizeof(p->dir), "/tmp/elsa-sink-XXXXXX");
	*state = p;
	return mkdtemp(p->dir) ? 0 : -1;
}

static void begin(struct place *p, const char *url)
{
	struct error e = ERROR_INIT;
	cleanup_free char *key = fs_join(p->dir, "key");
	const struct store_options options = { .url = url, .key_file = key };
	if (store_open(&options, &p->store, &e) < 0 ||
	    store_write_begin(p->store, SESSION, 1, &p->write, &e) < 0 ||
	    page_sink_start(p->write, &p->sink, &p->socket, &e) < 0)
		fail_msg("%s", e.text);
}

static int tear_down(void **state)
{
	struct place *p = *state;
	page_sink_free(p->sink);
	store_write_free(p->write);
	store_close(p->store);
	int r = fs_remove_tree(p->dir, NULL);
	free(p);
	return r;
}

/* --- CRIU's side ---------------------------------------------------------------- */

static void say(struct place *p, uint32_t command, uint32_t flags, uint64_t vaddr, uint64_t pages,
		uint64_t memory)
{
	const struct {
		uint32_t command, pages;
		uint64_t vaddr, memory;
	} old = { flags << 16 | command, (uint32_t)pages, vaddr, memory };
	const struct {
		uint32_t command;
		uint64_t pages, vaddr, memory;
	} new = { flags << 16 | command, pages, vaddr, memory };
	size_t len = p->old ? sizeof(old) : sizeof(new);
	assert_int_equal(send(p->socket, p->old ? (const void *)&old : &new, len, 0), len);
}

static int32_t hear(struct place *p, size_t len)
{
	int32_t value = 0;
	assert_int_equal(recv(p->socket, &value, len, MSG_WAITALL), len);
	return value;
}

/* What no compression makes smaller (the finisher of splitmix64). */
static char content(uint64_t address)
{
	uint64_t x = (address >> 3) + 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return (char)((x ^ x >> 31) >> (address & 7) * 8);
}

/* As much as it takes; a page in eight is zero. */
static void send_pages(struct place *p, uint64_t vaddr, uint64_t pages)
{
	char page[STORE_PAGE];
	for (uint64_t i = 0; i < pages; i++) {
		for (size_t k = 0; k < sizeof(page); k++)
			page[k] = i % 8 == 7 ? 0 : content(vaddr + i * STORE_PAGE + k);
		assert_int_equal(send(p->socket, page, sizeof(page), 0), sizeof(page));
	}
}

static void add(struct place *p, uint32_t flags, uint64_t vaddr, uint64_t pages, uint64_t memory)
{
	say(p, ADD_F, flags, vaddr, pages, memory);
	send_pages(p, vaddr, pages);
}

static void open_memory(struct place *p, uint64_t memory)
{
	say(p, OPEN2, 0, 0, 0, memory);
	assert_int_equal(hear(p, 1), 0);
}

/* Its status. */
static int32_t hang_up(struct place *p)
{
	say(p, FORCE_CLOSE, 0, 0, 0, 0);
	int32_t status = hear(p, 4);
	close(steal_fd(&p->socket));
	return status;
}

static void dump(struct place *p)
{
	say(p, PARENT, 0, 0, 0, 0x101);
	assert_int_equal(hear(p, 4), 0);
	open_memory(p, 0x101);
	add(p, PRESENT, 0x1000, 3, 0x101);
	add(p, PRESENT | LAZY, 0x7f0000000000, 700, 0x101);
	open_memory(p, 0x2a02);
	add(p, PRESENT, 0, 20, 0x2a02);
	/* Nothing of it is left to dump. */
	open_memory(p, 0x201);
}

/* --- what has come of it ------------------------------------------------------------ */

static struct store_read *commit(struct place *p)
{
	struct error e = ERROR_INIT;
	struct store_read *read = NULL;
	struct store_meta meta = { .session = SESSION,
				   .generation = 1,
				   .created_at = 1,
				   .user = strdup("jo"),
				   .server = strdup(""),
				   .cpu = strdup(""),
				   .criu = strdup("4.2"),
				   .kernel = strdup(""),
				   .spec = strdup("{}") };
	if (store_write_commit(p->write, &meta, STORE_VERIFY_ALL, &e) < 0 ||
	    store_read_open(p->store, SESSION, 1, &read, &e) < 0)
		fail_msg("%s", e.text);
	store_meta_deinit(&meta);
	return read;
}

static int image_of(struct place *p, unsigned id)
{
	cleanup_free char *path = str_printf("%s/pages-%u.img", p->dir, id);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* The page at `at` in the image is the one that was at `vaddr`, the nth of its extent; or a hole.
 */
static void check_page(int fd, off_t at, uint64_t vaddr, uint64_t nth, bool written)
{
	char page[STORE_PAGE];
	assert_int_equal(pread(fd, page, sizeof(page), at * STORE_PAGE), sizeof(page));
	for (size_t k = 0; k < sizeof(page); k++)
		if (page[k] !=
		    (nth % 8 == 7 || !written ? 0 : content(vaddr + nth * STORE_PAGE + k)))
			fail_msg("page %ld, byte %zu", (long)at, k);
}

static const struct store_memory *memory_of(struct store_read *read, const char *name, unsigned *id)
{
	const struct store_memory *list;
	size_t count = store_read_memories(read, &list);
	for (*id = 1; *id <= count; ++*id)
		if (strcmp(list[*id - 1].name, name) == 0)
			return &list[*id - 1];
	fail_msg("no memory %s", name);
	return NULL;
}

static void check_images(struct place *p, struct store_read *read, enum pages_part part)
{
	struct error e = ERROR_INIT;
	struct stat st;
	unsigned id;
	if (pagemap_images_write(read, part, p->dir, &e) < 0)
		fail_msg("%s", e.text);
	const struct store_memory *m = memory_of(read, "pagemap-1.img", &id);
	cleanup_fd int process = image_of(p, id);
	assert_int_equal(m->extent_count, 2);
	assert_int_equal(m->extents[1].vaddr, 0x7f0000000000);
	assert_int_equal(m->extents[1].flags, PRESENT | LAZY);
	assert_int_equal(fstat(process, &st), 0);
	assert_int_equal(st.st_size, 703 * STORE_PAGE);
	for (uint64_t i = 0; i < 3; i++)
		check_page(process, (off_t)i, 0x1000, i, true);
	for (uint64_t i = 0; i < 700; i++)
		check_page(process, (off_t)(3 + i), 0x7f0000000000, i, part == PAGES_ALL);
	memory_of(read, "pagemap-shmem-42.img", &id);
	cleanup_fd int shared = image_of(p, id);
	for (uint64_t i = 0; i < 20; i++)
		check_page(shared, (off_t)i, 0, i, true);
	assert_int_equal(memory_of(read, "pagemap-2.img", &id)->extent_count, 0);
}

/* --- tests -------------------------------------------------------------------------- */

static void take_all(struct place *p)
{
	struct error e = ERROR_INIT;
	begin(p, "memory:");
	dump(p);
	assert_int_equal(hang_up(p), 0);
	if (page_sink_wait(p->sink, &e) < 0)
		fail_msg("%s", e.text);
	struct store_read *read = commit(p);
	check_images(p, read, PAGES_ALL);
	check_images(p, read, PAGES_EAGER);
	store_read_free(read);
}

static void test_memory_arrives(void **state)
{
	take_all(*state);
}

static void test_memory_arrives_from_an_older_criu(void **state)
{
	struct place *p = *state;
	p->old = true;
	take_all(p);
}

static void test_nothing_at_all(void **state)
{
	struct place *p = *state;
	begin(p, "memory:");
	p->old = true; /* either will do */
	assert_int_equal(hang_up(p), 0);
	assert_int_equal(page_sink_wait(p->sink, NULL), 0);
}

/* At every point where CRIU can go: before it has said anything, in a header, in a page, between.
 */
static void test_criu_goes_away(void **state)
{
	struct place *p = *state;
	for (int where = 0; where < 4; where++) {
		struct error e = ERROR_INIT;
		begin(p, "memory:");
		if (where == 1)
			assert_int_equal(send(p->socket, "\4\0\0\0", 4, 0), 4);
		if (where > 1)
			open_memory(p, 0x101);
		if (where > 2) {
			say(p, ADD_F, PRESENT, 0x1000, 600, 0x101);
			send_pages(p, 0x1000, 301);
			assert_int_equal(send(p->socket, "half", 4, 0), 4);
		}
		close(steal_fd(&p->socket));
		assert_int_equal(page_sink_wait(p->sink, &e), -EPIPE);
		assert_non_null(strstr(e.text, "hung up"));
		p->sink = page_sink_free(p->sink);
		p->write = store_write_free(p->write);
		p->store = store_close(p->store);
	}
}

static void test_we_hang_up(void **state)
{
	struct place *p = *state;
	char byte;
	begin(p, "memory:");
	open_memory(p, 0x101);
	p->sink = page_sink_free(p->sink);
	assert_int_equal(recv(p->socket, &byte, 1, 0), 0);
	close(steal_fd(&p->socket));
}

static void test_nonsense(void **state)
{
	struct place *p = *state;
	struct error e = ERROR_INIT;
	begin(p, "memory:");
	open_memory(p, 0x101);
	say(p, 99, 0, 0, 0, 0x101);
	assert_int_equal(page_sink_wait(p->sink, &e), -EPROTO);
	close(steal_fd(&p->socket));
}

/* No file may grow: CRIU gets rid of all it has, and is told at the end. */
static void test_the_store_fails(void **state)
{
	struct place *p = *state;
	struct error e = ERROR_INIT;
	struct rlimit before, none;
	cleanup_free char *url = str_printf("file://%s/store", p->dir);
	begin(p, url);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	none = (struct rlimit) { 0, before.rlim_max };
	setrlimit(RLIMIT_FSIZE, &none);
	open_memory(p, 0x101);
	for (uint64_t i = 0; i < 40; i++)
		add(p, PRESENT, 0x1000 + i * (1 << 20), 250, 0x101);
	int32_t status = hang_up(p);
	int r = page_sink_wait(p->sink, &e);
	p->sink = page_sink_free(p->sink);
	assert_int_equal(status, -1);
	assert_true(r < 0 && r != -EPIPE);
	setrlimit(RLIMIT_FSIZE, &before);
}

static void test_it_takes_too_long(void **state)
{
	struct place *p = *state;
	struct error e = ERROR_INIT;
	begin(p, "memory:");
	open_memory(p, 0x101);
	add(p, PRESENT, 0x1000, 300, 0x101);
	page_sink_give_up(p->sink);
	add(p, PRESENT, 0x10000000, 3000, 0x101);
	open_memory(p, 0x201);
	assert_int_equal(hang_up(p), -1);
	assert_int_equal(page_sink_wait(p->sink, &e), -ETIMEDOUT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_memory_arrives),  TEST(test_memory_arrives_from_an_older_criu),
		TEST(test_nothing_at_all),  TEST(test_criu_goes_away),
		TEST(test_we_hang_up),      TEST(test_nonsense),
		TEST(test_the_store_fails), TEST(test_it_takes_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
