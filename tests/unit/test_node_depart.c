/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* A real session leaves: what the other node asks, what it is answered, and whose the session is.
 */
#include "tests/unit/depart_world.h"

static void test_given(void **state)
{
	(void)state;
	struct box box;
	struct peer p, more;
	struct error e = ERROR_INIT;
	box_run(&box);
	call_and_freeze(&p, d1);
	expect_still(&box);
	assert_int_equal(state_of(d1), DEPARTURE_UNDER_WAY);
	assert_int_equal(grant(d2), -EBUSY);
	assert_int_equal(call(&more, TO, d1, FIRST, false), 0);
	fetch_files(&p);
	expect_pages(&box, &more);
	/* One that does not speak for the session cannot have it. */
	assert_true(say(&more, MOVE_GIVE, MOVE_OK) < 0);
	hang_up(&more);
	expect_journal(NULL);

	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	expect_journal(TO);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	/* Who begins anew has lost it. */
	assert_true(freeze(&p) < 0);
	assert_true(say(&p, MOVE_ABORT, MOVE_OK) < 0);
	assert_int_equal(state_of(d1), DEPARTURE_GIVEN);
	expect_status(false, TO);
	expect_still(&box);
	assert_int_equal(call(&more, TO, d1, FIRST, false), 0);
	expect_pages(&box, &more);

	/* Nothing makes it run here. */
	struct session *s = session_find(&node, FIRST);
	assert_int_equal(hold_take(&node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_drop(&node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_settle(&node, s, NULL), 0);
	expect_still(&box);
	assert_true(run_effect(&box, "again", EFFECT_START, &e) < 0);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	assert_true(run_effect(&box, "put-away", EFFECT_HIBERNATE, &e) < 0);
	assert_int_equal(grant(d2), -EBUSY);

	assert_int_equal(say(&more, MOVE_ARRIVED, MOVE_OK), 0);
	assert_int_equal(state_of(d1), DEPARTURE_OVER);
	assert_int_equal(ask(ask_end, d1), 0);
	assert_null(session_find(&node, FIRST));
	assert_false(cgroup_exists(&box.sb.cgroup));
	assert_int_equal(access(box.sb.dir, F_OK), -1);
	struct journal j;
	assert_int_equal(journal_load(&node, FIRST, &j, NULL), -ENOENT);
	/* Asked again, it is answered again. */
	assert_int_equal(say(&more, MOVE_ARRIVED, MOVE_OK), 0);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	hang_up(&p);
	hang_up(&more);
	assert_int_equal(call(&more, TO, d1, FIRST, true), 0);
	assert_int_equal(say(&more, MOVE_ARRIVED, MOVE_OK), 0);
	hang_up(&more);
	assert_int_equal(ask(ask_end, d1), 0);
	assert_int_equal(ask(ask_back, d1), -ENOENT);
	sandbox_deinit(&box.sb);
}

static void test_aborted(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	unsigned char page[PAGE];
	box_run(&box);
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_ABORT, MOVE_OK), 0);
	assert_int_equal(state_of(d1), DEPARTURE_KEPT);
	expect_runs(&box);
	expect_status(true, NULL);
	/* It had its chance; a grant more is another one. */
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	assert_true(freeze(&p) < 0);
	assert_int_equal(fetch(&p, 2, PAGE, 1, page), -ENOENT);
	hang_up(&p);
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	expect_journal(TO);
	hang_up(&p);
	assert_int_equal(ask(ask_end, d1), -EBUSY);
	wait_for_state(d1, DEPARTURE_OVER);
	assert_false(cgroup_exists(&box.sb.cgroup));
	sandbox_deinit(&box.sb);
}

/* A cut is nothing, silence is the end. */
static void test_patience(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	call_and_freeze(&p, d1);
	hang_up(&p);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	assert_int_equal(freeze(&p), 0);
	usleep(1500000);
	assert_int_equal(state_of(d1), DEPARTURE_UNDER_WAY);
	expect_still(&box);
	hang_up(&p);
	wait_for_state(d1, DEPARTURE_KEPT);
	expect_runs(&box);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	hang_up(&p);
	box_stop(&box);
}

static void test_returns(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	unsigned char page[PAGE];
	box_run(&box);
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	expect_still(&box);
	assert_int_equal(ask(ask_back, d1), -EBUSY);
	wait_for_state(d1, DEPARTURE_KEPT);
	assert_int_equal(ask(ask_back, d1), 0);
	/* Its next checkpoint gets ahead of the fence for what it was given away as. */
	assert_int_equal(journal_next(&session_find(&node, FIRST)->journal), 8);
	expect_runs(&box);
	expect_status(true, NULL);
	expect_journal(NULL);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	assert_int_equal(fetch(&p, 2, PAGE, 1, page), -ENOENT);
	hang_up(&p);
	box_stop(&box);
}

/* An evacuation wants it back: until it is given it stays, and then it does not. */
static void test_recalled(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	wall_ms begun = clock_wall();
	box_run(&box);
	assert_true(depart_kept_at(&node, FIRST) < begun);
	assert_int_equal(grant(d1), 0);
	assert_true(depart_seen_at(&node) >= begun);
	assert_int_equal(ask(ask_recall, NULL), 0);
	assert_int_equal(state_of(d1), DEPARTURE_KEPT);
	assert_true(depart_kept_at(&node, FIRST) >= begun);
	call_and_freeze(&p, d1);
	/* Somebody is at it for as long as that takes. */
	wall_ms frozen = clock_wall();
	assert_true(depart_seen_at(&node) >= frozen);
	assert_int_equal(ask(ask_recall, NULL), 0);
	wait_for_state(d1, DEPARTURE_KEPT);
	wall_ms kept = depart_seen_at(&node);
	usleep(5000);
	assert_int_equal(depart_seen_at(&node), kept);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	hang_up(&p);
	expect_runs(&box);
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	assert_int_equal(ask(ask_recall, NULL), 0);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	assert_int_equal(state_of(d1), DEPARTURE_GIVEN);
	hang_up(&p);
	assert_int_equal(ask(ask_end, d1), -EBUSY);
	wait_for_state(d1, DEPARTURE_OVER);
	sandbox_deinit(&box.sb);
}

static size_t fetch_ahead(struct peer *p)
{
	enum move_type type;
	size_t bytes = 0;
	cleanup_free char *file = fs_join(top, "ahead.tar");
	cleanup_fd int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(move_send(p->here, MOVE_LAYER_AHEAD, NULL, 0, NULL), 0);
	do {
		assert_int_equal(move_recv(p->here, &type, &p->answer, ANSWER_MS, NULL), 0);
		if (type == MOVE_DATA)
			assert_int_equal(fs_write_all(fd, p->answer.data, p->answer.len), 0);
		bytes += type == MOVE_DATA ? p->answer.len : 0;
	} while (type == MOVE_DATA);
	assert_int_equal(type, MOVE_OK);
	return bytes;
}

/* Its layer goes ahead; and if that comes to nothing it has not noticed. */
static void test_ahead(void **state)
{
	(void)state;
	cleanup_free char *unpack =
		str_printf("cd %s && rm -rf none && mkdir none && cat ahead.tar | "
			   "tar -xpf /proc/self/fd/0 -C none && "
			   "test -z \"$(ls -A none)\"",
			   top);
	struct box box;
	struct peer p;
	box_run(&box);
	assert_int_equal(grant(d1), 0);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	/* It is small: nothing comes, in a form that tar takes, and it runs on. */
	assert_true(fetch_ahead(&p) > 0);
	run_tool(unpack);
	assert_int_equal(state_of(d1), DEPARTURE_UNDER_WAY);
	expect_runs(&box);
	assert_int_equal(say(&p, MOVE_ABORT, MOVE_OK), 0);
	assert_int_equal(state_of(d1), DEPARTURE_KEPT);
	hang_up(&p);

	cleanup_free char *big =
		str_printf("cd %s && mkdir tmp/d && head -c 20M /dev/urandom >tmp/d/big"
			   " && echo old >tmp/d/changed && echo old >tmp/d/gone",
			   box.sb.upper);
	cleanup_free char *change =
		str_printf("cd %s && echo new >tmp/d/changed && rm tmp/d/gone &&"
			   " echo new >tmp/d/more",
			   box.sb.upper);
	cleanup_free char *look = str_printf(
		"cd %s &&"
		" test $(cat got/upper/tmp/d/changed) = new && test -s got/upper/tmp/d/more &&"
		" test ! -e got/upper/tmp/d/gone && test ! -e got/upper/tmp/d/big &&"
		" tr '\\0' '\\n' <got/layers.names | grep -qx ftmp/d/big &&"
		" ! tr '\\0' '\\n' <got/layers.names | grep -q tmp/d/gone",
		top);
	cleanup_free char *early = str_printf(
		"cd %s/early && test -z \"$(ls | grep -vx criu)\" && test -z \"$(find . -type f ! "
		"-name 'pages-*.img')\"",
		top);
	run_tool(big);
	sleep(3); /* until what was seen can be told from what comes after */
	assert_int_equal(grant(d1), 0);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	assert_true(fetch_ahead(&p) > 20 << 20);
	run_tool(change);
	expect_runs(&box);
	assert_int_equal(say(&p, MOVE_FREEZE, MOVE_OK), 0);
	/* The layer can be had before the rest, and again; and some of CRIU's images. */
	fetch_into(&p, MOVE_LAYER, "layer");
	fetch_into(&p, MOVE_EARLY, "early");
	run_tool(early);
	assert_int_equal(say(&p, MOVE_WRITTEN, MOVE_SKELETON), 0);
	fetch_files(&p);
	/* What would go ahead of it is none of one that stands still. */
	assert_int_equal(say(&p, MOVE_LAYER_AHEAD, MOVE_DATA), -EBUSY);
	run_tool(look);
	assert_int_equal(say(&p, MOVE_ABORT, MOVE_OK), 0);
	expect_runs(&box);
	hang_up(&p);
	box_stop(&box);
}

static int connect_to(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8888) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, address, &in.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void expect_echo(int fd, const char *text)
{
	char answer[16] = "";
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(send(fd, text, 4, MSG_NOSIGNAL), 4);
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), 4);
	assert_memory_equal(answer, text, 4);
}

/* No answer, no end, no reset. */
static void expect_silence(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };
	assert_int_equal(poll(&p, 1, 300), 0);
}

/* Its connections are the other node's now: what goes here goes without a word. */
static void test_connections(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	cleanup_fd int fd = connect_to("10.99.0.2"), idle = connect_to("10.99.0.2");
	expect_echo(fd, "one\n");
	expect_echo(idle, "one\n");
	call_and_freeze(&p, d1);
	assert_int_equal(send(fd, "two\n", 4, MSG_NOSIGNAL), 4);
	expect_silence(fd);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	expect_silence(fd);
	assert_int_equal(say(&p, MOVE_ARRIVED, MOVE_OK), 0);
	expect_silence(fd);
	expect_silence(idle);
	hang_up(&p);
	sandbox_deinit(&box.sb);

	/* Come back, it goes on with them. */
	box_run(&box);
	cleanup_fd int more = connect_to("10.99.0.2");
	expect_echo(more, "one\n");
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	assert_int_equal(ask(ask_back, d1), -EBUSY);
	wait_for_state(d1, DEPARTURE_KEPT);
	expect_echo(more, "two\n");
	hang_up(&p);
	box_stop(&box);
}

/* Who is to be stopped is not given away. */
static void test_stopped(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	call_and_freeze(&p, d1);
	box_stop(&box);
	assert_int_equal(state_of(d1), DEPARTURE_KEPT);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	hang_up(&p);
}

static void test_strangers(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	assert_int_equal(grant(d1), 0);
	assert_int_equal(call(&p, "n3", d1, FIRST, true), -EACCES);
	hang_up(&p);
	assert_int_equal(call(&p, TO, d2, FIRST, true), -ENOENT);
	hang_up(&p);
	assert_int_equal(call(&p, TO, d1, SECOND, true), -EBUSY);
	hang_up(&p);
	/* A newer grant is instead of the one before. */
	assert_int_equal(grant(d2), 0);
	assert_int_equal(call(&p, TO, d1, FIRST, true), -ENOENT);
	hang_up(&p);
	assert_int_equal(call(&p, TO, d2, FIRST, true), 0);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0); /* it does not even stand still */
	assert_int_equal(ask(ask_end, d2), 0);
	assert_true(freeze(&p) < 0);
	hang_up(&p);
	expect_runs(&box);
	box_stop(&box);
	assert_int_equal(grant(d3), -ESRCH);
}

/* It is told so in words that it can read, and nothing has happened to the session. */
static void test_another_version(void **state)
{
	(void)state;
	static const unsigned char hello[] = {
		'E', 'M', MOVE_VERSION + 1, 1, 2, 0, 0, 0, '{', '}'
	};
	struct box box;
	struct peer p = { .answer = BUF_INIT(MOVE_BODY_MOST) };
	struct error e = ERROR_INIT;
	enum move_type type;
	int ends[2];
	box_run(&box);
	assert_int_equal(grant(d1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(write(ends[0], hello, sizeof(hello)), sizeof(hello));
	assert_int_equal(move_conn_plain(ends[0], "n1", &p.here, NULL), 0);
	assert_int_equal(move_conn_plain(ends[1], TO, &p.there, NULL), 0);
	assert_int_equal(pthread_create(&p.thread, NULL, serve, &p), 0);
	assert_int_equal(move_recv(p.here, &type, &p.answer, ANSWER_MS, &e), 0);
	assert_int_equal(type, MOVE_ERROR);
	assert_true(move_failure_read(p.here, &p.answer, &e) < 0);
	assert_int_equal(e.fault, FAULT_REFUSED);
	assert_non_null(strstr(e.text, "version"));
	hang_up(&p);
	expect_runs(&box);
	assert_int_equal(ask(ask_end, d1), 0);
	box_stop(&box);
}

static void test_restart(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	call_and_freeze(&p, d1);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	wait_for_state(d1, DEPARTURE_GIVEN);
	hang_up(&p);
	end_node();
	assert_int_equal(begin_node(), 0);
	assert_int_equal(state_of(d1), DEPARTURE_GIVEN);
	expect_status(false, TO);
	expect_still(&box);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	expect_pages(&box, &p);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	assert_int_equal(say(&p, MOVE_ARRIVED, MOVE_OK), 0);
	hang_up(&p);
	assert_false(cgroup_exists(&box.sb.cgroup));
	sandbox_deinit(&box.sb);
}

/* An end of elsa-node while it waits: the session runs on, and the next one knows of nothing. */
static void test_end(void **state)
{
	(void)state;
	struct box box;
	struct peer p;
	box_run(&box);
	call_and_freeze(&p, d1);
	expect_still(&box);
	depart_stop(&node);
	wait_for_state(d1, DEPARTURE_KEPT);
	assert_true(say(&p, MOVE_GIVE, MOVE_OK) < 0);
	hang_up(&p);
	end_node();
	assert_int_equal(begin_node(), 0);
	expect_runs(&box);
	assert_int_equal(state_of(d1), DEPARTURE_KEPT);
	assert_int_equal(ask(ask_back, d1), 0);
	assert_int_equal(call(&p, TO, d1, FIRST, true), -EBUSY);
	hang_up(&p);
	assert_int_equal(depart_show(&node, d2, &(struct departure) { 0 }, NULL), -ENOENT);
	box_stop(&box);
}

static void test_resume(void **state)
{
	(void)state;
	struct session s = { 0 };
	struct effect ef = { .session = &s };
	size_t give = plan_step(&plan_depart, "give"), tidy = plan_step(&plan_depart, "tidy");
	for (size_t at = 0; at <= give; at++)
		assert_int_equal(plan_depart.resume(&ef, at, NULL), -1);
	s.journal.given_to = TO;
	assert_int_equal(plan_depart.resume(&ef, give, NULL), tidy);
	assert_int_equal(plan_depart.resume(&ef, tidy, NULL), tidy);
	size_t take = plan_step(&plan_return, "take"), thaw = plan_step(&plan_return, "thaw");
	for (size_t at = 0; at <= take; at++)
		assert_int_equal(plan_return.resume(&ef, at, NULL), -1);
	s.journal.given_to = NULL;
	assert_int_equal(plan_return.resume(&ef, take, NULL), thaw);
	assert_int_equal(plan_return.resume(&ef, thaw, NULL), thaw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_aborted),
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_another_version),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_recalled),
	};
	return cmocka_run_group_tests(tests, set_up_node, tear_down_node);
}
