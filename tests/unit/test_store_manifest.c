/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/digest.h"
#include "store/manifest.h"

#include <errno.h>
#include <string.h>

#define ID  "0123456789abcdef"
#define HEX "0000000000000000000000000000000000000000000000000000000000000000"
#define STRINGS                                                                                    \
	"\"user\":\"u\",\"server\":\"\",\"spec\":null,\"cpu\":null,\"criu\":null,\"kernel\":null"
#define FILE_OF(name, object, size, mode, digests)                                                 \
	"{\"name\":\"" name "\",\"object\":\"" object "\",\"size\":" size ",\"mode\":" mode        \
	",\"sha256\":[" digests "]}"
#define GOOD_FILE FILE_OF("a", "o/a", "3", "420", "\"" HEX "\"")
#define BODY(session, generation, stored, chunk, strings, files)                                   \
	"{\"session\":\"" session "\",\"generation\":" generation ",\"created_at\":1,"             \
	"\"memory_bytes\":2,\"stored_bytes\":" stored ",\"chunk\":" chunk "," strings              \
	",\"files\":" files "}"
#define WITH_FILES(stored, files) BODY(ID, "7", stored, "4096", STRINGS, files)

static int decode(const char *body, struct manifest *m, struct error *e)
{
	unsigned char digest[DIGEST_SIZE];
	char hex[DIGEST_TEXT_SIZE];
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	assert_int_equal(digest_bytes(body, strlen(body), digest), 0);
	digest_format(digest, hex);
	assert_int_equal(buf_printf(&text,
				    "{\"format\":\"elsa-checkpoint\",\"version\":1,"
				    "\"sha256\":\"%s\"}\n%s\n",
				    hex, body),
			 0);
	return manifest_decode(text.data, text.len, m, e);
}

static void good_ones_are_read(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct manifest m;
	if (decode(WITH_FILES("3", "[" GOOD_FILE "]"), &m, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(m.meta.session, ID);
	assert_int_equal(m.meta.generation, 7);
	assert_string_equal(m.meta.user, "u");
	assert_null(m.meta.spec);
	assert_int_equal(m.count, 1);
	assert_string_equal(m.files[0].object, "o/a");
	assert_int_equal(m.files[0].chunks, 1);
	manifest_deinit(&m);
	assert_int_equal(decode(WITH_FILES("0", "[]"), &m, &e), 0);
	manifest_deinit(&m);
}

static const struct {
	const char *body, *error;
} bad[] = {
	{ "", "it is not JSON" },
	{ "{", "it is not JSON" },
	{ "[]", "something is missing" },
	{ "{}", "something is missing" },
	{ "{\"a\":1,\"a\":2}", "it is not JSON" },
	{ BODY("x", "7", "0", "4096", STRINGS, "[]"), "its session" },
	{ BODY("../../../../etc/", "7", "0", "4096", STRINGS, "[]"), "its session" },
	{ BODY(ID, "-1", "0", "4096", STRINGS, "[]"), "its session" },
	{ BODY(ID, "1.5", "0", "4096", STRINGS, "[]"), "something is missing" },
	{ BODY(ID, "99999999999999999999", "0", "4096", STRINGS, "[]"), "it is not JSON" },
	{ BODY(ID, "7", "0", "0", STRINGS, "[]"), "its chunk size" },
	{ BODY(ID, "7", "0", "-4096", STRINGS, "[]"), "its chunk size" },
	{ BODY(ID, "7", "0", "5000", STRINGS, "[]"), "its chunk size" },
	{ BODY(ID, "7", "0", "1099511627776", STRINGS, "[]"), "its chunk size" },
	{ BODY(ID, "7", "0", "4096", STRINGS ",\"more\":1", "[]"), "something is missing" },
	{ BODY(ID, "7", "0", "4096", "\"user\":\"u\"", "[]"), "something is missing" },
	{ BODY(ID, "7", "0", "4096", STRINGS, "{}"), "the list of files" },
	{ BODY(ID, "7", "0", "4096", STRINGS, "null"), "the list of files" },
	{ WITH_FILES("1", "[]"), "its files are not as large" },
	{ WITH_FILES("3", "[3]"), "an entry of a file" },
	{ WITH_FILES("3", "[{\"name\":\"a\"}]"), "an entry of a file" },
	{ WITH_FILES("3", "[" FILE_OF("", "o", "3", "0", "\"" HEX "\"") "]"), "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("/a", "o", "3", "0", "\"" HEX "\"") "]"), "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("../a", "o", "3", "0", "\"" HEX "\"") "]"), "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("a/../b", "o", "3", "0", "\"" HEX "\"") "]"),
	  "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("a/..", "o", "3", "0", "\"" HEX "\"") "]"), "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("a//b", "o", "3", "0", "\"" HEX "\"") "]"), "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("a/./b", "o", "3", "0", "\"" HEX "\"") "]"),
	  "a file's name" },
	{ WITH_FILES("3", "[" FILE_OF("a\\u0000b", "o", "3", "0", "\"" HEX "\"") "]"),
	  "it is not JSON" },
	{ WITH_FILES("3", "[" FILE_OF("a", "../o", "3", "0", "\"" HEX "\"") "]"), "the name of" },
	{ WITH_FILES("-3", "[" FILE_OF("a", "o", "-3", "0", "") "]"), "a file's size or mode" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "9007199254740992", "0", "") "]"),
	  "a file's size or mode" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "4096", "\"" HEX "\"") "]"),
	  "a file's size or mode" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "0", "") "]"), "the number of digests" },
	{ WITH_FILES("0", "[" FILE_OF("a", "o", "0", "0", "\"" HEX "\"") "]"),
	  "the number of digests" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "0", "\"" HEX "\",\"" HEX "\"") "]"),
	  "the number of digests" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "0", "7") "]"), "a digest is not" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "0", "\"0" HEX "\"") "]"), "a digest is not" },
	{ WITH_FILES("3", "[" FILE_OF("a", "o", "3", "0", "\"xyz\"") "]"), "a digest is not" },
	{ WITH_FILES("6", "[" GOOD_FILE "," GOOD_FILE "]"), "files are not in the order" },
};

static void bad_ones_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = ERROR_INIT;
		struct manifest m;
		int r = decode(bad[i].body, &m, &e);
		if (r != -EBADMSG || strncmp(e.text, bad[i].error, strlen(bad[i].error)) != 0)
			fail_msg("%s\ngave %d \"%s\"\nnot \"%s\"", bad[i].body, r, e.text,
				 bad[i].error);
		assert_null(m.files);
	}
}

static void bad_headers_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} headers[] = {
		{ "\n", "it is cut short" },
		{ "{}\n{}\n", "it is not a manifest" },
		{ "{\"format\":\"tar\",\"version\":1,\"sha256\":\"" HEX "\"}\n{}\n",
		  "it is not a manifest" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":2,\"x\":\"y\"}\n{}\n",
		  "it has version 2" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":1,\"sha256\":\"\"}\n{}\n",
		  "it is not a manifest" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":1,\"sha256\":\"" HEX "\"}\n{}\n",
		  "it differs from its own SHA-256" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":1,\"sha256\":\"" HEX "\"}\n{}",
		  "it is cut short" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		struct error e = ERROR_INIT;
		struct manifest m;
		assert_int_equal(manifest_decode(headers[i].text, strlen(headers[i].text), &m, &e),
				 -EBADMSG);
		assert_memory_equal(e.text, headers[i].error, strlen(headers[i].error));
	}
	struct manifest m;
	assert_int_equal(manifest_decode("", 0, &m, NULL), -EBADMSG);
}

/* The caller's texts may be anything; what JSON cannot hold must not become something else. */
static void texts_that_are_not_utf8_are_refused(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	char name[] = "\xff";
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	struct manifest m = { .meta = { .session = ID, .user = name }, .chunk = 4096 };
	assert_int_equal(manifest_encode(&m, &text, &e), -EINVAL);
	assert_non_null(strstr(e.text, "UTF-8"));
}

static void digests_are_sha256(void **state)
{
	(void)state;
	unsigned char digest[DIGEST_SIZE];
	unsigned char again[DIGEST_SIZE];
	char hex[DIGEST_TEXT_SIZE];
	/* FIPS 180-4 example */
	assert_int_equal(digest_bytes("abc", 3, digest), 0);
	digest_format(digest, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(digest_parse(hex, again), 0);
	assert_memory_equal(digest, again, DIGEST_SIZE);
	hex[3] = 'G';
	assert_int_equal(digest_parse(hex, again), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones_are_read),
		cmocka_unit_test(bad_ones_are_refused),
		cmocka_unit_test(bad_headers_are_refused),
		cmocka_unit_test(texts_that_are_not_utf8_are_refused),
		cmocka_unit_test(digests_are_sha256),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
