/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "store/reading.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

const struct store_meta *store_read_meta(const struct store_read *read)
{
	return &read->m.meta;
}

size_t store_read_memories(const struct store_read *read, const struct store_memory **list)
{
	*list = read->memories;
	return read->index.memory_count;
}

size_t store_read_frames(const struct store_read *read, const struct store_frame **list)
{
	*list = read->frames;
	return read->index.frame_count;
}

struct store_read *store_read_share(struct store_read *read)
{
	atomic_fetch_add(&read->references, 1);
	return read;
}

void *store_read_free(struct store_read *read)
{
	if (!read || atomic_fetch_sub(&read->references, 1) > 1)
		return NULL;
	fetch_free(read->fetch);
	index_deinit(&read->index);
	manifest_deinit(&read->m);
	free(read->memories);
	free(read->frames);
	free(read);
	return NULL;
}

static int append_piece(size_t i, const void *data, size_t len, void *arg)
{
	(void)i;
	return buf_append(arg, data, len) < 0 ? -ENOMEM : 0;
}

/* How many pieces come before the digests (commit.c says how they are cut). */
static size_t bare_pieces(const struct manifest *m)
{
	size_t n = 0;
	while (n < m->index_count && m->index[n].len == STORE_PIECE)
		n++;
	return n < m->index_count ? n + 1 : n;
}

int store_read_index(struct store_read *read, bool bare, bool fresh,
		     int (*each)(size_t i, const void *data, size_t len, void *arg), void *arg,
		     struct error *e)
{
	const struct manifest *m = &read->m;
	size_t count = bare ? bare_pieces(m) : m->index_count;
	cleanup_free struct piece *pieces = calloc(count + 1, sizeof(*pieces));
	if (!pieces)
		return store_oom(e);
	for (size_t i = 0; i < count; i++)
		pieces[i] = (struct piece) { m->index[i].pack, m->index[i].offset,
					     m->index[i].stored, m->index[i].len };
	return fetch_pieces(read->fetch, pieces, count, fresh, each, arg, e);
}

static size_t index_bytes(const struct manifest *m)
{
	size_t bytes = 0;
	for (size_t i = 0; i < m->index_count; i++)
		bytes += m->index[i].len;
	return bytes;
}

static int decode_index(struct store_read *read, bool bare, struct error *e)
{
	const struct manifest *m = &read->m;
	cleanup_free uint64_t *sizes = calloc(m->pack_count + 1, sizeof(*sizes));
	cleanup_buf struct buf text = BUF_INIT(index_bytes(m) + 1);
	if (!sizes)
		return store_oom(e);
	for (size_t i = 0; i < m->pack_count; i++)
		sizes[i] = m->packs[i].size;
	int r = store_read_index(read, bare, false, append_piece, &text, e);
	if (r == -ENOMEM)
		return store_oom(e);
	if (r < 0)
		return r;
	r = index_decode(text.data, text.len, sizes, m->pack_count, &read->index, e);
	if (r < 0)
		error_wrap(e, r, "index of checkpoint %" PRId64 " of session %s",
			   m->meta.generation, m->meta.session);
	return store_damage(e, r);
}

/* The lists that are given out. */
static int make_lists(struct store_read *read, struct error *e)
{
	struct index *x = &read->index;
	read->memories = calloc(x->memory_count + 1, sizeof(*read->memories));
	read->frames = calloc(x->frame_count + 1, sizeof(*read->frames));
	if (!read->memories || !read->frames)
		return store_oom(e);
	for (size_t i = 0; i < x->memory_count; i++)
		read->memories[i] = x->memories[i].m;
	for (size_t i = 0; i < x->frame_count; i++)
		read->frames[i] = x->frames[i].at;
	read->m.meta.spec = steal_ptr(&x->spec);
	return 0;
}

int store_read_from(struct store *store, const struct store_keys *keys, struct manifest *m,
		    bool bare, struct store_read **read, struct error *e)
{
	cleanup(store_read_freep) struct store_read *made = calloc(1, sizeof(*made));
	if (!made) {
		manifest_deinit(m);
		return store_oom(e);
	}
	atomic_init(&made->references, 1);
	made->store = store;
	made->m = *m;
	*m = (struct manifest) { 0 };
	int r = fetch_new(store, keys, &made->m, &made->fetch, e);
	if (r == 0)
		r = decode_index(made, bare, e);
	if (r == 0)
		r = make_lists(made, e);
	if (r == 0)
		*read = steal_ptr(&made);
	return r;
}

int store_read_load(struct store *store, const struct store_keys *keys, const char *session,
		    int64_t generation, bool bare, struct store_read **read, struct error *e)
{
	struct manifest m;
	int r = store_manifest_read(store, session, generation, &keys->mac, &m, e);
	return r < 0 ? r : store_read_from(store, keys, &m, bare, read, e);
}

struct pages_job {
	const uint32_t *frames;
	int (*each)(uint32_t frame, const void *pages, size_t len, void *arg);
	void *arg;
};

static int pass_pages(size_t i, const void *data, size_t len, void *arg)
{
	const struct pages_job *j = arg;
	return j->each(j->frames[i], data, len, j->arg);
}

int store_read_pages(struct store_read *read, const uint32_t *frames, size_t count,
		     int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		     void *arg, struct error *e)
{
	struct pages_job j = { frames, each, arg };
	cleanup_free struct piece *pieces = calloc(count + 1, sizeof(*pieces));
	if (!pieces)
		return store_oom(e);
	for (size_t i = 0; i < count; i++) {
		if (frames[i] >= read->index.frame_count || (i && frames[i] <= frames[i - 1]))
			return error_set(e, EINVAL, "not an ascending list of frames");
		pieces[i] = store_piece(&read->index.frames[frames[i]]);
	}
	return fetch_pieces(read->fetch, pieces, count, false, pass_pages, &j, e);
}
