/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: the input as squeezed data, its length first (3 bytes, little-endian); and squeezed
 * itself, when it must come back. */
#include "base/cleanup.h"
#include "store/squeeze.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

DEFINE_CLEANUP(struct squeezer *, squeezer_free)

static void there_and_back(struct squeezer *s, const uint8_t *data, size_t size)
{
	cleanup_free uint8_t *to = malloc(squeeze_most(size)), *back = malloc(size + 1);
	FUZZ_CHECK(to && back);
	size_t n = squeeze(s, data, size, to);
	FUZZ_CHECK(n > 0 && n <= squeeze_most(size));
	FUZZ_CHECK(unsqueeze(s, to, n, back, size, NULL) == 0);
	FUZZ_CHECK(size == 0 || memcmp(data, back, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup(squeezer_freep) struct squeezer *s = NULL;
	FUZZ_CHECK(squeezer_new(&s, NULL) == 0);
	there_and_back(s, data, size);
	if (size < 3)
		return 0;
	size_t len = data[0] | (size_t)data[1] << 8 | (size_t)(data[2] & 3) << 16;
	cleanup_free uint8_t *to = malloc(len + 1);
	struct error e = ERROR_INIT;
	FUZZ_CHECK(to);
	if (unsqueeze(s, data + 3, size - 3, to, len, &e) < 0)
		FUZZ_CHECK(e.text[0]);
	return 0;
}
