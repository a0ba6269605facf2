/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/pages_kit.h"

#include "base/fs.h"
#include "node/pages_service.h"
#include "node/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct world w;
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
	const char *argv[8] = { "pages" };
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

int connect_as_criu(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/lazy-pages.socket", w.dir);
	while (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		usleep(1000);
	return fd;
}

void ask(size_t process, const char *format, ...)
{
	char line[128];
	va_list list;
	va_start(list, format);
	int n = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	assert_int_equal(send(w.orders[process], line, (size_t)n, MSG_NOSIGNAL), n);
}

bool is_answered(size_t process, int timeout_ms)
{
	struct pollfd p = { .fd = w.orders[process], .events = POLLIN };
	return poll(&p, 1, timeout_ms) == 1;
}

void expect(size_t process, const char *answer)
{
	char line[256];
	if (!is_answered(process, 60000))
		fail_msg("process %zu does not answer", process);
	ssize_t n = recv(w.orders[process], line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	assert_string_equal(line, answer);
}

void do_it(size_t process, const char *line)
{
	ask(process, "%s", line);
	expect(process, "ok");
}

static void on_arrival(void *arg)
{
	(void)arg;
	atomic_fetch_add(&w.arrived, 1);
}

struct pages_options options(void)
{
	return (struct pages_options) { .session = "test", .dir = w.dir, .arrived = on_arrival };
}

void must(int r, const struct error *e)
{
	if (r < 0)
		fail_msg("%d: %s", r, e->text);
}

/* What CRIU does. */
void restore_processes(void)
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

void listen_only(void)
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

void settle(void)
{
	struct error e = ERROR_INIT;
	restore_processes();
	must(pages_settle(w.pages, w.init, &e), &e);
}

void wake_up(void)
{
	listen_only();
	settle();
	pages_go(w.pages);
}

/* Reads do not return, until the test lets them. */
void wake_up_hanging(void)
{
	listen_only();
	settle();
	atomic_store(&w.control->hang, 1);
	pages_go(w.pages);
}

void wait_hanging(int reads)
{
	while (atomic_load(&w.control->hanging) < reads)
		usleep(1000);
}

void wait_all_in(void)
{
	struct error e = ERROR_INIT;
	struct pages_status s;
	must(pages_wait(w.pages, 60000, &e), &e);
	pages_status(w.pages, &s);
	assert_true(s.arrived && s.missing == 0 && s.total > 0 && s.stalled_since == 0);
}

void wait_stalled(const char *text)
{
	struct pages_status s = { 0 };
	for (int i = 0; i < 20000 && s.stalled_since == 0; i++) {
		pages_status(w.pages, &s);
		usleep(1000);
	}
	assert_true(s.stalled_since > 0);
	assert_non_null(strstr(s.stalled.text, text));
}

static int vault_count(int32_t number, int fd, void *arg)
{
	(void)number;
	close(fd);
	++*(int *)arg;
	return 0;
}

int in_vault(void)
{
	cleanup(vault_close) struct vault v;
	int count = 0;
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_each(&v, vault_count, &count, NULL), 0);
	return count;
}

/* When nobody serves them any more, all they touch would be zeros if it were not there. */
void let_go_and_check(void)
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

int set_up(void **state)
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

void end_process(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

int tear_down(void **state)
{
	(void)state;
	atomic_store(&w.control->hang, 0);
	atomic_store(&w.control->hang_many, 0);
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

/* As the end of a migration does that a crash was in. What has begun is not begun twice: but for
 * the thread that records there are no more of them. */
static void go_again(void)
{
	int threads = atomic_load(&w.pages->references);
	pages_go(w.pages);
	assert_true(atomic_load(&w.pages->references) <= threads + 1);
}

/* False when there is nothing left to do. */
bool resume(void)
{
	struct page_source source;
	struct pages_options o = options();
	struct error e = ERROR_INIT;
	make_checkpoint(w.control, &source);
	w.sources++;
	int r = pages_resume(&o, w.init, &source, &w.pages, &e);
	if (r != -ENOENT)
		must(r, &e);
	if (r == 0)
		go_again();
	return r == 0;
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

struct service start_service(const char *mode)
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

void kill_service(struct service *s)
{
	end_process(s->pid);
	close(s->told);
}

const char *hear(const struct service *s, int timeout_ms)
{
	static char line[256];
	struct pollfd p = { .fd = s->told, .events = POLLIN };
	if (poll(&p, 1, timeout_ms) != 1)
		return "";
	ssize_t n = recv(s->told, line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	return line;
}

struct service serve_and_restore(void)
{
	struct service s = start_service("serve");
	assert_string_equal(hear(&s, 20000), "listening");
	restore_processes();
	assert_string_equal(hear(&s, 20000), "serving");
	return s;
}

int pages_main(int argc, char **argv, int (*run)(void))
{
	if (argc == 3 && strcmp(argv[1], "session") == 0)
		return session_main((size_t)strtoul(argv[2], NULL, 10));
	if (argc == 5)
		return service_main(strcmp(argv[1], "resume") == 0, argv[2], argv[3],
				    (pid_t)strtol(argv[4], NULL, 10));
	if (getenv("ELSA_TEST"))
		cmocka_set_test_filter(getenv("ELSA_TEST"));
	return run();
}
