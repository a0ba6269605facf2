/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/messages.h"
#include "wire/text.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Room for any of the structs. */
union message {
	struct session_spec session_spec;
	struct effect_request effect_request;
	struct effect_result effect_result;
	struct session_status session_status;
	struct session_status_list session_status_list;
	struct node_info node_info;
	struct checkpoint_info checkpoint_info;
	struct checkpoint_list checkpoint_list;
	struct checkpoint_detail checkpoint_detail;
	struct store_request store_request;
	struct store_task store_task;
	struct node_notice node_notice;
	struct drill_request drill_request;
	struct node_question node_question;
	struct join_request join_request;
	struct join_answer join_answer;
	struct lease_request lease_request;
	struct lease_grant lease_grant;
	struct overlay_state overlay_state;
	struct evacuation evacuation;
};

#define SPEC_BEFORE_PORT                                                                           \
	"\"id\":\"0123456789abcdef\",\"user\":\"ann\",\"server\":\"\","                            \
	"\"address\":\"10.99.0.2\","
#define SPEC_AFTER_PORT                                                                            \
	"\"uid\":1500,\"gid\":1500,\"home\":\"/home/ann\",\"home_inside\":\"/home/ann\","          \
	"\"image\":\"/\",\"cmd\":[\"jupyterhub-singleuser\"]"
#define SPEC_FIELDS SPEC_BEFORE_PORT "\"port\":8888," SPEC_AFTER_PORT
#define SPEC        "{" SPEC_FIELDS "}"
#define REQUEST(kind, spec)                                                                        \
	"{\"id\":\"00000000000000e1\",\"kind\":" kind ",\"generation\":3,\"session\":" spec "}"

/* --- what is refused, and what is said about it --------------------------- */

struct decode_case {
	const struct wire_struct *type;
	const char *json;
	const char *error; /* NULL: it is taken */
};

static const struct decode_case decode_cases[] = {
	{ &wire_session_spec, SPEC, NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"colour\":{\"deep\":[1,{}]}}", NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"env\":null,\"limits\":null}", NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"env\":[]}", NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{}}", NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{\"cpus\":2}}", NULL },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{\"cpus\":0.5}}", NULL },
	{ &wire_session_spec, "[]", "expected an object" },
	{ &wire_session_spec, "{}", "id: missing" },
	{ &wire_session_spec, "{\"id\":null}", "id: missing" },
	{ &wire_session_spec, "{\"id\":7}", "id: expected a string" },
	{ &wire_session_spec, "{" SPEC_BEFORE_PORT SPEC_AFTER_PORT "}", "port: missing" },
	{ &wire_session_spec, "{" SPEC_BEFORE_PORT "\"port\":0," SPEC_AFTER_PORT "}",
	  "port: out of range" },
	{ &wire_session_spec, "{" SPEC_BEFORE_PORT "\"port\":65536," SPEC_AFTER_PORT "}",
	  "port: out of range" },
	{ &wire_session_spec, "{" SPEC_BEFORE_PORT "\"port\":8888.0," SPEC_AFTER_PORT "}",
	  "port: expected an integer" },
	{ &wire_session_spec, "{" SPEC_BEFORE_PORT "\"port\":\"8888\"," SPEC_AFTER_PORT "}",
	  "port: expected an integer" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"env\":{}}", "env: expected a list of strings" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"env\":[\"A=1\",2]}",
	  "env[1]: expected a string" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"env\":[\"A=1\",\"B=\\u0000\"]}",
	  "env[1]: contains a NUL character" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":[]}", "limits: expected an object" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{\"pids\":-1}}",
	  "limits.pids: out of range" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{\"cpus\":-0.5}}",
	  "limits.cpus: out of range" },
	{ &wire_session_spec, "{" SPEC_FIELDS ",\"limits\":{\"cpus\":\"2\"}}",
	  "limits.cpus: expected a number" },

	{ &wire_effect_request, REQUEST("\"hibernate\"", SPEC), NULL },
	{ &wire_effect_request, REQUEST("\"fly\"", SPEC), "kind: unknown value" },
	{ &wire_effect_request, REQUEST("\"stop\\u0000\"", SPEC), "kind: unknown value" },
	{ &wire_effect_request, REQUEST("2", SPEC), "kind: expected a string" },
	{ &wire_effect_request, REQUEST("\"start\"", "7"), "session: expected an object" },
	{ &wire_effect_request,
	  REQUEST("\"start\"", "{" SPEC_FIELDS ",\"limits\":{\"pids\":\"many\"}}"),
	  "session.limits.pids: expected an integer" },

	{ &wire_effect_result, "{\"id\":\"e\",\"state\":\"done\",\"running\":true}", NULL },
	{ &wire_effect_result, "{\"id\":\"e\",\"state\":\"done\",\"running\":1}",
	  "running: expected true or false" },
	{ &wire_effect_result, "{\"id\":\"e\",\"state\":\"done\",\"running\":true,\"timings\":{}}",
	  "timings: expected a list" },
	{ &wire_effect_result,
	  "{\"id\":\"e\",\"state\":\"done\",\"running\":true,"
	  "\"timings\":[{\"name\":\"a\",\"us\":1},{\"name\":\"b\"}]}",
	  "timings[1].us: missing" },
	{ &wire_effect_result,
	  "{\"id\":\"e\",\"state\":\"done\",\"running\":true,\"bytes_done\":-1}",
	  "bytes_done: out of range" },

	{ &wire_session_status_list, "{\"items\":[]}", NULL },
	{ &wire_session_status_list, "{}", "items: missing" },
	{ &wire_session_status_list, "{\"items\":[[]]}", "items[0]: expected an object" },
	{ &wire_session_status_list, "{\"items\":[{\"id\":\"a\",\"running\":true},null]}",
	  "items[1]: expected an object" },
};

static void test_decode(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(decode_cases); i++) {
		const struct decode_case *c = &decode_cases[i];
		union message to;
		static const union message zero;
		struct error e = ERROR_INIT;
		int r = wire_decode_text(c->type, c->json, strlen(c->json), &to, &e);
		if (r != (c->error ? -EINVAL : 0) || strcmp(e.text, c->error ? c->error : "") != 0)
			fail_msg("%s: %d \"%s\"", c->json, r, e.text);
		assert_int_equal(e.fault, c->error ? FAULT_BAD_INPUT : FAULT_NONE);
		if (c->error)
			assert_memory_equal(&to, &zero, c->type->size);
		wire_free(c->type, &to);
		assert_memory_equal(&to, &zero, c->type->size);
	}
}

/* Integers at and beyond what int64_t holds, in a field whose range is the type's. */
static void test_decode_extreme_integers(void **state)
{
	(void)state;
	struct session_status to;
	static const char most[] =
		"{\"id\":\"a\",\"running\":true,\"rss_bytes\":9223372036854775807}";
	static const char more[] =
		"{\"id\":\"a\",\"running\":true,\"rss_bytes\":9223372036854775808}";
	assert_int_equal(wire_decode_text(&wire_session_status, most, strlen(most), &to, NULL), 0);
	assert_true(to.rss_bytes == INT64_MAX);
	wire_free(&wire_session_status, &to);
	assert_int_equal(wire_decode_text(&wire_session_status, more, strlen(more), &to, NULL),
			 -EINVAL);
}

static void assert_not_json(const char *text, size_t len)
{
	struct node_info to;
	struct error e = ERROR_INIT;
	assert_int_equal(wire_decode_text(&wire_node_info, text, len, &to, &e), -EINVAL);
	assert_int_equal(strncmp(e.text, "not JSON: ", 10), 0);
}

static void test_decode_not_json(void **state)
{
	(void)state;
	static const char *const texts[] = { "",
					     "{",
					     "{\"name\":}",
					     "{} {}",
					     "\xff\xfe",
					     "name",
					     "{\"name\":\"a\",\"name\":\"b\"}",
					     "{\"name\":\"\xff\"}" };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_not_json(texts[i], strlen(texts[i]));
	assert_not_json("{}\0{}", 5);
}

/* A hundred thousand brackets must neither be taken nor overflow the stack. */
static void test_decode_deep_nesting(void **state)
{
	(void)state;
	enum { DEPTH = 100000 };
	char *text = malloc(DEPTH);
	assert_non_null(text);
	memset(text, '[', DEPTH);
	assert_not_json(text, DEPTH);
	for (size_t i = 0; i + 5 <= DEPTH; i += 5)
		memcpy(text + i, "{\"a\":", 5);
	assert_not_json(text, DEPTH);
	free(text);
}

/* --- there and back ------------------------------------------------------- */

#define FULL_SPEC                                                                                  \
	{                                                                                          \
		.id = "0123456789abcdef",                                                          \
		.user = "Zo\xc3\xab \"x\" \\ /",                                                   \
		.server = "gpu",                                                                   \
		.address = "10.99.0.2",                                                            \
		.port = 8888,                                                                      \
		.uid = 1500,                                                                       \
		.gid = 1501,                                                                       \
		.home = "/srv/home/zoe",                                                           \
		.home_inside = "/home/zoe",                                                        \
		.image = "/images/base",                                                           \
		.cmd = (char *[]) { "jupyterhub-singleuser", "--debug", NULL },                    \
		.env = (char *[]) { "A=1", "EMPTY=", "", NULL },                                   \
		.limits = { .memory_bytes = 1 << 30, .cpus = 1.5, .pids = 512 },                   \
	}

static struct session_spec full_spec = FULL_SPEC;

static struct effect_request full_request = {
	.id = "00000000000000e1",
	.kind = EFFECT_FORGET,
	.generation = 42,
	.from = "n1",
	.from_at = "10.0.0.5:8445",
	.session = FULL_SPEC,
};

static struct departure full_departure = {
	.id = "00000000000000e1",
	.session = "00000000000000a1",
	.to = "n2",
	.state = DEPARTURE_KEPT,
	.why = "n2 did not come for it",
};

static struct take_back_request full_take_back = { .fence = 7 };

static struct moving_request full_moving = {
	.session = "00000000000000a1",
	.effect = "00000000000000e1",
};

static struct effect_result full_result = {
	.id = "00000000000000e1",
	.state = EFFECT_FAILED,
	.step = "dump",
	.checkpoint = 2,
	.bytes_done = 10,
	.bytes_total = 20,
	.fault = "refused",
	.text = "cannot checkpoint",
	.remedy = "close it",
	.log_tail = "Error (criu/x.c:1): a\nb",
	.answering = true,
	.dozing = true,
	.running = true,
	.generation = 41,
	.memory_bytes = 1,
	.stored_bytes = 2,
	.out_bytes = 7,
	.frozen_us = 3,
	.duration_us = 4,
	.timings = (struct step_timing[]) { { "freeze", 5 }, { "dump", 6 } },
	.timing_count = 2,
};

static struct session_status full_status = {
	.id = "0123456789abcdef",
	.running = true,
	.frozen = true,
	.held = true,
	.dozing = true,
	.answering = true,
	.touched_at = 9,
	.unwoken = "no memory",
	.memory_limit = 10,
	.short_of = 11,
	.given_to = "n2",
	.pid = 4242,
	.generation = 3,
	.rss_bytes = 1 << 20,
	.out_bytes = 1 << 21,
	.cpu_us = 7,
	.processes = 8,
	.stalls_known = true,
	.cpu_stall_us = 11,
	.memory_stall_us = 12,
	.io_stall_us = 13,
	.started_at = 1795406706789,
	.effect = "00000000000000e1",
	.ended = "oom-killed",
	.missing_bytes = 9,
	.missing_total = 10,
	.stalled_since = 1795406706790,
	.stalled = "the bucket does not answer",
};

static struct session_status_list full_status_list = {
	.items = (struct session_status[]) { { .id = "a" }, { .id = "b", .running = true } },
	.count = 2,
};

#define FULL_NOTICE                                                                                \
	{ .id = "n",                                                                               \
	  .kind = NOTICE_EVICT,                                                                    \
	  .source = "drill",                                                                       \
	  .at = 5,                                                                                 \
	  .seen_at = 4,                                                                            \
	  .detail = "{}" }

static struct node_notice full_notice = FULL_NOTICE;
static struct drill_request full_drill = { .kind = NOTICE_EVICT, .in_ms = 30000, .who = "ada" };

static struct node_info full_node = {
	.name = "n1",
	.version = "0.1.0",
	.boot_id = "6f1e",
	.criu = "4.2.1",
	.cpu = "Some CPU",
	.cpus = 2,
	.memory_bytes = INT64_MAX,
	.memory_available_bytes = 5,
	.doze = "zram",
	.doze_lacks = "no swap",
	.out_room_bytes = 8,
	.out_bytes = 9,
	.out_stored_bytes = 3,
	.pressure_known = true,
	.pressure_some = 12.5,
	.pressure_full = 0.25,
	.features = "x86_64 aes",
	.cloud = "aws",
	.instance = "i-0a",
	.instance_type = "m7i.large",
	.zone = "eu-west-1a",
	.price = "spot",
	.underlay = "10.0.0.5",
	.move_port = 8445,
	.move_version = 3,
	.images = (char *[]) { "/", NULL },
	.lease_left_ms = -1,
	.evacuating = true,
	.upload_bytes_per_s = 7,
	.notices = (struct node_notice[]) { FULL_NOTICE },
	.notice_count = 1,
};

static struct node_question full_question = { .images = (char *[]) { "/", NULL } };

static struct join_request full_join = {
	.token = "t",
	.name = "n1",
	.csr = "pem",
	.listen = "10.0.0.5:8444",
	.version = "0.1.0",
};

static struct join_answer full_joined = {
	.certificate = "pem",
	.ca = "pem",
	.overlay = "10.98.0.17",
};

static struct lease_request full_lease = {
	.boot_id = "6f1e",
	.listen = "10.0.0.5:8444",
	.asked_at = 123456789,
	.news_at = 123456700,
	.leaving = true,
	.notices = (struct node_notice[]) { FULL_NOTICE },
	.notice_count = 1,
};

static struct lease_grant full_grant = {
	.lease_ms = 30000,
	.sessions = (char *[]) { "0123456789abcdef", NULL },
};

static struct overlay_state full_overlay = {
	.overlay = "10.98.0.17",
	.peers = (struct overlay_peer[]) { { "n2", "10.0.0.6", "10.98.0.18" } },
	.peer_count = 1,
	.routes = (struct overlay_route[]) { { "10.99.0.20", "10.98.0.18" } },
	.route_count = 1,
};

static struct evacuation full_evacuation = {
	.notice = FULL_NOTICE,
	.begun_at = 1,
	.ended_at = 2,
	.margin_ms = -3,
	.sessions = (struct evacuee[]) { { .session = "a",
					   .state = EVACUEE_LEFT,
					   .why = "late",
					   .to = "n2",
					   .to_move = true,
					   .noted = true } },
	.session_count = 1,
};

static struct checkpoint_info full_checkpoint = {
	.session = "0123456789abcdef",
	.generation = 3,
	.created_at = 1795406706789,
	.memory_bytes = 1,
	.stored_bytes = 2,
	.shared_bytes = 4,
	.objects = 3,
	.basis = 2,
	.aside = true,
	.user = "ann",
	.server = "",
	.cpu = "avx2 avx512f",
	.criu = "4.2",
	.kernel = "6.12.48",
	.damaged = "its manifest is cut short",
	.fence = "n2",
};

static struct checkpoint_detail full_detail = {
	.checkpoint = { .session = "a", .generation = 1 },
	.memories = (struct memory_info[]) { { "pagemap-1.img", 7, 3 }, { "pagemap-2.img", 1, 0 } },
	.memory_count = 2,
	.frames = 5,
	.hot_frames = 1,
};

static struct store_request full_store_request = {
	.kind = STORE_TASK_EXPORT,
	.session = "0123456789abcdef",
	.generation = 3,
	.dry_run = true,
};

static struct store_task full_task = {
	.id = "00000000000000e1",
	.kind = STORE_TASK_IMPORT,
	.state = EFFECT_FAILED,
	.done = 1,
	.total = 2,
	.fault = "corrupt",
	.text = "s/a/1/b-0 is short",
	.remedy = "export it anew",
	.objects = 3,
	.bytes = 4,
	.kept_objects = 5,
	.kept_bytes = 6,
	.count = 7,
	.dry_run = true,
	.checkpoints = (struct checkpoint_info[]) { { .session = "a", .generation = 1 } },
	.checkpoint_count = 1,
	.spec = "{}",
};

static struct checkpoint_list full_checkpoint_list = {
	.items = (struct checkpoint_info[]) { { .session = "a" }, { .session = "b" } },
	.count = 2,
};

static const struct {
	const struct wire_struct *type;
	const void *value;
	size_t size;
} full[] = {
	{ &wire_session_spec, &full_spec, sizeof(full_spec) },
	{ &wire_effect_request, &full_request, sizeof(full_request) },
	{ &wire_effect_result, &full_result, sizeof(full_result) },
	{ &wire_departure, &full_departure, sizeof(full_departure) },
	{ &wire_take_back_request, &full_take_back, sizeof(full_take_back) },
	{ &wire_moving_request, &full_moving, sizeof(full_moving) },
	{ &wire_session_status, &full_status, sizeof(full_status) },
	{ &wire_session_status_list, &full_status_list, sizeof(full_status_list) },
	{ &wire_node_info, &full_node, sizeof(full_node) },
	{ &wire_node_notice, &full_notice, sizeof(full_notice) },
	{ &wire_drill_request, &full_drill, sizeof(full_drill) },
	{ &wire_node_question, &full_question, sizeof(full_question) },
	{ &wire_join_request, &full_join, sizeof(full_join) },
	{ &wire_join_answer, &full_joined, sizeof(full_joined) },
	{ &wire_lease_request, &full_lease, sizeof(full_lease) },
	{ &wire_lease_grant, &full_grant, sizeof(full_grant) },
	{ &wire_overlay_state, &full_overlay, sizeof(full_overlay) },
	{ &wire_evacuation, &full_evacuation, sizeof(full_evacuation) },
	{ &wire_checkpoint_info, &full_checkpoint, sizeof(full_checkpoint) },
	{ &wire_checkpoint_list, &full_checkpoint_list, sizeof(full_checkpoint_list) },
	{ &wire_checkpoint_detail, &full_detail, sizeof(full_detail) },
	{ &wire_store_request, &full_store_request, sizeof(full_store_request) },
	{ &wire_store_task, &full_task, sizeof(full_task) },
};

/* Encoding, decoding and encoding again gives the same text, and no field of the table is empty: a
 * field that either direction forgets cannot hide. */
static void test_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(full); i++) {
		assert_int_equal(full[i].type->size, full[i].size);
		json_t *first = wire_encode(full[i].type, full[i].value);
		assert_non_null(first);
		assert_int_equal(json_object_size(first), full[i].type->field_count);
		char *text = json_dumps(first, 0);
		union message copy;
		struct error e = ERROR_INIT;
		if (wire_decode_text(full[i].type, text, strlen(text), &copy, &e) < 0)
			fail_msg("%s: %s", full[i].type->name, e.text);
		json_t *second = wire_encode(full[i].type, &copy);
		assert_true(json_equal(first, second));
		wire_free(full[i].type, &copy);
		wire_free(full[i].type, &copy);
		json_decref(first);
		json_decref(second);
		free(text);
	}
}

static void test_decoded_values(void **state)
{
	(void)state;
	struct effect_request to;
	json_t *json = wire_encode(&wire_effect_request, &full_request);
	assert_int_equal(wire_decode(&wire_effect_request, json, &to, NULL), 0);
	assert_int_equal(to.kind, EFFECT_FORGET);
	assert_int_equal(to.generation, 42);
	assert_string_equal(to.session.user, full_spec.user);
	assert_int_equal(to.session.gid, 1501);
	assert_string_equal(to.session.cmd[1], "--debug");
	assert_null(to.session.cmd[2]);
	assert_string_equal(to.session.env[2], "");
	assert_true(to.session.limits.cpus == 1.5);
	json_decref(json);
	wire_free(&wire_effect_request, &to);
}

static void test_absent_fields_are_empty(void **state)
{
	(void)state;
	struct session_spec to;
	memset(&to, 0xff, sizeof(to));
	assert_int_equal(wire_decode_text(&wire_session_spec, SPEC, strlen(SPEC), &to, NULL), 0);
	assert_string_equal(to.server, "");
	assert_null(to.env);
	assert_int_equal(to.limits.pids, 0);
	json_t *json = wire_encode(&wire_session_spec, &to);
	assert_null(json_object_get(json, "env"));
	json_decref(json);
	wire_free(&wire_session_spec, &to);
}

/* --- encoding what cannot be said ----------------------------------------- */

static void test_encode_refuses(void **state)
{
	(void)state;
	struct effect_result result = { .id = "e", .state = EFFECT_STATE_COUNT };
	assert_null(wire_encode(&wire_effect_result, &result));
	struct session_spec spec = FULL_SPEC;
	spec.limits.cpus = NAN;
	assert_null(wire_encode(&wire_session_spec, &spec));
}

static const struct {
	const char *bytes;
	const char *text;
} texts[] = {
	{ "", "" },
	{ "plain", "plain" },
	{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
	{ "cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd" },
	{ "\xff!", "\xef\xbf\xbd!" },
	{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                                 /* overlong */
	{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },                 /* surrogate */
	{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* > U+10FFFF */
	{ "\xe2\x82\xac\xe2(", "\xe2\x82\xac\xef\xbf\xbd(" },
};

static void test_text_that_is_not_utf8(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		json_t *json = wire_text(texts[i].bytes);
		assert_non_null(json);
		assert_string_equal(json_string_value(json), texts[i].text);
		json_decref(json);
	}
}

/* --- errors --------------------------------------------------------------- */

static void test_errors_there_and_back(void **state)
{
	(void)state;
	struct error from = ERROR_INIT;
	for (int fault = FAULT_INTERNAL; fault < FAULT_COUNT; fault++) {
		struct error to;
		error_fault(&from, (enum fault)fault, "what happened");
		error_remedy(&from, 0, "what to do");
		json_t *json = wire_encode_error(&from);
		assert_non_null(json);
		wire_decode_error(json, fault_http_status(from.fault), &to);
		json_decref(json);
		assert_int_equal(to.fault, from.fault);
		assert_string_equal(to.text, from.text);
		assert_string_equal(to.remedy, from.remedy);
	}
}

static const struct {
	const char *json;
	int status;
	enum fault fault;
	const char *text;
} errors[] = {
	{ "{}", 200, FAULT_NONE, "" },
	{ "{}", 404, FAULT_NOT_FOUND, "the answer was HTTP status 404" },
	{ "{}", 401, FAULT_DENIED, "the answer was HTTP status 401" },
	{ "[]", 502, FAULT_CORRUPT, "the answer was HTTP status 502" },
	{ "{\"error\":\"no\"}", 500, FAULT_INTERNAL, "the answer was HTTP status 500" },
	{ "{\"error\":{}}", 200, FAULT_INTERNAL, "the answer was HTTP status 200" },
	{ "{\"error\":{\"text\":\"t\"}}", 409, FAULT_CONFLICT, "t" },
	{ "{\"error\":{\"fault\":\"none\",\"text\":\"t\"}}", 500, FAULT_INTERNAL, "t" },
	{ "{\"error\":{\"fault\":\"novel\",\"text\":\"t\"}}", 503, FAULT_UNAVAILABLE, "t" },
	{ "{\"error\":{\"fault\":\"internal\",\"text\":\"t\"}}", 503, FAULT_INTERNAL, "t" },
	{ "{\"error\":{\"fault\":7,\"text\":[]}}", 404, FAULT_NOT_FOUND,
	  "the answer was HTTP status 404" },
};

static void test_errors_from_anybody(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct error to;
		json_t *json = json_loads(errors[i].json, 0, NULL);
		wire_decode_error(json, errors[i].status, &to);
		json_decref(json);
		assert_int_equal(to.fault, errors[i].fault);
		assert_string_equal(to.text, errors[i].text);
	}
	struct error to;
	wire_decode_error(NULL, 503, &to);
	assert_int_equal(to.fault, FAULT_UNAVAILABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_decode_extreme_integers),
		cmocka_unit_test(test_decode_not_json),
		cmocka_unit_test(test_decode_deep_nesting),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_decoded_values),
		cmocka_unit_test(test_absent_fields_are_empty),
		cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_text_that_is_not_utf8),
		cmocka_unit_test(test_errors_there_and_back),
		cmocka_unit_test(test_errors_from_anybody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
