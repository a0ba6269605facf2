/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cloud/notice.h"

#include <stdlib.h>
#include <string.h>

/* Asking metadata services, with this file as the service and as the clock. */

enum { INTERVAL = 1000 };

static struct notice_facts facts;
static struct notice_watch *watch;
static struct notice_now now;
static struct notice_ask ask;
static struct notice_heard heard;

static void begin(enum notice_cloud cloud, size_t which)
{
	now = (struct notice_now) { .wall = 1474309787000, .mono_ms = 500 };
	facts = (struct notice_facts) { 0 };
	assert_true(which < notice_watch_count(cloud));
	watch = notice_watch_new(cloud, which, INTERVAL, &facts);
	assert_non_null(watch);
}

static void end(void)
{
	watch = notice_watch_free(watch);
}

static void pass(int64_t ms)
{
	now.wall += ms;
	now.mono_ms += ms;
}

/* Until it asks something; how long that took. */
static int64_t wait_for_question(void)
{
	int64_t waited = 0;
	for (int64_t ms; (ms = notice_watch_next(watch, now, &ask)) != 0; waited += ms) {
		assert_true(ms > 0);
		pass(ms);
		assert_true(waited < 3600000);
	}
	return waited;
}

static bool has_header(const char *want)
{
	for (size_t i = 0; ask.headers[i]; i++)
		if (strcmp(ask.headers[i], want) == 0)
			return true;
	return false;
}

static void answer_with(struct notice_answer a)
{
	if (!a.body)
		a.body = "";
	a.len = strlen(a.body);
	notice_watch_answer(watch, now, &a, &heard);
}

#define ANSWER(...) answer_with((struct notice_answer) { __VA_ARGS__ })

/* The next question must be this one. */
static void expect(const char *method, const char *path)
{
	wait_for_question();
	assert_string_equal(ask.method, method);
	assert_string_equal(ask.path, path);
}

#define META "/latest/meta-data/"

static void give_token(const char *token, const char *ttl)
{
	expect("PUT", "/latest/api/token");
	assert_true(has_header("X-aws-ec2-metadata-token-ttl-seconds: 21600"));
	ANSWER(.status = 200, .body = token, .token_ttl = ttl);
	assert_null(heard.source);
}

/* Nothing is there of all the rest. */
static void finish_round(void)
{
	for (wait_for_question(); strcmp(ask.path, META "spot/instance-action") != 0;
	     wait_for_question())
		ANSWER(.status = 404);
}

static void aws_asks_with_a_token(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("tok", "21600");
	expect("GET", META "spot/instance-action");
	assert_true(has_header("X-aws-ec2-metadata-token: tok"));
	ANSWER(.status = 404);
	assert_string_equal(heard.source, "aws spot/instance-action");
	assert_int_equal(heard.items.count, 0);
	expect("GET", META "autoscaling/target-lifecycle-state");
	ANSWER(.status = 200, .body = "InService");
	expect("GET", META "events/recommendations/rebalance");
	ANSWER(.status = 404);
	expect("GET", META "events/maintenance/scheduled");
	ANSWER(.status = 200, .body = "[]");
	assert_string_equal(heard.source, "aws events/maintenance/scheduled");
	expect("GET", META "instance-id");
	ANSWER(.status = 200, .body = "i-0abc");
	assert_true(heard.facts);
	assert_null(heard.source);
	expect("GET", META "instance-type");
	ANSWER(.status = 200, .body = "m7i.large");
	expect("GET", META "placement/availability-zone");
	ANSWER(.status = 200, .body = "eu-west-1a");
	expect("GET", META "instance-life-cycle");
	ANSWER(.status = 200, .body = "spot");
	assert_string_equal(facts.instance, "i-0abc");
	assert_string_equal(facts.type, "m7i.large");
	assert_string_equal(facts.zone, "eu-west-1a");
	assert_string_equal(facts.price, "spot");
	/* after the interval: only what is due, and no facts again */
	assert_int_equal(wait_for_question(), INTERVAL);
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 200,
	       .body = "{\"action\":\"terminate\",\"time\":\"2016-09-19T18:31:47Z\"}");
	assert_int_equal(heard.items.count, 1);
	assert_int_equal(heard.items.items[0].kind, NOTICE_EVICT);
	assert_int_equal(wait_for_question(), INTERVAL);
	expect("GET", META "spot/instance-action");
	end();
}

static void aws_renews_its_token(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("one", "10");
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 404);
	pass(9000); /* before its end */
	give_token("two", "10");
	wait_for_question();
	assert_true(has_header("X-aws-ec2-metadata-token: two"));
	ANSWER(.status = 404);
	wait_for_question();
	/* the service forgot it: another, at once, and the same question again */
	cleanup_free char *path = strdup(ask.path);
	ANSWER(.status = 401);
	assert_int_equal(heard.say, NOTICE_SAY_NOTHING);
	assert_int_equal(wait_for_question(), 0);
	give_token("three", NULL);
	assert_int_equal(wait_for_question(), 0);
	assert_string_equal(ask.path, path);
	assert_true(has_header("X-aws-ec2-metadata-token: three"));
	/* it takes no token at all: not asked in a hurry for ever */
	ANSWER(.status = 401);
	assert_true(wait_for_question() > 0);
	end();
}

static void a_token_is_fit_for_a_header(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "a b", "a\r\nX: y", "\x01" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(NOTICE_CLOUD_AWS, 0);
		give_token(bad[i], NULL);
		assert_true(wait_for_question() > 0);
		assert_string_equal(ask.method, "PUT");
		end();
	}
}

static void disabled_metadata_is_said_once(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_AWS, 0);
	expect("PUT", "/latest/api/token");
	ANSWER(.status = 403);
	assert_int_equal(heard.say, NOTICE_SAY_WARNING);
	assert_non_null(strstr(heard.remedy, "HttpEndpoint"));
	assert_int_equal(wait_for_question(), 60000);
	ANSWER(.status = 403);
	assert_int_equal(heard.say, NOTICE_SAY_NOTHING);
	give_token("tok", NULL);
	expect("GET", META "spot/instance-action");
	end();
}

static void the_hop_limit_is_named(void **state)
{
	(void)state;
	int64_t begun;
	begin(NOTICE_CLOUD_AWS, 0);
	begun = now.mono_ms;
	for (int i = 0; heard.say == NOTICE_SAY_NOTHING || i == 0; i++) {
		assert_true(i < 1000);
		expect("PUT", "/latest/api/token");
		pass(ask.timeout_ms);
		ANSWER(.timed_out = true, .why = "timed out");
	}
	assert_int_equal(heard.say, NOTICE_SAY_WARNING);
	assert_non_null(strstr(heard.remedy, "HttpPutResponseHopLimit"));
	assert_in_range(now.mono_ms - begun, 60000, 80000);
	end();
}

static void outages_are_said_after_a_minute_and_when_over(void **state)
{
	(void)state;
	int warnings = 0;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("tok", NULL);
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 200, .body = "{\"action\":\"stop\",\"time\":\"2016-09-19T18:31:47Z\"}");
	assert_int_equal(heard.items.count, 1);
	int64_t begun = now.mono_ms;
	while (now.mono_ms < begun + 300000) {
		int64_t waited = wait_for_question();
		assert_true(waited <= 3000); /* not too late for the next notice */
		ANSWER(.why = "connection refused");
		assert_null(heard.source); /* what was heard last stays */
		warnings += heard.say == NOTICE_SAY_WARNING;
		if (warnings && heard.say)
			assert_in_range(now.mono_ms - begun, 60000, 65000);
	}
	assert_int_equal(warnings, 1);
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 404);
	assert_int_equal(heard.say, NOTICE_SAY_INFO);
	assert_non_null(strstr(heard.text, "again"));
	assert_string_equal(heard.source, "aws spot/instance-action");
	end();
}

static void throttling_is_heeded(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("tok", NULL);
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 429, .retry_after_s = 4);
	assert_null(heard.source);
	assert_int_equal(wait_for_question(), 4000);
	ANSWER(.status = 503, .retry_after_s = 3600);
	assert_int_equal(wait_for_question(), 10000); /* but not for an hour */
	int64_t last = 0;
	for (int i = 0; i < 20; i++) {
		ANSWER(.status = 503);
		last = wait_for_question();
		assert_in_range(last, INTERVAL / 2, 3000);
	}
	assert_int_equal(last, 3000);
	end();
}

static void one_broken_path_does_not_hold_up_the_others(void **state)
{
	(void)state;
	int actions = 0;
	int warnings = 0;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("tok", NULL);
	for (int i = 0; i < 400; i++) {
		wait_for_question();
		bool action = strcmp(ask.path, META "spot/instance-action") == 0;
		actions += action;
		if (strstr(ask.path, "rebalance"))
			ANSWER(.status = 500);
		else
			ANSWER(.status = 404);
		warnings += heard.say == NOTICE_SAY_WARNING;
	}
	assert_true(actions > 100);
	assert_int_equal(warnings, 1);
	end();
}

static void what_is_no_answer_changes_nothing_and_is_told_once(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_AWS, 0);
	give_token("tok", NULL);
	for (int i = 0; i < 3; i++) {
		expect("GET", META "spot/instance-action");
		ANSWER(.status = 200, .body = "<html>Log in to the hotel's network</html>");
		assert_null(heard.source);
		assert_int_equal(heard.say, i ? NOTICE_SAY_NOTHING : NOTICE_SAY_WARNING);
		finish_round();
	}
	/* a notice with a time that nobody can read is one all the same */
	expect("GET", META "spot/instance-action");
	ANSWER(.status = 200, .body = "{\"action\":\"stop\",\"time\":\"whenever\"}");
	assert_int_equal(heard.items.count, 1);
	assert_int_equal(heard.items.items[0].at, 0);
	end();
}

/* --- Google ------------------------------------------------------------------------------ */

#define POLL(name, etag)                                                                           \
	"/computeMetadata/v1/instance/" name "?wait_for_change=true&timeout_sec=20&last_"          \
	"etag=" etag

static void gcp_polls_long(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_GCP, 0);
	expect("GET", POLL("preempted", "0"));
	assert_true(has_header("Metadata-Flavor: Google"));
	assert_true(ask.timeout_ms > 20000);
	ANSWER(.status = 200, .body = "FALSE", .etag = "e1", .flavor = "Google");
	assert_string_equal(heard.source, "gcp preempted");
	assert_int_equal(heard.items.count, 0);
	assert_true(wait_for_question() <= 200);
	expect("GET", POLL("preempted", "e1"));
	/* usual for a moment */
	ANSWER(.status = 503, .flavor = "Google");
	assert_null(heard.source);
	assert_int_equal(heard.say, NOTICE_SAY_NOTHING);
	expect("GET", POLL("preempted", "e1"));
	ANSWER(.status = 200, .body = "TRUE", .etag = "e2", .flavor = "Google");
	assert_int_equal(heard.items.count, 1);
	assert_int_equal(heard.items.items[0].kind, NOTICE_EVICT);
	expect("GET", POLL("preempted", "e2"));
	/* without an etag that can be used it is asked over and over */
	ANSWER(.status = 200, .body = "TRUE", .etag = "a&b=c", .flavor = "Google");
	assert_int_equal(wait_for_question(), INTERVAL);
	expect("GET", POLL("preempted", "0"));
	end();
	begin(NOTICE_CLOUD_GCP, 1);
	expect("GET", POLL("maintenance-event", "0"));
	end();
}

static void gcp_answers_must_be_googles(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_GCP, 0);
	expect("GET", POLL("preempted", "0"));
	ANSWER(.status = 200, .body = "TRUE", .etag = "e");
	assert_null(heard.source);
	assert_int_equal(heard.say, NOTICE_SAY_WARNING);
	expect("GET", POLL("preempted", "0"));
	ANSWER(.status = 404, .flavor = "Strawberry");
	assert_null(heard.source);
	end();
}

static void gcp_tells_what_the_machine_is(void **state)
{
	(void)state;
	begin(NOTICE_CLOUD_GCP, 2);
	expect("GET", "/computeMetadata/v1/instance/id");
	ANSWER(.status = 200, .body = "123456", .flavor = "Google");
	expect("GET", "/computeMetadata/v1/instance/machine-type");
	ANSWER(.status = 200, .body = "projects/1/machineTypes/n2-standard-4", .flavor = "Google");
	expect("GET", "/computeMetadata/v1/instance/zone");
	ANSWER(.status = 503, .flavor = "Google");
	expect("GET", "/computeMetadata/v1/instance/scheduling/preemptible");
	ANSWER(.status = 200, .body = "FALSE", .flavor = "Google");
	assert_string_equal(facts.price, "on-demand");
	expect("GET", "/computeMetadata/v1/instance/scheduling/provisioning-model");
	ANSWER(.status = 200, .body = "SPOT", .flavor = "Google");
	/* again what was not answered, and nothing else */
	expect("GET", "/computeMetadata/v1/instance/zone");
	ANSWER(.status = 200, .body = "projects/1/zones/europe-west4-a", .flavor = "Google");
	assert_string_equal(facts.instance, "123456");
	assert_string_equal(facts.type, "n2-standard-4");
	assert_string_equal(facts.zone, "europe-west4-a");
	assert_string_equal(facts.price, "spot");
	assert_true(notice_watch_next(watch, now, &ask) > 0);
	pass(100000);
	assert_int_equal(notice_watch_next(watch, now, &ask), INTERVAL);
	end();
}

/* --- Azure --------------------------------------------------------------------------------- */

#define AZURE_EVENTS "/metadata/scheduledevents?api-version=2020-07-01"
#define AZURE_FACTS  "/metadata/instance/compute?api-version=2021-02-01&format=json"

static void azure_events_are_taken_and_acknowledged(void **state)
{
	(void)state;
	struct node_notice notice = { .id = "AB-1.58f", .source = "azure scheduledevents" };
	struct node_notice other = { .id = "drill.1", .source = "drill" };
	begin(NOTICE_CLOUD_AZURE, 0);
	expect("GET", AZURE_FACTS);
	assert_true(has_header("Metadata: true"));
	ANSWER(.status = 200, .body = "{\"vmId\":\"x\",\"name\":\"vm-1\",\"location\":\"l\"}");
	expect("GET", AZURE_EVENTS);
	assert_true(ask.timeout_ms > 120000); /* it is switched on by this */
	ANSWER(.status = 200,
	       .body = "{\"Events\":[{\"EventId\":\"AB-1\",\"EventType\":\"Preempt\",\"Resources\":"
		       "[\"vm-1\"]},{\"EventId\":\"AB-2\",\"EventType\":\"Preempt\",\"Resources\":"
		       "[\"vm-2\"]}]}");
	assert_int_equal(heard.items.count, 1);
	assert_false(notice_watch_acknowledge(watch, &other));
	assert_true(notice_watch_acknowledge(watch, &notice));
	expect("POST", AZURE_EVENTS);
	assert_string_equal(ask.body, "{\"StartRequests\": [{\"EventId\": \"AB-1\"}]}");
	ANSWER(.status = 500);
	expect("POST", AZURE_EVENTS);
	ANSWER(.status = 200);
	assert_int_equal(heard.say, NOTICE_SAY_INFO);
	expect("GET", AZURE_EVENTS);
	assert_true(ask.timeout_ms < 10000);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aws_asks_with_a_token),
		cmocka_unit_test(aws_renews_its_token),
		cmocka_unit_test(a_token_is_fit_for_a_header),
		cmocka_unit_test(disabled_metadata_is_said_once),
		cmocka_unit_test(the_hop_limit_is_named),
		cmocka_unit_test(outages_are_said_after_a_minute_and_when_over),
		cmocka_unit_test(throttling_is_heeded),
		cmocka_unit_test(one_broken_path_does_not_hold_up_the_others),
		cmocka_unit_test(what_is_no_answer_changes_nothing_and_is_told_once),
		cmocka_unit_test(gcp_polls_long),
		cmocka_unit_test(gcp_answers_must_be_googles),
		cmocka_unit_test(gcp_tells_what_the_machine_is),
		cmocka_unit_test(azure_events_are_taken_and_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
