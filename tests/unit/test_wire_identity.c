/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "wire/identity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID          "0123456789abcdef"
#define SECRET      "00112233445566778899aabbccddeeff"
#define FINGERPRINT SECRET SECRET
#define TOKEN       "elsa1." ID "." SECRET "." FINGERPRINT

static void test_token(void **state)
{
	struct join_token token;
	(void)state;
	assert_int_equal(join_token_parse(" \n" TOKEN "\r\n ", &token, NULL), 0);
	assert_string_equal(token.id, ID);
	assert_string_equal(token.secret, SECRET);
	assert_string_equal(token.fingerprint, FINGERPRINT);
	cleanup_free char *text = join_token_format(&token);
	assert_string_equal(text, TOKEN);
}

static void test_cut_token(void **state)
{
	struct join_token token;
	char text[sizeof(TOKEN)];
	(void)state;
	for (size_t len = 0; len < strlen(TOKEN); len++) {
		memcpy(text, TOKEN, len);
		text[len] = '\0';
		assert_int_equal(join_token_parse(text, &token, NULL), -EINVAL);
		assert_string_equal(token.id, "");
	}
}

static const char *const bad_tokens[] = {
	TOKEN "0",
	TOKEN ".",
	TOKEN " x",
	TOKEN "\n" TOKEN,
	"elsa2." ID "." SECRET "." FINGERPRINT,
	"elsa1." ID "." SECRET "." SECRET,
	"elsa1." ID ".." FINGERPRINT,
	"elsa1..." FINGERPRINT,
	"elsa1." ID "0." SECRET "." FINGERPRINT,
	"elsa1.0123456789ABCDEF." SECRET "." FINGERPRINT,
	"elsa1 " ID "." SECRET "." FINGERPRINT,
};

static void test_bad_tokens(void **state)
{
	struct join_token token;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_tokens); i++) {
		struct error e = ERROR_INIT;
		assert_int_equal(join_token_parse(bad_tokens[i], &token, &e), -EINVAL);
		assert_true(e.text[0] && e.remedy[0]);
		assert_null(strstr(e.text, SECRET)); /* it may still be a good one's */
		assert_string_equal(token.secret, "");
	}
}

#define LABEL "a23456789012345678901234567890"

static const struct {
	const char *name;
	bool valid;
} names[] = {
	{ "n1", true },
	{ "N-1.example.org", true },
	{ "1", true },
	{ LABEL LABEL "123", true },
	{ LABEL LABEL "1234", false },
	{ "", false },
	{ NULL, false },
	{ "-a", false },
	{ "a-", false },
	{ ".a", false },
	{ "a.", false },
	{ "a..b", false },
	{ "a.-b", false },
	{ "a b", false },
	{ "a/b", false },
	{ "a,b", false },
	{ "ü", false },
	{ "controller.elsa", false },
	{ "Controller.ELSA", false },
};

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (node_name_valid(names[i].name) != names[i].valid)
			fail_msg("%s", names[i].name);
	cleanup_free char *host = node_host("N1.Example");
	assert_string_equal(host, "n1.example.node.elsa");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_cut_token),
		cmocka_unit_test(test_bad_tokens),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
