/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/move_world.h"

#include <dirent.h>
#include <unistd.h>

DEFINE_CLEANUP(struct move_conn *, move_conn_free)
DEFINE_CLEANUP(struct move_tls *, move_tls_free)
#define cleanup_conn cleanup(move_conn_freep)
#define cleanup_tls  cleanup(move_tls_freep)

static void make_pair(struct move_conn **a, struct move_conn **b)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(move_conn_plain(ends[0], "a", a, NULL), 0);
	assert_int_equal(move_conn_plain(ends[1], "b", b, NULL), 0);
}

static int count_descriptors(void)
{
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* --- without TLS ------------------------------------------------------------------ */

static void test_messages(void **state)
{
	(void)state;
	cleanup_conn struct move_conn *a = NULL, *b = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	make_pair(&a, &b);
	assert_int_equal(move_send(a, MOVE_GIVE, NULL, 0, NULL), 0);
	assert_int_equal(move_send(a, MOVE_DATA, "pages", 5, NULL), 0);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), 0);
	assert_int_equal(type, MOVE_GIVE);
	assert_int_equal(body.len, 0);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), 0);
	assert_int_equal(type, MOVE_DATA);
	assert_string_equal(buf_text(&body), "pages");
	/* Nothing comes: that is no end. */
	assert_int_equal(move_recv(b, &type, &body, 0, NULL), -ETIMEDOUT);
	assert_int_equal(move_recv(b, &type, &body, 20, NULL), -ETIMEDOUT);
	assert_int_equal(move_send(a, MOVE_OK, "x", 1, NULL), 0);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), 0);
	a = move_conn_free(a);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), -ECONNRESET);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), -ECONNRESET);
	assert_int_equal(move_send(b, MOVE_OK, NULL, 0, NULL), -ECONNRESET);
	assert_string_equal(move_conn_peer(b), "b");
}

static void test_cut_message(void **state)
{
	(void)state;
	unsigned char header[MOVE_HEADER_BYTES];
	move_header_write(&(struct move_header) { MOVE_DATA, 100 }, header);
	for (size_t len = 1; len <= MOVE_HEADER_BYTES; len++) {
		cleanup_conn struct move_conn *b = NULL;
		cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
		enum move_type type;
		int ends[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		assert_int_equal(move_conn_plain(ends[1], "b", &b, NULL), 0);
		assert_int_equal(write(ends[0], header, len), len);
		close(ends[0]);
		assert_int_equal(move_recv(b, &type, &body, 1000, NULL), -ECONNRESET);
	}
}

/* What answers is of another Elsa: all of it is taken in, and what comes next is read as such. */
static void test_another_version(void **state)
{
	(void)state;
	static const unsigned char answer[] = { 'E', 'M', MOVE_VERSION + 1, 200, 3, 0, 0, 0, 'n',
						'o', '.' };
	cleanup_conn struct move_conn *b = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	struct error e = ERROR_INIT;
	unsigned char next[MOVE_HEADER_BYTES];
	enum move_type type;
	int ends[2];
	move_header_write(&(struct move_header) { MOVE_OK, 0 }, next);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	cleanup_fd int far = ends[0];
	assert_int_equal(move_conn_plain(ends[1], "b", &b, NULL), 0);
	assert_int_equal(write(far, answer, sizeof(answer)), sizeof(answer));
	assert_int_equal(write(far, next, sizeof(next)), sizeof(next));
	assert_int_equal(move_ask(b, MOVE_HELLO, "{}", 2, MOVE_OFFER, &body, 1000, &e),
			 -EPROTONOSUPPORT);
	assert_int_equal(e.fault, FAULT_REFUSED);
	assert_non_null(strstr(e.remedy, "same version of Elsa"));
	assert_int_equal(move_recv(b, &type, &body, 1000, &e), 0);
	assert_int_equal(type, MOVE_OK);
}

static void test_no_message(void **state)
{
	(void)state;
	cleanup_conn struct move_conn *b = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(move_conn_plain(ends[1], "b", &b, NULL), 0);
	assert_int_equal(write(ends[0], "GET / HTTP/1.1\r\n", 16), 16);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), -EBADMSG);
	assert_int_equal(move_recv(b, &type, &body, 1000, NULL), -ECONNRESET);
	close(ends[0]);
}

static void ask(struct move_conn *a, struct move_conn *b, enum move_type answer,
		const struct error *failure, int want, enum fault fault)
{
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	struct error e = ERROR_INIT;
	if (failure)
		assert_int_equal(move_send_error(b, failure), 0);
	else
		assert_int_equal(move_send(b, answer, "yes", 3, NULL), 0);
	assert_int_equal(move_ask(a, MOVE_GIVE, NULL, 0, MOVE_OK, &body, 1000, &e), want);
	assert_int_equal(e.fault, fault);
	if (failure)
		assert_non_null(strstr(e.text, failure->text));
	if (failure)
		assert_string_equal(e.remedy, failure->remedy);
}

static void test_ask(void **state)
{
	(void)state;
	cleanup_conn struct move_conn *a = NULL, *b = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	struct error no = ERROR_INIT;
	error_fault(&no, FAULT_CONFLICT, "it runs here");
	error_remedy(&no, 0, "Leave it.");
	make_pair(&a, &b);
	ask(a, b, MOVE_OK, NULL, 0, FAULT_NONE);
	ask(a, b, MOVE_OK, &no, -EBUSY, FAULT_CONFLICT);
	ask(a, b, MOVE_OK, NULL, 0, FAULT_NONE);
	ask(a, b, MOVE_DATA, NULL, -EBADMSG, FAULT_CORRUPT);
	/* What was answered to one question is not taken for the answer to the next. */
	assert_int_equal(move_ask(a, MOVE_GIVE, NULL, 0, MOVE_OK, &body, 1000, NULL), -ECONNRESET);
}

static void test_late_answer(void **state)
{
	(void)state;
	cleanup_conn struct move_conn *a = NULL, *b = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	make_pair(&a, &b);
	assert_int_equal(move_ask(a, MOVE_GIVE, NULL, 0, MOVE_OK, &body, 10, NULL), -ETIMEDOUT);
	assert_int_equal(move_send(b, MOVE_OK, NULL, 0, NULL), 0);
	assert_int_equal(move_ask(a, MOVE_FREEZE, NULL, 0, MOVE_OK, &body, 1000, NULL),
			 -ECONNRESET);
}

struct waiting {
	struct move_conn *conn;
	int result;
};

static void *wait_long(void *arg)
{
	struct waiting *w = arg;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	w->result = move_recv(w->conn, &type, &body, 60000, NULL);
	return NULL;
}

static void test_hang_up(void **state)
{
	(void)state;
	cleanup_conn struct move_conn *a = NULL, *b = NULL;
	pthread_t thread;
	make_pair(&a, &b);
	struct waiting w = { .conn = a };
	assert_int_equal(pthread_create(&thread, NULL, wait_long, &w), 0);
	usleep(5000);
	move_conn_hang_up(a);
	pthread_join(thread, NULL);
	assert_int_equal(w.result, -ECONNRESET);
}

/* --- with TLS ----------------------------------------------------------------------- */

struct server {
	struct move_world *w;
	struct move_tls *tls;
	pthread_t thread;
	int result;
	struct error error;
	char peer[NODE_NAME_MOST + 1];
};

/* Says everything back, until the other side is gone. */
static void *serve(void *arg)
{
	struct server *s = arg;
	cleanup_conn struct move_conn *c = NULL;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	int fd = accept4(s->w->listener, NULL, NULL, SOCK_CLOEXEC);
	s->result = move_accept(s->tls, fd, 5000, &c, &s->error);
	if (s->result < 0)
		return NULL;
	snprintf(s->peer, sizeof(s->peer), "%s", move_conn_peer(c));
	while (move_recv(c, &type, &body, 10000, &s->error) == 0)
		move_send(c, type, body.data, body.len, &s->error);
	return NULL;
}

static void start(struct server *s, struct move_world *w, struct move_tls *tls)
{
	*s = (struct server) { .w = w, .tls = tls };
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void test_tls(void **state)
{
	struct move_world *w = *state;
	cleanup_tls struct move_tls *a = move_world_tls(w, "ca", "N1", MOVE_HOUR);
	cleanup_tls struct move_tls *b = move_world_tls(w, "ca", "n2.rack", MOVE_HOUR);
	cleanup_conn struct move_conn *c = NULL;
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	struct error e = ERROR_INIT;
	struct server s;
	int descriptors = count_descriptors();
	start(&s, w, a);
	if (move_connect(b, w->at, "N1", 5000, &c, &e) < 0)
		fail_msg("%s", e.text);
	static const size_t sizes[] = { 0,     1,      100,     16375,         16376,
					16377, 100000, 1 << 20, MOVE_BODY_MOST };
	cleanup_free char *data = malloc(MOVE_BODY_MOST);
	for (size_t i = 0; i < MOVE_BODY_MOST; i++)
		data[i] = (char)(i * 7 + i / 4096);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (move_ask(c, MOVE_DATA, data, sizes[i], MOVE_DATA, &answer, 5000, &e) < 0)
			fail_msg("%zu bytes: %s", sizes[i], e.text);
		assert_int_equal(answer.len, sizes[i]);
		assert_memory_equal(buf_text(&answer), data, sizes[i]);
	}
	assert_int_equal(move_send(c, MOVE_DATA, data, MOVE_BODY_MOST + 1, NULL), -EINVAL);
	c = move_conn_free(c);
	pthread_join(s.thread, NULL);
	assert_string_equal(s.peer, "n2.rack");
	assert_int_equal(count_descriptors(), descriptors);
}

/* Who connects does not always hear at once that it is not wanted. */
static void assert_refused(struct move_world *w, struct move_tls *server, struct move_tls *client,
			   const char *node, enum fault client_fault)
{
	cleanup_conn struct move_conn *c = NULL;
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	struct error e = ERROR_INIT;
	struct server s;
	start(&s, w, server);
	int r = move_connect(client, w->at, node, 5000, &c, &e);
	if (r == 0)
		r = move_ask(c, MOVE_GIVE, NULL, 0, MOVE_GIVE, &answer, 5000, &e);
	assert_true(r < 0);
	if (client_fault)
		assert_int_equal(e.fault, client_fault);
	c = move_conn_free(c);
	pthread_join(s.thread, NULL);
	assert_string_equal(s.peer, "");
	assert_true(s.result < 0);
}

static void test_strangers(void **state)
{
	struct move_world *w = *state;
	move_world_ca(w, "other");
	cleanup_tls struct move_tls *a = move_world_tls(w, "ca", "n1", MOVE_HOUR);
	cleanup_tls struct move_tls *other = move_world_tls(w, "other", "n2", MOVE_HOUR);
	cleanup_tls struct move_tls *late = move_world_tls(w, "ca", "n3", -MOVE_HOUR);
	/* A server of another authority is not believed; a client neither. */
	assert_refused(w, a, other, "n1", FAULT_DENIED);
	assert_refused(w, other, a, "n2", FAULT_DENIED);
	assert_refused(w, a, late, "n1", FAULT_NONE);
	assert_refused(w, late, a, "n3", FAULT_DENIED);
}

static void test_another_node(void **state)
{
	struct move_world *w = *state;
	cleanup_tls struct move_tls *a = move_world_tls(w, "ca", "n1", MOVE_HOUR);
	cleanup_tls struct move_tls *b = move_world_tls(w, "ca", "n2", MOVE_HOUR);
	assert_refused(w, a, b, "n3", FAULT_DENIED);
}

static void test_other_speech(void **state)
{
	struct move_world *w = *state;
	cleanup_tls struct move_tls *a = move_world_tls(w, "ca", "n1", MOVE_HOUR);
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	struct server s;
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&address, &len), 0);
	start(&s, w, a);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	pthread_join(s.thread, NULL);
	assert_true(s.result < 0);
}

static void test_nobody(void **state)
{
	struct move_world *w = *state;
	cleanup_tls struct move_tls *a = move_world_tls(w, "ca", "n1", MOVE_HOUR);
	struct move_conn *c = NULL;
	struct error e = ERROR_INIT;
	/* Connected by the kernel, but nobody accepts. */
	assert_int_equal(move_connect(a, w->at, "n2", 50, &c, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "node n2 at 127.0.0.1:"));
	assert_int_equal(move_connect(a, "127.0.0.1:1", "n2", 1000, &c, &e), -ECONNREFUSED);
	assert_int_equal(move_connect(a, "127.0.0.1", "n2", 1000, &c, &e), -EINVAL);
	assert_int_equal(move_connect(a, "somewhere:1", "n2", 1000, &c, &e), -EINVAL);
	assert_int_equal(move_connect(a, "[::1]:1", "n2", 1000, &c, &e) < 0, 1);
}

static int setup(void **state)
{
	struct move_world *w = calloc(1, sizeof(*w));
	move_world_init(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	move_world_deinit(*state);
	free(*state);
	return 0;
}

#define tls_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void test_link(void **state)
{
	(void)state;
	static const struct {
		struct move_sent from, to;
		uint64_t per_s;
	} table[] = {
		{ { 0, 0, 0 }, { 0, 0, 0 }, 0 },
		{ { 5, 7, 0 }, { 1005, 7, 0 }, 0 },
		{ { 5, 7, 0 }, { 1000005, 10007, 0 }, 100000000 },
		{ { 5, 7, 3 }, { 1000005, 10007, 5003 }, 200000000 },
		{ { 5, 7, 3 }, { 1000005, 10007, 7503 }, 400000000 },
		{ { 5, 7, 3 }, { 1000005, 10007, 7504 }, 0 }, /* it had room too rarely */
		{ { 5, 7, 3 }, { 1000005, 10007, 10503 }, 0 },
		{ { 5, 7, 0 }, { 1000005, 7, 0 }, UINT64_C(1000000000000) },
		{ { 5, 7, 0 }, { 1000005, 6, 0 }, 0 },
		{ { 5, 7, 3 }, { 1000005, 10007, 2 }, 0 },
		{ { 5, 7, 0 }, { 4, 10007, 0 }, 0 },
		{ { 0, 0, 0 }, { UINT64_C(1) << 40, 1 << 30, 0 }, 1024000000 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(move_sent_per_s(&table[i].from, &table[i].to), table[i].per_s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_cut_message),
		cmocka_unit_test(test_another_version),
		cmocka_unit_test(test_no_message),
		cmocka_unit_test(test_ask),
		cmocka_unit_test(test_late_answer),
		cmocka_unit_test(test_hang_up),
		tls_test(test_tls),
		tls_test(test_strangers),
		tls_test(test_another_node),
		tls_test(test_other_speech),
		tls_test(test_nobody),
		cmocka_unit_test(test_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
