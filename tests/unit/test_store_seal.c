/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/seal.h"

#include <errno.h>
#include <string.h>

DEFINE_CLEANUP(struct sealer *, sealer_free)

static const struct seal_key one = { "the first key, of 32 bytes......" };
static const struct seal_key two = { "the other key, of 32 bytes......" };

static struct sealer *sealer_of(const struct seal_key *key)
{
	struct sealer *s;
	struct error e = ERROR_INIT;
	if (sealer_new(key, &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static const size_t lengths[] = { 0, 1, 15, 16, 17, 4096, 65536 + 9 };

static void frames_come_back(void **state)
{
	(void)state;
	cleanup(sealer_freep) struct sealer *s = sealer_of(&one);
	cleanup_free char *data = calloc(1, 70000), *sealed = calloc(1, 70000);
	assert_int_equal(seal_random(data, 70000, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t len = lengths[i];
		cleanup_free char *back = malloc(len + 1);
		assert_int_equal(seal_frame(s, 7, i << 33, data, len, sealed, NULL), 0);
		if (len >= 16)
			assert_memory_not_equal(data, sealed, len);
		assert_int_equal(open_frame(s, 7, i << 33, sealed, len + SEAL_TAG, back, NULL), 0);
		assert_memory_equal(data, back, len);
		/* ... in place as well. */
		assert_int_equal(open_frame(s, 7, i << 33, sealed, len + SEAL_TAG, sealed, NULL),
				 0);
		assert_memory_equal(data, sealed, len);
	}
}

/* The format: AES-256-GCM, nonce of pack and offset big-endian, the tag behind. From another
 * implementation (Python's cryptography). */
static void frames_are_what_the_format_says(void **state)
{
	(void)state;
	static const unsigned char expected[] = {
		0xa3, 0x81, 0x64, 0xc2, 0xee, 0x03, 0x5a, 0x99, 0x3a, 0xb1, 0x3d,
		0xb6, 0x8d, 0x0d, 0x2f, 0x0d, 0x61, 0x18, 0xce, 0x17, 0x05,
	};
	unsigned char sealed[sizeof(expected)];
	cleanup(sealer_freep) struct sealer *s = sealer_of(&one);
	assert_int_equal(sizeof(expected), 5 + SEAL_TAG);
	assert_int_equal(seal_frame(s, 0x01020304, 0x1122334455667788, "hello", 5, sealed, NULL),
			 0);
	assert_memory_equal(sealed, expected, sizeof(expected));
}

static void refused(struct sealer *s, uint32_t pack, uint64_t offset, const void *data, size_t len)
{
	unsigned char to[64];
	static const unsigned char zeros[64];
	struct error e = ERROR_INIT;
	memset(to, 'x', sizeof(to));
	assert_int_equal(open_frame(s, pack, offset, data, len, to, &e), -EBADMSG);
	assert_int_equal(e.fault, FAULT_CORRUPT);
	assert_true(e.text[0]);
	if (len > SEAL_TAG) /* nothing unproven is left there */
		assert_memory_equal(to, zeros, len - SEAL_TAG);
}

static void frames_stay_where_they_are(void **state)
{
	(void)state;
	cleanup(sealer_freep) struct sealer *s = sealer_of(&one), *other = sealer_of(&two);
	unsigned char sealed[32 + SEAL_TAG], back[32];
	assert_int_equal(seal_frame(s, 1, 4096, two.bytes, 32, sealed, NULL), 0);
	refused(s, 2, 4096, sealed, sizeof(sealed));
	refused(s, 1, 4097, sealed, sizeof(sealed));
	refused(s, 1, 4096 + (UINT64_C(1) << 32), sealed, sizeof(sealed));
	refused(other, 1, 4096, sealed, sizeof(sealed));
	refused(s, 1, 4096, sealed, sizeof(sealed) - 1);
	for (size_t len = 0; len <= SEAL_TAG; len++)
		refused(s, 1, 4096, sealed, len);
	for (size_t i = 0; i < sizeof(sealed) * 8; i++) {
		sealed[i / 8] ^= (unsigned char)(1 << i % 8);
		refused(s, 1, 4096, sealed, sizeof(sealed));
		sealed[i / 8] ^= (unsigned char)(1 << i % 8);
	}
	/* After all those failures the context still works. */
	assert_int_equal(open_frame(s, 1, 4096, sealed, sizeof(sealed), back, NULL), 0);
	assert_memory_equal(back, two.bytes, 32);
}

static void digests_are_of_content_and_key(void **state)
{
	(void)state;
	cleanup(sealer_freep) struct sealer *s = sealer_of(&one), *same = sealer_of(&one),
					    *other = sealer_of(&two);
	unsigned char page[4096] = { 0 }, a[SEAL_DIGEST], b[SEAL_DIGEST], sealed[16 + SEAL_TAG];
	assert_int_equal(seal_digest(s, page, sizeof(page), a), 0);
	/* Sealing in between changes nothing, nor does another context. */
	assert_int_equal(seal_frame(s, 0, 0, page, 16, sealed, NULL), 0);
	assert_int_equal(seal_digest(same, page, sizeof(page), b), 0);
	assert_memory_equal(a, b, SEAL_DIGEST);
	assert_int_equal(seal_digest(other, page, sizeof(page), b), 0);
	assert_memory_not_equal(a, b, SEAL_DIGEST);
	assert_int_equal(seal_digest(s, page, sizeof(page) - 1, b), 0);
	assert_memory_not_equal(a, b, SEAL_DIGEST);
	for (size_t i = 0; i < sizeof(page) * 8; i += 97) {
		page[i / 8] ^= (unsigned char)(1 << i % 8);
		assert_int_equal(seal_digest(s, page, sizeof(page), b), 0);
		assert_memory_not_equal(a, b, SEAL_DIGEST);
		page[i / 8] ^= (unsigned char)(1 << i % 8);
	}
}

static void wrapped_keys_open_with_master_and_label(void **state)
{
	(void)state;
	unsigned char wrapped[SEAL_WRAPPED], again[SEAL_WRAPPED];
	struct seal_key key;
	struct error e = ERROR_INIT;
	assert_int_equal(seal_wrap(&one, "s1", &two, wrapped, NULL), 0);
	assert_int_equal(seal_wrap(&one, "s1", &two, again, NULL), 0);
	assert_memory_not_equal(wrapped, again, SEAL_WRAPPED); /* nonces are random */
	assert_int_equal(seal_unwrap(&one, "s1", wrapped, &key, NULL), 0);
	assert_memory_equal(key.bytes, two.bytes, SEAL_KEY);
	assert_int_equal(seal_unwrap(&one, "s2", wrapped, &key, &e), -EKEYREJECTED);
	assert_non_null(strstr(e.text, "s2"));
	assert_int_equal(seal_unwrap(&two, "s1", wrapped, &key, NULL), -EKEYREJECTED);
	for (size_t i = 0; i < SEAL_WRAPPED; i++) {
		wrapped[i] ^= 1;
		assert_int_equal(seal_unwrap(&one, "s1", wrapped, &key, NULL), -EKEYREJECTED);
		assert_memory_not_equal(key.bytes, two.bytes, SEAL_KEY);
		wrapped[i] ^= 1;
	}
}

/* RFC 5869 and SHA-256 from another implementation. */
static void derived_keys_and_names_stay_the_same(void **state)
{
	(void)state;
	static const unsigned char expected[] = {
		0xac, 0x3e, 0xa6, 0x31, 0xf7, 0x1c, 0xde, 0x32, 0x67, 0xba, 0xfa,
		0x22, 0xa4, 0xbc, 0xb5, 0x85, 0x98, 0xa5, 0x77, 0x9e, 0xc6, 0x97,
		0xcf, 0xc6, 0x96, 0x8f, 0x1e, 0x04, 0x59, 0x39, 0x00, 0xd9,
	};
	static const unsigned char mac[] = {
		0x93, 0x7f, 0x0d, 0xe4, 0x52, 0x96, 0x18, 0x12, 0x00, 0x2d, 0xc2,
		0xea, 0x27, 0xbf, 0x9c, 0xd7, 0x2c, 0xf0, 0x66, 0x70, 0x87, 0x85,
		0x00, 0x18, 0xa3, 0x6b, 0x7b, 0x79, 0x80, 0x97, 0x67, 0xf2,
	};
	unsigned char found[32];
	char name[SEAL_NAME];
	struct seal_key key, other;
	assert_int_equal(seal_derive(&one, "purpose", &key, NULL), 0);
	assert_memory_equal(key.bytes, expected, SEAL_KEY);
	assert_int_equal(seal_derive(&one, "purpose ", &other, NULL), 0);
	assert_memory_not_equal(key.bytes, other.bytes, SEAL_KEY);
	seal_key_name(&one, name);
	assert_string_equal(name, "07a744cfcdcac558");
	assert_int_equal(seal_mac(&one, "hello", 5, found, NULL), 0);
	assert_memory_equal(found, mac, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_back),
		cmocka_unit_test(frames_are_what_the_format_says),
		cmocka_unit_test(frames_stay_where_they_are),
		cmocka_unit_test(digests_are_of_content_and_key),
		cmocka_unit_test(wrapped_keys_open_with_master_and_label),
		cmocka_unit_test(derived_keys_and_names_stay_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
