/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ID              "0123456789abcdef"
#define WRITER          "fedcba9876543210"
#define HEX             "0000000000000000000000000000000000000000000000000000000000000000"
#define HEADER(version) "{\"format\":\"elsa-checkpoint\",\"version\":" version ",\"hmac\":\"%s\"}\n"

#define NUMBERS(generation, basis)                                                                 \
	"\"generation\":" generation ",\"created_at\":1,\"memory_bytes\":2,\"basis\":" basis       \
	",\"stored_bytes\":3,\"shared_bytes\":4,\"objects\":1"
#define TEXTS "\"user\":\"u\",\"server\":\"\",\"cpu\":null,\"criu\":null,\"kernel\":null"
#define BODY(session, numbers, texts, packs, index)                                                \
	"{\"session\":\"" session "\",\"writer\":\"" WRITER "\"," numbers "," texts                \
	",\"packs\":" packs ",\"index\":" index "}"
#define PACKS               "[[7,\"" WRITER "\",0,1000],[5,\"" ID "\",3,2000]]"
#define PIECES              "[[0,900,100,500]]"
#define WITH_PACKS(packs)   BODY(ID, NUMBERS("7", "5"), TEXTS, packs, PIECES)
#define WITH_PIECES(pieces) BODY(ID, NUMBERS("7", "5"), TEXTS, PACKS, pieces)
#define WITH_TEXTS(texts)   BODY(ID, NUMBERS("7", "5"), texts, PACKS, PIECES)
#define WITH_NUMBERS(n)     BODY(ID, n, TEXTS, PACKS, PIECES)
#define GOOD                WITH_PIECES(PIECES)

static const struct seal_key key = { "a session's manifest key" };
static const struct seal_key other_key = { "another session's" };

static int decode(const char *body, struct manifest *m, struct error *e)
{
	unsigned char mac[32];
	char hex[65];
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	assert_int_equal(seal_mac(&key, body, strlen(body), mac, NULL), 0);
	for (size_t i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", mac[i]);
	assert_int_equal(buf_printf(&text, HEADER("2") "%s\n", hex, body), 0);
	return manifest_decode(text.data, text.len, &key, m, e);
}

static void good_ones_are_read(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct manifest m;
	if (decode(GOOD, &m, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(m.meta.session, ID);
	assert_string_equal(m.writer, WRITER);
	assert_int_equal(m.meta.generation, 7);
	assert_int_equal(m.meta.basis, 5);
	assert_int_equal(m.meta.shared_bytes, 4);
	assert_string_equal(m.meta.user, "u");
	assert_string_equal(m.meta.server, "");
	assert_null(m.meta.cpu);
	assert_null(m.meta.spec);
	assert_int_equal(m.pack_count, 2);
	assert_int_equal(m.packs[1].generation, 5);
	assert_string_equal(m.packs[1].writer, ID);
	assert_int_equal(m.packs[1].number, 3);
	assert_int_equal(m.packs[1].size, 2000);
	assert_int_equal(m.index_count, 1);
	assert_int_equal(m.index[0].offset, 900);
	assert_int_equal(m.index[0].len, 500);
	manifest_deinit(&m);
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
	{ GOOD " 1", "it is not JSON" },
	{ WITH_TEXTS(TEXTS ",\"spec\":null"), "something is missing or not known" },
	{ WITH_TEXTS("\"user\":\"u\""), "something is missing or not known" },
	{ WITH_TEXTS("\"user\":\"u\",\"server\":\"\",\"cpu\":null,\"criu\":null,\"core\":null"),
	  "a text is missing" },
	{ WITH_TEXTS("\"user\":1,\"server\":\"\",\"cpu\":null,\"criu\":null,\"kernel\":null"),
	  "a text is missing" },
	{ WITH_TEXTS("\"user\":\"a\\u0000b\",\"server\":\"\",\"cpu\":null,\"criu\":null,"
		     "\"kernel\":null"),
	  "it is not JSON" },
	{ BODY("x", NUMBERS("7", "5"), TEXTS, PACKS, PIECES), "an id is missing" },
	{ BODY("../../../../etc/", NUMBERS("7", "5"), TEXTS, PACKS, PIECES), "an id is missing" },
	{ WITH_NUMBERS(NUMBERS("-1", "0")), "a number is missing" },
	{ WITH_NUMBERS(NUMBERS("7.5", "0")), "a number is missing" },
	{ WITH_NUMBERS(NUMBERS("\"7\"", "0")), "a number is missing" },
	{ WITH_NUMBERS(NUMBERS("9007199254740992", "0")), "a number is missing" },
	{ WITH_NUMBERS(NUMBERS("99999999999999999999", "0")), "it is not JSON" },
	{ WITH_NUMBERS(NUMBERS("7", "7")), "its basis is not an older" },
	{ WITH_NUMBERS(NUMBERS("7", "8")), "its basis is not an older" },
	{ WITH_PACKS("null"), "the list of packs" },
	{ WITH_PACKS("{}"), "the list of packs" },
	{ WITH_PACKS("[]"), "a piece of the index is in a pack that is not listed" },
	{ WITH_PACKS("[3]"), "an entry of a pack" },
	{ WITH_PACKS("[[7,\"" ID "\",0]]"), "an entry of a pack" },
	{ WITH_PACKS("[[7,\"" ID "\",0,1,1]]"), "an entry of a pack" },
	{ WITH_PACKS("[[8,\"" ID "\",0,1000]]"), "a pack is of a generation" },
	{ WITH_PACKS("[[-1,\"" ID "\",0,1000]]"), "a pack is of a generation" },
	{ WITH_PACKS("[[7,\"../\",0,1000]]"), "an id is missing" },
	{ WITH_PACKS("[[7,7,0,1000]]"), "an id is missing" },
	{ WITH_PACKS("[[7,\"" ID "\",-1,1000]]"), "a pack's number or size" },
	{ WITH_PACKS("[[7,\"" ID "\",4294967296,1000]]"), "a pack's number or size" },
	{ WITH_PACKS("[[7,\"" ID "\",0,0]]"), "a pack's number or size" },
	{ WITH_PACKS("[[7,\"" ID "\",0,-5]]"), "a pack's number or size" },
	{ WITH_PACKS("[[7,\"" ID "\",0,4294967296]]"), "a pack's number or size" },
	{ WITH_PIECES("[]"), "the list of the index's pieces" },
	{ WITH_PIECES("7"), "the list of the index's pieces" },
	{ WITH_PIECES("[[0,900,100]]"), "a piece of the index lacks" },
	{ WITH_PIECES("[[0,900,100,5,5]]"), "a piece of the index lacks" },
	{ WITH_PIECES("[[2,900,100,5]]"), "a piece of the index is in a pack" },
	{ WITH_PIECES("[[-1,900,100,5]]"), "a piece of the index is in a pack" },
	{ WITH_PIECES("[[0,901,100,5]]"), "a piece of the index is not inside" },
	{ WITH_PIECES("[[0,-1,100,5]]"), "a piece of the index is not inside" },
	{ WITH_PIECES("[[0,900,16,5]]"), "a piece of the index is not inside" },
	{ WITH_PIECES("[[0,9223372036854775807,9223372036854775807,5]]"),
	  "a piece of the index is not inside" },
	{ WITH_PIECES("[[0,900,100,0]]"), "a piece of the index is too large" },
	{ WITH_PIECES("[[0,900,100,16777217]]"), "a piece of the index is too large" },
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
		assert_null(m.packs);
		assert_null(m.index);
	}
}

static void bad_headers_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} headers[] = {
		{ "", "it is empty" },
		{ "\n", "it is cut short" },
		{ "{}\n{}\n", "it is not a manifest" },
		{ "{\"format\":\"tar\",\"version\":2,\"hmac\":\"" HEX "\"}\n{}\n",
		  "it is not a manifest" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":1,\"sha256\":\"y\"}\n{}\n",
		  "it has version 1, and this program knows only 2" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":3,\"x\":\"y\"}\n{}\n",
		  "it has version 3, and this program knows only 2" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":2,\"hmac\":\"\"}\n{}\n",
		  "it is not a manifest" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":2,\"hmac\":\"" HEX
		  "\",\"more\":1}\n{}\n",
		  "it is not a manifest" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":2,\"hmac\":\"" HEX "\"}\n{}\n",
		  "it was changed, or belongs to another session's key" },
		{ "{\"format\":\"elsa-checkpoint\",\"version\":2,\"hmac\":\"" HEX "\"}\n{}",
		  "it is cut short" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		struct error e = ERROR_INIT;
		struct manifest m;
		int r = manifest_decode(headers[i].text, strlen(headers[i].text), &key, &m, &e);
		if (r != -EBADMSG || strcmp(e.text, headers[i].error) != 0)
			fail_msg("%s\ngave %d \"%s\"", headers[i].text, r, e.text);
	}
}

static struct manifest_pack some_packs[] = {
	{ .generation = 3, .writer = WRITER, .number = UINT32_MAX, .size = UINT32_MAX },
	{ .generation = 9, .writer = ID, .number = 0, .size = 77 },
};
static struct manifest_piece some_pieces[] = {
	{ .pack = 1, .offset = 0, .stored = 30, .len = 1 },
	{ .pack = 0, .offset = 4000000000, .stored = 50000, .len = 1 << 20 },
};
static const struct manifest sample = {
	.meta = { .session = ID,
		  .generation = 9,
		  .created_at = 1,
		  .memory_bytes = INT64_C(1) << 40,
		  .basis = 3,
		  .stored_bytes = 5,
		  .shared_bytes = 6,
		  .objects = 7,
		  .user = "Zo\u00eb \"quoted\" \\ \n\x01",
		  .server = "",
		  .kernel = "6.12",
		  .spec = "{\"secret\":1}" },
	.writer = ID,
	.packs = some_packs,
	.pack_count = ARRAY_SIZE(some_packs),
	.index = some_pieces,
	.index_count = ARRAY_SIZE(some_pieces),
};

static void they_come_back(void **state)
{
	(void)state;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	struct error e = ERROR_INIT;
	struct manifest m;
	assert_int_equal(manifest_encode(&sample, &key, &text, &e), 0);
	assert_null(strstr(buf_text(&text), "secret"));
	if (manifest_decode(text.data, text.len, &key, &m, &e) < 0)
		fail_msg("%s: %s", e.text, buf_text(&text));
	assert_string_equal(m.meta.user, sample.meta.user);
	assert_string_equal(m.meta.server, "");
	assert_null(m.meta.criu);
	assert_null(m.meta.spec);
	assert_int_equal(m.meta.memory_bytes, sample.meta.memory_bytes);
	assert_int_equal(m.meta.objects, 7);
	assert_int_equal(m.pack_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_memory_equal(&m.packs[i].writer, some_packs[i].writer, 17);
		assert_int_equal(m.packs[i].generation, some_packs[i].generation);
		assert_int_equal(m.packs[i].number, some_packs[i].number);
		assert_int_equal(m.packs[i].size, some_packs[i].size);
	}
	assert_int_equal(m.index_count, 2);
	assert_memory_equal(m.index, some_pieces, sizeof(some_pieces));
	manifest_deinit(&m);
}

/* Whoever has no key can list; whoever has another session's is told. */
static void the_key_proves_it(void **state)
{
	(void)state;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	struct error e = ERROR_INIT;
	struct manifest m;
	assert_int_equal(manifest_encode(&sample, &key, &text, NULL), 0);
	assert_int_equal(manifest_decode(text.data, text.len, NULL, &m, NULL), 0);
	manifest_deinit(&m);
	assert_int_equal(manifest_decode(text.data, text.len, &other_key, &m, &e), -EBADMSG);
	assert_string_equal(e.text, "it was changed, or belongs to another session's key");
}

static void no_bit_of_it_can_be_changed(void **state)
{
	(void)state;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	struct manifest m;
	assert_int_equal(manifest_encode(&sample, &key, &text, NULL), 0);
	for (size_t i = 0; i < text.len * 8; i++) {
		text.data[i / 8] = (char)(text.data[i / 8] ^ 1 << i % 8);
		if (manifest_decode(text.data, text.len, &key, &m, NULL) != -EBADMSG)
			fail_msg("bit %zu does not matter", i);
		text.data[i / 8] = (char)(text.data[i / 8] ^ 1 << i % 8);
	}
	for (size_t len = 0; len < text.len; len++)
		assert_int_equal(manifest_decode(text.data, len, &key, &m, NULL), -EBADMSG);
}

static void what_cannot_be_written_is_refused(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct manifest m = sample;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES), small = BUF_INIT(300);
	m.meta.user = "\xff";
	assert_int_equal(manifest_encode(&m, &key, &text, &e), -EINVAL);
	assert_int_equal(manifest_encode(&sample, &key, &small, &e), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones_are_read),
		cmocka_unit_test(bad_ones_are_refused),
		cmocka_unit_test(bad_headers_are_refused),
		cmocka_unit_test(they_come_back),
		cmocka_unit_test(the_key_proves_it),
		cmocka_unit_test(no_bit_of_it_can_be_changed),
		cmocka_unit_test(what_cannot_be_written_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
