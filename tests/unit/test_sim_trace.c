/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "sim/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "elsa-trace 1\nuser ada\nuser bob\npool spot-a\n"

struct seen {
	size_t count;
	struct trace_record last;
};

static int see(const struct trace_record *record, void *arg, struct error *e)
{
	struct seen *seen = arg;
	(void)e;
	seen->count++;
	seen->last = *record;
	return 0;
}

/* In parts of `part` bytes: where they are cut makes no difference. */
static int read_text(const char *text, size_t part, struct seen *seen, struct error *e)
{
	struct trace *t = trace_new(see, seen);
	size_t len = strlen(text);
	int r = 0;
	assert_non_null(t);
	for (size_t at = 0; r == 0 && at < len; at += part)
		r = trace_feed(t, text + at, len - at < part ? len - at : part, e);
	if (r == 0)
		r = trace_end(t, e);
	trace_free(t);
	return r;
}

static void test_good(void **state)
{
	static const char text[] = "elsa-trace 1\r\n"
				   "begin 2026-01-05T00:00:00Z\n"
				   "# people\n"
				   "user ada\n"
				   "pool spot-a # a comment\n"
				   "\n"
				   "1.5 open ada 512M\n"
				   "1.5\tbusy  ada 0\n"
				   "2 busy ada 60.25 1G\n"
				   "3 open ada/gpu 2097152\n"
				   "4 interrupt spot-a 5% 120 1800\n"
				   "5 stop ada\n"
				   "6 open ada\n"
				   "7 end";
	(void)state;
	for (size_t part = 1; part < sizeof(text); part += 7) {
		struct seen seen = { 0 };
		struct error e = ERROR_INIT;
		assert_int_equal(read_text(text, part, &seen, &e), 0);
		assert_int_equal(seen.count, 9);
		assert_int_equal(seen.last.kind, TRACE_END);
		assert_int_equal(seen.last.at, 1767571200000 + 7000);
	}
}

static const struct {
	const char *text;
	const char *told;
} bad[] = {
	{ "", "empty" },
	{ "elsa-trace 2\n", "line 1: it must begin" },
	{ "1 end\n", "line 1: it must begin" },
	{ HEAD "5 open ada 1G\n4 open bob 1G\n6 end\n", "line 6: time goes back: \"4\"" },
	{ HEAD "1 open eve 1G\n2 end\n", "line 5: nobody is called so" },
	{ HEAD "1 busy ada 5\n2 end\n", "line 5: there is no such session" },
	{ HEAD "1 open ada 1G\n2 stop ada\n3 busy ada 5\n4 end\n",
	  "line 7: the session was stopped" },
	{ HEAD "1 open ada 1G\n2 stop ada\n3 stop ada\n4 end\n",
	  "line 7: the session was stopped" },
	{ HEAD "1 open ada\n2 end\n", "line 5: the first time it is opened its memory" },
	{ HEAD "1 open ada -5\n2 end\n", "line 5: not a size such as 800M: \"-5\"" },
	{ HEAD "1 open ada 0\n2 end\n", "line 5: not a size" },
	{ HEAD "1 open ada 99999T\n2 end\n", "line 5: not a size" },
	{ HEAD "1 open ada 1G\n2 busy ada -3\n3 end\n", "line 6: not a number of seconds: \"-3\"" },
	{ HEAD "1 open ada 1G\n2 busy ada 1e3\n3 end\n", "line 6: not a number of seconds" },
	{ HEAD "-1 open ada 1G\n2 end\n", "line 5: neither a time" },
	{ HEAD "1 interrupt spot-b 0.5 120\n2 end\n", "line 5: no pool is called so" },
	{ HEAD "1 interrupt spot-a 1.5 120\n2 end\n", "line 5: not a share" },
	{ HEAD "1 interrupt spot-a nan 120\n2 end\n", "line 5: not a share" },
	{ HEAD "1 open ada 1G\n", "line 6: the trace is cut off" },
	{ HEAD "1 open ada 1G\n2 busy ad", "line 6: wanted is: TIME busy" },
	{ HEAD "1 end\n2 open ada 1G\n", "line 6: there is more behind the end" },
	{ HEAD "user ada\n", "line 5: the user was named before" },
	{ HEAD "user a/b\n", "line 5: a user's name has no" },
	{ HEAD "1 open ada 1G\nbegin 2026-01-05T00:00:00Z\n", "line 6: \"begin\" stands before" },
	{ HEAD "1 dance ada\n", "line 5: not one of open, busy" },
	{ HEAD "1 dance ada 2 3 4 5 6 7\n", "line 5: it has too many words" },
	{ HEAD "99999999999 end\n", "line 5: neither a time" },
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct seen seen = { 0 };
		struct error e = ERROR_INIT;
		assert_true(read_text(bad[i].text, 3, &seen, &e) < 0);
		assert_int_equal(e.fault, FAULT_BAD_INPUT);
		if (!strstr(e.text, bad[i].told))
			fail_msg("\"%s\" instead of \"%s\"", e.text, bad[i].told);
	}
}

static void test_long_line_and_zero(void **state)
{
	char line[2000];
	struct seen seen = { 0 };
	struct error e = ERROR_INIT;
	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	assert_true(read_text(line, 100, &seen, &e) < 0);
	assert_non_null(strstr(e.text, "longer than 1023"));
	struct trace *t = trace_new(see, &seen);
	assert_true(trace_feed(t, "elsa\0trace\n", 11, &e) < 0);
	trace_free(t);
}

/* What is written is read back as it was. */
static void test_round(void **state)
{
	static const struct trace_record records[] = {
		{ .kind = TRACE_OPEN, .at = 1767571200001, .memory_bytes = 3 << 20 },
		{ .kind = TRACE_BUSY,
		  .at = 1767571200010,
		  .duration_ms = 123450,
		  .memory_bytes = 77 },
		{ .kind = TRACE_INTERRUPT,
		  .at = 1767571260000,
		  .share = 0.25,
		  .notice_ms = 500,
		  .dry_ms = 60000 },
		{ .kind = TRACE_STOP, .at = 1767571300000 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		const struct trace_record *r = &records[i];
		cleanup_buf struct buf text = BUF_INIT(4096);
		struct seen seen = { 0 };
		struct error e = ERROR_INIT;
		struct trace *t = trace_new(see, &seen);
		assert_int_equal(trace_write_head(&text, 1767571200000), 0);
		buf_printf(&text, "user u\npool p\n");
		if (r->kind != TRACE_OPEN)
			buf_printf(&text, "0 open u 1M\n");
		assert_int_equal(trace_write(&text, r, 1767571200000,
					     r->kind == TRACE_INTERRUPT ? "p" : "u"),
				 0);
		assert_int_equal(trace_feed(t, text.data, text.len, &e), 0);
		trace_free(t);
		assert_int_equal(seen.last.kind, r->kind);
		assert_int_equal(seen.last.at, r->at);
		assert_int_equal(seen.last.duration_ms, r->duration_ms);
		assert_int_equal(seen.last.memory_bytes, r->memory_bytes);
		assert_true(seen.last.share == r->share);
		assert_int_equal(seen.last.notice_ms, r->notice_ms);
		assert_int_equal(seen.last.dry_ms, r->dry_ms);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_long_line_and_zero),
		cmocka_unit_test(test_round),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
