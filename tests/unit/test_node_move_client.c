/* SPDX-License-Identifier: Apache-2.0 */
/* The side that a session moves to, against a node that answers as it is told. */
#define _GNU_SOURCE
#include "node/move_client.h"
#include "tests/unit/move_world.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

enum { MOST = 16 };

/* What the peer does with the next questions of a kind, one letter each, the last one for all that
 * follow: y answers as is right, n says no (conflict), m that it knows nothing (not found), b that
 * something else is wrong, v says so as another version would, h hangs up, s sends half of it and
 * then says what is wrong. */
struct peer {
	struct move_world world;
	struct move_tls *tls;
	pthread_t listening;
	atomic_bool stop;
	struct move_conn *conns[MOST];
	pthread_t threads[MOST];
	_Atomic int count;
	const char *_Atomic script[MOVE_EARLY + 1];
	_Atomic int asked[MOVE_EARLY + 1];
	struct config config;
	struct node node;
	struct move_client *client;
};

static char next_of(struct peer *p, enum move_type type)
{
	const char *script = p->script[type];
	char c = *script;
	p->asked[type]++;
	if (script[1])
		p->script[type] = script + 1;
	return c;
}

static int say_no(struct move_conn *c, enum fault fault)
{
	struct error e = ERROR_INIT;
	error_fault(&e, fault, "so it is");
	return move_send_error(c, &e);
}

static int offer(struct move_conn *c)
{
	char *nothing[] = { NULL };
	const struct move_offer o = {
		.version = MOVE_VERSION,
		.criu = "4.2",
		.cpu = "sse",
		.generation = 7,
		.fence = 5,
		.tried = 8,
		.memory_bytes = 4096,
		.spec = { .id = "0123456789abcdef",
			  .user = "ada",
			  .server = "",
			  .address = "10.99.0.2",
			  .port = 1,
			  .home = "/h",
			  .home_inside = "/h",
			  .image = "/",
			  .cmd = nothing,
			  .env = nothing },
	};
	return move_send_text(c, MOVE_OFFER, &wire_move_offer, &o, NULL);
}

static int skeleton(struct move_conn *c)
{
	const struct move_skeleton s = { .frozen_us = 250000, .files_bytes = 6 };
	return move_send_text(c, MOVE_SKELETON, &wire_move_skeleton, &s, NULL);
}

static void send_piece(struct move_conn *c, uint64_t offset, const char *text)
{
	void *to;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	const struct move_piece piece = {
		.name = "d/file", .size = 6, .offset = offset, .len = 3, .changed_ns = 7
	};
	assert_int_equal(move_piece_write(&piece, &body, &to, NULL), 0);
	memcpy(to, text, 3);
	move_send(c, MOVE_DATA, body.data, body.len, NULL);
}

/* 'x': one that is not whole; 'o': what is not in order. */
static int files(struct move_conn *c, enum move_type type, char how)
{
	bool plain = type == MOVE_LAYER_AHEAD;
	if (plain)
		move_send(c, MOVE_DATA, "abc", 3, NULL);
	else
		send_piece(c, 0, "abc");
	if (how == 's')
		return say_no(c, FAULT_FULL);
	if (how == 'h')
		return -1;
	if (plain)
		move_send(c, MOVE_DATA, "def", 3, NULL);
	else if (how != 'x')
		send_piece(c, how == 'o' ? 2 : 3, "def");
	return move_send(c, MOVE_OK, NULL, 0, NULL);
}

static int answer(struct peer *p, struct move_conn *c, enum move_type type)
{
	char how = next_of(p, type);
	if (how == 'n' || how == 'm')
		return say_no(c, how == 'n' ? FAULT_CONFLICT : FAULT_NOT_FOUND);
	if (how == 'b')
		return say_no(c, FAULT_FULL);
	if (how == 'v')
		return move_world_say_otherwise(c);
	if (type == MOVE_FILES || type == MOVE_LAYER || type == MOVE_LAYER_AHEAD)
		return files(c, type, how);
	if (how == 'h')
		return -1;
	if (type == MOVE_HELLO)
		return offer(c);
	return type == MOVE_WRITTEN ? skeleton(c) : move_send(c, MOVE_OK, NULL, 0, NULL);
}

struct serving {
	struct peer *peer;
	struct move_conn *conn;
};

static void *serve(void *arg)
{
	struct serving s = *(struct serving *)arg;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	free(arg);
	while (move_recv(s.conn, &type, &body, 60000, NULL) == 0)
		if (answer(s.peer, s.conn, type) < 0)
			break;
	move_conn_hang_up(s.conn);
	return NULL;
}

static void *listen_main(void *arg)
{
	struct peer *p = arg;
	while (!p->stop) {
		struct pollfd ready = { .fd = p->world.listener, .events = POLLIN };
		int at = p->count;
		if (poll(&ready, 1, 10) <= 0 || at == MOST)
			continue;
		int fd = accept4(p->world.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 || move_accept(p->tls, fd, 5000, &p->conns[at], NULL) < 0)
			continue;
		struct serving *s = malloc(sizeof(*s));
		*s = (struct serving) { p, p->conns[at] };
		assert_int_equal(pthread_create(&p->threads[at], NULL, serve, s), 0);
		p->count++;
	}
	return NULL;
}

static int setup(void **state)
{
	struct peer *p = calloc(1, sizeof(*p));
	move_world_init(&p->world);
	p->tls = move_world_tls(&p->world, "ca", "n1", MOVE_HOUR);
	move_world_join(&p->world, "n2");
	for (int i = 0; i <= MOVE_EARLY; i++)
		p->script[i] = "y";
	p->config.node.state_dir = p->world.dir;
	p->config.node.controller = "";
	p->config.node.effect_timeout_ms = 5000;
	p->node.config = &p->config;
	assert_int_equal(pthread_create(&p->listening, NULL, listen_main, p), 0);
	assert_int_equal(move_client_new(&p->node, "d1", "0123456789abcdef", "n1", p->world.at,
					 &p->client, NULL),
			 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct peer *p = *state;
	move_client_free(p->client);
	p->stop = true;
	pthread_join(p->listening, NULL);
	for (int i = 0; i < p->count; i++) {
		move_conn_hang_up(p->conns[i]);
		pthread_join(p->threads[i], NULL);
		move_conn_free(p->conns[i]);
	}
	move_tls_free(p->tls);
	move_world_deinit(&p->world);
	free(p);
	return 0;
}

static void open_well(struct peer *p)
{
	struct error e = ERROR_INIT;
	if (move_client_open(p->client, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_open(void **state)
{
	struct peer *p = *state;
	open_well(p);
	open_well(p);
	assert_int_equal(p->asked[MOVE_HELLO], 1);
	assert_int_equal(p->client->offer.generation, 7);
	assert_int_equal(p->client->offer.fence, 5);
	assert_int_equal(p->client->offer.tried, 8);
	assert_string_equal(p->client->offer.spec.id, "0123456789abcdef");
}

static void test_not_offered(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	p->script[MOVE_HELLO] = "mny";
	assert_int_equal(move_client_open(p->client, &e), -ENOENT);
	assert_int_equal(move_client_open(p->client, &e), -EBUSY);
	assert_non_null(strstr(e.text, "node n1: so it is"));
	open_well(p);
}

static void test_freeze(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	open_well(p);
	p->script[MOVE_FREEZE] = "by";
	p->script[MOVE_WRITTEN] = "by";
	assert_int_equal(move_client_freeze(p->client, &e), -ENOSPC);
	assert_int_equal(move_client_freeze(p->client, &e), 0);
	assert_int_equal(move_client_wait_written(p->client, &e), -ENOSPC);
	mono_us before = clock_mono();
	assert_int_equal(move_client_wait_written(p->client, &e), 0);
	mono_us after = clock_mono();
	assert_int_equal(p->client->skeleton.files_bytes, 6);
	/* It has stood still for some time when we hear of it. */
	assert_in_range(p->client->still_since, before - 250000, after - 250000);
}

static void note(uint64_t bytes, void *arg)
{
	*(uint64_t *)arg = bytes;
}

static int take_ahead(struct peer *p, char *to, uint64_t *seen, struct error *e)
{
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	memset(to, 0, 16);
	int r = move_client_layer_ahead(p->client, ends[1], note, seen, e);
	close(ends[1]);
	assert_true(read(ends[0], to, 15) >= 0);
	close(ends[0]);
	return r;
}

static void test_layer_ahead(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	char got[16];
	uint64_t seen = 0;
	open_well(p);
	p->script[MOVE_LAYER_AHEAD] = "ysbyh";
	assert_int_equal(take_ahead(p, got, &seen, &e), 0);
	assert_string_equal(got, "abcdef");
	assert_int_equal(seen, 6);
	/* The connection goes on after what went wrong there. */
	assert_int_equal(take_ahead(p, got, &seen, &e), -ENOSPC);
	assert_int_equal(take_ahead(p, got, &seen, &e), -ENOSPC);
	assert_int_equal(take_ahead(p, got, &seen, &e), 0);
	assert_int_equal(take_ahead(p, got, &seen, &e), -ECONNRESET);
}

/* Into a new directory. */
static int take_files(struct peer *p, enum move_type what, struct error *e)
{
	uint64_t seen = 0;
	cleanup_free char *dir = str_printf("%s/files", p->world.dir);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
	assert_int_equal(fs_mkdirs(dir, 0700, NULL), 0);
	int r = move_client_files(p->client, what, NULL, dir, note, &seen, e);
	assert_true(seen > 0);
	return r;
}

static void test_files(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf got = BUF_INIT(64);
	cleanup_free char *file = str_printf("%s/files/d/file", p->world.dir);
	open_well(p);
	p->script[MOVE_FILES] = "ysyxyoyh";
	p->script[MOVE_LAYER] = "y";
	assert_int_equal(take_files(p, MOVE_FILES, &e), 0);
	assert_int_equal(fs_read(file, &got, NULL), 0);
	assert_string_equal(got.data, "abcdef");
	assert_int_equal(take_files(p, MOVE_FILES, &e), -ENOSPC);
	assert_int_equal(take_files(p, MOVE_LAYER, &e), 0);
	assert_int_equal(take_files(p, MOVE_FILES, &e), 0);
	assert_int_equal(take_files(p, MOVE_FILES, &e), -EBADMSG);
	assert_int_equal(take_files(p, MOVE_FILES, &e), 0);
	/* What follows is no answer to the next question: that goes over another connection. */
	assert_int_equal(take_files(p, MOVE_FILES, &e), -EBADMSG);
	assert_null(p->client->conn);
	open_well(p);
	assert_int_equal(take_files(p, MOVE_FILES, &e), 0);
	assert_int_equal(take_files(p, MOVE_FILES, &e), -ECONNRESET);
}

static void test_nobody_reads_files(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	int ends[2];
	open_well(p);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]);
	assert_int_equal(move_client_layer_ahead(p->client, ends[1], NULL, NULL, &e), -EPIPE);
	close(ends[1]);
}

/* The one question whose answer must not be mistaken. */
static void test_give(void **state)
{
	static const struct {
		const char *hello, *give;
		int result; /* -1: not known */
	} table[] = {
		{ "y", "y", 1 },  { "y", "n", 0 },  { "y", "m", 0 },  { "y", "b", -1 },
		{ "y", "h", -1 }, { "m", "y", 0 },  { "n", "y", 0 },  { "b", "y", -1 },
		{ "h", "y", -1 }, { "y", "v", -1 }, { "v", "y", -1 },
	};
	struct peer *p = *state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct error e = ERROR_INIT;
		p->client->conn = move_conn_free(p->client->conn);
		p->script[MOVE_HELLO] = table[i].hello;
		p->script[MOVE_GIVE] = table[i].give;
		int r = move_client_give(p->client, &e);
		if ((r < 0 ? -1 : r) != table[i].result)
			fail_msg("hello %s, give %s: %d %s", table[i].hello, table[i].give, r,
				 e.text);
		assert_int_equal(e.fault != FAULT_NONE, r <= 0);
	}
}

/* It is asked again on a new connection, and nothing of an old answer is taken for a new one. */
static void test_give_again(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	open_well(p);
	p->script[MOVE_GIVE] = "hhy";
	assert_true(move_client_give(p->client, &e) < 0);
	assert_true(move_client_give(p->client, &e) < 0);
	assert_int_equal(move_client_give(p->client, &e), 1);
	assert_int_equal(p->asked[MOVE_HELLO], 3);
	assert_int_equal(move_client_give(p->client, &e), 1);
	assert_int_equal(p->asked[MOVE_HELLO], 3);
}

/* Nobody there is neither yes nor no; nor is another node there, or one that we do not trust. */
static void test_give_to_nobody(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	struct move_client *c;
	assert_int_equal(
		move_client_new(&p->node, "d1", "0123456789abcdef", "n1", "127.0.0.1:1", &c, NULL),
		0);
	assert_true(move_client_give(c, &e) < 0);
	move_client_free(c);
	assert_int_equal(
		move_client_new(&p->node, "d1", "0123456789abcdef", "n3", p->world.at, &c, NULL),
		0);
	assert_true(move_client_give(c, &e) < 0);
	assert_int_equal(e.fault, FAULT_DENIED);
	move_client_free(c);
	p->config.node.state_dir = "/nonexistent";
	assert_true(move_client_give(p->client, &e) < 0);
	assert_int_equal(p->asked[MOVE_GIVE], 0);
}

static void test_arrived(void **state)
{
	struct peer *p = *state;
	struct error e = ERROR_INIT;
	p->script[MOVE_ARRIVED] = "hnbmy";
	assert_int_equal(move_client_arrived(p->client, &e), -ECONNRESET);
	assert_int_equal(move_client_arrived(p->client, &e), -EBUSY);
	assert_int_equal(move_client_arrived(p->client, &e), -ENOSPC);
	assert_int_equal(move_client_arrived(p->client, &e), 0);
	assert_int_equal(move_client_arrived(p->client, &e), 0);
	p->client->conn = move_conn_free(p->client->conn);
	p->script[MOVE_HELLO] = "m"; /* restarted since, and all was told before */
	assert_int_equal(move_client_arrived(p->client, &e), 0);
}

static void test_abort(void **state)
{
	struct peer *p = *state;
	move_client_abort(p->client); /* on a connection of its own */
	assert_int_equal(p->asked[MOVE_ABORT], 1);
	p->script[MOVE_ABORT] = "nh";
	open_well(p);
	move_client_abort(p->client);
	move_client_abort(p->client);
	assert_int_equal(p->asked[MOVE_ABORT], 3);
	assert_null(p->client->conn);
}

#define peer_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		peer_test(test_open),           peer_test(test_not_offered),
		peer_test(test_freeze),         peer_test(test_files),
		peer_test(test_give),           peer_test(test_nobody_reads_files),
		peer_test(test_layer_ahead),    peer_test(test_give_again),
		peer_test(test_give_to_nobody), peer_test(test_arrived),
		peer_test(test_abort),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
