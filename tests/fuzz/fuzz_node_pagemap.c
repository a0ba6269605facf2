/* SPDX-License-Identifier: Apache-2.0 */
/* A pagemap image as another node sends it: what is read of it is pages in ascending order, and
 * written down again it is read as the same. */
#include "base/cleanup.h"
#include "node/pagemap_image.h"
#include "node/pages.h"
#include "tests/fuzz/fuzz.h"

static void check_order(const struct store_extent *list, size_t count)
{
	uint64_t end = 0;
	for (size_t i = 0; i < count; i++) {
		FUZZ_CHECK(list[i].vaddr % STORE_PAGE == 0 && list[i].vaddr >= end);
		FUZZ_CHECK(list[i].pages > 0 && list[i].flags & PAGES_LAZY);
		FUZZ_CHECK(list[i].pages <= (UINT64_MAX - list[i].vaddr) / STORE_PAGE);
		end = list[i].vaddr + list[i].pages * STORE_PAGE;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free struct store_extent *list = NULL;
	cleanup_free struct store_extent *again = NULL;
	cleanup_buf struct buf image = BUF_INIT(64 << 20);
	size_t count, same;
	uint32_t pages_id;
	if (pagemap_lazy_extents(data, size, &list, &count, NULL) < 0)
		return 0;
	check_order(list, count);
	const struct store_memory m = { .extents = list, .extent_count = count };
	FUZZ_CHECK(pagemap_image(&m, 1, &image) == 0);
	FUZZ_CHECK(pagemap_lazy_extents(image.data, image.len, &again, &same, NULL) == 0);
	FUZZ_CHECK(same == count);
	free(steal_ptr(&again));
	FUZZ_CHECK(pagemap_extents(image.data, image.len, &pages_id, &again, &same, NULL) == 0);
	FUZZ_CHECK(same == count && pages_id == 1);
	for (size_t i = 0; i < count; i++)
		FUZZ_CHECK(list[i].vaddr == again[i].vaddr && list[i].pages == again[i].pages &&
			   list[i].flags == again[i].flags);
	return 0;
}
