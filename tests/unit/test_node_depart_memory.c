/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* The memory of a real session that stands still, behind a dump that has left it where it is. */
#include "node/criu.h"
#include "node/depart_memory.h"
#include "node/pagemap_image.h"
#include "node/unseen.h"
#include "tests/unit/sandbox_place.h"

enum { PAGE = 4096, PAGES = 16384 };

/* Page i of its memory begins with i, but for those that are zeros; so does its child's, shifted.
 */
static const char program[] =
	"import ctypes, mmap, os, struct, time\n"
	"def fill(first):\n"
	"    m = mmap.mmap(-1, 16384 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
	"    for i in range(16384):\n"
	"        if i % 8: struct.pack_into('<Q', m, i * 4096, first + i)\n"
	"    at = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
	"    print('memory', os.getpid(), at, first, flush=True)\n"
	"    return m\n"
	"first = 100000 if os.fork() == 0 else 1\n"
	"m = fill(first); n = 0\n"
	"while True:\n"
	"    n += 1; ok = struct.unpack_from('<Q', m, 4096)[0] == first + 1\n"
	"    print('round', first, n, 'fine' if ok else 'lost', flush=True); time.sleep(0.02)\n";

struct memory {
	int pid;
	uint64_t at, first;
};

static struct criu_features features;
static struct criu_options options;
static char *images, *work;

static int set_up_criu(void **state)
{
	struct error e = ERROR_INIT;
	int r = set_up(state);
	if (r < 0 || geteuid() != 0)
		return r;
	images = fs_join(top, "images");
	work = fs_join(top, "work");
	options = (struct criu_options) { .program = config->node.criu,
					  .features = &features,
					  .timeout_ms = 60000,
					  .images = images,
					  .work = work,
					  .lazy = true };
	r = criu_probe(config->node.criu, &features, &e);
	return r < 0 ? r : fs_mkdirs(images, 0700, &e);
}

static int tear_down_criu(void **state)
{
	free(images);
	free(work);
	return tear_down(state);
}

static struct memory find_memory(struct box *box, uint64_t first)
{
	struct memory m = { 0 };
	cleanup_buf struct buf log = BUF_INIT(1 << 20);
	cleanup_free char *wanted = str_printf(" %llu\n", (unsigned long long)first);
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	for (const char *p = buf_text(&log); (p = strstr(p, "memory ")); p++) {
		unsigned long long at, number;
		if (sscanf(p, "memory %d %llu %llu", &m.pid, &at, &number) == 3 && number == first)
			return (struct memory) { m.pid, at, number };
	}
	fail_msg("no memory%s", wanted);
	return m;
}

static void freeze_and_dump(struct box *box, pid_t init)
{
	struct error e = ERROR_INIT;
	struct criu_run *dump = NULL;
	cleanup_free char *tail = NULL;
	struct unseen unseen;
	cleanup_free char *file = fs_join(top, "unseen");
	int ends[2];
	ok(sandbox_freeze(&box->sb, &e), &e);
	ok(sandbox_hold(&box->sb, &e), &e);
	ok(unseen_find(&box->sb.cgroup, &unseen, &e), &e);
	ok(unseen_write(&unseen, file, &e), &e);
	options.unseen = features.pagemap_scan ? file : NULL;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	options.page_socket = ends[0];
	int r = criu_dump(&box->sb, init, &options, &dump, &tail, &e);
	close(ends[1]);
	if (r < 0)
		fail_msg("%s (%s)\n%s", e.text, e.remedy, tail ? tail : "");
	if (features.pagemap_scan) {
		ok(unseen_scan(&unseen, &e), &e);
		ok(unseen_add(&unseen, images, &e), &e);
	}
	unseen_deinit(&unseen);
	assert_null(criu_dump_abandon(dump));
}

static bool is_in(const struct store_extent *list, size_t count, uint64_t address)
{
	for (size_t i = 0; i < count; i++)
		if (address >= list[i].vaddr &&
		    address < list[i].vaddr + list[i].pages * STORE_PAGE)
			return true;
	return false;
}

/* Whoever has not seen it says it all the same. */
static void expect_lazy(const struct memory *m)
{
	struct error e = ERROR_INIT;
	cleanup_free struct store_extent *list = NULL;
	size_t count = 0;
	cleanup_buf struct buf image = BUF_INIT(16 << 20);
	cleanup_free char *path = str_printf("%s/pagemap-%d.img", images, m->pid);
	ok(fs_read(path, &image, &e), &e);
	ok(pagemap_lazy_extents(buf_text(&image), image.len, &list, &count, &e), &e);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(is_in(list, count, m->at + i * PAGE), i % 8 != 0);
}

static void expect_pages(struct depart_memory *from, const struct memory *m)
{
	enum { AT_ONCE = 512 };
	struct error e = ERROR_INIT;
	static const unsigned char zeros[PAGE];
	cleanup_free unsigned char *pages = malloc((size_t)AT_ONCE * PAGE);
	assert_non_null(pages);
	for (uint64_t i = 0; i < PAGES; i += AT_ONCE) {
		struct move_range range = { m->pid, AT_ONCE, m->at + i * PAGE };
		ok(depart_memory_read(from, &range, pages, &e), &e);
		for (uint64_t k = 0; k < AT_ONCE; k++) {
			uint64_t number;
			memcpy(&number, pages + k * PAGE, sizeof(number));
			assert_int_equal(number, (i + k) % 8 ? m->first + i + k : 0);
			assert_memory_equal(pages + k * PAGE + 8, zeros, PAGE - 8);
		}
	}
}

static void expect_none(struct depart_memory *from, int pid, uint64_t at, uint32_t pages)
{
	struct error e = ERROR_INIT;
	cleanup_free char *to = malloc((size_t)pages * PAGE);
	struct move_range range = { pid, pages, at };
	assert_int_equal(depart_memory_read(from, &range, to, &e), -ENOENT);
	assert_int_equal(e.fault, FAULT_NOT_FOUND);
}

static int rounds(struct box *box, uint64_t first)
{
	int count = 0;
	cleanup_buf struct buf log = BUF_INIT(16 << 20);
	cleanup_free char *line = str_printf("round %llu ", (unsigned long long)first);
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	for (const char *p = buf_text(&log); (p = strstr(p, line)); p++)
		count++;
	assert_null(strstr(buf_text(&log), "lost"));
	return count;
}

static void expect_progress(struct box *box, uint64_t first)
{
	int before = rounds(box, first);
	for (int i = 0; i < 500 && rounds(box, first) < before + 3; i++)
		usleep(20000);
	assert_true(rounds(box, first) >= before + 3);
}

static void test_memory(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	struct depart_memory *memory;
	uint64_t stored = 0;
	box_prepare(&box, FIRST, "10.99.0.2");
	pid_t init = box_start(&box, "python3", "-c", program);
	wait_for_log(&box, "round 1 3 ");
	wait_for_log(&box, "round 100000 3 ");
	struct memory parent = find_memory(&box, 1), child = find_memory(&box, 100000);
	freeze_and_dump(&box, init);
	int before = rounds(&box, 1);

	/* The images have next to nothing of what the processes still have. */
	ok(fs_tree_bytes(images, &stored, &e), &e);
	assert_true(stored > 0 && stored < (uint64_t)PAGES * PAGE / 2);
	expect_lazy(&parent);
	expect_lazy(&child);
	ok(depart_memory_open(&box.sb.cgroup, &memory, &e), &e);
	expect_pages(memory, &parent);
	expect_pages(memory, &child);
	expect_pages(memory, &parent);

	expect_none(memory, 4711, parent.at, 1);
	expect_none(memory, parent.pid, 0x1000, 1);
	assert_null(depart_memory_free(memory));

	assert_int_equal(rounds(&box, 1), before);
	ok(sandbox_release(&box.sb, &e), &e);
	ok(sandbox_thaw(&box.sb, &e), &e);
	expect_progress(&box, 1);
	expect_progress(&box, 100000);
	box_end(&box);
}

/* Its parent does not ask for it: of what has ended there is a number yet. */
static void end_process(pid_t pid)
{
	char path[64], byte;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	assert_int_equal(kill(pid, SIGKILL), 0);
	for (int i = 0; i < 500; i++, usleep(10000)) {
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, &byte, 1) <= 0)
			return;
	}
	fail_msg("process %d does not end", (int)pid);
}

/* What is dead has no memory, rather than one of zeros. */
static void test_gone(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	struct depart_memory *memory;
	cleanup_free char *page = malloc(PAGE);
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", program);
	wait_for_log(&box, "round 1 3 ");
	struct memory parent = find_memory(&box, 1);
	struct move_range range = { parent.pid, 1, parent.at + PAGE };
	ok(sandbox_freeze(&box.sb, &e), &e);
	ok(depart_memory_open(&box.sb.cgroup, &memory, &e), &e);
	ok(depart_memory_read(memory, &range, page, &e), &e);
	ok(sandbox_kill(&box.sb, &e), &e);
	expect_none(memory, parent.pid, parent.at + PAGE, 1);
	assert_null(depart_memory_free(memory));
	box_end(&box);
}

/* While they run some of them end, and what the others have is found all the same. */
static void test_ends_meanwhile(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	struct unseen unseen;
	size_t extents = 0;
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", program);
	wait_for_log(&box, "round 1 3 ");
	wait_for_log(&box, "round 100000 3 ");
	struct memory child = find_memory(&box, 100000);
	ok(unseen_find_running(&box.sb.cgroup, &unseen, &e), &e);
	for (size_t i = 0; i < unseen.process_count; i++)
		if (unseen.processes[i].inside == child.pid)
			end_process(unseen.processes[i].outside);
	if (features.pagemap_scan)
		ok(unseen_scan(&unseen, &e), &e);
	for (size_t i = 0; i < unseen.process_count; i++) {
		const struct unseen_process *p = &unseen.processes[i];
		extents += p->extent_count;
		assert_true(p->inside != child.pid || p->extent_count == 0);
	}
	assert_true(extents > 0 || !features.pagemap_scan);
	unseen_deinit(&unseen);
	box_end(&box);
}

static void test_inside(void **state)
{
	(void)state;
	static const struct {
		const char *status;
		long inside;
	} cases[] = {
		{ "Name:\tx\nNSpid:\t1234\t1\nNSpgid:\t1\n", 1 },
		{ "Name:\tx\nNSpid:\t1234\t56\t1\n", 56 },
		{ "Name:\tx\nNSpid:\t1234\nNSpgid:\t1\t2\n", 0 },
		{ "Name:\tNSpid:\t1\t2\n", 0 },
		{ "", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(depart_memory_inside(cases[i].status), cases[i].inside);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_ends_meanwhile),
		cmocka_unit_test(test_inside),
	};
	return cmocka_run_group_tests(tests, set_up_criu, tear_down_criu);
}
