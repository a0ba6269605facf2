/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "store/index_columns.h"

#include <errno.h>
#include <string.h>

struct reader {
	struct column c;
	const unsigned char *end;
	uint64_t header[H_COUNT];
	const uint64_t *pack_sizes;
	size_t pack_count;
	struct error *e;
};

static int fail(struct reader *r, const char *what)
{
	return error_set(r->e, EBADMSG, "the index: %s", what);
}

static int no_memory(struct reader *r)
{
	return error_set(r->e, ENOMEM, "out of memory");
}

/* Column of `count` times `size` bytes; counts are within limits, so nothing overflows. */
static int take(struct reader *r, uint64_t count, size_t size, struct column *column)
{
	column->at = r->c.at;
	if (count > (uint64_t)(r->end - r->c.at) / size)
		return fail(r, "it is cut short");
	r->c.at += count * size;
	return 0;
}

static int take_text(struct reader *r, uint64_t len, char **to)
{
	struct column c;
	int ret = take(r, len, 1, &c);
	if (ret < 0)
		return ret;
	if (memchr(c.at, '\0', len))
		return fail(r, "a text ends early");
	*to = strndup((const char *)c.at, len);
	return *to ? 0 : no_memory(r);
}

/* Their order makes names distinct: no file can be laid over another. */
static int take_name(struct reader *r, uint32_t len, const char *before, char **to)
{
	if (len > INDEX_MAX_NAME)
		return fail(r, "a name is too long");
	int ret = take_text(r, len, to);
	if (ret < 0 || !*to)
		return ret;
	if (!index_name_valid(*to))
		return fail(r, "a name would leave the checkpoint's directory");
	if (before && strcmp(before, *to) >= 0)
		return fail(r, "names are not in order");
	return 0;
}

static int take_header(struct reader *r)
{
	struct column c;
	int ret = take(r, H_COUNT, sizeof(uint64_t), &c);
	if (ret < 0)
		return ret;
	get(&c, r->header, sizeof(r->header));
	if (r->header[H_MAGIC] != MAGIC)
		return fail(r, "it is not one");
	return within_limits(r->header) ? 0 : fail(r, "a count is out of range");
}

static int check_frame(struct reader *r, const struct index_frame *f, uint64_t offset)
{
	if (f->at.pack >= r->pack_count)
		return fail(r, "a frame is in a pack that is not listed");
	if (f->at.stored <= SEAL_TAG || offset > UINT32_MAX ||
	    offset + f->at.stored > r->pack_sizes[f->at.pack])
		return fail(r, "a frame is not inside its pack");
	if (f->at.pages ? f->at.pages > STORE_FRAME_PAGES || f->len != f->at.pages * STORE_PAGE
			: f->len == 0 || f->len > INDEX_MAX_FRAME)
		return fail(r, "a frame's length is out of range");
	return 0;
}

static int get_frames(struct reader *r, struct index *index)
{
	size_t n = r->header[H_FRAMES];
	struct column packs, free_before, stored, len, pages, hot;
	if (take(r, n, 4, &packs) < 0 || take(r, n, 4, &free_before) < 0 ||
	    take(r, n, 4, &stored) < 0 || take(r, n, 4, &len) < 0 || take(r, n, 1, &pages) < 0 ||
	    take(r, n, 1, &hot) < 0)
		return -EBADMSG;
	index->frames = calloc(n + 1, sizeof(*index->frames));
	if (!index->frames)
		return no_memory(r);
	index->frame_count = n;
	uint64_t pack = 0, end = 0;
	for (size_t i = 0; i < n; i++) {
		struct index_frame *f = &index->frames[i];
		uint32_t ahead = GET(&packs, uint32_t);
		pack += ahead;
		if (pack > UINT32_MAX)
			return fail(r, "a frame is in a pack that is not listed");
		uint64_t offset = (ahead ? 0 : end) + GET(&free_before, uint32_t);
		f->at.pack = (uint32_t)pack;
		f->at.offset = (uint32_t)offset;
		f->at.stored = GET(&stored, uint32_t);
		f->at.pages = GET(&pages, uint8_t);
		uint8_t is_hot = GET(&hot, uint8_t);
		f->at.hot = is_hot;
		f->len = GET(&len, uint32_t);
		int ret = is_hot > 1 ? fail(r, "a flag is not one") : check_frame(r, f, offset);
		if (ret < 0)
			return ret;
		end = offset + f->at.stored;
	}
	return 0;
}

/* The frames of one file, which hold just its bytes. */
static int get_file_frames(struct reader *r, const struct index *index, uint32_t *last,
			   struct index_file *file)
{
	struct column c;
	uint64_t size = 0;
	int ret = take(r, file->frame_count, sizeof(uint32_t), &c);
	if (ret < 0)
		return ret;
	file->frames = calloc(file->frame_count + 1, sizeof(*file->frames));
	if (!file->frames)
		return no_memory(r);
	for (size_t i = 0; i < file->frame_count; i++) {
		*last += GET(&c, uint32_t);
		file->frames[i] = *last;
		if (*last >= index->frame_count || index->frames[*last].at.pages)
			return fail(r, "a file is in a frame that is none of its kind");
		size += index->frames[*last].len;
	}
	return size == file->size ? 0 : fail(r, "a file's frames are not as long as it is");
}

static int get_files(struct reader *r, struct index *index)
{
	size_t n = r->header[H_FILES];
	struct column sizes, modes, counts, names;
	uint64_t frames = 0, bytes = 0;
	uint32_t last = 0;
	if (take(r, n, 8, &sizes) < 0 || take(r, n, 4, &modes) < 0 || take(r, n, 4, &counts) < 0 ||
	    take(r, n, 4, &names) < 0)
		return -EBADMSG;
	index->files = calloc(n + 1, sizeof(*index->files));
	if (!index->files)
		return no_memory(r);
	index->file_count = n;
	for (size_t i = 0; i < n; i++) {
		struct index_file *file = &index->files[i];
		file->size = GET(&sizes, uint64_t);
		file->mode = GET(&modes, uint32_t);
		file->frame_count = GET(&counts, uint32_t);
		frames += file->frame_count;
		if (file->size > INDEX_MAX_FILE_SIZE || file->mode > 07777 ||
		    (bytes += file->size) > INDEX_MAX_FILE_SIZE)
			return fail(r, "a file's size or mode is out of range");
		int ret =
			take_name(r, GET(&names, uint32_t), i ? file[-1].name : NULL, &file->name);
		if (ret < 0)
			return ret;
	}
	if (frames != r->header[H_FILE_FRAMES])
		return fail(r, "its files have not as many frames as it says");
	for (size_t i = 0; i < n; i++) {
		int ret = get_file_frames(r, index, &last, &index->files[i]);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int get_memory_extents(struct reader *r, struct column *left_out, struct column *pages,
			      struct column *flags, struct store_memory *m)
{
	const uint64_t most = UINT64_MAX / STORE_PAGE;
	uint64_t end = 0;
	m->extents = calloc(m->extent_count + 1, sizeof(*m->extents));
	if (!m->extents)
		return no_memory(r);
	for (size_t i = 0; i < m->extent_count; i++) {
		struct store_extent *x = &m->extents[i];
		uint64_t before = GET(left_out, uint64_t);
		x->pages = GET(pages, uint64_t);
		x->flags = GET(flags, uint32_t);
		if (x->pages == 0 || x->pages > INDEX_MAX_PAGES || before > most - end ||
		    x->pages > most - end - before)
			return fail(r, "an extent is out of range");
		x->vaddr = (end + before) * STORE_PAGE;
		end += before + x->pages;
		m->pages += x->pages;
		if (m->pages > r->header[H_PAGES])
			return fail(r, "its extents have not as many pages as it says");
	}
	return 0;
}

static int get_extents(struct reader *r, struct index *index)
{
	uint64_t extents = 0, total = 0;
	struct column left_out, pages, flags;
	for (size_t i = 0; i < index->memory_count; i++)
		extents += index->memories[i].m.extent_count;
	if (extents != r->header[H_EXTENTS])
		return fail(r, "its memories have not as many extents as it says");
	if (take(r, extents, 8, &left_out) < 0 || take(r, extents, 8, &pages) < 0 ||
	    take(r, extents, 4, &flags) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < index->memory_count; i++) {
		struct store_memory *m = &index->memories[i].m;
		int ret = get_memory_extents(r, &left_out, &pages, &flags, m);
		if (ret < 0)
			return ret;
		total += m->pages;
	}
	if (total != r->header[H_PAGES])
		return fail(r, "its extents have not as many pages as it says");
	return 0;
}

static int get_memory_pages(struct reader *r, const struct index *index, struct page_at *last,
			    struct column *frames, struct column *slots,
			    struct index_memory *memory)
{
	struct store_memory *m = &memory->m;
	m->frames = malloc(m->pages * sizeof(*m->frames) + 1);
	m->slots = malloc(m->pages + 1);
	if (!m->frames || !m->slots)
		return no_memory(r);
	for (uint64_t i = 0; i < m->pages; i++) {
		uint32_t code = GET(frames, uint32_t);
		m->slots[i] = GET(slots, uint8_t);
		uint32_t frame = page_frame(last, code, &m->slots[i]);
		m->frames[i] = frame;
		if (frame == STORE_ZERO ? code != 0 || m->slots[i] != 0
					: frame >= index->frame_count ||
						  m->slots[i] >= index->frames[frame].at.pages)
			return fail(r, "a page is where there is none");
	}
	return 0;
}

static int get_memory_digests(struct reader *r, struct index_memory *memory)
{
	const struct store_memory *m = &memory->m;
	struct column c;
	int ret = take(r, not_zero(m), SEAL_DIGEST, &c);
	if (ret < 0)
		return ret;
	memory->digests = calloc(m->pages + 1, SEAL_DIGEST);
	if (!memory->digests)
		return no_memory(r);
	for (uint64_t i = 0; i < m->pages; i++)
		if (m->frames[i] != STORE_ZERO)
			get(&c, memory->digests + i * SEAL_DIGEST, SEAL_DIGEST);
	return 0;
}

static int get_pages(struct reader *r, struct index *index)
{
	struct page_at last = PAGE_START;
	struct column frames, slots;
	if (take(r, r->header[H_PAGES], 4, &frames) < 0 ||
	    take(r, r->header[H_PAGES], 1, &slots) < 0)
		return -EBADMSG;
	int ret = 0;
	for (size_t i = 0; i < index->memory_count && ret == 0; i++)
		ret = get_memory_pages(r, index, &last, &frames, &slots, &index->memories[i]);
	return ret;
}

static int get_memories(struct reader *r, struct index *index)
{
	size_t n = r->header[H_MEMORIES];
	struct column names, counts;
	if (take(r, n, 4, &names) < 0 || take(r, n, 4, &counts) < 0)
		return -EBADMSG;
	index->memories = calloc(n + 1, sizeof(*index->memories));
	if (!index->memories)
		return no_memory(r);
	index->memory_count = n;
	for (size_t i = 0; i < n; i++) {
		struct store_memory *m = &index->memories[i].m;
		m->extent_count = GET(&counts, uint32_t);
		int ret = take_name(r, GET(&names, uint32_t),
				    i ? index->memories[i - 1].m.name : NULL, &m->name);
		if (ret < 0)
			return ret;
	}
	int ret = get_extents(r, index);
	return ret < 0 ? ret : get_pages(r, index);
}

static int get_file_digests(struct reader *r, struct index *index)
{
	for (size_t i = 0; i < index->file_count; i++) {
		struct index_file *file = &index->files[i];
		struct column c;
		int ret = take(r, file->frame_count, SEAL_DIGEST, &c);
		if (ret < 0)
			return ret;
		file->digests = malloc(file->frame_count * SEAL_DIGEST + 1);
		if (!file->digests)
			return no_memory(r);
		get(&c, file->digests, file->frame_count * SEAL_DIGEST);
	}
	return 0;
}

static int get_digests(struct reader *r, struct index *index)
{
	int ret = 0;
	index->bare = r->c.at == r->end;
	if (index->bare)
		return 0;
	for (size_t i = 0; i < index->memory_count && ret == 0; i++)
		ret = get_memory_digests(r, &index->memories[i]);
	return ret < 0 ? ret : get_file_digests(r, index);
}

static int get_all(struct reader *r, struct index *index)
{
	int ret = take_header(r);
	if (ret == 0 && r->header[H_SPEC])
		ret = take_text(r, r->header[H_SPEC] - 1, &index->spec);
	if (ret == 0)
		ret = get_frames(r, index);
	if (ret == 0)
		ret = get_files(r, index);
	if (ret == 0)
		ret = get_memories(r, index);
	if (ret == 0)
		ret = get_digests(r, index);
	if (ret == 0 && r->c.at != r->end)
		ret = fail(r, "there is more of it than it says");
	return ret;
}

int index_decode(const void *data, size_t len, const uint64_t *pack_sizes, size_t pack_count,
		 struct index *index, struct error *e)
{
	/* Columns are only read here. */
	struct reader r = {
		.c = { (unsigned char *)data },
		.end = (const unsigned char *)data + len,
		.pack_sizes = pack_sizes,
		.pack_count = pack_count,
		.e = e,
	};
	*index = (struct index) { 0 };
	int ret = data ? get_all(&r, index) : fail(&r, "it is empty");
	if (ret < 0)
		index_deinit(index);
	return ret;
}
