/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cloud/object.h"
#include "cloud/retry.h"
#include "cloud/s3_digest.h"
#include "cloud/s3_url.h"
#include "cloud/s3_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The parts of the S3 backend that need no server; tests/e2e/test_object_s3.py has one. */

enum { AGAIN = 1, NEW = 2, REFRESH = 4, ADJUST = 8 };

static void tries_are_judged(void **state)
{
	(void)state;
	static const struct {
		enum retry_transfer transfer;
		int status;
		const char *code;
		int want;
	} cases[] = {
		{ RETRY_NO_CONTACT, 0, "", AGAIN | NEW },
		{ RETRY_LOST, 0, "", AGAIN | NEW },
		{ RETRY_LOST, 200, "", AGAIN | NEW },
		{ RETRY_IMPOSSIBLE, 0, "", NEW },
		{ RETRY_ANSWERED, 500, "InternalError", AGAIN | NEW },
		{ RETRY_ANSWERED, 500, "", AGAIN | NEW },
		{ RETRY_ANSWERED, 502, "", AGAIN | NEW },
		{ RETRY_ANSWERED, 501, "NotImplemented", NEW },
		{ RETRY_ANSWERED, 503, "SlowDown", AGAIN | NEW },
		{ RETRY_ANSWERED, 503, "", AGAIN | NEW },
		{ RETRY_ANSWERED, 429, "", AGAIN | NEW },
		{ RETRY_ANSWERED, 400, "RequestTimeout", AGAIN },
		{ RETRY_ANSWERED, 400, "BadDigest", AGAIN },
		{ RETRY_ANSWERED, 400, "ExpiredToken", AGAIN | REFRESH },
		{ RETRY_ANSWERED, 401, "", AGAIN | REFRESH },
		{ RETRY_ANSWERED, 403, "RequestTimeTooSkewed", AGAIN | ADJUST },
		{ RETRY_ANSWERED, 409, "ConditionalRequestConflict", AGAIN },
		{ RETRY_ANSWERED, 403, "AccessDenied", 0 },
		{ RETRY_ANSWERED, 403, "", 0 },
		{ RETRY_ANSWERED, 404, "NoSuchKey", 0 },
		{ RETRY_ANSWERED, 412, "PreconditionFailed", 0 },
		{ RETRY_ANSWERED, 301, "PermanentRedirect", 0 },
		{ RETRY_ANSWERED, 400, "", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retry_try t = { .count = 1,
				       .transfer = cases[i].transfer,
				       .status = cases[i].status,
				       .code = cases[i].code };
		struct retry_verdict v = retry_decide(&retry_default, &t);
		int got = (v.again ? AGAIN : 0) | (v.new_connection ? NEW : 0) |
			  (v.refresh ? REFRESH : 0) | (v.adjust ? ADJUST : 0);
		if (got != cases[i].want)
			fail_msg("%d %d %s: %d, not %d", cases[i].transfer, cases[i].status,
				 cases[i].code, got, cases[i].want);
	}
}

static void waits_grow_and_spread(void **state)
{
	(void)state;
	static const struct retry_limits limits = { 6, 60000, 100, 1000 };
	static const int most[] = { 100, 200, 400, 800, 1000 };
	struct retry_try t = { .transfer = RETRY_LOST, .code = "" };
	for (t.count = 1; t.count < limits.tries; t.count++) {
		t.random = 0;
		assert_int_equal(retry_decide(&limits, &t).wait_ms, most[t.count - 1] / 2);
		t.random = UINT32_MAX;
		assert_in_range(retry_decide(&limits, &t).wait_ms, most[t.count - 1] - 1,
				most[t.count - 1]);
		assert_true(retry_decide(&limits, &t).again);
	}
	assert_false(retry_decide(&limits, &t).again);
}

static void limits_hold(void **state)
{
	(void)state;
	static const struct retry_limits limits = { 6, 60000, 100, 1000 };
	struct retry_try t = { .count = 1, .transfer = RETRY_LOST, .code = "" };
	t.elapsed_ms = 60000;
	assert_false(retry_decide(&limits, &t).again);
	/* A busy server says how long, and is waited for longer anyway. */
	t = (struct retry_try) { .count = 1, .status = 503, .code = "SlowDown" };
	assert_int_equal(retry_decide(&limits, &t).wait_ms, 200);
	t.retry_after_ms = 7000;
	assert_int_equal(retry_decide(&limits, &t).wait_ms, 7000);
	/* What has been put right once and does not help will not help. */
	t = (struct retry_try) { .count = 2, .status = 400, .code = "ExpiredToken" };
	t.refreshed = true;
	assert_false(retry_decide(&limits, &t).again);
	t = (struct retry_try) { .count = 2, .status = 403, .code = "RequestTimeTooSkewed" };
	t.adjusted = true;
	assert_false(retry_decide(&limits, &t).again);
}

static void patience_grows(void **state)
{
	(void)state;
	static const struct {
		unsigned count;
		size_t body_len;
		int most_ms, connect_ms, silence_ms, unacknowledged_ms;
	} cases[] = {
		{ 1, 0, 30000, 4000, 4000, 10000 },
		{ 2, 0, 30000, 8000, 8000, 20000 },
		{ 3, RETRY_SMALL, 30000, 10000, 16000, 30000 },
		{ 4, 0, 30000, 10000, 30000, 30000 },
		{ 100, 0, 3600000, 10000, 3600000, 3600000 },
		{ 1, RETRY_SMALL + 1, 30000, 4000, 30000, 10000 },
		{ 1, 0, 1000, 1000, 1000, 1000 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retry_patience p =
			retry_patience(cases[i].count, cases[i].body_len, cases[i].most_ms);
		assert_int_equal(p.connect_ms, cases[i].connect_ms);
		assert_int_equal(p.silence_ms, cases[i].silence_ms);
		assert_int_equal(p.unacknowledged_ms, cases[i].unacknowledged_ms);
	}
}

static void urls_name_places(void **state)
{
	(void)state;
	static const struct {
		enum s3_kind kind;
		const char *rest, *prefix, *scheme, *host, *base;
	} cases[] = {
		{ S3_AMAZON, "bucket?region=eu-west-1", "", "https",
		  "bucket.s3.eu-west-1.amazonaws.com", "" },
		{ S3_AMAZON, "bucket/a/b/?region=cn-north-1", "a/b/", "https",
		  "bucket.s3.cn-north-1.amazonaws.com.cn", "" },
		{ S3_AMAZON, "my.bucket/?region=r", "", "https", "s3.r.amazonaws.com",
		  "/my.bucket" },
		{ S3_AMAZON, "bucket/x?endpoint=http://127.0.0.1:9000&region=r", "x/", "http",
		  "127.0.0.1:9000", "/bucket" },
		{ S3_AMAZON, "bucket?endpoint=https%3A%2F%2Fhost%2Fs3/&region=r", "", "https",
		  "host", "/s3/bucket" },
		{ S3_AMAZON, "bucket?endpoint=https://host:9000&path_style=0&region=r", "", "https",
		  "bucket.host:9000", "" },
		{ S3_GOOGLE, "bucket/x?region=auto", "x/", "https", "storage.googleapis.com",
		  "/bucket" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		cleanup(s3_url_deinit) struct s3_url u = { 0 };
		cleanup(s3_place_deinit) struct s3_place p = { 0 };
		if (s3_url_parse(cases[i].kind, cases[i].rest, &u, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(s3_url_place(&u, &p, &e), 0);
		assert_string_equal(u.prefix, cases[i].prefix);
		assert_string_equal(p.scheme, cases[i].scheme);
		assert_string_equal(p.host, cases[i].host);
		assert_string_equal(p.base, cases[i].base);
	}
}

static void options_are_read(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup(s3_url_deinit) struct s3_url u = { 0 };
	assert_int_equal(s3_url_parse(S3_AMAZON,
				      "abc?ca=/etc/ca%20x.pem&profile=p&timeout=7&tries=3&"
				      "metadata=http://m",
				      &u, &e),
			 0);
	assert_string_equal(u.ca, "/etc/ca x.pem");
	assert_string_equal(u.profile, "p");
	assert_string_equal(u.metadata, "http://m");
	assert_int_equal(u.timeout_ms, 7000);
	assert_int_equal(u.tries, 3);
}

static void wrong_urls_are_refused(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"",
		"/x",
		"ab",
		"Bucket",
		"a b",
		"-abc",
		"abc/../x",
		"abc//x",
		"abc?x=1",
		"abc?region",
		"abc?region=",
		"abc?path_style=2",
		"abc?ca=x",
		"abc?endpoint=host",
		"abc?ca=/%0",
		"abc?ca=/%00",
		"abc?timeout=0",
		"abc?tries=0",
		"abc?part=5",
		"abc?timeout=1s",
		"abc?endpoint=http://",
		"abc?endpoint=https://user@host",
		"abc/a%20b",
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		struct s3_url u;
		if (s3_url_parse(S3_AMAZON, cases[i], &u, &e) != -EINVAL)
			fail_msg("%s is taken", cases[i]);
		assert_int_equal(e.fault, FAULT_BAD_INPUT);
		assert_non_null(strstr(e.remedy, "BUCKET"));
	}
}

/* The check values of both polynomials for "123456789" (RFC 3720 B.4 has more of CRC-32C). */
static void crcs_are_the_servers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint32_t crc32, crc32c;
	} cases[] = {
		{ "", 0, 0 },
		{ "a", 0xe8b7be43, 0xc1d04330 },
		{ "123456789", 0xcbf43926, 0xe3069283 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(s3_crc32(cases[i].text, strlen(cases[i].text)), cases[i].crc32);
		assert_int_equal(s3_crc32c(cases[i].text, strlen(cases[i].text)), cases[i].crc32c);
	}
	static const unsigned char zeros[32];
	assert_int_equal(s3_crc32c(zeros, sizeof(zeros)), 0x8a9136aa);
}

/* Small bodies are hashed, larger ones not, and each cloud gets the digest it checks. */
static void bodies_have_digests(void **state)
{
	(void)state;
	enum { LARGE = S3_HASHED_MOST + 1 };
	static char zeros[LARGE];
	static const struct {
		size_t len;
		bool google, crc;
		const char *payload, *name, *value;
	} cases[] = {
		{ 0, false, false, SIGV4_EMPTY_HASH, "x-amz-checksum-sha256",
		  "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" },
		{ 0, true, false, SIGV4_EMPTY_HASH, "content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==" },
		{ S3_HASHED_MOST, false, false,
		  "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58",
		  "x-amz-checksum-sha256", "MOFJVevxNSJm3C/4Bn5oEEYH51CrudOzZYK4r5Cfy1g=" },
		{ LARGE, false, true, SIGV4_UNSIGNED, "x-amz-checksum-crc32", "xqSLKA==" },
		{ LARGE, true, true, SIGV4_UNSIGNED, "x-goog-hash", "crc32c=owzNRQ==" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_digest d;
		assert_int_equal(s3_digest_make(zeros, cases[i].len, cases[i].google, &d), 0);
		assert_string_equal(d.payload, cases[i].payload);
		assert_string_equal(d.name, cases[i].name);
		assert_string_equal(d.value, cases[i].value);
		assert_int_equal(d.crc, cases[i].crc);
	}
}

struct seen {
	char keys[200];
	uint64_t bytes;
	wall_ms newest;
	int stop_after;
};

static int note(const struct s3_entry *entry, void *arg)
{
	struct seen *s = arg;
	size_t len = strlen(s->keys);
	snprintf(s->keys + len, sizeof(s->keys) - len, "%s,", entry->key);
	s->bytes += entry->size;
	s->newest = entry->modified_at;
	return s->stop_after && --s->stop_after == 0 ? 7 : 0;
}

static const char listing[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
	"<Prefix>p/</Prefix><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>"
	"<Contents><Key>p/a</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
	"<ETag>&quot;x&quot;</ETag><Size>434234</Size><Owner><ID>i</ID></Owner></Contents>"
	"<Contents><Key>p/b&amp;c</Key><LastModified>2009-10-12T17:50:31.000Z</LastModified>"
	"<Size>1</Size></Contents>"
	"<CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes>"
	"<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</"
	"NextContinuationToken>"
	"</ListBucketResult>";

/* However the network cuts it up. */
static void listings_are_read_in_pieces(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < sizeof(listing); piece += 13) {
		struct seen seen = { 0 };
		struct s3_xml *x = s3_xml_new(note, &seen);
		for (size_t at = 0; at < sizeof(listing) - 1; at += piece) {
			size_t left = sizeof(listing) - 1 - at;
			assert_int_equal(s3_xml_feed(x, listing + at, left < piece ? left : piece),
					 0);
		}
		assert_int_equal(s3_xml_end(x), 0);
		assert_string_equal(seen.keys, "p/a,p/b&c,");
		assert_int_equal(seen.bytes, 434235);
		assert_int_equal(seen.newest, 1255369831000);
		assert_true(s3_xml_answer(x)->truncated);
		assert_string_equal(s3_xml_answer(x)->token,
				    "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
		s3_xml_free(x);
	}
}

static void a_listing_can_be_stopped(void **state)
{
	(void)state;
	struct seen seen = { .stop_after = 1 };
	struct s3_xml *x = s3_xml_new(note, &seen);
	assert_int_equal(s3_xml_feed(x, listing, sizeof(listing) - 1), 7);
	assert_string_equal(seen.keys, "p/a,");
	assert_int_equal(s3_xml_end(x), 7);
	s3_xml_free(x);
}

static void errors_are_read(void **state)
{
	(void)state;
	static const char text[] =
		"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>gone</Message>"
		"<Region>eu-west-1</Region><BucketName>b</BucketName></Error>";
	struct s3_answer a;
	assert_int_equal(s3_xml_read(text, strlen(text), &a), 0);
	assert_string_equal(a.root, "Error");
	assert_string_equal(a.code, "NoSuchBucket");
	assert_string_equal(a.message, "gone");
	assert_string_equal(a.region, "eu-west-1");
}

static void wrong_xml_is_refused(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"",
		"hello",
		"<a>",
		"<a></b>",
		"<html><body>captive portal</a>",
		"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
		"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></"
		"ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>99999999999999999999</Size></"
		"Contents>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified>x</"
		"LastModified>"
		"</Contents></ListBucketResult>",
		"<a><b><c><d><e><f><g><h><i><j><k><l><m><n><o><p><q></q></p></o></n></m></l></k></"
		"j></i>"
		"</h></g></f></e></d></c></b></a>",
	};
	struct s3_answer a;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (s3_xml_read(cases[i], strlen(cases[i]), &a) != -EBADMSG)
			fail_msg("%s is taken", cases[i]);
	char *long_text = malloc(20000);
	memset(long_text, 'x', 20000);
	memcpy(long_text, "<a><NextContinuationToken>", 26);
	memcpy(long_text + 20000 - 30, "</NextContinuationToken></a> ", 30);
	assert_int_equal(s3_xml_read(long_text, 19999, &a), -EBADMSG);
	free(long_text);
}

static void schemes_are_opened(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct object_store *s;
	assert_int_equal(object_store_open("s3://bucket/x?region=r", &s, &e), 0);
	assert_string_equal(s->backend->name, "s3");
	assert_false(object_is_local(s));
	object_store_free(s);
	assert_int_equal(object_store_open("gs://bucket", &s, &e), 0);
	assert_string_equal(s->backend->name, "gs");
	object_store_free(s);
	assert_int_equal(object_store_open("s3://", &s, &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tries_are_judged),
		cmocka_unit_test(waits_grow_and_spread),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(patience_grows),
		cmocka_unit_test(urls_name_places),
		cmocka_unit_test(options_are_read),
		cmocka_unit_test(wrong_urls_are_refused),
		cmocka_unit_test(crcs_are_the_servers),
		cmocka_unit_test(bodies_have_digests),
		cmocka_unit_test(listings_are_read_in_pieces),
		cmocka_unit_test(a_listing_can_be_stopped),
		cmocka_unit_test(errors_are_read),
		cmocka_unit_test(wrong_xml_is_refused),
		cmocka_unit_test(schemes_are_opened),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
