/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_SANDBOX_PLACE_H
#define ELSA_TESTS_SANDBOX_PLACE_H

/*
 * Real sandboxes on the machine's real kernel, in mount and network namespaces
 * of the test's own. Needs root; without it every test is skipped. Included by
 * one test program each, before cmocka.h's users.
 */

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "io/job.h"
#include "node/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused)) /* not every program needs all of it */

#define FIRST  "00000000000000a1"
#define SECOND "b200000000000000"

static char top[64];
static struct config *config;
static char *home;

struct box {
	struct session_spec spec;
	struct sandbox sb;
	char *cmd[4];
};

UNUSED static void ok(int r, const struct error *e)
{
	if (r < 0)
		fail_msg("%s (%s)", e->text, e->remedy);
}

UNUSED static void run_tool(const char *command)
{
	const char *const argv[] = { "sh", "-c", command, NULL };
	struct error e = ERROR_INIT;
	ok(job_check(&JOB_OPTIONS(.argv = argv), &e), &e);
}

/* --- one place for all tests ----------------------------------------------------- */

UNUSED static int make_config(void)
{
	struct error e = ERROR_INIT;
	cleanup_free char *text = str_printf("[node]\nstate_dir = \"%s/state\"\nrun_dir = "
					     "\"%s/run\"\ncgroup = \"elsa-test-%d\"\n"
					     "[network]\nallow = [\"10.99.0.1:8081\"]\n"
					     "[controller]\nactivity_listen = \"10.99.0.1:8082\"\n",
					     top, top, (int)getpid());
	return config_parse(text, strlen(text), "test", &config, &e);
}

UNUSED static int set_up(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	if (geteuid() != 0)
		return 0;
	/* Not in /tmp, which can be of a kind that holds no upper layer. */
	snprintf(top, sizeof(top), "/var/lib/elsa/test-XXXXXX");
	if (fs_mkdirs("/var/lib/elsa", 0755, &e) < 0 || !mkdtemp(top) || chmod(top, 0755) < 0)
		return -1;
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	run_tool("ip link set lo up && ip address add 169.254.169.254/32 dev lo");
	home = fs_join(top, "home");
	if (!home || mkdir(home, 0700) < 0 || chown(home, 1500, 1500) < 0 || make_config() < 0)
		return -1;
	int r = sandbox_host_setup(config, &e);
	if (r < 0)
		print_error("%s (%s)\n", e.text, e.remedy);
	return r;
}

UNUSED static int tear_down(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	if (geteuid() != 0)
		return 0;
	int r = sandbox_host_teardown(config, &e);
	if (r < 0)
		print_error("%s\n", e.text);
	config = config_free(config);
	free(home);
	return r < 0 ? r : fs_remove_tree(top, NULL);
}

UNUSED static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("SKIPPED: needs root (run it by tools/enter)\n");
		skip();
	}
}

/* --- one sandbox -------------------------------------------------------------------- */

UNUSED static void box_init(struct box *box, const char *id, const char *address)
{
	struct error e = ERROR_INIT;
	need_root();
	*box = (struct box) {
		.spec = { .id = (char *)id,
			  .user = (char *)"Jo.É",
			  .server = (char *)"",
			  .address = (char *)address,
			  .port = 8888,
			  .uid = 1500,
			  .gid = 1500,
			  .home = home,
			  .home_inside = (char *)"/home/jo",
			  .image = (char *)"/",
			  .cmd = box->cmd,
			  .limits = { .memory_bytes = 256 << 20, .cpus = 2, .pids = 50 } }
	};
	ok(sandbox_init(&box->sb, config, &box->spec, &e), &e);
}

UNUSED static void box_prepare(struct box *box, const char *id, const char *address)
{
	struct error e = ERROR_INIT;
	box_init(box, id, address);
	ok(sandbox_prepare(&box->sb, false, &e), &e);
	ok(sandbox_mount(&box->sb, &e), &e);
}

UNUSED static pid_t box_start(struct box *box, const char *program, const char *option,
			      const char *code)
{
	struct error e = ERROR_INIT;
	pid_t init = 0;
	box->cmd[0] = (char *)program;
	box->cmd[1] = (char *)option;
	box->cmd[2] = (char *)code;
	ok(sandbox_start(&box->sb, &init, &e), &e);
	ok(sandbox_unmount(&box->sb, &e), &e);
	return init;
}

UNUSED static void box_end(struct box *box)
{
	struct error e = ERROR_INIT;
	ok(sandbox_kill(&box->sb, &e), &e);
	ok(sandbox_teardown(&box->sb, true, &e), &e);
	assert_int_equal(access(box->sb.dir, F_OK), -1);
	assert_int_equal(access(box->sb.netns, F_OK), -1);
	assert_false(cgroup_exists(&box->sb.cgroup));
	sandbox_deinit(&box->sb);
}

/* Waits until the session has ended by itself, and gives what it wrote. */
UNUSED static char *box_output(struct box *box)
{
	struct buf log = BUF_INIT(1 << 20);
	pid_t init = 1;
	for (int i = 0; i < 1200 && init; i++) {
		assert_int_equal(sandbox_find_init(&box->sb, &init, NULL), 0);
		usleep(50000);
	}
	assert_int_equal(init, 0);
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	return buf_steal(&log);
}

UNUSED static void wait_for_log(struct box *box, const char *text)
{
	for (int i = 0; i < 3000; i++) {
		cleanup_buf struct buf log = BUF_INIT(1 << 20);
		if (fs_read(box->sb.log, &log, NULL) == 0 && strstr(buf_text(&log), text))
			return;
		usleep(20000);
	}
	fail_msg("the session does not say \"%s\"", text);
}

UNUSED static void expect(const char *output, const char *line)
{
	cleanup_free char *whole = str_printf("\n%s\n", line);
	cleanup_free char *all = str_printf("\n%s", output);
	if (!strstr(all, whole))
		fail_msg("no \"%s\" in\n%s", line, output);
}

UNUSED static bool connects_within(int ms, const char *address, int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int code = -1;
	socklen_t len = sizeof(code);
	inet_pton(AF_INET, address, &in.sin_addr);
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0 && errno != EINPROGRESS)
		return false;
	return poll(&p, 1, ms) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 &&
	       code == 0;
}

#endif
