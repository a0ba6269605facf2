/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/estimate.h"
#include "node/evacuate_private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((int64_t)1 << 20)

struct place {
	char dir[64];
	struct config config;
	struct node node;
	struct evacuate ev;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	*state = p;
	snprintf(p->dir, sizeof(p->dir), "/tmp/elsa-evacuate-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	p->config.node.state_dir = p->dir;
	p->config.node.run_dir = p->dir;
	p->config.spot.notice_ms = 30000;
	p->node.config = &p->config;
	p->node.base = event_base_new();
	snprintf(p->node.boot_id, sizeof(p->node.boot_id), "boot-1");
	p->ev.node = &p->node;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	evacuate_deinit(&p->ev);
	estimate_free(&p->node);
	event_base_free(p->node.base);
	int r = fs_remove_tree(p->dir, NULL);
	free(p);
	return r;
}

static struct node_notice notice(char *id, wall_ms at, wall_ms seen_at)
{
	return (struct node_notice) {
		.id = id, .kind = NOTICE_EVICT, .source = "drill", .at = at, .seen_at = seen_at
	};
}

/* --- notices -------------------------------------------------------------------------- */

static void test_the_earliest_deadline_counts(void **state)
{
	struct place *p = *state;
	const struct node_notice *which = NULL;
	struct node_notice a = notice("a", 500000, 1000), b = notice("b", 0, 100000);
	assert_int_equal(evacuate_deadline(&p->ev, &which), 0);
	assert_int_equal(evacuate_put_notice(&p->ev, &a, NULL), 1);
	assert_int_equal(evacuate_put_notice(&p->ev, &a, NULL), 0);
	assert_int_equal(evacuate_deadline(&p->ev, &which), 500000);
	/* One without a time: config's spot.notice after it was seen. */
	assert_int_equal(evacuate_put_notice(&p->ev, &b, NULL), 1);
	assert_int_equal(evacuate_deadline(&p->ev, &which), 130000);
	assert_string_equal(which->id, "b");
	a.at = 120000;
	assert_int_equal(evacuate_put_notice(&p->ev, &a, NULL), 1);
	assert_int_equal(p->ev.notice_count, 2);
	assert_int_equal(evacuate_deadline(&p->ev, &which), 120000);
	assert_true(evacuate_drop_notice(&p->ev, "a"));
	assert_false(evacuate_drop_notice(&p->ev, "a"));
	assert_int_equal(evacuate_deadline(&p->ev, NULL), 130000);
}

/* --- the file --------------------------------------------------------------------------- */

static void begin(struct place *p)
{
	struct node_notice a = notice("a", 500000, 1000);
	assert_int_equal(evacuate_put_notice(&p->ev, &a, NULL), 1);
	assert_int_equal(evacuate_copy_notice(&p->ev.record.notice, &a, NULL), 0);
	p->ev.record.begun_at = 2000;
	for (int i = 0; i < 3; i++) {
		char id[ID_SIZE];
		snprintf(id, sizeof(id), "%016x", i);
		assert_int_equal(evacuate_add(&p->ev, id, NULL), 0);
	}
	p->ev.record.sessions[1].state = EVACUEE_SAVED;
	evacuate_say(&p->ev.record.sessions[2], "why not");
	evacuate_save(&p->ev, true);
	assert_true(evacuate_is_open(&p->ev));
}

static void test_taken_up_again(void **state)
{
	struct place *p = *state;
	struct evacuate next = { .node = &p->node };
	bool same_boot = false;
	begin(p);
	assert_int_equal(evacuate_read(&next, &same_boot, NULL), 0);
	assert_true(same_boot && evacuate_is_open(&next));
	assert_int_equal(next.notice_count, 1);
	assert_int_equal(next.record.session_count, 3);
	assert_int_equal(evacuate_find(&next, "0000000000000001"), 1);
	assert_int_equal(evacuate_find(&next, "000000000000000f"), -1);
	assert_int_equal(next.record.sessions[1].state, EVACUEE_SAVED);
	assert_string_equal(next.record.sessions[2].why, "why not");
	evacuate_remove(&next, 0);
	assert_int_equal(evacuate_find(&next, "0000000000000001"), 0);
	assert_int_equal(evacuate_find(&next, "0000000000000002"), 1);
	evacuate_deinit(&next);
}

static void test_another_boot_and_no_or_a_bad_file(void **state)
{
	struct place *p = *state;
	struct evacuate next = { .node = &p->node };
	bool same_boot = true;
	assert_int_equal(evacuate_read(&next, &same_boot, NULL), 0);
	assert_false(same_boot || evacuate_is_open(&next));
	begin(p);
	snprintf(p->node.boot_id, sizeof(p->node.boot_id), "boot-2");
	assert_int_equal(evacuate_read(&next, &same_boot, NULL), 0);
	assert_false(same_boot);
	/* What was said of the machine was said of that boot. */
	assert_int_equal(next.notice_count, 0);
	assert_int_equal(next.record.session_count, 3);
	evacuate_deinit(&next);
	cleanup_free char *path = fs_join(p->dir, "evacuation.json");
	struct evacuate bad = { .node = &p->node };
	assert_int_equal(fs_replace(path, "{\"boot_id\":", 11, 0600, NULL), 0);
	assert_true(evacuate_read(&bad, &same_boot, NULL) < 0);
	assert_false(evacuate_is_open(&bad));
	evacuate_deinit(&bad);
}

static void test_names(void **state)
{
	(void)state;
	struct journal j = { 0 };
	assert_true(evacuate_is_effect("evac-0123456789abcdef-7"));
	assert_false(evacuate_is_effect("0123456789abcdef"));
	assert_false(evacuate_is_effect(NULL));
	assert_false(evacuate_was(&j));
	j.ended = "exited";
	assert_false(evacuate_was(&j));
	j.ended = EVACUATED;
	assert_true(evacuate_was(&j));
}

/* --- estimates ------------------------------------------------------------------------------ */

static struct effect ended(struct session *s, enum effect_kind kind, int64_t memory, int64_t stored,
			   struct step_timing *timings, size_t count)
{
	return (struct effect) { .session = s,
				 .request.kind = kind,
				 .result = { .state = EFFECT_DONE,
					     .memory_bytes = memory,
					     .stored_bytes = stored,
					     .timings = timings,
					     .timing_count = count } };
}

static void test_estimates(void **state)
{
	struct place *p = *state;
	struct session s = { .id = "0123456789abcdef" };
	struct step_timing timings[] = {
		{ "arrive", 9000000 },
		{ "dump", 3000000 },
		{ "commit", 1000000 },
		{ "retention", 500000 },
	};
	struct evacuate_session to = { .resident_bytes = 1024 * MIB };
	assert_int_equal(estimate_init(&p->node, NULL), 0);
	estimate_session(&p->node, &s, &to);
	assert_int_equal(to.unsent_bytes, 1024 * MIB);
	assert_int_equal(to.snapshot_at, 0);
	struct effect ef = ended(&s, EFFECT_SNAPSHOT, 1024 * MIB, 800 * MIB, timings, 4);
	assert_int_equal(estimate_took_ms(&ef.result), 4000);
	assert_int_equal(estimate_behind_ms(&ef.result), 500);
	estimate_begun(&p->node, &ef);
	estimate_ended(&p->node, &ef);
	assert_int_equal(estimate_upload(&p->node), 200 * MIB);
	estimate_session(&p->node, &s, &to);
	assert_in_range(to.unsent_bytes, 80 * MIB, 82 * MIB);
	assert_true(to.snapshot_at > 0);
	/* The next program knows it; and one that begins anew has nothing. */
	estimate_free(&p->node);
	assert_int_equal(estimate_init(&p->node, NULL), 0);
	assert_int_equal(estimate_upload(&p->node), 200 * MIB);
	estimate_session(&p->node, &s, &to);
	assert_in_range(to.unsent_bytes, 80 * MIB, 82 * MIB);
	struct effect started = ended(&s, EFFECT_START, 0, 0, NULL, 0);
	estimate_ended(&p->node, &started);
	estimate_session(&p->node, &s, &to);
	assert_int_equal(to.unsent_bytes, 1024 * MIB);
	assert_int_equal(to.snapshot_at, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_earliest_deadline_counts, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_taken_up_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_another_boot_and_no_or_a_bad_file, set_up,
						tear_down),
		cmocka_unit_test(test_names),
		cmocka_unit_test_setup_teardown(test_estimates, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
