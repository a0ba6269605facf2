/* SPDX-License-Identifier: Apache-2.0 */
/* Working sets: what is read can be written, and read back is the same. */
#include "base/cleanup.h"
#include "node/working_set.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = calloc(1, size + 1);
	cleanup_free struct working_set_page *first = NULL;
	cleanup_free struct working_set_page *second = NULL;
	cleanup_buf struct buf written = BUF_INIT(WORKING_SET_BYTES);
	size_t count = 0, again = 0;
	FUZZ_CHECK(text);
	memcpy(text, data, size);
	if (working_set_decode(text, size, &first, &count, NULL) < 0)
		return 0;
	FUZZ_CHECK(count <= WORKING_SET_MOST);
	FUZZ_CHECK(working_set_encode(first, count, &written) == 0);
	FUZZ_CHECK(working_set_decode(buf_text(&written), written.len, &second, &again, NULL) == 0);
	FUZZ_CHECK(again == count);
	FUZZ_CHECK(count == 0 || memcmp(first, second, count * sizeof(*first)) == 0);
	return 0;
}
