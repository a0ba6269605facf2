/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cloud/sigv4.h"

#include <errno.h>
#include <string.h>

#define EMPTY SIGV4_EMPTY_HASH
/* The session token of the suite's post-sts-header-before. */
#define TOKEN                                                                                      \
	"AQoDYXdzEPT//////////"                                                                    \
	"wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxf"                     \
	"pSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/"                                                 \
	"kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPk"                                        \
	"yQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+"                                  \
	"xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBA"                                                       \
	"z+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

struct vector {
	const char *name, *method, *path;
	struct sigv4_pair query[10], headers[10];
	const char *payload_hash, *signed_headers, *signature;
};

/* clang-format off */
/* AWS Signature Version 4 Test Suite (Amazon, Apache-2.0): all cases but those that normalize paths,
 * which S3 does not. The .req files say "charset=utf-8" where "charset=utf8" was signed. */
static const struct vector suite[] = {
	{ "get-header-key-duplicate", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", "value2" },
	    { "My-Header1", "value2" }, { "My-Header1", "value1" },
	    { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;x-amz-date",
	  "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea" },
	{ "get-header-value-multiline", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", "value1" },
	    { "My-Header1", "value2" }, { "My-Header1", "value3" },
	    { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;x-amz-date",
	  "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790" },
	{ "get-header-value-order", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", "value4" },
	    { "My-Header1", "value1" }, { "My-Header1", "value3" }, { "My-Header1", "value2" },
	    { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;x-amz-date",
	  "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01" },
	{ "get-header-value-trim", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", " value1" },
	    { "My-Header2", " \"a   b   c\"" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;my-header2;x-amz-date",
	  "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
	{ "get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
	{ "get-utf8", "GET", "/\341\210\264",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
	{ "get-vanilla-empty-query-key", "GET", "/",
	  { { "Param1", "value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb" },
	{ "get-vanilla-query-order-key-case", "GET", "/",
	  { { "Param2", "value2" }, { "Param1", "value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
	{ "get-vanilla-query-order-key", "GET", "/",
	  { { "Param1", "value2" }, { "Param1", "Value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1" },
	{ "get-vanilla-query-order-value", "GET", "/",
	  { { "Param1", "value2" }, { "Param1", "value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694" },
	{ "get-vanilla-query-unreserved", "GET", "/",
	  { { "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197" },
	{ "get-vanilla-query", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
	{ "get-vanilla-utf8-query", "GET", "/",
	  { { "\341\210\264", "bar" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
	{ "get-vanilla", "GET", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
	{ "get-space", "GET", "/example space/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741" },
	{ "post-header-key-case", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
	{ "post-header-key-sort", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", "value1" },
	    { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;x-amz-date",
	  "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c" },
	{ "post-header-value-case", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "My-Header1", "VALUE1" },
	    { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;my-header1;x-amz-date",
	  "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d" },
	{ "post-sts-header-after", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
	{ "post-sts-header-before", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" },
	    { "X-Amz-Security-Token", TOKEN } },
	  EMPTY, "host;x-amz-date;x-amz-security-token",
	  "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead" },
	{ "post-vanilla-empty-query-value", "POST", "/",
	  { { "Param1", "value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11" },
	{ "post-vanilla-query", "POST", "/",
	  { { "Param1", "value1" } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11" },
	{ "post-vanilla", "POST", "/",
	  { { 0 } },
	  { { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  EMPTY, "host;x-amz-date",
	  "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
	{ "post-x-www-form-urlencoded-parameters", "POST", "/",
	  { { 0 } },
	  { { "Content-Type", "application/x-www-form-urlencoded; charset=utf8" },
	    { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
	  "content-type;host;x-amz-date",
	  "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe" },
	{ "post-x-www-form-urlencoded", "POST", "/",
	  { { 0 } },
	  { { "Content-Type", "application/x-www-form-urlencoded" },
	    { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" } },
	  "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
	  "content-type;host;x-amz-date",
	  "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a" },
};

#define S3_HOST { "Host", "examplebucket.s3.amazonaws.com" }
#define S3_DATE { "x-amz-date", "20130524T000000Z" }
#define S3_HASH { "x-amz-content-sha256", EMPTY }
#define WELCOME "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"

/* The examples of "Signature Calculations for the Authorization Header: Transferring Payload in a
 * Single Chunk" in the Amazon S3 API reference. */
static const struct vector s3_examples[] = {
	{ "GET object, range", "GET", "/test.txt", { { 0 } },
	  { S3_HOST, { "Range", "bytes=0-9" }, S3_HASH, S3_DATE }, EMPTY,
	  "host;range;x-amz-content-sha256;x-amz-date",
	  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
	{ "PUT object", "PUT", "/test$file.text", { { 0 } },
	  { { "Date", "Fri, 24 May 2013 00:00:00 GMT" }, S3_HOST, S3_DATE,
	    { "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-content-sha256", WELCOME } },
	  WELCOME, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
	{ "GET bucket lifecycle", "GET", "/", { { "lifecycle", "" } },
	  { S3_HOST, S3_DATE, S3_HASH }, EMPTY, "host;x-amz-content-sha256;x-amz-date",
	  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
	{ "GET bucket", "GET", "/", { { "prefix", "J" }, { "max-keys", "2" } },
	  { S3_HOST, S3_DATE, S3_HASH }, EMPTY, "host;x-amz-content-sha256;x-amz-date",
	  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
};
/* clang-format on */

static size_t count(const struct sigv4_pair *pairs)
{
	size_t n = 0;
	while (n < 10 && pairs[n].name)
		n++;
	return n;
}

static void check(const struct vector *v, const struct sigv4_key *key, const char *timestamp)
{
	struct sigv4_request request = { v->method,       v->path,    v->query,
					 count(v->query), v->headers, count(v->headers),
					 v->payload_hash };
	cleanup_buf struct buf got = BUF_INIT(4096);
	cleanup_buf struct buf want = BUF_INIT(4096);
	assert_int_equal(sigv4_authorization(&got, &request, key, timestamp), 0);
	buf_printf(&want,
		   "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, "
		   "SignedHeaders=%s, Signature=%s",
		   key->access_key, timestamp, key->region, key->service, v->signed_headers,
		   v->signature);
	if (strcmp(got.data, want.data) != 0)
		fail_msg("%s:\n%s\nnot\n%s", v->name, got.data, want.data);
}

static void the_published_suite_is_signed_right(void **state)
{
	(void)state;
	static const struct sigv4_key key = { &sigv4_aws, "AKIDEXAMPLE",
					      "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
					      "us-east-1", "service" };
	for (size_t i = 0; i < ARRAY_SIZE(suite); i++)
		check(&suite[i], &key, "20150830T123600Z");
}

static void the_examples_of_s3_are_signed_right(void **state)
{
	(void)state;
	static const struct sigv4_key key = { &sigv4_aws, "AKIAIOSFODNN7EXAMPLE",
					      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
					      "us-east-1", "s3" };
	for (size_t i = 0; i < ARRAY_SIZE(s3_examples); i++)
		check(&s3_examples[i], &key, "20130524T000000Z");
}

/* The hash of this canonical request is printed in the API reference. */
static void the_steps_are_as_in_the_reference(void **state)
{
	(void)state;
	const struct vector *v = &s3_examples[0];
	struct sigv4_key key = { &sigv4_aws, "", "", "us-east-1", "s3" };
	struct sigv4_request request = { v->method,       v->path,    v->query,
					 count(v->query), v->headers, count(v->headers),
					 v->payload_hash };
	cleanup_buf struct buf canonical = BUF_INIT(4096);
	cleanup_buf struct buf text = BUF_INIT(4096);
	assert_int_equal(sigv4_canonical(&canonical, &request), 0);
	assert_string_equal(buf_text(&canonical),
			    "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\n"
			    "range:bytes=0-9\nx-amz-content-sha256:" EMPTY "\n"
			    "x-amz-date:20130524T000000Z\n\n"
			    "host;range;x-amz-content-sha256;x-amz-date\n" EMPTY);
	assert_int_equal(
		sigv4_string_to_sign(&text, &key, "20130524T000000Z", buf_text(&canonical)), 0);
	assert_string_equal(
		buf_text(&text),
		"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
		"7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
}

static void google_has_words_of_its_own(void **state)
{
	(void)state;
	struct sigv4_key key = { &sigv4_google, "GOOGID", "secret", "auto", "storage" };
	struct sigv4_pair host = { "host", "storage.googleapis.com" };
	struct sigv4_request request = { "GET", "/b/k", NULL, 0, &host, 1, SIGV4_UNSIGNED };
	cleanup_buf struct buf got = BUF_INIT(4096);
	assert_int_equal(sigv4_authorization(&got, &request, &key, "20260102T030405Z"), 0);
	static const char begin[] = "GOOG4-HMAC-SHA256 Credential=GOOGID/20260102/auto/storage/"
				    "goog4_request, SignedHeaders=host, Signature=";
	assert_int_equal(strncmp(got.data, begin, strlen(begin)), 0);
}

static void text_is_encoded(void **state)
{
	(void)state;
	static const struct {
		const char *text, *path, *value;
	} cases[] = {
		{ "", "", "" },
		{ "aZ09-._~", "aZ09-._~", "aZ09-._~" },
		{ "a/b c", "a/b%20c", "a%2Fb%20c" },
		{ "+*%=&?\xc3\xa4", "%2B%2A%25%3D%26%3F%C3%A4", "%2B%2A%25%3D%26%3F%C3%A4" },
		{ "../.", "../.", "..%2F." },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_buf struct buf path = BUF_INIT(200);
		cleanup_buf struct buf value = BUF_INIT(200);
		assert_int_equal(sigv4_encode(&path, cases[i].text, true), 0);
		assert_int_equal(sigv4_encode(&value, cases[i].text, false), 0);
		assert_string_equal(buf_text(&path), cases[i].path);
		assert_string_equal(buf_text(&value), cases[i].value);
	}
}

static void parameters_are_sorted_as_encoded(void **state)
{
	(void)state;
	static const struct sigv4_pair query[] = {
		{ "b", "2" }, { "a-b", "1" }, { "a", "z" },    { "a", "y" },
		{ "a1", "" }, { "B", "3" },   { "\xc3", "4" },
	};
	cleanup_buf struct buf got = BUF_INIT(200);
	assert_int_equal(sigv4_query(&got, query, ARRAY_SIZE(query)), 0);
	assert_string_equal(buf_text(&got), "%C3=4&B=3&a=y&a=z&a-b=1&a1=&b=2");
	struct sigv4_pair many[65] = { { "a", "" } };
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = many[0];
	assert_int_equal(sigv4_query(&got, many, ARRAY_SIZE(many)), -E2BIG);
	struct buf small = BUF_INIT(10);
	assert_int_equal(sigv4_query(&small, query, ARRAY_SIZE(query)), -ENOBUFS);
	buf_deinit(&small);
}

static void times_are_utc(void **state)
{
	(void)state;
	char text[SIGV4_TIMESTAMP_SIZE];
	sigv4_timestamp(1369353600000, text);
	assert_string_equal(text, "20130524T000000Z");
	sigv4_timestamp(1440938160999, text);
	assert_string_equal(text, "20150830T123600Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_published_suite_is_signed_right),
		cmocka_unit_test(the_examples_of_s3_are_signed_right),
		cmocka_unit_test(the_steps_are_as_in_the_reference),
		cmocka_unit_test(google_has_words_of_its_own),
		cmocka_unit_test(text_is_encoded),
		cmocka_unit_test(parameters_are_sorted_as_encoded),
		cmocka_unit_test(times_are_utc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
