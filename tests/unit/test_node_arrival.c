/* SPDX-License-Identifier: Apache-2.0 */
/* A session whose memory another node has, and what is made of that node's word that it has none of
 * it: real processes and their page service, and a node that answers as it is told. */
#define _GNU_SOURCE
#include "node/arrival_private.h"
#include "node/pagemap_image.h"
#include "node/session.h"
#include "tests/unit/move_world.h"
#include "tests/unit/pages_kit.h"

#include <poll.h>

#define ID "0123456789abcdef"

/* The node that it came from: greets, and knows nothing of the pages. */
static struct {
	struct move_world world;
	struct move_tls *tls;
	pthread_t thread;
	atomic_bool stop;
} from;

static struct config config;
static struct node node;
static struct session *session;
static struct page_source source; /* that asks that node; what serves the session is w.pages */

static int answer(struct move_conn *c, enum move_type type)
{
	struct error e = ERROR_INIT;
	if (type == MOVE_HELLO)
		return move_send(c, MOVE_OK, NULL, 0, NULL);
	error_fault(&e, FAULT_NOT_FOUND, "it is over");
	return move_send_error(c, &e);
}

static void serve_one(int fd)
{
	struct move_conn *c;
	enum move_type type;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	if (move_accept(from.tls, fd, 5000, &c, NULL) < 0)
		return;
	for (int r = -ETIMEDOUT; !from.stop && (r == 0 || r == -ETIMEDOUT);) {
		r = move_recv(c, &type, &body, 10, NULL);
		if (r == 0)
			r = answer(c, type);
	}
	move_conn_free(c);
}

static void *serve_in_thread(void *arg)
{
	serve_one((int)(intptr_t)arg);
	return NULL;
}

static void *listen_main(void *arg)
{
	pthread_t threads[16];
	size_t count = 0;
	(void)arg;
	while (!from.stop) {
		struct pollfd ready = { .fd = from.world.listener, .events = POLLIN };
		if (poll(&ready, 1, 10) <= 0 || count == ARRAY_SIZE(threads))
			continue;
		int fd = accept4(from.world.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && pthread_create(&threads[count], NULL, serve_in_thread,
					      (void *)(intptr_t)fd) == 0)
			count++;
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return NULL;
}

static void write_images(void)
{
	static const struct store_extent one = { 0x10000, 1, PAGES_LAZY };
	const struct store_memory m = { .extents = (struct store_extent *)(uintptr_t)&one,
					.extent_count = 1 };
	cleanup_free char *dir = str_printf("%s/moved/" ID, config.node.run_dir);
	cleanup_free char *path = str_printf("%s/pagemap-1.img", dir);
	cleanup_buf struct buf image = BUF_INIT(1 << 20);
	assert_int_equal(fs_mkdirs(dir, 0700, NULL), 0);
	assert_int_equal(pagemap_image(&m, 1, &image), 0);
	assert_int_equal(fs_replace(path, image.data, image.len, 0600, NULL), 0);
}

static int begin(void **state)
{
	set_up(state);
	from.stop = false;
	move_world_init(&from.world);
	from.tls = move_world_tls(&from.world, "ca", "n1", MOVE_HOUR);
	move_world_join(&from.world, "n2");
	config = (struct config) { .node = { .state_dir = from.world.dir,
					     .run_dir = from.world.dir,
					     .controller = "" },
				   .move = { .patience_ms = 60000 } };
	node = (struct node) { .config = &config, .base = event_base_new() };
	pthread_mutex_init(&node.lock, NULL);
	assert_int_equal(pool_new(node.base, 1, &node.pool, NULL), 0);
	session = session_add(&node, ID);
	session->journal.arriving = ARRIVING_MOVED;
	session->journal.moved_id = strdup("d1");
	session->journal.moved_from = strdup("n1");
	session->journal.moved_from_at = strdup(from.world.at);
	write_images();
	assert_int_equal(pthread_create(&from.thread, NULL, listen_main, NULL), 0);
	struct arrival_place place = { .node = "n1", .at = from.world.at, .departure = "d1" };
	struct error e = ERROR_INIT;
	struct move_lines *lines;
	must(arrival_lines(&node, ID, &place, &lines, &e), &e);
	must(arrival_open_moved(&node, ID, lines, NULL, &source, &e), &e);
	return 0;
}

static int end(void **state)
{
	/* The pages are the kit's. */
	if (session->arrival)
		session->arrival->pages = NULL;
	source.free(source.from);
	from.stop = true;
	pthread_join(from.thread, NULL);
	move_tls_free(from.tls);
	session_remove(&node, session);
	pool_free(node.pool);
	event_base_free(node.base);
	pthread_mutex_destroy(&node.lock);
	move_world_deinit(&from.world);
	return tear_down(state);
}

/* The session's from now on. */
static void have_arrival(void)
{
	struct error e = ERROR_INIT;
	struct arrival *a;
	must(arrival_new(&node, ID, &a, &e), &e);
	a->pages = w.pages;
	session->arrival = a;
}

static void run_loop(void)
{
	while (event_base_loop(node.base, EVLOOP_NONBLOCK) == 0 && pool_load(node.pool))
		usleep(1000);
}

static int on_frame(uint32_t frame, const void *pages, size_t len, void *arg)
{
	(void)frame;
	(void)pages;
	(void)len;
	(void)arg;
	return 0;
}

/* Somebody asks that node for a page, and is told that it has none. */
static void be_told(void)
{
	static const uint32_t frame = 0;
	struct error e = ERROR_INIT;
	int r = -EAGAIN;
	for (int i = 0; i < 1000 && r != -ENOENT; i++)
		r = source.read(source.from, &frame, 1, on_frame, NULL, &e);
	assert_int_equal(r, -ENOENT);
	run_loop();
}

/* The rest is asked for, and is there before that is answered: somebody else wanted it. */
static void have_all_but_an_answer(void)
{
	struct pages_status st;
	atomic_store(&w.control->hang_many, 1);
	wake_up();
	wait_hanging(1);
	for (size_t i = 0; i < PROCESSES; i++)
		do_it(i, "check");
	pages_status(w.pages, &st);
	assert_int_equal(st.missing, 0);
	assert_false(st.arrived);
}

static void test_something_is_missing(void **state)
{
	(void)state;
	wake_up_hanging();
	have_arrival();
	be_told();
	assert_true(session->memory_lost);
}

/* Elsad has that node end what it has as soon as nothing is missing here. */
static void test_nothing_is_missing(void **state)
{
	(void)state;
	have_all_but_an_answer();
	have_arrival();
	be_told();
	assert_false(session->memory_lost);
	arrival_tidy(&node, session);
	run_loop();
	assert_false(session->memory_lost);
	atomic_store(&w.control->hang_many, 0);
	wait_all_in();
	be_told();
	assert_false(session->memory_lost);
}

/* After a restart it is told before it is known what is missing. */
static void test_not_taken_up_yet(void **state)
{
	(void)state;
	wake_up_hanging();
	be_told();
	assert_false(session->memory_lost);
	have_arrival();
	arrival_tidy(&node, session);
	run_loop();
	assert_true(session->memory_lost);
}

static void test_not_taken_up_and_nothing_is_missing(void **state)
{
	(void)state;
	have_all_but_an_answer();
	be_told();
	have_arrival();
	arrival_tidy(&node, session);
	run_loop();
	assert_false(session->memory_lost);
}

#define arrival_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

static int run(void)
{
	const struct CMUnitTest tests[] = {
		arrival_test(test_something_is_missing),
		arrival_test(test_nothing_is_missing),
		arrival_test(test_not_taken_up_yet),
		arrival_test(test_not_taken_up_and_nothing_is_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	return pages_main(argc, argv, run);
}
