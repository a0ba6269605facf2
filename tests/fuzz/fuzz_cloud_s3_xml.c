/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of S3: however they are cut up, the same must come out, and nothing beyond its bounds. */
#include "base/cleanup.h"
#include "cloud/s3_xml.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

struct sum {
	size_t count, bytes;
};

static int note(const struct s3_entry *entry, void *arg)
{
	struct sum *sum = arg;
	FUZZ_CHECK(strlen(entry->key) <= S3_TEXT_MAX);
	sum->count++;
	sum->bytes += strlen(entry->key);
	return 0;
}

static int read_in_pieces(const char *data, size_t size, size_t piece, struct sum *sum,
			  struct s3_answer *answer)
{
	struct s3_xml *x = s3_xml_new(note, sum);
	int r = 0;
	for (size_t at = 0; at < size && r == 0; at += piece)
		r = s3_xml_feed(x, data + at, size - at < piece ? size - at : piece);
	if (r == 0)
		r = s3_xml_end(x);
	*answer = *s3_xml_answer(x);
	s3_xml_free(x);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sum whole = { 0 }, cut = { 0 };
	struct s3_answer a, b;
	int r = read_in_pieces((const char *)data, size, size + 1, &whole, &a);
	FUZZ_CHECK((read_in_pieces((const char *)data, size, 7, &cut, &b) == 0) == (r == 0));
	if (r == 0) {
		FUZZ_CHECK(whole.count == cut.count && whole.bytes == cut.bytes);
		FUZZ_CHECK(memcmp(&a, &b, sizeof(a)) == 0);
	}
	return 0;
}
