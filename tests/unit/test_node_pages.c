/* SPDX-License-Identifier: Apache-2.0 */
/* The page service with real userfaultfds of real processes. */
#define _GNU_SOURCE
#include "tests/unit/pages_world.h"

#include "node/pages_keeper.h"
#include "node/vault.h"
#include "node/working_set.h"

/* --- the world ------------------------------------------------------------------------ */

static struct world {
	char dir[64]; /* CRIU's work directory, and the service's */
	struct control *control;
	pid_t init;
	int init_orders;
	pid_t process[PROCESSES];
	int orders[PROCESSES];
	struct pages *pages;
	_Atomic int arrived;
	int sources; /* made here */
	uint32_t likely[3];
	size_t likely_count;
} w;

static char control_path[128];

static struct control *map_control(const char *path)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, sizeof(struct control)) == 0);
	void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	return at;
}

/* This program again, with `in` as its standard input and `three` as descriptor 3. */
static pid_t run_self(const char *const *args, int in, int three)
{
	const char *argv[8] = { "test_node_pages" };
	for (size_t i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(in, 0);
		if (three >= 0)
			dup2(three, 3);
		execv("/proc/self/exe", (char *const *)argv);
		_exit(99);
	}
	return pid;
}
#define ARGS(...) ((const char *const[]) { __VA_ARGS__, NULL })

static pid_t start_init(int *orders)
{
	char path[PATH_MAX];
	int ends[2];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	assert_true(n > 0);
	path[n] = '\0';
	memcpy(strrchr(path, '/'), "/../../elsa-init", sizeof("/../../elsa-init"));
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		dup2(ends[1], 1);
		execl(path, path, "--", "sh", "-c", "echo up; exec sleep 1000", NULL);
		_exit(99);
	}
	close(ends[1]);
	char line[8];
	assert_int_equal(read(ends[0], line, sizeof(line)), 3);
	*orders = ends[0];
	return pid;
}

static int connect_as_criu(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/lazy-pages.socket", w.dir);
	while (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		usleep(1000);
	return fd;
}

static void ask(size_t process, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void ask(size_t process, const char *format, ...)
{
	char line[128];
	va_list list;
	va_start(list, format);
	int n = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	assert_int_equal(send(w.orders[process], line, (size_t)n, MSG_NOSIGNAL), n);
}

static bool is_answered(size_t process, int timeout_ms)
{
	struct pollfd p = { .fd = w.orders[process], .events = POLLIN };
	return poll(&p, 1, timeout_ms) == 1;
}

static void expect(size_t process, const char *answer)
{
	char line[256];
	if (!is_answered(process, 60000))
		fail_msg("process %zu does not answer", process);
	ssize_t n = recv(w.orders[process], line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	assert_string_equal(line, answer);
}

static void do_it(size_t process, const char *line)
{
	ask(process, "%s", line);
	expect(process, "ok");
}

static void on_arrival(void *arg)
{
	(void)arg;
	atomic_fetch_add(&w.arrived, 1);
}

static struct pages_options options(void)
{
	return (struct pages_options) { .session = "test", .dir = w.dir, .arrived = on_arrival };
}

static void must(int r, const struct error *e)
{
	if (r < 0)
		fail_msg("%d: %s", r, e->text);
}

/* What CRIU does. */
static void restore_processes(void)
{
	int32_t zombie = -30;
	uint32_t finished = 0x52535446;
	int criu = connect_as_criu();
	assert_int_equal(write(criu, &zombie, sizeof(zombie)), sizeof(zombie));
	for (size_t i = 0; i < PROCESSES; i++) {
		char number[8];
		int ends[2];
		snprintf(number, sizeof(number), "%zu", i);
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		w.process[i] = run_self(ARGS("session", number), ends[1], criu);
		close(ends[1]);
		w.orders[i] = ends[0];
		expect(i, "ready");
	}
	assert_int_equal(write(criu, &finished, sizeof(finished)), sizeof(finished));
	close(criu);
}

static void listen_only(void)
{
	struct page_source source;
	struct pages_options o = options();
	struct error e = ERROR_INIT;
	make_checkpoint(w.control, &source);
	source.likely = w.likely;
	source.likely_count = w.likely_count;
	w.sources++;
	must(pages_listen(&o, w.dir, &source, &w.pages, &e), &e);
}

static void settle(void)
{
	struct error e = ERROR_INIT;
	restore_processes();
	must(pages_settle(w.pages, w.init, &e), &e);
}

static void wake_up(void)
{
	listen_only();
	settle();
	pages_go(w.pages);
}

/* Reads do not return, until the test lets them. */
static void wake_up_hanging(void)
{
	listen_only();
	settle();
	atomic_store(&w.control->hang, 1);
	pages_go(w.pages);
}

static void wait_hanging(int reads)
{
	while (atomic_load(&w.control->hanging) < reads)
		usleep(1000);
}

static void wait_all_in(void)
{
	struct error e = ERROR_INIT;
	struct pages_status s;
	must(pages_wait(w.pages, 60000, &e), &e);
	pages_status(w.pages, &s);
	assert_true(s.arrived && s.missing == 0 && s.total > 0 && s.stalled_since == 0);
}

static int vault_count(int32_t number, int fd, void *arg)
{
	(void)number;
	close(fd);
	++*(int *)arg;
	return 0;
}

static int in_vault(void)
{
	cleanup(vault_close) struct vault v;
	int count = 0;
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_each(&v, vault_count, &count, NULL), 0);
	return count;
}

/* When nobody serves them any more, all they touch would be zeros if it were not there. */
static void let_go_and_check(void)
{
	wait_all_in();
	while (atomic_load(&w.arrived) == 0)
		usleep(1000);
	assert_int_equal(atomic_load(&w.arrived), 1);
	assert_int_equal(in_vault(), 0);
	w.pages = pages_free(w.pages);
	for (size_t i = 0; i < PROCESSES; i++)
		do_it(i, "check");
}

static int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	snprintf(w.dir, sizeof(w.dir), "/tmp/elsa-pages-XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	snprintf(control_path, sizeof(control_path), "%s/control", w.dir);
	w.control = map_control(control_path);
	atomic_store(&w.control->bad, -1);
	w.init = start_init(&w.init_orders);
	return 0;
}

static void end_process(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static int tear_down(void **state)
{
	(void)state;
	atomic_store(&w.control->hang, 0);
	w.pages = pages_free(w.pages);
	while (atomic_load(&w.control->freed) < w.sources)
		usleep(1000);
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		if (w.orders[i])
			close(w.orders[i]);
	}
	end_process(w.init);
	close(w.init_orders);
	fs_remove_tree(w.dir, NULL);
	munmap(w.control, sizeof(*w.control));
	return 0;
}

/* --- right content ---------------------------------------------------------------------- */

static void test_all_comes_by_itself(void **state)
{
	(void)state;
	wake_up();
	let_go_and_check();
}

static void test_threads_at_random(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 200);
	wake_up();
	ask(0, "walk 8 2000");
	ask(1, "walk 4 2000");
	expect(0, "ok");
	expect(1, "ok");
	let_go_and_check();
}

static void test_faults_while_restored(void **state)
{
	(void)state;
	listen_only();
	settle();
	/* Not let run yet, but for what CRIU itself touches. */
	do_it(0, "page 77");
	do_it(1, "page 5");
	pages_go(w.pages);
	let_go_and_check();
}

static void test_events(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 5000);
	wake_up();
	do_it(0, "empty 1000 3");
	do_it(0, "move 10 50");
	do_it(0, "write 700");
	do_it(0, "unmap 20");
	do_it(0, "fork 200");
	do_it(0, "move 50 45");
	do_it(0, "empty 2890 1");
	do_it(0, "fork 200");
	do_it(0, "check");
	let_go_and_check();
}

static void test_stress(void **state)
{
	(void)state;
	for (int delay = 0; delay < 1000; delay += 300) {
		atomic_store(&w.control->delay_us, delay);
		wake_up();
		ask(0, "stress 1500 %d", delay + 1);
		ask(1, "stress 1500 %d", delay + 2);
		expect(0, "ok");
		expect(1, "ok");
		let_go_and_check();
		tear_down(state);
		set_up(state);
	}
}

/* Where a page is put, it may have moved on since: it is not taken for unmapped. */
static void test_moves_while_all_comes(void **state)
{
	for (int round = 0; round < 20; round++) {
		listen_only();
		settle();
		do_it(0, "thin");
		do_it(1, "thin");
		ask(0, "dance 5000");
		ask(1, "dance 5000");
		pages_go(w.pages);
		wait_all_in();
		expect(0, "ok");
		expect(1, "ok");
		let_go_and_check();
		tear_down(state);
		set_up(state);
	}
}

static void test_many_forks(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 1000);
	wake_up();
	do_it(0, "forks 300");
	do_it(1, "forks 300");
	let_go_and_check();
}

/* False when there is nothing left to do. */
static bool resume(void)
{
	struct page_source source;
	struct pages_options o = options();
	struct error e = ERROR_INIT;
	make_checkpoint(w.control, &source);
	w.sources++;
	int r = pages_resume(&o, w.init, &source, &w.pages, &e);
	if (r != -ENOENT)
		must(r, &e);
	return r == 0;
}

/* What a fork that has ended left in the vault, when a program was killed before it had tidied up, is
 * not taken for what another fork has. */
static void test_numbers_are_not_used_again(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup(vault_close) struct vault v;
	cleanup_fd int ended = make_userfaultfd();
	listen_only();
	restore_processes();
	do_it(0, "nothing");
	must(pages_settle(w.pages, w.init, &e), &e);
	w.pages = pages_free(w.pages);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_put(&v, -1, ended, NULL), 0);
	int before = in_vault();
	atomic_store(&w.control->hang, 1);
	assert_true(resume());
	ask(0, "fork 200");
	while (in_vault() == before)
		usleep(1000);
	w.pages = pages_free(w.pages);
	assert_true(resume());
	atomic_store(&w.control->hang, 0);
	expect(0, "ok");
	let_go_and_check();
}

/* What is still being read when the service ends is not taken for what is there. */
static void test_ended_and_taken_up(void **state)
{
	(void)state;
	uint64_t seed = 17;
	for (int round = 0; round < 10; round++) {
		bool more = true;
		atomic_store(&w.control->delay_us, 10000);
		for (wake_up(); more;) {
			ask(0, "page %d", (int)random_below(&seed, PAGES));
			usleep((useconds_t)random_below(&seed, 20000));
			w.pages = pages_free(w.pages);
			more = resume();
			expect(0, "ok");
		}
		assert_int_equal(in_vault(), 0);
		do_it(0, "check");
		do_it(1, "check");
		tear_down(state);
		set_up(state);
	}
}

/* Forks that have ended are forgotten, and do not fill the vault. */
static void test_ended_forks_are_forgotten(void **state)
{
	(void)state;
	wake_up_hanging();
	for (int i = 0; i < 600; i++)
		do_it(0, "nothing");
	w.pages = pages_free(w.pages);
	assert_true(in_vault() < 300);
	atomic_store(&w.control->hang, 0);
	assert_true(resume());
	let_go_and_check();
}

static void test_session_ends(void **state)
{
	(void)state;
	wake_up_hanging();
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		w.process[i] = 0;
	}
	atomic_store(&w.control->hang, 0);
	wait_all_in();
	assert_true(atomic_load(&w.control->frames_read) < PROCESSES * FRAMES);
}

/* --- a store that fails ------------------------------------------------------------------ */

static void wait_stalled(const char *text)
{
	struct pages_status s = { 0 };
	for (int i = 0; i < 20000 && s.stalled_since == 0; i++) {
		pages_status(w.pages, &s);
		usleep(1000);
	}
	assert_true(s.stalled_since > 0);
	assert_non_null(strstr(s.stalled.text, text));
}

static void test_store_away_for_a_while(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	listen_only();
	settle();
	atomic_store(&w.control->fail, EIO);
	pages_go(w.pages);
	ask(0, "check");
	wait_stalled("the store is away");
	assert_int_equal(pages_wait(w.pages, 100, &e), -EAGAIN);
	assert_non_null(strstr(e.text, "the store is away"));
	assert_false(is_answered(0, 300));
	/* It waits, and can still fork and move elsewhere. */
	do_it(1, "empty 100 2");
	do_it(1, "move 11 60");
	atomic_store(&w.control->fail, 0);
	expect(0, "ok");
	let_go_and_check();
}

static void test_damage(void **state)
{
	(void)state;
	uint64_t bad = 30 * CHUNK + 1;
	atomic_store(&w.control->bad, (int)frame_of(0, bad));
	wake_up();
	ask(0, "page %llu", (unsigned long long)bad);
	wait_stalled("object x is damaged");
	/* Everything else comes. */
	do_it(1, "check");
	for (uint64_t n = 0; n < 30 * CHUNK; n += 100) {
		struct pages_status s;
		pages_status(w.pages, &s);
		assert_true(s.missing > 0 && !s.arrived);
	}
	assert_false(is_answered(0, 200));
	atomic_store(&w.control->bad, -1);
	expect(0, "ok");
	let_go_and_check();
}

static void test_free_while_reads_hang(void **state)
{
	(void)state;
	wake_up_hanging();
	ask(0, "check");
	wait_hanging(1);
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		w.process[i] = 0;
	}
	w.pages = pages_free(w.pages);
	assert_int_equal(atomic_load(&w.control->freed), 0);
	atomic_store(&w.control->hang, 0);
	while (atomic_load(&w.control->freed) == 0)
		usleep(1000);
	assert_int_equal(atomic_load(&w.arrived), 0);
}

static void test_restore_fails(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	int32_t unknown = 77;
	listen_only();
	int criu = connect_as_criu();
	int fd = make_userfaultfd();
	assert_int_equal(write(criu, &unknown, sizeof(unknown)), sizeof(unknown));
	send_descriptor(criu, fd);
	assert_int_equal(pages_settle(w.pages, w.init, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "77"));
	close(fd);
	close(criu);
	w.pages = pages_free(w.pages);
	listen_only();
	close(connect_as_criu());
	assert_int_equal(pages_settle(w.pages, w.init, &e), -EPIPE);
}

/* --- the working set --------------------------------------------------------------------- */

static bool in_set(const struct working_set *list, size_t count, int pid, uint64_t page)
{
	char name[32];
	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < list[i].count && strcmp(list[i].memory, name) == 0; k++)
			if (list[i].pages[k] == BASE + page * PAGE)
				return true;
	return false;
}

static void test_working_set(void **state)
{
	(void)state;
	struct working_set *list = NULL;
	size_t count = 0;
	/* The first wake finds out: also what CRIU touches, */
	listen_only();
	settle();
	do_it(0, "page 128");
	atomic_store(&w.control->hang, 1);
	pages_go(w.pages);
	ask(0, "page 640");
	ask(1, "page 2000");
	wait_hanging(2); /* the time in which they wait is not counted */
	atomic_store(&w.control->hang, 0);
	expect(0, "ok");
	expect(1, "ok");
	while (working_set_load(w.dir, &list, &count, NULL) < 0)
		usleep(1000);
	assert_true(in_set(list, count, 10, 640) && in_set(list, count, 10, 128));
	assert_true(in_set(list, count, 20, 2000));
	assert_false(in_set(list, count, 20, 640));
	/* What came with them was not asked for. */
	assert_false(in_set(list, count, 10, 644) || in_set(list, count, 20, 2004));
	working_set_free(list, count);
	let_go_and_check();
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		close(w.orders[i]);
	}
	/* ... and the second one has it before it runs. */
	atomic_store(&w.arrived, 0);
	listen_only();
	settle();
	atomic_store(&w.control->hang, 1);
	int before = atomic_load(&w.control->reads);
	do_it(0, "page 640");
	do_it(0, "page 128");
	do_it(1, "page 2000");
	assert_int_equal(atomic_load(&w.control->reads), before);
	atomic_store(&w.control->hang, 0);
	pages_go(w.pages);
	let_go_and_check();
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* What is likely to be wanted has been read before anybody asks, and who asks is noted. */
static void test_likely(void **state)
{
	(void)state;
	struct working_set *list = NULL;
	size_t count = 0;
	const uint32_t likely[] = { frame_of(0, 640), frame_of(0, 1280), frame_of(1, 2000) };
	memcpy(w.likely, likely, sizeof(likely));
	qsort(w.likely, ARRAY_SIZE(likely), sizeof(*likely), ascending);
	w.likely_count = ARRAY_SIZE(likely);
	listen_only();
	/* The last one is being kept by then: it is not asked for. */
	while (atomic_load(&w.control->frames_read) < (int)ARRAY_SIZE(likely))
		usleep(1000);
	settle();
	atomic_store(&w.control->hang, 1);
	int before = atomic_load(&w.control->reads);
	if (w.likely[2] != frame_of(0, 640))
		do_it(0, "page 640");
	if (w.likely[2] != frame_of(0, 1280))
		do_it(0, "page 1280");
	if (w.likely[2] != frame_of(1, 2000))
		do_it(1, "page 2000");
	assert_int_equal(atomic_load(&w.control->reads), before);
	atomic_store(&w.control->hang, 0);
	pages_go(w.pages);
	while (working_set_load(w.dir, &list, &count, NULL) < 0)
		usleep(1000);
	size_t noted = in_set(list, count, 10, 640) + in_set(list, count, 10, 1280) +
		       in_set(list, count, 20, 2000);
	assert_int_equal(noted, 2);
	assert_false(in_set(list, count, 10, 644) || in_set(list, count, 20, 2004));
	working_set_free(list, count);
	let_go_and_check();
}

static bool is_recorded(void)
{
	struct working_set *list = NULL;
	size_t count = 0;
	if (working_set_load(w.dir, &list, &count, NULL) < 0)
		return false;
	working_set_free(list, count);
	return true;
}

/* The rest stands back while it is recorded what is wanted, and comes when that has ended, also
 * when nobody waits for it. */
static void test_recording_ends(void **state)
{
	(void)state;
	struct pages_status s;
	wake_up();
	do_it(0, "page 640");
	for (pages_status(w.pages, &s); !is_recorded(); pages_status(w.pages, &s)) {
		assert_int_equal(s.missing, s.total);
		usleep(1000);
	}
	for (int i = 0; i < 20000 && !s.arrived; i++) {
		usleep(1000);
		pages_status(w.pages, &s);
	}
	assert_true(s.arrived && s.missing == 0);
	let_go_and_check();
}

/* Who waits for all of it does not wait for that, */
static void test_nobody_waits_for_the_recording(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	wake_up();
	ask(0, "walk 4 500");
	must(pages_wait(w.pages, 60000, &e), &e);
	expect(0, "ok");
	let_go_and_check();
}

/* ... nor does it go on for ever when nothing comes, nor hold up the end. */
static void test_recording_a_stall(void **state)
{
	(void)state;
	atomic_store(&w.control->fail, EIO);
	wake_up();
	ask(0, "page 640");
	wait_stalled("the store is away");
	w.pages = pages_free(w.pages);
	for (int i = 0; i < 20000 && atomic_load(&w.control->freed) == 0; i++)
		usleep(1000);
	assert_int_equal(atomic_load(&w.control->freed), 1);
}

static uint32_t frames_read(void)
{
	return atomic_load(&w.control->frames_read);
}

/* Who goes from one end to the other finds there what was never asked for. The session has not been
 * let run, so nothing but read-ahead brings that. It may be so far ahead of who reads that nothing
 * is asked for any more: so it is looked for all the way. */
static void test_read_ahead(void **state)
{
	enum { TOUCHED = 8 * STORE_FRAME_PAGES };
	uint32_t touched = 0;
	(void)state;
	listen_only();
	settle();
	for (int page = 0; page < TOUCHED && frames_read() <= touched; page++) {
		ask(0, "page %d", page);
		expect(0, "ok");
		touched = (uint32_t)page / STORE_FRAME_PAGES + 1;
	}
	for (int i = 0; i < 20000 && frames_read() <= touched; i++)
		usleep(1000);
	assert_true(frames_read() > touched);
	pages_go(w.pages);
	let_go_and_check();
}

/* --- killed ------------------------------------------------------------------------------- */

/* In a program of its own: descriptor 0 tells what has happened. */
static int service_main(bool resume, const char *dir, const char *control, pid_t init)
{
	struct page_source source;
	struct error e = ERROR_INIT;
	struct pages *p = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct pages_options o = { .session = "test", .dir = dir };
	make_checkpoint(map_control(control), &source);
	int r = resume ? pages_resume(&o, init, &source, &p, &e)
		       : pages_listen(&o, dir, &source, &p, &e);
	if (r == 0 && !resume) {
		send(0, "listening", 9, 0);
		r = pages_settle(p, init, &e);
		if (r == 0)
			pages_go(p);
	}
	const char *word = r == 0 ? "serving" : r == -ENOENT ? "complete" : e.text;
	send(0, word, strlen(word), 0);
	if (r == 0 && pages_wait(p, 60000, &e) == 0)
		send(0, "arrived", 7, 0);
	pause();
	return 0;
}

struct service {
	pid_t pid;
	int told;
};

static struct service start_service(const char *mode)
{
	struct service s;
	char init[16];
	int ends[2];
	snprintf(init, sizeof(init), "%d", (int)w.init);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	s.pid = run_self(ARGS(mode, w.dir, control_path, init), ends[1], -1);
	close(ends[1]);
	s.told = ends[0];
	return s;
}

static void kill_service(struct service *s)
{
	end_process(s->pid);
	close(s->told);
}

static const char *hear(const struct service *s, int timeout_ms)
{
	static char line[256];
	struct pollfd p = { .fd = s->told, .events = POLLIN };
	if (poll(&p, 1, timeout_ms) != 1)
		return "";
	ssize_t n = recv(s->told, line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	return line;
}

static struct service serve_and_restore(void)
{
	struct service s = start_service("serve");
	assert_string_equal(hear(&s, 20000), "listening");
	restore_processes();
	assert_string_equal(hear(&s, 20000), "serving");
	return s;
}

static void test_killed_at_random(void **state)
{
	enum { KILLS = 12, TAKEN_UP = 3 };
	uint64_t seed = 4711;
	for (int round = 0; round < 6; round++) {
		bool answered[PROCESSES] = { false };
		int taken_up = 0;
		atomic_store(&w.control->delay_us, 40000);
		/* However slow we are, not all is in before so many kills. */
		atomic_store(&w.control->bad, (int)frame_of(0, 7));
		struct service s = serve_and_restore();
		ask(0, "stress 1500 %d", round * 2 + 1);
		ask(1, "stress 1500 %d", round * 2 + 2);
		for (int kills = 0; kills < KILLS; kills++) {
			usleep((useconds_t)random_below(&seed, 40000));
			kill_service(&s);
			if (kills == TAKEN_UP)
				atomic_store(&w.control->bad, -1);
			s = start_service("resume");
			const char *word = hear(&s, 20000);
			if (strcmp(word, "complete") != 0) {
				assert_string_equal(word, "serving");
				taken_up++;
			}
			for (size_t i = 0; i < PROCESSES; i++) {
				if (!answered[i] && is_answered(i, 0)) {
					expect(i, "ok");
					answered[i] = true;
				}
			}
		}
		assert_true(taken_up >= TAKEN_UP);
		for (size_t i = 0; i < PROCESSES; i++) {
			if (!answered[i])
				expect(i, "ok");
			do_it(i, "check");
		}
		kill_service(&s);
		s = start_service("resume");
		if (strcmp(hear(&s, 20000), "serving") == 0)
			assert_string_equal(hear(&s, 60000), "arrived");
		assert_int_equal(in_vault(), 0);
		kill_service(&s);
		tear_down(state);
		set_up(state);
	}
}

/* Nobody serves for a while: all wait, nothing is zeros. */
static void test_killed_and_away(void **state)
{
	(void)state;
	atomic_store(&w.control->hang, 1);
	struct service s = serve_and_restore();
	do_it(0, "empty 1000 3");
	do_it(0, "move 10 50");
	kill_service(&s);
	ask(0, "check");
	ask(1, "check");
	assert_false(is_answered(0, 300));
	assert_false(is_answered(1, 0));
	atomic_store(&w.control->hang, 0);
	s = start_service("resume");
	assert_string_equal(hear(&s, 20000), "serving");
	expect(0, "ok");
	expect(1, "ok");
	assert_string_equal(hear(&s, 60000), "arrived");
	kill_service(&s);
	s = start_service("resume");
	assert_string_equal(hear(&s, 20000), "complete");
	kill_service(&s);
}

/* A fork has been told of, and its descriptor is in our table only, when we are killed. */
static int orphan_main(pid_t init)
{
	struct vault v;
	struct pages_record record;
	struct pages_keeper *keeper;
	if (vault_open(init, &v, NULL) < 0 || pages_record_make(&record, 100, 10, NULL) < 0 ||
	    pages_keeper_watch(&v, &keeper, NULL) < 0)
		return 1;
	pages_keeper_expect(keeper, &record);
	*pages_record_next(&record) = (struct pages_entry) {
		.number = 10,
		.child = -5,
		.message = { .event = UFFD_EVENT_FORK,
			     .arg.fork.ufd = (uint32_t)make_userfaultfd() },
	};
	kill(getpid(), SIGKILL);
	return 2;
}

/* Nothing has been told of when we are killed. Our keeper is our only child. */
static int silent_main(pid_t init)
{
	struct vault v;
	struct pages_record record;
	struct pages_keeper *keeper;
	if (vault_open(init, &v, NULL) < 0 || pages_record_make(&record, 100, 10, NULL) < 0 ||
	    vault_put(&v, 0, record.fd, NULL) < 0 || pages_keeper_watch(&v, &keeper, NULL) < 0)
		return 1;
	pages_keeper_expect(keeper, &record);
	send(0, "ready", 5, 0);
	pause();
	return 2;
}

static int note_number(int32_t number, int fd, void *arg)
{
	char path[64], name[64] = "";
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	assert_string_equal(name, "anon_inode:[userfaultfd]");
	close(fd);
	*(int32_t *)arg = number;
	return 0;
}

static void test_keeper(void **state)
{
	(void)state;
	int status;
	int32_t number = 0;
	cleanup(vault_close) struct vault v;
	struct service s = start_service("orphan");
	assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
	assert_true(WIFSIGNALED(status));
	close(s.told);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	for (int i = 0; i < 20000 && number == 0; i++) {
		assert_int_equal(vault_each(&v, note_number, &number, NULL), 0);
		usleep(1000);
	}
	assert_int_equal(number, -5);
}

static pid_t only_child(pid_t pid)
{
	char path[64];
	int child = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &child), 1);
	fclose(f);
	return child;
}

static int take_record(int32_t number, int fd, void *arg)
{
	assert_int_equal(number, 0);
	*(int *)arg = fd;
	return 0;
}

/* A keeper so late that the next program has had a fork told of: it keeps its hands off that. */
static void test_late_keeper(void **state)
{
	(void)state;
	int fd = -1, status;
	cleanup(vault_close) struct vault v;
	struct pages_record record;
	struct service s = start_service("silent");
	assert_string_equal(hear(&s, 20000), "ready");
	pid_t keeper = only_child(s.pid);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, keeper, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(keeper, SIGSTOP), 0);
	kill_service(&s);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_each(&v, take_record, &fd, NULL), 0);
	assert_int_equal(pages_record_open(&record, fd, 100, 10, NULL), 0);
	pages_record_take_turn(&record);
	*pages_record_next(&record) = (struct pages_entry) {
		.number = 10,
		.child = -5,
		.message = { .event = UFFD_EVENT_FORK, .arg.fork.ufd = 1 },
	};
	assert_int_equal(kill(keeper, SIGCONT), 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	assert_int_equal(poll(&ended, 1, 60000), 1);
	waitpid(keeper, &status, __WALL | WNOHANG); /* ours where we adopt orphans */
	assert_int_equal(in_vault(), 1);
	pages_record_close(&record);
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "silent") == 0)
		return silent_main((pid_t)strtol(argv[4], NULL, 10));
	if (argc == 5 && strcmp(argv[1], "orphan") == 0)
		return orphan_main((pid_t)strtol(argv[4], NULL, 10));
	if (argc == 3 && strcmp(argv[1], "session") == 0)
		return session_main((size_t)strtoul(argv[2], NULL, 10));
	if (argc == 5)
		return service_main(strcmp(argv[1], "resume") == 0, argv[2], argv[3],
				    (pid_t)strtol(argv[4], NULL, 10));
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_comes_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads_at_random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_faults_while_restored, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stress, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_moves_while_all_comes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_forks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_numbers_are_not_used_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ended_and_taken_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ended_forks_are_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_session_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_store_away_for_a_while, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_free_while_reads_hang, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_restore_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_working_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_likely, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_recording_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_waits_for_the_recording, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_recording_a_stall, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_ahead, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_late_keeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed_at_random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed_and_away, set_up, tear_down),
	};
	if (getenv("ELSA_TEST"))
		cmocka_set_test_filter(getenv("ELSA_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
