/* SPDX-License-Identifier: Apache-2.0 */
/* The config's idle rules as the policy's, the steps, secrets and pauses. */
#include "base/cleanup.h"
#include "controller/activity.h"
#include "controller/effects.h"
#include "controller/idle.h"
#include "controller/retry.h"
#include "controller/steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_kit.h"

static void rules(void **state)
{
	(void)state;
	struct config *config = parse("[idle]\n"
				      "timeout = \"1h\"\n"
				      "interval = \"30s\"\n"
				      "concurrency = 7\n"
				      "dry_run = true\n"
				      "utc_offset_minutes = 60\n"
				      "quiet_hours = [\"22:00-06:30\", \"mon-fri 08:00-18:00\"]\n"
				      "[[idle.rule]]\n"
				      "name = \"vips\"\n"
				      "groups = [\"vip*\"]\n"
				      "admins = \"not\"\n"
				      "exempt = true\n"
				      "[[idle.rule]]\n"
				      "users = [\"a*\"]\n"
				      "servers = [\"\"]\n"
				      "admins = \"only\"\n"
				      "timeout = \"5m\"\n"
				      "transparent = false\n"
				      "wake_ahead = [\"mon 07:50-08:30\"]\n");
	struct idle_rules made;
	assert_int_equal(idle_rules_make(config, &made, NULL), 0);
	assert_int_equal(made.policy.rule_count, 3);
	assert_string_equal(made.rules[0].name, "vips");
	assert_string_equal(made.rules[0].groups[0], "vip*");
	assert_int_equal(made.rules[0].admins, 0);
	assert_true(made.rules[0].exempt);
	assert_int_equal(made.rules[1].admins, 1);
	assert_int_equal(made.rules[1].timeout_ms, 5 * 60 * 1000);
	assert_string_equal(made.rules[1].servers[0], "");
	assert_int_equal(made.rules[2].admins, -1);
	assert_int_equal(made.rules[2].timeout_ms, 3600 * 1000);
	assert_true(made.rules[0].transparent && !made.rules[1].transparent);
	assert_int_equal(made.rules[0].stop_after_ms, 24 * 3600 * 1000);
	assert_int_equal(made.rules[1].wake_ahead_count, 1);
	assert_int_equal(made.rules[1].wake_ahead[0].from_minute, 7 * 60 + 50);
	assert_int_equal(made.rules[2].wake_ahead_count, 0);
	assert_int_equal(made.policy.quiet_count, 2);
	assert_int_equal(made.quiet[0].from_minute, 22 * 60);
	assert_int_equal(made.quiet[0].to_minute, 6 * 60 + 30);
	assert_int_equal(made.quiet[1].weekdays, 0x1f);
	assert_int_equal(made.policy.utc_offset_minutes, 60);
	assert_int_equal(made.policy.concurrency, 7);
	assert_int_equal(made.policy.interval_ms, 30 * 1000);
	assert_true(made.policy.dry_run);
	idle_rules_deinit(&made);
	idle_rules_deinit(&made);
	config_free(config);
}

static void activity_urls(void **state)
{
	(void)state;
	static const struct {
		const char *text, *url;
	} cases[] = {
		{ "controller.activity_listen = \"10.99.0.1:8082\"", "http://10.99.0.1:8082/" },
		{ "controller.activity_listen = \"\"", NULL },
		{ "controller.public_activity_url = \"https://x/elsa\"", "https://x/elsa/" },
		{ "controller.public_activity_url = \"https://x/\"", "https://x/" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config *config = parse(cases[i].text);
		cleanup_free char *url = activity_base_url(config);
		if (cases[i].url)
			assert_string_equal(url, cases[i].url);
		else
			assert_null(url);
		config_free(config);
	}
}

static void secrets(void **state)
{
	(void)state;
	assert_true(secret_equal("abc", "abc"));
	assert_true(secret_equal("", ""));
	assert_false(secret_equal("abc", "abd"));
	assert_false(secret_equal("ab", "abc"));
	assert_false(secret_equal("abc", "ab"));
	assert_false(secret_equal("abcabc", "abc"));
	assert_false(secret_equal("", "abc"));
	assert_false(secret_equal("abc", ""));
}

static void pauses(void **state)
{
	(void)state;
	for (int failures = 0; failures < 100; failures++) {
		int64_t delay = retry_delay_ms(failures, 200, 10000);
		int64_t plain = failures < 6 ? 200ll << failures : 10000;
		plain = plain > 10000 ? 10000 : plain;
		assert_in_range(delay, plain * 3 / 4, plain * 5 / 4);
	}
	struct timeval t = retry_timeval(1250);
	assert_int_equal(t.tv_sec, 1);
	assert_int_equal(t.tv_usec, 250000);
}

static void steps(void **state)
{
	(void)state;
	assert_int_equal(steps_set_fault("hibernate.recorded"), 0);
	assert_true(steps_set_fault("hibernate") < 0);
	assert_true(steps_set_fault("hibernate.") < 0);
	assert_true(steps_set_fault("hiber.recorded") < 0);
	assert_true(steps_set_fault("none.recorded") < 0);
	assert_true(steps_set_fault("") < 0);
}

static void what_results_mean(void **state)
{
	(void)state;
	struct effect_result result = { .state = EFFECT_DONE };
	assert_int_equal(effect_event(EFFECT_HIBERNATE, &result), EVENT_EFFECT_DONE);
	result.state = EFFECT_FAILED;
	assert_int_equal(effect_event(EFFECT_HIBERNATE, &result), EVENT_EFFECT_FAILED);
	result.running = true;
	assert_int_equal(effect_event(EFFECT_HIBERNATE, &result), EVENT_EFFECT_REFUSED);
	/* What runs at the target is not its source's any more. */
	assert_int_equal(effect_event(EFFECT_MIGRATE, &result), EVENT_EFFECT_DONE);
	result.running = false;
	assert_int_equal(effect_event(EFFECT_MIGRATE, &result), EVENT_EFFECT_FAILED);
	result.kept = true;
	assert_int_equal(effect_event(EFFECT_MIGRATE, &result), EVENT_EFFECT_REFUSED);
	/* It sleeps, and its node answers for it: since now, or still. */
	result = (struct effect_result) { .state = EFFECT_DONE, .answering = true };
	assert_int_equal(effect_event(EFFECT_SLEEP, &result), EVENT_EFFECT_ASLEEP);
	assert_int_equal(effect_event(EFFECT_ANSWER, &result), EVENT_EFFECT_DONE);
	result.state = EFFECT_FAILED;
	assert_int_equal(effect_event(EFFECT_RESTORE, &result), EVENT_EFFECT_ASLEEP);
	for (int action = 1; action < ACTION_COUNT; action++)
		assert_string_equal(session_action_name((enum session_action)action),
				    effect_kind_names[effect_kind_of((enum session_action)action)]);
}

static void labels(void **state)
{
	(void)state;
	cleanup_free char *plain = session_make_label("ada", "");
	cleanup_free char *named = session_make_label("ada", "lab");
	cleanup_free char *odd = session_make_label("a\n\x1b[1m", "\xc3\xbc");
	assert_string_equal(plain, "ada");
	assert_string_equal(named, "ada/lab");
	assert_string_equal(odd, "a\\x0a\\x1b[1m/\xc3\xbc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules),   cmocka_unit_test(activity_urls),
		cmocka_unit_test(secrets), cmocka_unit_test(pauses),
		cmocka_unit_test(steps),   cmocka_unit_test(what_results_mean),
		cmocka_unit_test(labels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
