/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* A sandbox through CRIU and back: in a new network namespace, over a copy of its layer, its memory
 * by way of a store. */
#include "node/criu_run.h"
#include "node/page_sink.h"
#include "node/pagemap_image.h"
#include "tests/unit/sandbox_place.h"

#include <poll.h>

/* Holds one of everything, and says each round whether all of it is still as it should be. */
static const char program[] =
	"import ctypes, fcntl, mmap, multiprocessing, os, pty, socket, sqlite3, tempfile, "
	"threading, time\n"
	"lib = ctypes.CDLL(None)\n"
	"state = {'back': 0, 'ticks': 0}\n"
	"def tick():\n"
	"    last = time.monotonic()\n"
	"    while True:\n"
	"        time.sleep(0.01); now = time.monotonic()\n"
	"        state['back'] += now < last; last = now; state['ticks'] += 1\n"
	"r, w = os.pipe()\n"
	"if os.fork() == 0:\n"
	"    while True: os.write(w, b'x'); time.sleep(0.02)\n"
	"master, slave = pty.openpty()\n"
	"if os.fork() == 0:\n"
	"    os.setsid(); fcntl.ioctl(slave, 0x540e, 0)\n"
	"    for fd in 0, 1, 2: os.dup2(slave, fd)\n"
	"    os.execvp('bash', ['bash', '--norc', '-i'])\n"
	"os.close(slave); shell = os.fdopen(master, 'rb+', buffering=0)\n"
	"def ask_shell():\n"
	"    shell.write(b'echo $((6*7))\\n'); text = b''\n"
	"    while b'\\n42' not in text: text += shell.read(4096)\n"
	"    return True\n"
	"listener = socket.create_server(('127.0.0.1', 5555))\n"
	"a = socket.create_connection(('127.0.0.1', 5555)); b, _ = listener.accept()\n"
	"def ask_tcp(): a.sendall(b'ping'); return b.recv(4) == b'ping'\n"
	"def width(s): return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)\n"
	"u, v = socket.socketpair()\n"
	"def ask_unix(): u.send(b'x'); return v.recv(1) == b'x'\n"
	"outside = socket.create_server(('0.0.0.0', 8888)); kept = []\n"
	"def serve():\n"
	"    while True:\n"
	"        s, _ = outside.accept(); kept.append(s)\n"
	"        threading.Thread(target=echo, args=(s,), daemon=True).start()\n"
	"def echo(s):\n"
	"    while True: s.sendall(s.recv(100)); state['width'] = width(s)\n"
	"db = sqlite3.connect('/home/jo/db', isolation_level=None)\n"
	"db.execute('create table t(a)'); db.execute('begin immediate'); db.execute('insert into t "
	"values(1)')\n"
	"def deleted(where):\n"
	"    f = tempfile.TemporaryFile(dir=where); f.write(b'q' * 3000000); f.flush(); return f\n"
	"files = [deleted(p) for p in ('/tmp', '/dev/shm', '/home/jo')]\n"
	"def ask_files(): return all(os.pread(f.fileno(), 4, 2999996) == b'qqqq' for f in files)\n"
	"renamed = open('/tmp/a', 'w+'); os.link('/tmp/a', '/tmp/b'); os.unlink('/tmp/a')\n"
	"lock = open('/tmp/lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
	"memory = os.memfd_create('m'); os.write(memory, b'memory')\n"
	"semaphore = multiprocessing.Semaphore(2)\n"
	"def ask_semaphore(): semaphore.acquire(); semaphore.release(); return True\n"
	"os.mkdir('/tmp/watched'); watch = lib.inotify_init1(os.O_NONBLOCK)\n"
	"lib.inotify_add_watch(watch, b'/tmp/watched', 0x100)\n"
	"def ask_watch():\n"
	"    for _ in range(2):\n" /* what was not read yet is not in CRIU's images */
	"        name = '/tmp/watched/%d' % state['ticks']\n"
	"        open(name, 'w').close(); os.unlink(name)\n"
	"        try: return os.read(watch, 4096) != b''\n"
	"        except BlockingIOError: pass\n"
	"    return False\n"
	"data = os.urandom(20 << 20); digest = hash(data)\n"
	"for f in tick, serve: threading.Thread(target=f, daemon=True).start()\n"
	"n = 0\n"
	"while True:\n"
	"    n += 1\n"
	"    checks = [ask_shell(), ask_tcp(), ask_unix(), ask_files(), ask_semaphore(), "
	"ask_watch(),\n"
	"        os.read(r, 100) != b'', os.pread(memory, 9, 0) == b'memory',\n"
	"        db.execute('select count(*) from t').fetchone() == (1,), state['back'] == 0,\n"
	"        hash(bytes(data)) == digest, width(a) > 30000, state.get('width', 1398) > 1300]\n"
	"    print('round', n, 'fine' if all(checks) else checks, flush=True)\n"
	"    time.sleep(0.05)\n";

static struct criu_features features;
static struct criu_options options;
static char *images, *work;
static struct store *store;
static int64_t generation;

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
					  .work = work };
	r = criu_probe(config->node.criu, &features, &e);
	cleanup_free char *key = fs_join(top, "key");
	if (r == 0)
		r = store_open(&(struct store_options) { .url = "memory:", .key_file = key },
			       &store, &e);
	if (r < 0)
		print_error("%s (%s)\n", e.text, e.remedy);
	return r;
}

static int tear_down_criu(void **state)
{
	free(images);
	free(work);
	store = store_close(store);
	return tear_down(state);
}

static long rounds(struct box *box)
{
	cleanup_buf struct buf log = BUF_INIT(16 << 20);
	long last = 0;
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	for (const char *p = buf_text(&log); (p = strstr(p, "\nround ")); p++) {
		char *end;
		last = strtol(p + 7, &end, 10);
		if (strncmp(end, " fine\n", 6) != 0 && strchr(end, '\n'))
			fail_msg("%.200s", p);
	}
	return last;
}

static void expect_progress(struct box *box)
{
	long before = rounds(box);
	for (int i = 0; i < 600 && rounds(box) < before + 3; i++)
		usleep(100000);
	if (rounds(box) < before + 3) {
		cleanup_buf struct buf log = BUF_INIT(16 << 20);
		fs_read(box->sb.log, &log, NULL);
		fail_msg("the session stands still after round %ld:\n%s", before, buf_text(&log));
	}
}

static void echo(int fd, const char *text)
{
	char answer[16] = "";
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(send(fd, text, 4, MSG_NOSIGNAL), 4);
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), 4);
	assert_memory_equal(answer, text, 4);
}

static struct criu_run *dump_into(struct box *box, pid_t init, struct store_write *write)
{
	struct error e = ERROR_INIT;
	struct criu_run *d = NULL;
	struct page_sink *sink = NULL;
	cleanup_free char *tail = NULL;
	fs_remove_tree(images, NULL);
	assert_int_equal(fs_mkdirs(images, 0700, NULL), 0);
	ok(sandbox_freeze(&box->sb, &e), &e);
	ok(sandbox_hold(&box->sb, &e), &e);
	ok(page_sink_start(write, &sink, &options.page_socket, &e), &e);
	int r = criu_dump(&box->sb, init, &options, &d, &tail, &e);
	if (r < 0)
		fail_msg("%s (%s)\n%s", e.text, e.remedy, tail ? tail : "");
	ok(page_sink_wait(sink, &e), &e);
	page_sink_free(sink);
	return d;
}

static void commit(struct store_write *write)
{
	struct error e = ERROR_INIT;
	struct store_meta meta = { .session = FIRST,
				   .generation = generation,
				   .created_at = 1,
				   .user = strdup("jo"),
				   .server = strdup(""),
				   .cpu = strdup(""),
				   .criu = strdup(features.version),
				   .kernel = strdup(""),
				   .spec = strdup("{}") };
	ok(store_write_commit(write, &meta, STORE_VERIFY_ALL, &e), &e);
	store_meta_deinit(&meta);
}

static struct criu_run *dump(struct box *box, pid_t init)
{
	struct error e = ERROR_INIT;
	struct store_write *write;
	ok(store_write_begin(store, FIRST, ++generation, &write, &e), &e);
	struct criu_run *d = dump_into(box, init, write);
	commit(write);
	store_write_free(write);
	return d;
}

static void lay_out_memory(void)
{
	struct error e = ERROR_INIT;
	struct store_read *read;
	ok(store_read_open(store, FIRST, generation, &read, &e), &e);
	ok(pagemap_images_write(read, PAGES_ALL, images, &e), &e);
	store_read_free(read);
}

/* Ahead of its work; somebody kills it when it has told so. */
static void load_and_kill(struct box *box, struct criu_run **loaded)
{
	struct error e = ERROR_INIT;
	ok(criu_load_restore(&box->sb, &options, loaded, &e), &e);
	struct pollfd told = { .fd = (*loaded)->told, .events = POLLIN };
	assert_int_equal(poll(&told, 1, 20000), 1);
	criu_kill_orphans(work);
	options.loaded = loaded;
}

static void restore(struct box *box)
{
	struct error e = ERROR_INIT;
	cleanup_free char *tail = NULL;
	pid_t init = 0;
	pid_t found = 0;
	bool frozen = false;
	struct criu_run *loaded = NULL;
	ok(sandbox_prepare(&box->sb, true, &e), &e);
	load_and_kill(box, &loaded);
	ok(sandbox_mount(&box->sb, &e), &e);
	int r = criu_restore(&box->sb, &options, &init, &tail, &e);
	if (r < 0)
		fail_msg("%s (%s)\n%s", e.text, e.remedy, tail ? tail : "");
	assert_null(loaded);
	ok(sandbox_unmount(&box->sb, &e), &e);
	ok(sandbox_find_init(&box->sb, &found, &e), &e);
	assert_int_equal(init, found);
	ok(sandbox_frozen(&box->sb, &frozen, &e), &e);
	assert_true(frozen);
}

static void go_on(struct box *box)
{
	struct error e = ERROR_INIT;
	ok(sandbox_release(&box->sb, &e), &e);
	ok(sandbox_thaw(&box->sb, &e), &e);
}

/* Other inodes, no traces of the old overlay, as on another node. */
static void move_layer(struct box *box)
{
	cleanup_free char *command = str_printf(
		"cd %s && tar -C upper --xattrs --xattrs-include=trusted.overlay.opaque -cf "
		"upper.tar . &&"
		" rm -rf upper work && mkdir upper &&"
		" tar -C upper --xattrs --xattrs-include='*' -xpf upper.tar && rm upper.tar",
		box->sb.dir);
	run_tool(command);
}

static int connect_to(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8888) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, address, &in.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void test_round_trip(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct box box;
	box_prepare(&box, FIRST, "10.99.0.2");
	pid_t init = box_start(&box, "python3", "-c", program);
	wait_for_log(&box, "round 3 ");
	cleanup_fd int fd = connect_to("10.99.0.2");
	echo(fd, "one\n");

	/* Not kept after all: as if nothing had been. */
	struct criu_run *d = dump(&box, init);
	assert_null(criu_dump_abandon(d));
	go_on(&box);
	expect_progress(&box);
	echo(fd, "two\n");

	d = dump(&box, init);
	long before = rounds(&box);
	criu_dump_keep(d);
	ok(sandbox_kill(&box.sb, &e), &e);
	ok(sandbox_teardown(&box.sb, false, &e), &e);
	move_layer(&box);
	lay_out_memory();
	restore(&box);
	usleep(200000);
	assert_int_equal(rounds(&box), before);
	go_on(&box);
	expect_progress(&box);
	/* The connection of before, through another namespace and link, as wide as it was. */
	echo(fd, "three");
	expect_progress(&box);
	box_end(&box);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_round_trip) };
	return cmocka_run_group_tests(tests, set_up_criu, tear_down_criu);
}
