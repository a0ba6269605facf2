/* SPDX-License-Identifier: Apache-2.0 */
/* The queue, what is counted, the Hub's log, the shape of generated traces. */
#include "base/cleanup.h"
#include "sim/generate.h"
#include "sim/hub.h"
#include "sim/queue.h"
#include "sim/rng.h"
#include "sim/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_queue(void **state)
{
	struct queue q = { 0 };
	struct rng r = rng_stream(7, 0);
	struct queue_item last = { .at = -1 };
	(void)state;
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(queue_push(&q, (int64_t)(rng_next(&r) % 500), 0, i, 0), 0);
	while (queue_first(&q)) {
		struct queue_item item = queue_pop(&q);
		assert_true(item.at > last.at || (item.at == last.at && item.turn > last.turn));
		last = item;
	}
	assert_int_equal(q.count, 0);
	queue_deinit(&q);
}

static void test_tally(void **state)
{
	static struct tally t;
	(void)state;
	assert_int_equal(tally_at(&t, 0.5), 0);
	for (int64_t ms = 1; ms <= 100000; ms++)
		tally_add(&t, ms);
	for (int percent = 1; percent < 100; percent++) {
		double share = percent / 100.0;
		double wanted = share * 100000;
		assert_true((double)tally_at(&t, share) >= wanted - 1);
		assert_true((double)tally_at(&t, share) <= wanted * 1.016 + 1);
	}
	assert_int_equal(tally_at(&t, 1), 100000);
	assert_true(tally_share(&t, 100000) == 1);
	tally_add(&t, INT64_MAX / 2);
	assert_int_equal(t.most, INT64_MAX / 2);
}

static void test_course(void **state)
{
	static struct course c = { .step_ms = 10 };
	(void)state;
	for (int i = 0; i < 5 * COURSE_MOST; i++)
		course_add(&c, 3);
	assert_true(c.count < COURSE_MOST && c.step_ms == 80);
	for (size_t i = 0; i < c.count; i++)
		assert_true(c.values[i] == 3);
}

#define AT "[I 2024-11-01 16:28:29.715 JupyterHub base:1124] "

static const struct {
	const char *line;
	bool found;
	enum hub_kind kind;
	const char *session;
} lines[] = {
	{ AT "User ada took 13.131 seconds to start\n", true, HUB_STARTED, "ada" },
	{ AT "User ada:gpu took 1.0 seconds to start\n", true, HUB_STARTED, "ada/gpu" },
	{ "Nov 01 16:28:29 hub jupyterhub[7]: " AT "User ada took 2 seconds to start\n", true,
	  HUB_STARTED, "ada" },
	{ AT "User ada server took 2.1 seconds to stop\n", true, HUB_STOPPED, "ada" },
	{ AT "200 POST /hub/api/users/ada/activity (ada@10.0.0.1) 13.46ms\n", true, HUB_ACTIVE,
	  "ada" },
	{ AT "403 POST /hub/api/users/ada/activity (@10.0.0.1) 13.46ms\n", false, 0, NULL },
	{ AT "200 POST /hub/api/users//activity (@10.0.0.1) 13.46ms\n", false, 0, NULL },
	{ AT "User logged in: ada\n", false, 0, NULL },
	{ "[I 2024-13-01 16:28:29.715 JupyterHub x] User ada took 2 seconds to start\n", false, 0,
	  NULL },
	{ "16:28:29.717 [ConfigProxy] info: Adding route /user/ada\n", false, 0, NULL },
	{ "[", false, 0, NULL },
	{ "", false, 0, NULL },
};

static void test_log(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct hub_event event;
		assert_int_equal(hub_read_log(lines[i].line, &event), lines[i].found);
		if (!lines[i].found)
			continue;
		assert_int_equal(event.kind, lines[i].kind);
		assert_string_equal(event.session, lines[i].session);
		assert_int_equal(event.at, 1730478509715);
	}
}

static int nothing(const struct trace_record *record, void *arg, struct error *e)
{
	(void)record;
	(void)arg;
	(void)e;
	return 0;
}

/* Whatever is told in whatever order, what comes of it is a trace. */
static void test_hub_trace(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		cleanup_buf struct buf out = BUF_INIT(1 << 20);
		struct hub_trace hub = { .memory_bytes = 1 << 20, .to = &out };
		struct rng r = rng_stream(seed, 0);
		struct error e = ERROR_INIT;
		for (int i = 0; i < 60; i++) {
			static const char *const names[] = { "ada", "ada/gpu", "bob", "c d#" };
			struct hub_event event = { .kind = (enum hub_kind)(rng_next(&r) % 3),
						   .at = 1730478509715 +
							 (int64_t)(rng_next(&r) % 1000000),
						   .active_ms = 300000 };
			snprintf(event.session, sizeof(event.session), "%s",
				 names[rng_next(&r) % 4]);
			assert_int_equal(hub_trace_add(&hub, &event), 0);
		}
		assert_int_equal(hub_trace_end(&hub, 0), 0);
		struct trace *t = trace_new(nothing, NULL);
		if (trace_feed(t, out.data, out.len, &e) < 0 || trace_end(t, &e) < 0)
			fail_msg("%s in:\n%s", e.text, out.data);
		trace_free(t);
		hub_trace_deinit(&hub);
	}
}

struct shape {
	size_t tasks, short_tasks, opens, interrupts;
	int64_t busy[2000];
	wall_ms opened[2000], end;
};

static int no_user(const char *name, void *arg)
{
	(void)name;
	(void)arg;
	return 0;
}

static int measure(const struct trace_record *r, const char *name, void *arg)
{
	struct shape *s = arg;
	(void)name;
	s->tasks += r->kind == TRACE_BUSY;
	s->short_tasks += r->kind == TRACE_BUSY && r->duration_ms < 120000;
	s->interrupts += r->kind == TRACE_INTERRUPT;
	if (r->kind == TRACE_BUSY)
		s->busy[r->session] += r->duration_ms;
	if (r->kind == TRACE_OPEN && !s->opened[r->session])
		s->opened[r->session] = r->at;
	s->end = r->at;
	return 0;
}

/* Half of the tasks under two minutes, three quarters of the sessions at work for less than 5 % of
 * their time. */
static void test_shape(void **state)
{
	static struct shape s;
	struct generate_shape shape;
	size_t sessions = 0, quiet = 0;
	(void)state;
	generate_shape_init(&shape);
	shape.users = 2000;
	assert_int_equal(generate(&shape, 1767571200000, no_user, measure, &s), 0);
	for (size_t i = 0; i < shape.users; i++) {
		sessions += s.opened[i] != 0;
		quiet += s.opened[i] && (double)s.busy[i] < 0.05 * (double)(s.end - s.opened[i]);
	}
	double short_share = (double)s.short_tasks / (double)s.tasks;
	double quiet_share = (double)quiet / (double)sessions;
	assert_true(short_share > 0.48 && short_share < 0.52);
	assert_true(quiet_share > 0.72 && quiet_share < 0.82);
	assert_true(sessions > shape.users * 9 / 10 && s.interrupts > 90 * 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queue),     cmocka_unit_test(test_tally),
		cmocka_unit_test(test_course),    cmocka_unit_test(test_log),
		cmocka_unit_test(test_hub_trace), cmocka_unit_test(test_shape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
