/* SPDX-License-Identifier: Apache-2.0 */
#include "store/index.h"

#include "base/cleanup.h"
#include "store/index_columns.h"

#include <errno.h>
#include <string.h>

void index_deinit(struct index *index)
{
	free(index->spec);
	free(index->frames);
	for (size_t i = 0; i < index->file_count; i++) {
		free(index->files[i].name);
		free(index->files[i].frames);
		free(index->files[i].digests);
	}
	free(index->files);
	for (size_t i = 0; i < index->memory_count; i++) {
		struct index_memory *memory = &index->memories[i];
		free(memory->m.name);
		free(memory->m.extents);
		free(memory->m.frames);
		free(memory->m.slots);
		free(memory->digests);
	}
	free(index->memories);
	*index = (struct index) { 0 };
}

bool index_name_valid(const char *name)
{
	size_t len = strlen(name);
	if (len == 0 || len > INDEX_MAX_NAME)
		return false;
	for (const char *part = name;;) {
		size_t n = strcspn(part, "/");
		if (n == 0 || n > 255 || (n <= 2 && strncmp(part, "..", n) == 0))
			return false;
		if (part[n] == '\0')
			return true;
		part += n + 1;
	}
}

/* --- writing ------------------------------------------------------------------------- */

static void put_frames(const struct index *index, struct column *to)
{
	size_t n = index->frame_count;
	struct column packs = { to->at }, free_before = { packs.at + 4 * n },
		      stored = { free_before.at + 4 * n }, len = { stored.at + 4 * n },
		      pages = { len.at + 4 * n }, hot = { pages.at + n };
	uint32_t pack = 0, end = 0;
	for (size_t i = 0; i < n; i++) {
		const struct index_frame *f = &index->frames[i];
		if (f->at.pack != pack)
			end = 0;
		PUT(&packs, uint32_t, f->at.pack - pack);
		PUT(&free_before, uint32_t, f->at.offset - end);
		PUT(&stored, uint32_t, f->at.stored);
		PUT(&len, uint32_t, f->len);
		PUT(&pages, uint8_t, f->at.pages);
		PUT(&hot, uint8_t, f->at.hot);
		pack = f->at.pack;
		end = f->at.offset + f->at.stored;
	}
	to->at = hot.at;
}

static void put_files(const struct index *index, struct column *to)
{
	const struct index_file *files = index->files;
	size_t n = index->file_count;
	for (size_t i = 0; i < n; i++)
		PUT(to, uint64_t, files[i].size);
	for (size_t i = 0; i < n; i++)
		PUT(to, uint32_t, files[i].mode);
	for (size_t i = 0; i < n; i++)
		PUT(to, uint32_t, files[i].frame_count);
	for (size_t i = 0; i < n; i++)
		PUT(to, uint32_t, strlen(files[i].name));
	for (size_t i = 0; i < n; i++)
		put(to, files[i].name, strlen(files[i].name));
	uint32_t last = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < files[i].frame_count; k++) {
			PUT(to, uint32_t, files[i].frames[k] - last);
			last = files[i].frames[k];
		}
}

static void put_extents(const struct index *index, size_t count, struct column *to)
{
	struct column left_out = { to->at }, pages = { left_out.at + 8 * count },
		      flags = { pages.at + 8 * count };
	for (size_t i = 0; i < index->memory_count; i++) {
		const struct store_memory *m = &index->memories[i].m;
		uint64_t end = 0;
		for (size_t k = 0; k < m->extent_count; k++) {
			const struct store_extent *x = &m->extents[k];
			PUT(&left_out, uint64_t, x->vaddr / STORE_PAGE - end);
			PUT(&pages, uint64_t, x->pages);
			PUT(&flags, uint32_t, x->flags);
			end = x->vaddr / STORE_PAGE + x->pages;
		}
	}
	to->at = flags.at;
}

static void put_pages(const struct index *index, uint64_t count, struct column *to)
{
	struct page_at last = PAGE_START;
	struct column frames = { to->at }, slots = { frames.at + 4 * count };
	for (size_t i = 0; i < index->memory_count; i++) {
		const struct store_memory *m = &index->memories[i].m;
		for (uint64_t k = 0; k < m->pages; k++) {
			uint8_t slot = m->slots[k];
			PUT(&frames, uint32_t, page_code(&last, m->frames[k], &slot));
			PUT(&slots, uint8_t, slot);
		}
	}
	to->at = slots.at;
}

static void put_memories(const struct index *index, const uint64_t header[H_COUNT],
			 struct column *to)
{
	const struct index_memory *memories = index->memories;
	size_t n = index->memory_count;
	for (size_t i = 0; i < n; i++)
		PUT(to, uint32_t, strlen(memories[i].m.name));
	for (size_t i = 0; i < n; i++)
		PUT(to, uint32_t, memories[i].m.extent_count);
	for (size_t i = 0; i < n; i++)
		put(to, memories[i].m.name, strlen(memories[i].m.name));
	put_extents(index, header[H_EXTENTS], to);
	put_pages(index, header[H_PAGES], to);
}

static void put_digests(const struct index *index, struct column *to)
{
	for (size_t i = 0; i < index->memory_count; i++) {
		const struct index_memory *memory = &index->memories[i];
		for (uint64_t k = 0; k < memory->m.pages; k++)
			if (memory->m.frames[k] != STORE_ZERO)
				put(to, memory->digests + k * SEAL_DIGEST, SEAL_DIGEST);
	}
	for (size_t i = 0; i < index->file_count; i++)
		if (index->files[i].frame_count)
			put(to, index->files[i].digests, index->files[i].frame_count * SEAL_DIGEST);
}

static uint64_t digests_len(const struct index *index)
{
	uint64_t count = 0;
	for (size_t i = 0; i < index->memory_count; i++)
		count += not_zero(&index->memories[i].m);
	for (size_t i = 0; i < index->file_count; i++)
		count += index->files[i].frame_count;
	return count * SEAL_DIGEST;
}

/* Fills the header, and gives how long all before the digests will be. */
static uint64_t measure(const struct index *index, uint64_t header[H_COUNT])
{
	uint64_t names = 0;
	header[H_MAGIC] = MAGIC;
	header[H_SPEC] = index->spec ? strlen(index->spec) + 1 : 0;
	header[H_FRAMES] = index->frame_count;
	header[H_FILES] = index->file_count;
	header[H_MEMORIES] = index->memory_count;
	for (size_t i = 0; i < index->file_count; i++) {
		names += strlen(index->files[i].name);
		header[H_FILE_FRAMES] += index->files[i].frame_count;
	}
	for (size_t i = 0; i < index->memory_count; i++) {
		const struct store_memory *m = &index->memories[i].m;
		names += strlen(m->name);
		header[H_EXTENTS] += m->extent_count;
		header[H_PAGES] += m->pages;
	}
	return sizeof(uint64_t[H_COUNT]) + (index->spec ? strlen(index->spec) : 0) + names +
	       18 * header[H_FRAMES] + 20 * header[H_FILES] + 4 * header[H_FILE_FRAMES] +
	       8 * header[H_MEMORIES] + 20 * header[H_EXTENTS] + 5 * header[H_PAGES];
}

size_t index_bare_len(const struct index *index)
{
	uint64_t header[H_COUNT] = { 0 };
	return (size_t)measure(index, header);
}

int index_encode(const struct index *index, struct buf *to, struct error *e)
{
	uint64_t header[H_COUNT] = { 0 };
	uint64_t len = measure(index, header) + (index->bare ? 0 : digests_len(index));
	void *at;
	if (!within_limits(header))
		return error_set(e, EINVAL, "the checkpoint has too many files, memories or pages");
	int r = buf_extend(to, len, &at);
	if (r < 0)
		return r == -ENOMEM ? error_set(e, ENOMEM, "out of memory")
				    : error_set(e, EINVAL, "the index is larger than %zu bytes",
						to->cap);
	struct column c = { at };
	put(&c, header, sizeof(header));
	if (index->spec)
		put(&c, index->spec, strlen(index->spec));
	put_frames(index, &c);
	put_files(index, &c);
	put_memories(index, header, &c);
	if (!index->bare)
		put_digests(index, &c);
	return 0;
}
