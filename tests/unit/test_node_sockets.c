/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "node/cgroup.h"
#include "node/net.h"
#include "node/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A process as a session's, in a network of its own, with a connection to itself. */
struct place {
	char name[32], netns[64];
	struct cgroup cg;
	struct net_session net;
	pid_t child;
	int say, hear; /* to and from it */
	int socket;    /* a copy of its end that writes */
};

static bool lo_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
}

static int connect_to_self(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&at, len) < 0 || accept(listener, NULL, NULL) < 0)
		return -1;
	return fd;
}

/* Tells its descriptor, and writes when it is told to. */
static void child_main(int hear, int say)
{
	char word;
	int self, fd;
	if (unshare(CLONE_NEWNET) < 0 || !lo_up() ||
	    (self = open("/proc/self/ns/net", O_RDONLY)) < 0 ||
	    net_hold_setup(self, false, NULL) < 0 || (fd = connect_to_self()) < 0)
		_exit(1);
	close(self);
	if (write(say, &fd, sizeof(fd)) != sizeof(fd))
		_exit(1);
	while (read(hear, &word, 1) == 1)
		if (write(fd, "answer", 6) != 6 || write(say, &word, 1) != 1)
			_exit(1);
	_exit(0);
}

static void put_child(struct place *p)
{
	int to[2], from[2], number;
	assert_int_equal(pipe2(to, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
	p->child = fork();
	if (p->child == 0)
		child_main(to[0], from[1]);
	close(to[0]);
	close(from[1]);
	p->say = to[1];
	p->hear = from[0];
	assert_int_equal(cgroup_adopt(&p->cg, p->child, NULL), 0);
	assert_int_equal(read(p->hear, &number, sizeof(number)), sizeof(number));
	cleanup_fd int pidfd = pidfd_open(p->child, 0);
	p->socket = pidfd_getfd(pidfd, number, 0);
	assert_true(p->socket >= 0);
	snprintf(p->netns, sizeof(p->netns), "/proc/%d/ns/net", (int)p->child);
	p->net = (struct net_session) { .id = "0123456789abcdef", .netns = p->netns };
}

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct session_limits none = { 0 };
	struct error e = ERROR_INIT;
	*state = p;
	snprintf(p->name, sizeof(p->name), "elsa-sockets-%d", (int)getpid());
	if (geteuid() != 0)
		return 0;
	if (cgroup_host_setup(p->name, &e) < 0 ||
	    cgroup_init(&p->cg, p->name, "0123456789abcdef", &e) < 0 ||
	    cgroup_create(&p->cg, &none, &e) < 0)
		fail_msg("%s", e.text);
	put_child(p);
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	if (p->child) {
		kill(p->child, SIGKILL);
		waitpid(p->child, NULL, 0);
		cgroup_remove(&p->cg, NULL);
		cgroup_host_teardown(p->name, NULL);
		close(p->say);
		close(p->hear);
		close(p->socket);
	}
	cgroup_deinit(&p->cg);
	free(p);
	return 0;
}

static struct place *need_root(void **state)
{
	struct place *p = *state;
	if (!p->child)
		skip();
	return p;
}

static struct tcp_info ask(const struct place *p)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	assert_int_equal(getsockopt(p->socket, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info;
}

static void write_something(const struct place *p)
{
	char word = 'w';
	assert_int_equal(write(p->say, &word, 1), 1);
	assert_int_equal(read(p->hear, &word, 1), 1);
}

/* What was written while packets were held. The kernel has tried a few times, and will not again
 * for more than a second. */
static void write_in_vain(const struct place *p)
{
	struct error e = ERROR_INIT;
	if (net_hold(&p->net, &e) < 0)
		fail_msg("%s", e.text);
	write_something(p);
	while (ask(p).tcpi_backoff < 3)
		usleep(10000);
	if (net_release(&p->net, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(ask(p).tcpi_notsent_bytes, 6);
}

static void test_push(void **state)
{
	struct place *p = need_root(state);
	write_in_vain(p);
	sockets_push(&p->cg);
	assert_int_equal(ask(p).tcpi_notsent_bytes, 0);
}

/* Whoever wants it to wait for more has his way. */
static void test_push_corked(void **state)
{
	struct place *p = need_root(state);
	const int on = 1;
	assert_int_equal(setsockopt(p->socket, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)), 0);
	write_something(p);
	sockets_push(&p->cg);
	int now = 0;
	socklen_t len = sizeof(now);
	assert_int_equal(getsockopt(p->socket, IPPROTO_TCP, TCP_CORK, &now, &len), 0);
	assert_int_equal(now, 1);
}

static void test_end_repair(void **state)
{
	struct place *p = need_root(state);
	const int on = TCP_REPAIR_ON;
	int now = 1;
	socklen_t len = sizeof(now);
	assert_int_equal(setsockopt(p->socket, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	sockets_end_repair(&p->cg);
	assert_int_equal(getsockopt(p->socket, IPPROTO_TCP, TCP_REPAIR, &now, &len), 0);
	assert_int_equal(now, 0);
	write_something(p);
	assert_int_equal(ask(p).tcpi_notsent_bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_push, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_push_corked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_repair, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
