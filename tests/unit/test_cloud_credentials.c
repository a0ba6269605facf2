/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/credentials.h"
#include "cloud/credentials_sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The sources that need no server; tests/e2e/test_object_s3.py has metadata services. */

static char home[] = "/tmp/elsa-test.XXXXXX";

static void write_file(const char *name, const char *text)
{
	cleanup_free char *path = fs_join(home, name);
	assert_int_equal(fs_replace(path, text, strlen(text), 0600, NULL), 0);
}

static int set_up(void **state)
{
	static const char *const names[] = {
		"AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN",
		"AWS_PROFILE",
		"AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE",
		"AWS_REGION",
		"AWS_DEFAULT_REGION",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"GS_ACCESS_KEY_ID",
		"GS_SECRET_ACCESS_KEY",
		"GCE_METADATA_HOST",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	memcpy(home + strlen(home) - 6, "XXXXXX", 6);
	assert_non_null(mkdtemp(home));
	cleanup_free char *dir = fs_join(home, ".aws");
	assert_int_equal(fs_mkdirs(dir, 0700, NULL), 0);
	setenv("HOME", home, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return fs_remove_tree(home, NULL);
}

/* "ID SECRET TOKEN" of the chain, or the error's text. */
static char *who(const char *profile)
{
	struct credentials_options options = { CREDENTIALS_AMAZON, profile, NULL };
	struct credentials *c;
	cleanup(credentials_value_deinit) struct credentials_value v = { 0 };
	struct error e = ERROR_INIT;
	assert_int_equal(credentials_new(&options, &c, &e), 0);
	int r = credentials_get(c, NULL, &v, &e);
	credentials_free(c);
	if (r < 0) {
		assert_int_equal(e.fault, FAULT_DENIED);
		assert_true(e.remedy[0]);
		return strdup(e.text);
	}
	return str_printf("%s %s %s", v.access_key, v.secret,
			  v.session_token ? v.session_token : "-");
}

static void assert_who(const char *profile, const char *want)
{
	cleanup_free char *got = who(profile);
	assert_string_equal(got, want);
}

static void sources_are_asked_in_order(void **state)
{
	(void)state;
	assert_who(NULL, "no credentials for S3");
	write_file(".aws/config",
		   "[default]\naws_access_key_id=C\naws_secret_access_key=c\n"
		   "[profile work]\naws_access_key_id = W\naws_secret_access_key = w\n");
	assert_who(NULL, "C c -");
	write_file(".aws/credentials", "[default]\naws_access_key_id=F\naws_secret_access_key=f\n");
	assert_who(NULL, "F f -");
	assert_who("work", "W w -");
	assert_who("none", "the profile \"none\" of store.url has no access key");
	setenv("AWS_PROFILE", "work", 1);
	assert_who(NULL, "W w -");
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	assert_who(NULL, "AWS_ACCESS_KEY_ID is set, but not AWS_SECRET_ACCESS_KEY");
	setenv("AWS_SECRET_ACCESS_KEY", "e", 1);
	assert_who(NULL, "E e -");
	setenv("AWS_SESSION_TOKEN", "t", 1);
	assert_who(NULL, "E e t");
	assert_who("work", "W w -"); /* store.url said so */
}

static void the_region_is_found(void **state)
{
	(void)state;
	struct credentials_options options = { CREDENTIALS_AMAZON, "work", NULL };
	assert_null(credentials_region(&options));
	write_file(".aws/config", "[default]\nregion=x\n[profile work]\nregion = eu-west-1\n");
	cleanup_free char *file = credentials_region(&options);
	assert_string_equal(file, "eu-west-1");
	setenv("AWS_DEFAULT_REGION", "us-west-2", 1);
	cleanup_free char *env = credentials_region(&options);
	assert_string_equal(env, "us-west-2");
}

static void google_has_hmac_keys(void **state)
{
	(void)state;
	struct credentials_options options = { CREDENTIALS_GOOGLE, NULL, NULL };
	cleanup(credentials_value_deinit) struct credentials_value v = { 0 };
	struct credentials *c;
	setenv("GS_ACCESS_KEY_ID", "GOOG1", 1);
	setenv("GS_SECRET_ACCESS_KEY", "s", 1);
	assert_int_equal(credentials_new(&options, &c, NULL), 0);
	assert_int_equal(credentials_get(c, NULL, &v, NULL), 0);
	assert_string_equal(v.access_key, "GOOG1");
	assert_null(v.bearer);
	credentials_free(c);
}

static void ini_files_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "", NULL },
		{ "k=v", NULL },
		{ "[s]\nk=v", "v" },
		{ "[s]\r\nk = v \r\n", "v" },
		{ "[ s ]\n# k=no\n k\t=\tv=w\n", "v=w" },
		{ "[s]\nkk=v\n[t]\nk=v", NULL },
		{ "[s\nk=v", NULL },
		{ "[t]\nk=1\n[s]\nK=2\n[s]\nk=3\n", "3" },
		{ "[s]\nk", NULL },
		{ "[s]\nk=", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *got = credentials_ini(cases[i].text, "s", "k");
		if (!cases[i].want)
			assert_null(got);
		else
			assert_string_equal(got, cases[i].want);
	}
}

static void roles_are_read(void **state)
{
	(void)state;
	static const char good[] =
		"{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"A\","
		"\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":\"2017-05-17T15:09:"
		"54Z\"}";
	static const char *const wrong[] = {
		"",
		"[]",
		"{}",
		"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}",
		"{\"AccessKeyId\":1,\"SecretAccessKey\":\"S\",\"Token\":\"T\"}",
		"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":"
		"\"x\"}",
	};
	struct error e = ERROR_INIT;
	cleanup(credentials_value_deinit) struct credentials_value v = { 0 };
	assert_int_equal(credentials_amazon_json(good, strlen(good), &v, &e), 0);
	assert_string_equal(v.session_token, "T");
	assert_int_equal(v.expires_at, 1495033794000);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct credentials_value w = { 0 };
		assert_int_equal(credentials_amazon_json(wrong[i], strlen(wrong[i]), &w, &e),
				 -EBADMSG);
		assert_null(w.access_key);
	}
}

static void service_accounts_are_read(void **state)
{
	(void)state;
	static const char good[] =
		"{\"access_token\":\"ya29.x\",\"expires_in\":3599,\"token_type\":\"Bearer\"}";
	static const char *const wrong[] = { "", "{}", "{\"access_token\":\"x\"}",
					     "{\"access_token\":\"x\",\"expires_in\":-1}" };
	cleanup(credentials_value_deinit) struct credentials_value v = { 0 };
	assert_int_equal(credentials_google_json(good, strlen(good), 1000, &v, NULL), 0);
	assert_string_equal(v.bearer, "ya29.x");
	assert_int_equal(v.expires_at, 3600000);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct credentials_value w = { 0 };
		assert_int_equal(credentials_google_json(wrong[i], strlen(wrong[i]), 0, &w, NULL),
				 -EBADMSG);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sources_are_asked_in_order),
		TEST(the_region_is_found),
		TEST(google_has_hmac_keys),
		TEST(ini_files_are_read),
		TEST(roles_are_read),
		TEST(service_accounts_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
