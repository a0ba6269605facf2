/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"
#include "tests/unit/sandbox_place.h"

#include <pthread.h>

/* --- isolation ------------------------------------------------------------------------ */

static const char isolation[] =
	"import os, ctypes, socket, pwd, resource\n"
	"c = ctypes.CDLL(None, use_errno=True)\n"
	"def call(name, *args):\n"
	"    r = c.syscall(*args); print(name, ctypes.get_errno() if r < 0 else 'ok')\n"
	"status = dict(l.rstrip('\\n').split(':\\t', 1) for l in open('/proc/self/status') if "
	"':\\t' in l)\n"
	"for k in 'Uid Gid CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp'.split():\n"
	"    print(k, ' '.join(status[k].split()))\n"
	"print('groups', os.getgroups())\n"
	"call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)\n"
	"call('unshare', 272, 0x10000000)\n"
	"call('clone', 56, 0x10000000 | 17, 0, 0, 0, 0)\n"
	"call('clone3', 435, 0, 0)\n"
	"call('io_uring', 425, 8, 0)\n"
	"call('userfaultfd', 323, 0)\n"
	"call('bpf', 321, 0, 0, 0)\n"
	"call('keyctl', 250, 0, 0, 0)\n"
	"pids = [int(d) for d in os.listdir('/proc') if d.isdigit()]\n"
	"print('pids', sorted(pids) == [1, os.getpid()])\n"
	"print('fds', sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n"
	"print('cwd', os.getcwd(), os.environ['HOME'], pwd.getpwuid(1500).pw_name)\n"
	"print('host', socket.gethostname(), 'umask', oct(os.umask(0)))\n"
	"for p in ('/etc/elsa', '/sys/kernel'): print('sees', p, os.path.exists(p))\n"
	"def writes(p):\n"
	"    try: open(p, 'w').close(); return True\n"
	"    except OSError as e: return e.errno\n"
	"for p in ('/x', '/etc/x', '/.elsa/x', '/proc/sys/kernel/hostname', '/tmp/x', "
	"'/var/tmp/x',\n"
	"          '/dev/shm/x', '/home/jo/x'): print('writes', p, writes(p))\n"
	"print('dev', sorted(os.listdir('/dev')))\n"
	"print('tmp', oct(os.stat('/tmp').st_mode), os.listdir('/tmp'))\n"
	"print('core', resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
	"print('signals', status['SigIgn'], status['SigBlk'])\n";

static void test_isolation(void **state)
{
	(void)state;
	struct box box;
	run_tool("mkdir -p /etc/elsa && touch /tmp/elsa-of-the-node");
	signal(SIGHUP, SIG_IGN); /* must not be inherited */
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", isolation);
	signal(SIGHUP, SIG_DFL);
	cleanup_free char *out = box_output(&box);
	static const char *const lines[] = {
		"Uid 1500 1500 1500 1500",
		"Gid 1500 1500 1500 1500",
		"CapInh 0000000000000000",
		"CapPrm 0000000000000000",
		"CapEff 0000000000000000",
		"CapBnd 0000000000000000",
		"CapAmb 0000000000000000",
		"NoNewPrivs 1",
		"Seccomp 2",
		"groups []",
		"mount 1",
		"unshare 1",
		"clone 1",
		"clone3 38",
		"io_uring 38",
		"userfaultfd 38",
		"bpf 1",
		"keyctl 1",
		"pids True",
		"fds ['0', '1', '2'] 4",
		"cwd /home/jo /home/jo jo",
		"host jo umask 0o22",
		"sees /etc/elsa False",
		"sees /sys/kernel False",
		"writes /x 13",
		"writes /etc/x 13",
		"writes /.elsa/x 13",
		"writes /proc/sys/kernel/hostname 13",
		"writes /tmp/x True",
		"writes /var/tmp/x True",
		"writes /dev/shm/x True",
		"writes /home/jo/x True",
		"dev ['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', "
		"'stdout', 'tty', 'urandom', 'zero']",
		"tmp 0o41777 ['x']",
		"core 0"
	};
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect(out, lines[i]);
	/* Python's own, SIGHUP not among them. */
	assert_non_null(strstr(out, "signals 0000000001001000 0000000000000000"));
	box_end(&box);
}

static bool exists(const char *dir, const char *name)
{
	cleanup_free char *path = fs_join(dir, name);
	return access(path, F_OK) == 0;
}

/* Our directories in an image that holds them, as the node's own root does. */
static void test_hidden(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	box_init(&box, FIRST, "10.99.0.2");
	sandbox_deinit(&box.sb);
	box.spec.image = top;
	ok(sandbox_init(&box.sb, config, &box.spec, &e), &e);
	ok(sandbox_prepare(&box.sb, true, &e), &e);
	ok(sandbox_mount(&box.sb, &e), &e);
	assert_true(exists(top, "state/sessions") && exists(top, "run/netns"));
	assert_true(exists(box.sb.root, "home") && exists(box.sb.root, ".elsa/init"));
	assert_false(exists(box.sb.root, "state"));
	assert_true(exists(box.sb.root, "run"));
	assert_false(exists(box.sb.root, "run/netns"));
	ok(sandbox_unmount(&box.sb, &e), &e);
	box_end(&box);
}

/* --- network --------------------------------------------------------------------------- */

static int listen_on(const char *address, int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, address, &in.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static const char server[] =
	"import socket, threading, time\n"
	"s = socket.create_server(('0.0.0.0', 8888)); print('listening', flush=True)\n"
	"time.sleep(600)\n";

/* Who is not answered may be waited for in vain; who is, long. */
static const char client[] =
	"import socket\n"
	"def tcp(name, address, port, wait=30):\n"
	"    s = socket.socket(); s.settimeout(wait)\n"
	"    try: s.connect((address, port)); print(name, 'yes', s.getsockname()[0])\n"
	"    except OSError: print(name, 'no')\n"
	"tcp('hub', '10.99.0.1', 8081); tcp('activity', '10.99.0.1', 8082)\n"
	"tcp('other port', '10.99.0.1', 9000, 1); tcp('metadata', '169.254.169.254', 80, 1)\n"
	"tcp('other address', '192.168.77.1', 8081, 1); tcp('session', '10.99.0.3', 8888, 1)\n"
	"tcp('loopback of the node', '127.0.0.1', 9000, 1)\n"
	"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'true', ('10.99.0.1', "
	"8081))\n";

/* What no session can do by itself: packets with the address of another one (IP_TRANSPARENT). */
static const char spoof[] = "import socket\n"
			    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
			    "s.setsockopt(0, 19, 1); s.bind(('10.99.0.3', 0)); s.sendto(b'false', "
			    "('10.99.0.1', 8081))\n";

static void send_false_packet(struct box *box)
{
	const char *const argv[] = { "python3", "-c", spoof, NULL };
	struct error e = ERROR_INIT;
	struct job_options options = JOB_OPTIONS(.argv = argv);
	cleanup_fd int fd = open(box->sb.netns, O_RDONLY | O_CLOEXEC);
	options.netns_fd = fd;
	ok(job_check(&options, &e), &e);
}

static void expect_datagrams(int fd)
{
	char text[16] = "";
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), 4);
	assert_string_equal(text, "true");
	assert_int_equal(poll(&p, 1, 100), 0);
}

static void test_network(void **state)
{
	(void)state;
	struct box box, other;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8081) };
	need_root();
	run_tool("ip address replace 192.168.77.1/32 dev lo");
	box_prepare(&other, SECOND, "10.99.0.3");
	box_start(&other, "python3", "-c", server);
	wait_for_log(&other, "listening");
	cleanup_fd int hub = listen_on("0.0.0.0", 8081);
	cleanup_fd int activity = listen_on("10.99.0.1", 8082);
	cleanup_fd int private = listen_on("0.0.0.0", 9000);
	cleanup_fd int metadata = listen_on("0.0.0.0", 80);
	cleanup_fd int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(udp, (struct sockaddr *)&in, sizeof(in)), 0);
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", client);
	cleanup_free char *out = box_output(&box);
	static const char *const lines[] = { "hub yes 10.99.0.2",      "activity yes 10.99.0.2",
					     "other port no",          "metadata no",
					     "other address no",       "session no",
					     "loopback of the node no" };
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect(out, lines[i]);
	send_false_packet(&box);
	expect_datagrams(udp);
	assert_true(connects_within(60000, "10.99.0.3", 8888));
	box_end(&box);
	box_end(&other);
	/* Gone: no way out by another route, and an answer at once. */
	assert_false(connects_within(500, "10.99.0.3", 8888));
}

/* --- the world outside ---------------------------------------------------------------- */

struct listener {
	const char *netns;
	int fd;
};

/* A thread of its own for a socket in another namespace. */
static void *listen_there(void *arg)
{
	struct listener *l = arg;
	cleanup_fd int ns = open(l->netns, O_RDONLY | O_CLOEXEC);
	l->fd = ns >= 0 && setns(ns, CLONE_NEWNET) == 0 ? listen_on("0.0.0.0", 80) : -1;
	return NULL;
}

static int listen_in(const char *netns)
{
	struct listener l = { .netns = netns, .fd = -1 };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, listen_there, &l), 0);
	pthread_join(thread, NULL);
	assert_true(l.fd >= 0);
	return l.fd;
}

static const char tourist[] =
	"import socket\n"
	"for a, wait in ('203.0.113.5', 30), ('192.168.50.5', 1), ('169.254.1.1', 1), "
	"('10.98.0.5', 30):\n"
	"    s = socket.socket(); s.settimeout(wait)\n"
	"    try: s.connect((a, 80)); print(a, 'yes')\n"
	"    except OSError: print(a, 'no')\n";

/* A machine beyond the node that answers on a public, private and link-local addresses. */
static void make_world(const char *path)
{
	struct error e = ERROR_INIT;
	struct net_session world = { .netns = path };
	ok(net_namespace_make(&world, NULL, &e), &e);
	cleanup_free char *command = str_printf(
		"ip link add w0 type veth peer name w1 netns %s && ip link set w0 up &&"
		" ip address add 203.0.113.1/24 dev w0 && nsenter --net=%s sh -c '"
		"ip link set lo up; ip link set w1 up; ip address add 203.0.113.5/24 dev w1;"
		" for a in 192.168.50.5 169.254.1.1 10.98.0.5; do ip address add $a/32 dev lo; "
		"done' &&"
		" for a in 192.168.50.5 169.254.1.1 10.98.0.5; do"
		" ip route add $a/32 via 203.0.113.5; done",
		path, path);
	run_tool(command);
}

static void test_internet(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	struct sockaddr_in from = { 0 };
	socklen_t len = sizeof(from);
	char *allowed[] = { "10.98.0.5:80", NULL };
	need_root();
	cleanup_free char *path = fs_join(top, "world");
	struct config open_config = *config;
	open_config.network.internet = true;
	open_config.network.allow = allowed;
	make_world(path);
	cleanup_fd int fd = listen_in(path);
	ok(net_host_setup(&open_config, &e), &e);
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", tourist);
	cleanup_free char *out = box_output(&box);
	expect(out, "203.0.113.5 yes");
	expect(out, "192.168.50.5 no");
	expect(out, "169.254.1.1 no");
	expect(out, "10.98.0.5 yes");
	/* Under the node's own address: nobody knows the way back to the session's. */
	cleanup_fd int peer = accept(fd, (struct sockaddr *)&from, &len);
	assert_true(peer >= 0);
	assert_int_equal(ntohl(from.sin_addr.s_addr), 0xcb007101);
	box_end(&box);
	ok(net_host_setup(config, &e), &e);
	run_tool("ip link delete w0");
	assert_int_equal(umount(path), 0);
}

static void test_hold(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", server);
	wait_for_log(&box, "listening");
	assert_true(connects_within(60000, "10.99.0.2", 8888));
	for (int i = 0; i < 2; i++)
		ok(sandbox_hold(&box.sb, &e), &e);
	assert_false(connects_within(500, "10.99.0.2", 8888));
	for (int i = 0; i < 2; i++)
		ok(sandbox_release(&box.sb, &e), &e);
	assert_true(connects_within(60000, "10.99.0.2", 8888));
	/* The name of the namespace is lost: found again by the processes. */
	assert_int_equal(umount(box.sb.netns), 0);
	ok(sandbox_prepare(&box.sb, true, &e), &e);
	assert_false(connects_within(500, "10.99.0.2", 8888));
	ok(sandbox_prepare(&box.sb, false, &e), &e);
	assert_true(connects_within(60000, "10.99.0.2", 8888));
	box_end(&box);
}

/* What comes for it meanwhile is there when it goes on, in order and with checksums: a datagram is
 * sent once. */
static void test_kept(void **state)
{
	static const char receiver[] =
		"import socket\n"
		"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
		"s.bind(('', 7777))\n"
		"print('bound', flush=True)\n"
		"print('got', [len(s.recv(2000)) for i in range(3)], flush=True)\n"
		"import time; time.sleep(1000)\n";
	static const size_t sizes[] = { 1, 1400, 700 };
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	char data[1400] = "x";
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7777) };
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "10.99.0.2", &to.sin_addr);
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", receiver);
	wait_for_log(&box, "bound");
	ok(sandbox_hold(&box.sb, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(sendto(fd, data, sizes[i], 0, (struct sockaddr *)&to, sizeof(to)),
				 sizes[i]);
	ok(sandbox_release(&box.sb, &e), &e);
	wait_for_log(&box, "got [1, 1400, 700]");
	box_end(&box);
}

/* --- starting -------------------------------------------------------------------------- */

static void expect_no_start(const char *command, const char *reason)
{
	struct error e = ERROR_INIT;
	struct box box;
	pid_t init = 7;
	box_prepare(&box, FIRST, "10.99.0.2");
	box.cmd[0] = (char *)command;
	assert_true(sandbox_start(&box.sb, &init, &e) < 0);
	assert_int_equal(init, 0);
	if (!strstr(e.text, reason))
		fail_msg("\"%s\" does not say \"%s\"", e.text, reason);
	box_end(&box);
}

static void test_no_start(void **state)
{
	(void)state;
	need_root();
	cleanup_free char *script = fs_join(home, "script");
	static const char text[] = "#!/no/such/interpreter\n";
	assert_int_equal(fs_replace(script, text, sizeof(text) - 1, 0755, NULL), 0);
	expect_no_start("no-such-program", "cannot execute no-such-program: No such file");
	expect_no_start("/etc/passwd", "cannot execute /etc/passwd: Permission denied");
	expect_no_start("/home/jo/script", "/home/jo/script");
	unlink(script);
	char *real = home;
	home = (char *)"/no/such/home";
	expect_no_start("true", "home");
	home = real;
}

static void test_bad_spec(void **state)
{
	(void)state;
	struct box box;
	box_init(&box, FIRST, "10.99.0.2");
	struct session_spec good = box.spec;
	struct session_spec bad[8];
	struct sandbox sb;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].id = (char *)"../../../../etc/";
	bad[1].address = (char *)"10.99.0.2 dev lo";
	bad[2].uid = 0;
	bad[3].home = (char *)"relative";
	bad[4].home_inside = (char *)"/home/../etc";
	bad[5].image = (char *)"/a,upperdir=/etc";
	bad[6].gid = 0;
	bad[7].home_inside = (char *)"/";
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = ERROR_INIT;
		assert_int_equal(sandbox_init(&sb, config, &bad[i], &e), -EINVAL);
		assert_true(e.text[0]);
	}
	sandbox_deinit(&box.sb);
}

/* --- limits and ends --------------------------------------------------------------------- */

static void test_limits(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	struct sandbox_usage usage;
	box_prepare(&box, FIRST, "10.99.0.2");
	/* Memory, whatever swap the machine has. */
	ok(cgroup_set_swap(&box.sb.cgroup, CGROUP_SWAP_NONE, &e), &e);
	box_start(&box, "python3", "-c",
		  "import os, time, signal\n"
		  "n = 0\n"
		  "try:\n"
		  "    while n < 100:\n"
		  "        if os.fork() == 0: time.sleep(600)\n"
		  "        n += 1\n"
		  "except BlockingIOError: print('forks', n < 50, flush=True)\n"
		  "a = bytearray(100 << 20); print('fits', flush=True)\n"
		  "while not os.path.exists('/home/jo/more'): time.sleep(0.01)\n"
		  "b = bytearray(400 << 20); print('never', flush=True)\n");
	wait_for_log(&box, "forks True");
	wait_for_log(&box, "fits");
	ok(sandbox_usage(&box.sb, &usage, &e), &e);
	assert_true(usage.rss_bytes > 100 << 20 && usage.rss_bytes < 256 << 20);
	assert_true(usage.processes > 40 && usage.cpu_us > 0);
	cleanup_free char *more = fs_join(home, "more");
	assert_int_equal(fs_replace(more, "", 0, 0644, &e), 0);
	cleanup_free char *out = box_output(&box);
	assert_null(strstr(out, "never"));
	ok(sandbox_usage(&box.sb, &usage, &e), &e);
	assert_true(usage.oom_kills >= 1);
	unlink(more);
	box_end(&box);
}

static const char ticker[] =
	"import signal, sys, time, os\n"
	"def term(*a): print('asked to end', flush=True); time.sleep(0.2); sys.exit(0)\n"
	"signal.signal(signal.SIGTERM, term)\n"
	"os.fork()\n"
	"print('ready', flush=True)\n"
	"while True:\n"
	"    open('/home/jo/tick', 'w').write('%f' % time.monotonic()); time.sleep(0.005)\n";

static struct timespec tick(void)
{
	struct stat st;
	cleanup_free char *path = fs_join(home, "tick");
	assert_int_equal(stat(path, &st), 0);
	return st.st_mtim;
}

static bool ticks_within(int ms)
{
	struct timespec a = tick(), b = a;
	for (int i = 0; i < ms && memcmp(&a, &b, sizeof(a)) == 0; i++) {
		usleep(1000);
		b = tick();
	}
	return memcmp(&a, &b, sizeof(a)) != 0;
}

static void test_freeze(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	pid_t found;
	bool frozen;
	box_prepare(&box, FIRST, "10.99.0.2");
	pid_t init = box_start(&box, "python3", "-c", ticker);
	wait_for_log(&box, "ready");
	ok(sandbox_find_init(&box.sb, &found, &e), &e);
	assert_int_equal(found, init);
	ok(sandbox_freeze(&box.sb, &e), &e);
	ok(sandbox_frozen(&box.sb, &frozen, &e), &e);
	assert_true(frozen);
	assert_false(ticks_within(200));
	ok(sandbox_thaw(&box.sb, &e), &e);
	ok(sandbox_frozen(&box.sb, &frozen, &e), &e);
	assert_false(frozen);
	assert_true(ticks_within(60000));
	/* Nothing is taken down under a living session. */
	assert_int_equal(sandbox_teardown(&box.sb, true, &e), -EBUSY);
	ok(sandbox_freeze(&box.sb, &e), &e);
	ok(sandbox_kill(&box.sb, &e), &e);
	ok(sandbox_find_init(&box.sb, &found, &e), &e);
	assert_int_equal(found, 0);
	ok(sandbox_kill(&box.sb, &e), &e);
	box_end(&box);
}

static void test_end(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	box_prepare(&box, FIRST, "10.99.0.2");
	box_start(&box, "python3", "-c", ticker);
	wait_for_log(&box, "ready");
	ok(sandbox_end(&box.sb, 60000, &e), &e);
	wait_for_log(&box, "asked to end");
	box_end(&box);
}

/* --- everything twice -------------------------------------------------------------------- */

static int note_id(const char *id, void *arg)
{
	return buf_append(arg, id, strlen(id));
}

static void test_idempotent(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	cleanup_buf struct buf ids = BUF_INIT(256);
	box_init(&box, FIRST, "10.99.0.2");
	for (int i = 0; i < 2; i++) {
		ok(sandbox_host_setup(config, &e), &e);
		ok(sandbox_prepare(&box.sb, i == 0, &e), &e);
		ok(sandbox_mount(&box.sb, &e), &e);
	}
	ok(sandbox_each(config, note_id, &ids, &e), &e);
	assert_string_equal(buf_text(&ids), FIRST);
	for (int i = 0; i < 2; i++)
		ok(sandbox_unmount(&box.sb, &e), &e);
	for (int i = 0; i < 2; i++)
		ok(sandbox_teardown(&box.sb, i == 1, &e), &e);
	buf_reset(&ids);
	ok(sandbox_each(config, note_id, &ids, &e), &e);
	assert_string_equal(buf_text(&ids), "");
	sandbox_deinit(&box.sb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_isolation), cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_network),   cmocka_unit_test(test_internet),
		cmocka_unit_test(test_hold),      cmocka_unit_test(test_kept),
		cmocka_unit_test(test_no_start),  cmocka_unit_test(test_bad_spec),
		cmocka_unit_test(test_limits),    cmocka_unit_test(test_freeze),
		cmocka_unit_test(test_end),       cmocka_unit_test(test_idempotent),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
