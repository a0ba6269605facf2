/* SPDX-License-Identifier: Apache-2.0 */
#include "store/index.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

/*
 * Column after column, as each is of one kind and zstd likes that; numbers are
 * little-endian, and where the one before says much about the next only the
 * difference is kept:
 *
 *	header	8 numbers of 64 bits: below
 *	spec	text
 *	frames	u32 packs ahead, u32 bytes left free before, u32 stored, u32 len, u8 pages, u8 hot
 *	files	u64 size, u32 mode, u32 frames, u32 length of name; names; u32 frames' numbers
 *	memories u32 length of name, u32 extents; names
 *	extents	u64 pages left out before, u64 pages, u32 flags
 *	pages	u32 frame, u8 slot
 *	digests	of pages that are not zeros
 */
enum {
	H_MAGIC,
	H_SPEC, /* length + 1; 0: none */
	H_FRAMES,
	H_FILES,
	H_FILE_FRAMES, /* of all files */
	H_MEMORIES,
	H_EXTENTS, /* of all memories, as are those below */
	H_PAGES,
	H_COUNT
};
#define MAGIC UINT64_C(0x3178644961736c45) /* "ElsaIdx1" */

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "columns are copied as they are in memory"
#endif

/* A column that is written or read from front to back. */
struct column {
	unsigned char *at;
};

static inline void put(struct column *c, const void *value, size_t size)
{
	memcpy(c->at, value, size);
	c->at += size;
}
#define PUT(column, type, value) put(column, &(type) { (type)(value) }, sizeof(type))

static inline void get(struct column *c, void *value, size_t size)
{
	memcpy(value, c->at, size);
	c->at += size;
}
#define GET(column, type)                                                                          \
	({                                                                                         \
		type value_;                                                                       \
		get(column, &value_, sizeof(value_));                                              \
		value_;                                                                            \
	})

void index_deinit(struct index *index)
{
	free(index->spec);
	free(index->frames);
	for (size_t i = 0; i < index->file_count; i++) {
		free(index->files[i].name);
		free(index->files[i].frames);
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

/* --- pages --------------------------------------------------------------------------- */

/* A page is mostly in the frame of the one before it, at the next place. STORE_ZERO is 0, another
 * frame 1 more than its distance, folded so that small ones in both directions are small. */
struct page_at {
	uint32_t frame;
	uint8_t slot;
};

static inline uint32_t page_code(struct page_at *last, uint32_t frame, uint8_t *slot)
{
	if (frame == STORE_ZERO) {
		*slot = 0;
		return 0;
	}
	uint32_t ahead = frame - last->frame;
	uint8_t expected = ahead ? 0 : (uint8_t)(last->slot + 1);
	*last = (struct page_at) { frame, *slot };
	*slot = (uint8_t)(*slot - expected);
	return (ahead << 1 ^ (uint32_t)((int32_t)ahead >> 31)) + 1;
}

static inline uint32_t page_frame(struct page_at *last, uint32_t code, uint8_t *slot)
{
	if (code == 0)
		return STORE_ZERO;
	code--;
	uint32_t ahead = code >> 1 ^ (0 - (code & 1));
	*slot = (uint8_t)(*slot + (ahead ? 0 : last->slot + 1));
	*last = (struct page_at) { last->frame + ahead, *slot };
	return last->frame;
}

/* As if a page had been in the last place of frame 0. */
#define PAGE_START ((struct page_at) { 0, UINT8_MAX })

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
	struct column frames = { to->at }, slots = { frames.at + 4 * count },
		      digests = { slots.at + count };
	for (size_t i = 0; i < index->memory_count; i++) {
		const struct index_memory *memory = &index->memories[i];
		const struct store_memory *m = &memory->m;
		for (uint64_t k = 0; k < m->pages; k++) {
			uint8_t slot = m->slots[k];
			PUT(&frames, uint32_t, page_code(&last, m->frames[k], &slot));
			PUT(&slots, uint8_t, slot);
			if (m->frames[k] != STORE_ZERO)
				put(&digests, memory->digests + k * SEAL_DIGEST, SEAL_DIGEST);
		}
	}
	to->at = digests.at;
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

static uint64_t not_zero(const struct store_memory *m)
{
	uint64_t count = 0;
	for (uint64_t i = 0; i < m->pages; i++)
		count += m->frames[i] != STORE_ZERO;
	return count;
}

/* Fills the header, and gives how long all will be. */
static uint64_t measure(const struct index *index, uint64_t header[H_COUNT])
{
	uint64_t names = 0, digests = 0;
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
		digests += not_zero(m);
	}
	return sizeof(uint64_t[H_COUNT]) + (index->spec ? strlen(index->spec) : 0) + names +
	       18 * header[H_FRAMES] + 20 * header[H_FILES] + 4 * header[H_FILE_FRAMES] +
	       8 * header[H_MEMORIES] + 20 * header[H_EXTENTS] + 5 * header[H_PAGES] +
	       SEAL_DIGEST * digests;
}

static bool within_limits(const uint64_t header[H_COUNT])
{
	return header[H_SPEC] <= INDEX_MAX_SPEC + 1 && header[H_FRAMES] <= INDEX_MAX_FRAMES &&
	       header[H_FILES] <= INDEX_MAX_FILES && header[H_MEMORIES] <= INDEX_MAX_MEMORIES &&
	       header[H_EXTENTS] <= INDEX_MAX_PAGES && header[H_PAGES] <= INDEX_MAX_PAGES &&
	       header[H_FILE_FRAMES] <= INDEX_MAX_FRAMES;
}

int index_encode(const struct index *index, struct buf *to, struct error *e)
{
	uint64_t header[H_COUNT] = { 0 };
	uint64_t len = measure(index, header);
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
	return 0;
}

/* --- reading ------------------------------------------------------------------------- */

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
	if (ret < 0)
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

static int get_digests(struct reader *r, struct index_memory *memory)
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
	for (size_t i = 0; i < index->memory_count && ret == 0; i++)
		ret = get_digests(r, &index->memories[i]);
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
	int ret = get_all(&r, index);
	if (ret < 0)
		index_deinit(index);
	return ret;
}
