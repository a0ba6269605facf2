/* SPDX-License-Identifier: Apache-2.0 */
/* CRIU's files.img from a store that was tampered with: copied, with the sizes left out and
 * without. */
#include "base/cleanup.h"
#include "node/images.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

struct seen {
	size_t count;
	int answer;
};

static int note(const struct image_file *file, void *arg)
{
	struct seen *seen = arg;
	FUZZ_CHECK(strnlen(file->path, sizeof(file->path)) < sizeof(file->path));
	FUZZ_CHECK(file->path[0] != '/');
	seen->count++;
	return seen->answer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf same = BUF_INIT(1 << 20), smaller = BUF_INIT(1 << 20);
	struct seen all = { 0 }, again = { 0 }, dropped = { .answer = 1 };
	if (images_files(data, size, note, &all, &same, NULL) < 0)
		return 0;
	FUZZ_CHECK(same.len == size && memcmp(same.data, data, size) == 0);
	FUZZ_CHECK(images_files(data, size, note, &dropped, &smaller, NULL) == 0);
	FUZZ_CHECK(images_files(smaller.data, smaller.len, note, &again, NULL, NULL) == 0);
	FUZZ_CHECK(again.count == all.count);
	return 0;
}
