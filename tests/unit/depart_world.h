/* SPDX-License-Identifier: Apache-2.0 */
/* A node with a real session, and another node that fetches it over a socket pair. */
#ifndef ELSA_TESTS_DEPART_WORLD_H
#define ELSA_TESTS_DEPART_WORLD_H

#include "node/depart_private.h"
#include "node/hold.h"
#include "node/move_files.h"
#include "node/recover.h"
#include "node/runner.h"
#include "tests/unit/sandbox_place.h"

enum { PAGE = 4096, PAGES = 1024, ANSWER_MS = 60000 };

#define TO "n2"

/* Page i of its memory begins with i + 1. */
static const char program[] =
	"import ctypes, mmap, os, socket, struct, threading, time\n"
	"m = mmap.mmap(-1, 1024 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
	"for i in range(1024): struct.pack_into('<Q', m, i * 4096, i + 1)\n"
	"at = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
	"f = open('/tmp/gone', 'w'); f.write('x' * 5000); f.flush(); os.unlink('/tmp/gone')\n"
	"def echo(s):\n"
	"    while True: s.sendall(s.recv(100))\n"
	"def serve():\n"
	"    while True:\n"
	"        s, _ = outside.accept()\n"
	"        threading.Thread(target=echo, args=(s,), daemon=True).start()\n"
	"outside = socket.create_server(('0.0.0.0', 8888))\n"
	"threading.Thread(target=serve, daemon=True).start()\n"
	"print('memory', os.getpid(), at, flush=True); n = 0\n"
	"while True:\n"
	"    n += 1; print('round', n, flush=True); time.sleep(0.02)\n";

static struct node node;
static pthread_t loop;
static char d1[16], d2[16], d3[16]; /* departures, each test's own */

/* --- a node ------------------------------------------------------------------------ */

UNUSED static void *run_loop(void *arg)
{
	(void)arg;
	event_base_dispatch(node.base);
	return NULL;
}

UNUSED static int begin_node(void)
{
	struct error e = ERROR_INIT;
	node = (struct node) { .config = config, .base = event_base_new() };
	config->move.patience_ms = 1000;
	int r = node_init(&node, &e);
	if (r == 0)
		r = recover_all(&node, &e);
	if (r == 0)
		r = depart_init(&node, &e);
	if (r < 0)
		print_error("%s (%s)\n", e.text, e.remedy);
	return r < 0 ? r : -pthread_create(&loop, NULL, run_loop, NULL);
}

UNUSED static void break_loop(void *arg)
{
	event_base_loopbreak(arg);
}

/* As by a restart: what is only in memory is forgotten. */
UNUSED static void end_node(void)
{
	depart_stop(&node);
	while (pool_load(node.pool))
		usleep(1000);
	pool_post(node.pool, break_loop, node.base, NULL);
	pthread_join(loop, NULL);
	depart_free(&node);
	node_deinit(&node);
	event_base_free(node.base);
}

UNUSED static int set_up_node(void **state)
{
	int r = set_up(state);
	return r < 0 || geteuid() != 0 ? r : begin_node();
}

UNUSED static int tear_down_node(void **state)
{
	if (geteuid() == 0)
		end_node();
	return tear_down(state);
}

/* --- what is done on its loop ------------------------------------------------------ */

struct errand {
	int (*what)(struct errand *er);
	struct error *e;
	struct effect_request request;
	struct departure *departure;
	struct effect_result result;
	int r;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool over;
};

UNUSED static void end_errand(struct errand *er)
{
	pthread_mutex_lock(&er->lock);
	er->over = true;
	pthread_cond_signal(&er->done);
	pthread_mutex_unlock(&er->lock);
}

/* 1: it ends later. */
UNUSED static void do_errand(void *arg)
{
	struct errand *er = arg;
	er->r = er->what(er);
	if (er->r <= 0)
		end_errand(er);
}

UNUSED static int on_loop(struct errand *er)
{
	pthread_mutex_init(&er->lock, NULL);
	pthread_cond_init(&er->done, NULL);
	assert_int_equal(pool_post(node.pool, do_errand, er, NULL), 0);
	pthread_mutex_lock(&er->lock);
	while (!er->over)
		pthread_cond_wait(&er->done, &er->lock);
	pthread_mutex_unlock(&er->lock);
	return er->r;
}

UNUSED static void effect_done(const struct effect_result *result, void *arg)
{
	struct errand *er = arg;
	journal_copy_result(&er->result, result, NULL);
	er->r = result->state == EFFECT_DONE ? 0 : -EIO;
	end_errand(er);
}

UNUSED static int begin(struct errand *er)
{
	struct effect *ef;
	int r = effect_begin(&node, &er->request, &ef, er->e);
	return r < 0 ? r : effect_wait(ef, effect_done, er) ? 1 : -ENOMEM;
}

UNUSED static int run_effect(struct box *box, const char *id, enum effect_kind kind,
			     struct error *e)
{
	struct errand er = { .what = begin, .e = e, .request = { .id = strdup(id), .kind = kind } };
	assert_int_equal(journal_copy_spec(&er.request.session, &box->spec, NULL), 0);
	int r = on_loop(&er);
	if (er.result.state == EFFECT_FAILED)
		print_message("%s: %s\n", id, er.result.text);
	wire_free(&wire_effect_result, &er.result);
	return r;
}

UNUSED static int ask_grant(struct errand *er)
{
	struct departure now = { 0 };
	int r = depart_grant(&node, er->departure, &now, er->e);
	wire_free(&wire_departure, &now);
	return r;
}

UNUSED static int grant(const char *id)
{
	struct error e = ERROR_INIT;
	struct departure wanted = { .id = (char *)id, .session = FIRST, .to = TO };
	struct errand er = { .what = ask_grant, .e = &e, .departure = &wanted };
	return on_loop(&er);
}

UNUSED static int ask_back(struct errand *er)
{
	return depart_take_back(&node, er->departure->id, 7, er->e);
}

UNUSED static int ask_recall(struct errand *er)
{
	depart_recall(&node, er->departure->session);
	return 0;
}

UNUSED static int ask_end(struct errand *er)
{
	return depart_end(&node, er->departure->id, er->e);
}

UNUSED static int ask(int (*what)(struct errand *er), const char *id)
{
	struct error e = ERROR_INIT;
	struct departure about = { .id = (char *)id, .session = FIRST };
	struct errand er = { .what = what, .e = &e, .departure = &about };
	return on_loop(&er);
}

UNUSED static enum departure_state state_of(const char *id)
{
	struct departure now = { 0 };
	assert_int_equal(depart_show(&node, id, &now, NULL), 0);
	assert_int_equal(now.state == DEPARTURE_KEPT, now.why != NULL);
	enum departure_state state = now.state;
	wire_free(&wire_departure, &now);
	return state;
}

UNUSED static void wait_for_state(const char *id, enum departure_state state)
{
	for (int i = 0; i < 1000 && state_of(id) != state; i++)
		usleep(10000);
	assert_int_equal(state_of(id), state);
}

enum { LIMIT = 1 << 30 };

/* --- a session --------------------------------------------------------------------- */

UNUSED static int acknowledge(struct errand *er)
{
	return effect_acknowledge(&node, "start", er->e);
}

UNUSED static void box_run(struct box *box)
{
	static unsigned number;
	struct error e = ERROR_INIT;
	struct errand er = { .what = acknowledge, .e = &e };
	snprintf(d1, sizeof(d1), "d%u", ++number);
	snprintf(d2, sizeof(d2), "d%u", ++number);
	snprintf(d3, sizeof(d3), "d%u", ++number);
	box_init(box, FIRST, "10.99.0.2");
	box->cmd[0] = "python3";
	box->cmd[1] = "-c";
	box->cmd[2] = (char *)program;
	box->spec.limits.memory_bytes = LIMIT;
	int r = run_effect(box, "start", EFFECT_START, &e);
	if (r < 0)
		fail_msg("%s (%s)", e.text, e.remedy);
	assert_int_equal(on_loop(&er), 0);
	wait_for_log(box, "round 3\n");
}

UNUSED static void box_stop(struct box *box)
{
	struct error e = ERROR_INIT;
	assert_int_equal(run_effect(box, "stop", EFFECT_STOP, &e), 0);
	sandbox_deinit(&box->sb);
}

UNUSED static long rounds(struct box *box)
{
	cleanup_buf struct buf log = BUF_INIT(16 << 20);
	long last = 0;
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	for (const char *p = buf_text(&log); (p = strstr(p, "\nround ")); p++)
		last = strtol(p + 7, NULL, 10);
	return last;
}

UNUSED static void expect_runs(struct box *box)
{
	long before = rounds(box);
	bool frozen = true;
	for (int i = 0; i < 500 && rounds(box) < before + 3; i++)
		usleep(20000);
	assert_true(rounds(box) >= before + 3);
	assert_int_equal(sandbox_frozen(&box->sb, &frozen, NULL), 0);
	assert_false(frozen);
}

UNUSED static void expect_still(struct box *box)
{
	bool frozen = false;
	long before = rounds(box);
	usleep(200000);
	assert_int_equal(rounds(box), before);
	assert_int_equal(sandbox_frozen(&box->sb, &frozen, NULL), 0);
	assert_true(frozen);
}

/* As the API shows it. */
UNUSED static void expect_status(bool running, const char *given_to)
{
	struct session_status st;
	struct session *s = session_find(&node, FIRST);
	assert_non_null(s);
	assert_int_equal(session_status(&node, s, &st, NULL), 0);
	assert_int_equal(st.running, running);
	if (given_to)
		assert_string_equal(st.given_to, given_to);
	else
		assert_null(st.given_to);
	wire_free(&wire_session_status, &st);
}

UNUSED static void expect_journal(const char *given_to)
{
	struct journal j;
	assert_int_equal(journal_load(&node, FIRST, &j, NULL), 0);
	if (given_to)
		assert_string_equal(j.given_to, given_to);
	else
		assert_null(j.given_to);
	/* That it was acknowledged a restart forgets; a departure leaves none. */
	for (size_t i = 0; i < j.result_count; i++)
		assert_string_equal(j.results[i].id, "start");
	journal_deinit(&j);
}

/* --- the other node ------------------------------------------------------------------------------
 */

struct peer {
	struct move_conn *here, *there;
	pthread_t thread;
	struct buf answer;
};

UNUSED static void *serve(void *arg)
{
	struct peer *p = arg;
	depart_serve(node.departures, p->there);
	move_conn_hang_up(p->there);
	return NULL;
}

UNUSED static int call(struct peer *p, const char *name, const char *id, const char *session,
		       bool control)
{
	int ends[2];
	struct error e = ERROR_INIT;
	const struct move_hello hello = { MOVE_VERSION, (char *)id, (char *)session, control };
	cleanup_json json_t *json = wire_encode(&wire_move_hello, &hello);
	cleanup_free char *text = json_dumps(json, JSON_COMPACT);
	*p = (struct peer) { .answer = BUF_INIT(MOVE_BODY_MOST) };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(move_conn_plain(ends[0], "n1", &p->here, NULL), 0);
	assert_int_equal(move_conn_plain(ends[1], name, &p->there, NULL), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
	return move_ask(p->here, MOVE_HELLO, text, strlen(text), control ? MOVE_OFFER : MOVE_OK,
			&p->answer, ANSWER_MS, &e);
}

UNUSED static void hang_up(struct peer *p)
{
	p->here = move_conn_free(p->here);
	pthread_join(p->thread, NULL);
	p->there = move_conn_free(p->there);
	buf_deinit(&p->answer);
}

UNUSED static int say(struct peer *p, enum move_type type, enum move_type want)
{
	struct error e = ERROR_INIT;
	int r = move_ask(p->here, type, NULL, 0, want, &p->answer, ANSWER_MS, &e);
	if (r < 0)
		print_message("%d: %s\n", (int)type, e.text);
	return r;
}

/* ... and be written down. */
UNUSED static int freeze(struct peer *p)
{
	int r = say(p, MOVE_FREEZE, MOVE_OK);
	return r < 0 ? r : say(p, MOVE_WRITTEN, MOVE_SKELETON);
}

UNUSED static void call_and_freeze(struct peer *p, const char *id)
{
	struct move_skeleton skeleton;
	assert_int_equal(grant(id), 0);
	assert_int_equal(call(p, TO, id, FIRST, true), 0);
	assert_int_equal(freeze(p), 0);
	assert_int_equal(wire_decode_text(&wire_move_skeleton, buf_text(&p->answer), p->answer.len,
					  &skeleton, NULL),
			 0);
	assert_true(skeleton.frozen_us > 0 && skeleton.files_bytes > 0);
	assert_int_equal(skeleton.memory_limit, LIMIT);
}

UNUSED static int fetch(struct peer *p, int pid, uint64_t at, uint32_t pages, unsigned char *to)
{
	struct error e = ERROR_INIT;
	cleanup_buf struct buf question = BUF_INIT(4096);
	const struct move_range range = { pid, pages, at };
	assert_int_equal(move_ranges_write(&range, 1, true, &question, NULL), 0);
	int r = move_ask(p->here, MOVE_PAGES, question.data, question.len, MOVE_DATA, &p->answer,
			 ANSWER_MS, &e);
	return r < 0 ? r : move_pages_read(p->answer.data, p->answer.len, to, pages, NULL);
}

UNUSED static void expect_pages(struct box *box, struct peer *p)
{
	enum { AT_ONCE = 256 };
	int pid;
	unsigned long long at;
	cleanup_buf struct buf log = BUF_INIT(16 << 20);
	cleanup_free unsigned char *pages = malloc((size_t)AT_ONCE * PAGE);
	assert_int_equal(fs_read(box->sb.log, &log, NULL), 0);
	assert_int_equal(sscanf(strstr(buf_text(&log), "memory "), "memory %d %llu", &pid, &at), 2);
	for (uint64_t i = 0; i < PAGES; i += AT_ONCE) {
		assert_int_equal(fetch(p, pid, at + i * PAGE, AT_ONCE, pages), 0);
		for (uint64_t k = 0; k < AT_ONCE; k++) {
			uint64_t number;
			memcpy(&number, pages + k * PAGE, sizeof(number));
			assert_int_equal(number, i + k + 1);
		}
	}
	assert_int_equal(fetch(p, 4711, at, 1, pages), -ENOENT);
	assert_int_equal(fetch(p, pid, PAGE, 1, pages), -ENOENT);
}

/* Into a new directory `name`. */
UNUSED static void fetch_into(struct peer *p, enum move_type what, const char *name)
{
	enum move_type type;
	struct error e = ERROR_INIT;
	struct move_taking taking;
	cleanup_free char *dir = fs_join(top, name);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
	assert_int_equal(fs_mkdirs(dir, 0700, NULL), 0);
	assert_int_equal(move_taking_begin(&taking, dir, NULL), 0);
	assert_int_equal(move_send(p->here, what, NULL, 0, NULL), 0);
	do {
		assert_int_equal(move_recv(p->here, &type, &p->answer, ANSWER_MS, NULL), 0);
		if (type == MOVE_DATA && move_taking_body(&taking, &p->answer, &e) < 0)
			fail_msg("%s", e.text);
	} while (type == MOVE_DATA);
	assert_int_equal(type, MOVE_OK);
	assert_int_equal(move_taking_end(&taking, NULL), 0);
	move_taking_deinit(&taking);
}

/* All of a session but its memory. */
UNUSED static void fetch_files(struct peer *p)
{
	fetch_into(p, MOVE_LAYER, "layer");
	fetch_into(p, MOVE_FILES, "got");
	cleanup_free char *look =
		str_printf("cd %s && mv -n layer/layers.* got/ && rmdir layer &&"
			   " test -s got/criu/files.img && ls got/criu/pagemap-*.img >/dev/null &&"
			   " mkdir got/upper && tar -xpf got/layers.tar -C got/upper &&"
			   " test -s got/upper/.elsa/log",
			   top);
	run_tool(look);
}

#endif
