/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/db_kit.h"

static struct db_session session_of(const char *id, char *user, char *server)
{
	struct db_session s = { .user = user, .server = server, .state = "running" };
	snprintf(s.id, sizeof(s.id), "%s", id);
	return s;
}

static void test_session(void **state)
{
	(void)state;
	struct db_session s = {
		.id = "0123456789abcdef",
		.user = "Ünï/../'; DROP TABLE sessions; --",
		.server = "",
		.state = "hibernated",
		.reason = "why",
		.address = "10.99.0.16",
		.node = "hub",
		.spec = "{}",
		.api_token = "secret",
		.spawner = "[1]",
		.generation = INT64_MAX,
		.created_at = 1,
		.changed_at = 2,
		.started_at = 3,
		.person_at = 4,
		.keep_awake_until = 5,
		.refused_at = -6,
		.slept_at = -7,
		.checkpoint = 7,
		.wish = 2,
		.tried = "[1,2]",
		.left_behind = "{}",
		.size = "large",
		.sized_at = 8,
	};
	struct db_session got;
	assert_int_equal(db_session_put(db, &s, NULL), 0);
	assert_int_equal(db_session_get(db, s.user, "", &got, NULL), 0);
	assert_string_equal(got.id, s.id);
	assert_string_equal(got.user, s.user);
	assert_string_equal(got.server, "");
	assert_string_equal(got.state, "hibernated");
	assert_string_equal(got.reason, "why");
	assert_string_equal(got.address, "10.99.0.16");
	assert_string_equal(got.node, "hub");
	assert_string_equal(got.spec, "{}");
	assert_string_equal(got.api_token, "secret");
	assert_string_equal(got.spawner, "[1]");
	assert_true(got.generation == INT64_MAX && got.created_at == 1 && got.changed_at == 2 &&
		    got.started_at == 3 && got.person_at == 4 && got.keep_awake_until == 5 &&
		    got.refused_at == -6 && got.slept_at == -7 && got.checkpoint == 7 &&
		    got.wish == 2 && got.sized_at == 8);
	assert_string_equal(got.tried, "[1,2]");
	assert_string_equal(got.left_behind, "{}");
	assert_string_equal(got.size, "large");
	db_session_deinit(&got);
	db_session_deinit(&got);

	s.reason = NULL;
	s.state = "running";
	assert_int_equal(db_session_put(db, &s, NULL), 0);
	assert_int_equal(db_session_get(db, s.user, "", &got, NULL), 0);
	assert_null(got.reason);
	assert_string_equal(got.state, "running");
	db_session_deinit(&got);

	assert_int_equal(db_session_delete(db, s.id, NULL), 0);
	assert_int_equal(db_session_delete(db, s.id, NULL), 0);
	assert_int_equal(db_session_get(db, s.user, "", &got, NULL), -ENOENT);
}

static void test_session_is_unique(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct db_session a = session_of("a", "ada", ""), b = session_of("b", "ada", "");
	struct db_session got;
	a.address = "10.99.0.16";
	assert_int_equal(db_session_put(db, &a, NULL), 0);
	assert_int_equal(db_session_put(db, &b, &e), -EEXIST);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	b.server = "x";
	b.address = "10.99.0.16";
	assert_int_equal(db_session_put(db, &b, NULL), -EEXIST);
	b.user = NULL;
	assert_int_equal(db_session_put(db, &b, NULL), -EINVAL);

	/* within a transaction it is not the end of it */
	b = session_of("b", "ada", "");
	assert_int_equal(db_begin(db, NULL), 0);
	assert_int_equal(db_fact_set(db, "k", "v", NULL), 0);
	assert_int_equal(db_session_put(db, &b, NULL), -EEXIST);
	b.server = "x";
	assert_int_equal(db_session_put(db, &b, NULL), 0);
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(db_session_get(db, "ada", "x", &got, NULL), 0);
	db_session_deinit(&got);
}

struct seen {
	char text[256];
	int stop_after;
};

/* Reads the same table again, and writes, in the middle of a walk. */
static int see_session(const struct db_session *s, void *arg)
{
	struct seen *seen = arg;
	struct db_session again;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%s/%s ", s->user, s->server);
	assert_int_equal(db_session_get(db, s->user, s->server, &again, NULL), 0);
	again.generation++;
	assert_int_equal(db_session_put(db, &again, NULL), 0);
	db_session_deinit(&again);
	return seen->stop_after && --seen->stop_after == 0 ? 42 : 0;
}

static int walk_again(const struct db_session *s, void *arg)
{
	struct seen inner = { "" };
	assert_int_equal(db_session_each(db, see_session, &inner, NULL), 0);
	assert_string_equal(inner.text, "ada/ ada/x bob/ ");
	return s->user ? ++*(int *)arg * 0 : 0;
}

static void test_walk(void **state)
{
	(void)state;
	struct seen seen = { "" };
	struct db_session got, list[] = { session_of("1", "bob", ""), session_of("2", "ada", "x"),
					  session_of("3", "ada", "") };
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		assert_int_equal(db_session_put(db, &list[i], NULL), 0);
	assert_int_equal(db_session_each(db, see_session, &seen, NULL), 0);
	assert_string_equal(seen.text, "ada/ ada/x bob/ ");
	assert_int_equal(db_session_get(db, "bob", "", &got, NULL), 0);
	assert_int_equal(got.generation, 1);
	db_session_deinit(&got);

	seen = (struct seen) { "", 2 };
	assert_int_equal(db_session_each(db, see_session, &seen, NULL), 42);
	assert_string_equal(seen.text, "ada/ ada/x ");
	int outer = 0;
	assert_int_equal(db_session_each(db, walk_again, &outer, NULL), 0);
	assert_int_equal(outer, 3);
}

static int see_checkpoint(const struct db_checkpoint *c, void *arg)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%s:%d%s ", c->session,
		 (int)c->generation, c->aside ? "-" : "");
	return 0;
}

static const char *checkpoints_of(const char *session)
{
	static struct seen seen;
	seen = (struct seen) { "" };
	assert_int_equal(db_checkpoint_each(db, session, see_checkpoint, &seen, NULL), 0);
	return seen.text;
}

static void test_checkpoints(void **state)
{
	(void)state;
	struct db_checkpoint c = {
		.session = "a", .generation = 2, .stored_bytes = 7, .node = "n"
	};
	assert_int_equal(db_checkpoint_put(db, &c, NULL), 0);
	c.generation = 1;
	c.aside = true;
	assert_int_equal(db_checkpoint_put(db, &c, NULL), 0);
	c.session[0] = 'b';
	c.node = NULL;
	assert_int_equal(db_checkpoint_put(db, &c, NULL), 0);
	assert_string_equal(checkpoints_of(NULL), "a:1- a:2 b:1- ");
	c.aside = false;
	assert_int_equal(db_checkpoint_put(db, &c, NULL), 0);
	assert_string_equal(checkpoints_of("b"), "b:1 ");
	assert_int_equal(db_checkpoint_delete(db, "a", 1, NULL), 0);
	assert_string_equal(checkpoints_of("a"), "a:2 ");
	assert_string_equal(checkpoints_of("c"), "");
}

static int see_event(const struct db_event *event, void *arg)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%d:%s ", (int)event->id,
		 event->what);
	return 0;
}

static const char *events_of(int64_t after, const char *user, int limit)
{
	static struct seen seen;
	seen = (struct seen) { "" };
	assert_int_equal(db_event_each(db, after, user, limit, see_event, &seen, NULL), 0);
	return seen.text;
}

static void test_events(void **state)
{
	(void)state;
	static char *users[] = { "ada", "bob", "ada", NULL };
	static char *whats[] = { "a", "b", "c", "d" };
	for (int i = 0; i < 4; i++) {
		struct db_event event = { .at = 9, .user = users[i], .what = whats[i], .bytes = 5 };
		assert_int_equal(db_event_add(db, &event, NULL), 0);
		assert_int_equal(event.id, i + 1);
	}
	assert_string_equal(events_of(0, NULL, 0), "4:d 3:c 2:b 1:a ");
	assert_string_equal(events_of(0, NULL, 2), "4:d 3:c ");
	assert_string_equal(events_of(1, NULL, 2), "2:b 3:c ");
	assert_string_equal(events_of(0, "ada", 9), "3:c 1:a ");
	assert_string_equal(events_of(1, "ada", 9), "3:c ");
	assert_string_equal(events_of(4, NULL, 9), "");
}

static void test_events_are_pruned(void **state)
{
	(void)state;
	static const struct db_event events[] = {
		{ .at = 1, .who = "us", .what = "a" },   { .at = 2, .who = "us", .what = "b" },
		{ .at = 3, .who = "them", .what = "a" }, { .at = 4, .who = "us", .what = "a" },
		{ .at = 5, .who = "us", .what = "a" },   { .at = 1, .what = "a" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		struct db_event event = events[i];
		assert_int_equal(db_event_add(db, &event, NULL), 0);
	}
	assert_int_equal(db_event_prune(db, "us", "a", 5, NULL), 0);
	assert_string_equal(events_of(0, NULL, 0), "6:a 5:a 3:a 2:b ");
}

static int see_effect(const struct db_effect *effect, void *arg)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%s:%s:%s:%d ", effect->id,
		 effect->session, effect->kind, (int)effect->generation);
	return 0;
}

static void test_effects(void **state)
{
	(void)state;
	struct seen seen = { "" };
	struct db_effect x = { .id = "x", .session = "a", .kind = "restore", .created_at = 5 };
	struct db_effect y = { .id = "y", .session = "b", .kind = "start", .created_at = 4 };
	struct db_effect z = { .id = "z", .session = "a", .kind = "forget", .created_at = 6 };
	x.generation = 3;
	assert_int_equal(db_effect_put(db, &x, NULL), 0);
	assert_int_equal(db_effect_put(db, &x, NULL), 0);
	assert_int_equal(db_effect_put(db, &y, NULL), 0);
	assert_int_equal(db_effect_put(db, &z, NULL), -EEXIST);
	assert_int_equal(db_effect_each(db, see_effect, &seen, NULL), 0);
	assert_string_equal(seen.text, "y:b:start:0 x:a:restore:3 ");
	assert_int_equal(db_effect_delete(db, "x", NULL), 0);
	assert_int_equal(db_effect_delete(db, "x", NULL), 0);
	assert_int_equal(db_effect_put(db, &z, NULL), 0);
}

static int see_departure(const struct db_departure *departure, void *arg)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%s:%s:%s>%s:%s:%d ", departure->id,
		 departure->session, departure->source, departure->target, departure->state,
		 (int)departure->generation);
	return 0;
}

static void test_departures(void **state)
{
	(void)state;
	struct seen seen = { "" };
	struct db_departure x = { .id = "x",
				  .session = "a",
				  .source = "n1",
				  .target = "n2",
				  .state = "needed",
				  .generation = 3,
				  .created_at = 5 };
	struct db_departure y = x;
	memcpy(y.id, "y", 2);
	y.created_at = 4;
	assert_int_equal(db_departure_put(db, &x, NULL), 0);
	assert_int_equal(db_departure_put(db, &y, NULL), 0);
	x.state = "over";
	assert_int_equal(db_departure_put(db, &x, NULL), 0);
	assert_int_equal(db_departure_each(db, see_departure, &seen, NULL), 0);
	assert_string_equal(seen.text, "y:a:n1>n2:needed:3 x:a:n1>n2:over:3 ");
	assert_int_equal(db_departure_delete(db, "y", NULL), 0);
	assert_int_equal(db_departure_delete(db, "y", NULL), 0);
	seen.text[0] = '\0';
	assert_int_equal(db_departure_each(db, see_departure, &seen, NULL), 0);
	assert_string_equal(seen.text, "x:a:n1>n2:over:3 ");
}

static void test_facts(void **state)
{
	(void)state;
	cleanup_free char *value = NULL;
	assert_int_equal(db_fact_get(db, "boot", &value, NULL), -ENOENT);
	assert_null(value);
	assert_int_equal(db_fact_set(db, "boot", "1", NULL), 0);
	assert_int_equal(db_fact_set(db, "boot", "2", NULL), 0);
	assert_int_equal(db_fact_get(db, "boot", &value, NULL), 0);
	assert_string_equal(value, "2");
	free(steal_ptr(&value));
	assert_int_equal(db_fact_set(db, "boot", NULL, NULL), 0);
	assert_int_equal(db_fact_get(db, "boot", &value, NULL), -ENOENT);
}

static void pick_address(const char *pool, const char *expected)
{
	cleanup_free char *address = NULL;
	assert_int_equal(db_address_pick(db, pool, &address, NULL), 0);
	assert_string_equal(address, expected);
}

static void take_address(const char *id, char *address)
{
	char user[16];
	snprintf(user, sizeof(user), "u%s", id);
	struct db_session s = session_of(id, user, "");
	s.address = address;
	assert_int_equal(db_session_put(db, &s, NULL), 0);
}

static void test_addresses(void **state)
{
	(void)state;
	char *address = NULL;
	struct error e = ERROR_INIT;
	pick_address("10.99.0.0/16", "10.99.0.16");
	pick_address("10.99.77.1/16", "10.99.0.16");
	take_address("1", "10.99.0.17");
	take_address("2", "10.99.0.9");
	take_address("3", "192.168.0.1");
	take_address("4", "nonsense");
	pick_address("10.99.0.0/16", "10.99.0.16");
	take_address("5", "10.99.0.16");
	pick_address("10.99.0.0/16", "10.99.0.18");
	assert_int_equal(db_session_delete(db, "1", NULL), 0);
	pick_address("10.99.0.0/16", "10.99.0.17");

	/* 10.1.0.0/27 has 16 to 30 to give */
	for (int i = 16; i <= 30; i++) {
		char id[16], text[32];
		snprintf(id, sizeof(id), "p%d", i);
		snprintf(text, sizeof(text), "10.1.0.%d", i);
		pick_address("10.1.0.0/27", text);
		take_address(id, text);
	}
	assert_int_equal(db_address_pick(db, "10.1.0.0/27", &address, &e), -ENOSPC);
	assert_true(e.remedy[0]);
	assert_int_equal(db_address_pick(db, "10.1.0.0/30", &address, NULL), -ENOSPC);
	static const char *const bad[] = { "",          "10.0.0.0", "10.0.0.0/33", "10.0.0.0/16x",
					   "10.0.0/16", "a/16",     "10.0.0.0/0",  "300.0.0.0/16",
					   "fd00::/64" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(db_address_pick(db, bad[i], &address, NULL), -EINVAL);
	assert_null(address);
}

static int64_t pick_uid(const char *user)
{
	int64_t uid = -1;
	int r = db_uid_pick(db, user, 1000, 1002, &uid, NULL);
	return r < 0 ? r : uid;
}

static void give_uid(const char *id, char *user, char *server, int uid)
{
	char spec[64];
	struct db_session s = session_of(id, user, server);
	snprintf(spec, sizeof(spec), "{\"user\": \"x\", \"uid\": %d}", uid);
	s.spec = spec;
	assert_int_equal(db_session_put(db, &s, NULL), 0);
}

static void test_uids(void **state)
{
	(void)state;
	assert_int_equal(pick_uid("ada"), 1000);
	give_uid("1", "ada", "", 1000);
	assert_int_equal(pick_uid("ada"), 1000);
	assert_int_equal(pick_uid("bob"), 1001);
	give_uid("2", "eve", "", 1002);
	assert_int_equal(pick_uid("bob"), 1001);
	/* gone, but her files are still hers */
	assert_int_equal(db_session_delete(db, "1", NULL), 0);
	assert_int_equal(pick_uid("ada"), 1000);
	assert_int_equal(pick_uid("bob"), 1001);
	give_uid("3", "bob", "", 1001);
	assert_int_equal(pick_uid("dan"), -ENOSPC);
	/* an account of the machine, outside of the range; two may share one */
	give_uid("4", "sys", "", 7);
	give_uid("5", "sys2", "", 7);
	assert_int_equal(pick_uid("sys"), 7);
	give_uid("4", "sys", "", 8);
	assert_int_equal(pick_uid("sys"), 8);
	/* specs without one are fine */
	struct db_session s = session_of("6", "odd", "");
	static char *specs[] = { NULL, "", "no json", "{}", "{\"uid\": \"root\"}", "[]" };
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		s.spec = specs[i];
		assert_int_equal(db_session_put(db, &s, NULL), 0);
		assert_int_equal(pick_uid("odd"), -ENOSPC);
	}
}

static struct db_node node_of(char *name, char *overlay)
{
	return (struct db_node) { .name = name,
				  .state = "ready",
				  .listen = "10.0.0.5:8444",
				  .overlay = overlay,
				  .serial = "4A",
				  .key_digest = "k",
				  .token = "t",
				  .joined_at = 1 };
}

static int see_node(const struct db_node *node, void *arg)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);
	snprintf(seen->text + used, sizeof(seen->text) - used, "%s ", node->name);
	return 0;
}

static void test_nodes(void **state)
{
	(void)state;
	struct db_node a = node_of("a", "10.98.0.17"), b = node_of("b", "10.98.0.16"), got;
	struct seen seen = { 0 };
	char *address = NULL;
	assert_int_equal(db_overlay_pick(db, "10.98.0.0/16", &address, NULL), 0);
	assert_string_equal(address, "10.98.0.16");
	free(steal_ptr(&address));
	assert_int_equal(db_node_put(db, &b, NULL), 0);
	assert_int_equal(db_node_put(db, &a, NULL), 0);
	assert_int_equal(db_overlay_pick(db, "10.98.0.0/16", &address, NULL), 0);
	assert_string_equal(address, "10.98.0.18");
	free(address);
	a.state = "draining";
	a.next_serial = "4B";
	a.seen_at = 2;
	a.boot_id = "boot";
	a.info = "{}";
	assert_int_equal(db_node_put(db, &a, NULL), 0);
	assert_int_equal(db_node_get(db, "a", &got, NULL), 0);
	assert_string_equal(got.state, "draining");
	assert_string_equal(got.listen, "10.0.0.5:8444");
	assert_string_equal(got.overlay, "10.98.0.17");
	assert_string_equal(got.serial, "4A");
	assert_string_equal(got.next_serial, "4B");
	assert_string_equal(got.key_digest, "k");
	assert_string_equal(got.token, "t");
	assert_string_equal(got.boot_id, "boot");
	assert_string_equal(got.info, "{}");
	assert_true(got.joined_at == 1 && got.seen_at == 2);
	db_node_deinit(&got);
	b.overlay = a.overlay;
	assert_int_equal(db_node_put(db, &b, NULL), -EEXIST);
	assert_int_equal(db_node_each(db, see_node, &seen, NULL), 0);
	assert_string_equal(seen.text, "a b ");
	assert_int_equal(db_node_delete(db, "a", NULL), 0);
	assert_int_equal(db_node_delete(db, "a", NULL), 0);
	assert_int_equal(db_node_get(db, "a", &got, NULL), -ENOENT);
}

static void test_join_tokens(void **state)
{
	(void)state;
	struct db_join_token token = { .id = "0123456789abcdef",
				       .secret_digest = "d",
				       .expires_at = 100,
				       .uses_left = 2,
				       .created_at = 1 };
	struct db_join_token got;
	assert_int_equal(db_join_token_get(db, token.id, &got, NULL), -ENOENT);
	assert_int_equal(db_join_token_put(db, &token, NULL), 0);
	token.uses_left = -1;
	assert_int_equal(db_join_token_put(db, &token, NULL), 0);
	assert_int_equal(db_join_tokens_expire(db, 100, NULL), 0);
	assert_int_equal(db_join_token_get(db, token.id, &got, NULL), 0);
	assert_string_equal(got.secret_digest, "d");
	assert_true(got.expires_at == 100 && got.uses_left == -1 && got.created_at == 1);
	db_join_token_deinit(&got);
	assert_int_equal(db_join_tokens_expire(db, 101, NULL), 0);
	assert_int_equal(db_join_token_get(db, token.id, &got, NULL), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_db, close_db)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_session),     TEST(test_session_is_unique),
		TEST(test_walk),        TEST(test_checkpoints),
		TEST(test_events),      TEST(test_effects),
		TEST(test_departures),  TEST(test_events_are_pruned),
		TEST(test_facts),       TEST(test_addresses),
		TEST(test_uids),        TEST(test_nodes),
		TEST(test_join_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
