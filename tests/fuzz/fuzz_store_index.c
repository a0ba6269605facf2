/* SPDX-License-Identifier: Apache-2.0 */
/* Indexes, over packs of several sizes. What is accepted is safe to act on, and is written again
 * byte for byte. */
#include "base/cleanup.h"
#include "store/index.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static const uint64_t packs[] = { 4096, 1, UINT32_MAX };

static void check_frames(const struct index *index)
{
	for (size_t i = 0; i < index->frame_count; i++) {
		const struct index_frame *f = &index->frames[i];
		uint64_t end = (uint64_t)f->at.offset + f->at.stored;
		FUZZ_CHECK(f->at.pack < ARRAY_SIZE(packs) && end <= packs[f->at.pack]);
		FUZZ_CHECK(f->at.stored > SEAL_TAG && f->at.pages <= STORE_FRAME_PAGES);
		FUZZ_CHECK(f->len > 0 && f->len <= INDEX_MAX_FRAME);
		if (i && f[-1].at.pack == f->at.pack)
			FUZZ_CHECK(f[-1].at.offset + f[-1].at.stored <= f->at.offset);
		else if (i)
			FUZZ_CHECK(f[-1].at.pack < f->at.pack);
	}
}

static void check_files(const struct index *index)
{
	for (size_t i = 0; i < index->file_count; i++) {
		const struct index_file *file = &index->files[i];
		uint64_t size = 0;
		FUZZ_CHECK(index_name_valid(file->name));
		FUZZ_CHECK(i == 0 || strcmp(file[-1].name, file->name) < 0);
		for (size_t k = 0; k < file->frame_count; k++) {
			FUZZ_CHECK(file->frames[k] < index->frame_count);
			size += index->frames[file->frames[k]].len;
		}
		FUZZ_CHECK(size == file->size);
	}
}

static void check_memory(const struct index *index, const struct index_memory *memory)
{
	const struct store_memory *m = &memory->m;
	uint64_t pages = 0, end = 0;
	FUZZ_CHECK(index_name_valid(m->name));
	for (size_t i = 0; i < m->extent_count; i++) {
		FUZZ_CHECK(m->extents[i].vaddr % STORE_PAGE == 0 && m->extents[i].vaddr >= end);
		end = m->extents[i].vaddr + m->extents[i].pages * STORE_PAGE;
		FUZZ_CHECK(end > m->extents[i].vaddr);
		pages += m->extents[i].pages;
	}
	FUZZ_CHECK(pages == m->pages);
	for (uint64_t i = 0; i < m->pages; i++)
		FUZZ_CHECK(m->frames[i] == STORE_ZERO ||
			   (m->frames[i] < index->frame_count &&
			    m->slots[i] < index->frames[m->frames[i]].at.pages));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf again = BUF_INIT(SIZE_MAX / 2);
	struct index index;
	struct error e = ERROR_INIT;
	if (index_decode(data, size, packs, ARRAY_SIZE(packs), &index, &e) < 0) {
		FUZZ_CHECK(e.text[0]);
		return 0;
	}
	check_frames(&index);
	check_files(&index);
	for (size_t i = 0; i < index.memory_count; i++)
		check_memory(&index, &index.memories[i]);
	FUZZ_CHECK(index_encode(&index, &again, NULL) == 0);
	FUZZ_CHECK(again.len == size && memcmp(again.data, data, size) == 0);
	index_deinit(&index);
	return 0;
}
