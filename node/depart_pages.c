/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a session that stands still, for the node that fetches it. */
#include "node/depart_talk.h"

#include "base/cleanup.h"
#include "node/depart_memory.h"
#include "store/seal.h"
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int depart_talk_pages(struct depart_talk *t, struct error *e)
{
	if (!t->pages)
		t->pages = malloc((size_t)MOVE_PAGES_MOST * STORE_PAGE);
	return t->pages ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int open_memory(struct depart_talk *t, struct error *e)
{
	struct cgroup cg;
	if (t->memory)
		return 0;
	int r = depart_talk_pages(t, e);
	if (r == 0)
		r = cgroup_init(&cg, t->all->node->config->node.cgroup, t->d->session, e);
	if (r < 0)
		return r;
	r = depart_memory_open(&cg, &t->memory, e);
	cgroup_deinit(&cg);
	return r;
}

static void *place(const struct depart_talk *t, size_t page)
{
	return (char *)t->pages + page * STORE_PAGE;
}

/* --- pages ----------------------------------------------------------------------------- */

static int read_ranges(struct depart_talk *t, const struct move_range *ranges, size_t count,
		       bool squeeze, struct error *e)
{
	size_t pages = 0;
	for (size_t i = 0; i < count; i++) {
		if (ranges[i].pages > MOVE_PAGES_MOST - pages)
			return error_set(e, EINVAL, "it asks for more than %d pages at once",
					 MOVE_PAGES_MOST);
		int r = depart_memory_read(t->memory, &ranges[i], place(t, pages), e);
		if (r < 0)
			return r;
		pages += ranges[i].pages;
	}
	return move_pages_write(t->pages, pages, squeeze, &t->answer, e);
}

int depart_pages_read(struct depart_talk *t, struct error *e)
{
	cleanup_free struct move_range *ranges = NULL;
	size_t count = 0;
	bool squeeze = false;
	buf_reset(&t->answer);
	int r = move_ranges_read(buf_text(&t->body), t->body.len, &ranges, &count, &squeeze, e);
	if (r == 0)
		r = open_memory(t, e);
	return r < 0 ? r : read_ranges(t, ranges, count, squeeze, e);
}

/* --- ... of which there may be copies -------------------------------------------------- */

/* One key for as long as the other node uses it. */
static int have_sealer(struct depart_talk *t, const unsigned char key[MOVE_KEY], struct error *e)
{
	struct seal_key sealing;
	if (t->sealer && memcmp(t->key, key, MOVE_KEY) == 0)
		return 0;
	t->sealer = sealer_free(t->sealer);
	memcpy(t->key, key, MOVE_KEY);
	memcpy(sealing.bytes, key, MOVE_KEY);
	return sealer_new(&sealing, &t->sealer, e);
}

static int compare(struct depart_talk *t, const struct move_tag *tag, const void *pages, bool *same,
		   struct error *e)
{
	unsigned char mine[MOVE_TAG];
	if (tag->has && seal_tag(t->sealer, pages, tag->range.pages * (size_t)STORE_PAGE, mine) < 0)
		return error_set(e, EIO, "a digest cannot be made");
	*same = tag->has && memcmp(mine, tag->tag, MOVE_TAG) == 0;
	return 0;
}

/* What is the same is read over by the next one. */
static int read_others(struct depart_talk *t, const struct move_tag *tags, size_t count,
		       bool squeeze, struct error *e)
{
	bool same[MOVE_PAGES_MOST];
	size_t pages = 0;
	for (size_t i = 0; i < count; i++) {
		void *to = place(t, pages);
		int r = depart_memory_read(t->memory, &tags[i].range, to, e);
		if (r == 0)
			r = compare(t, &tags[i], to, &same[i], e);
		if (r < 0)
			return r;
		pages += same[i] ? 0 : tags[i].range.pages;
	}
	return move_same_write(same, count, t->pages, pages, squeeze, &t->answer, e);
}

int depart_pages_same(struct depart_talk *t, struct error *e)
{
	unsigned char key[MOVE_KEY];
	cleanup_free struct move_tag *tags = NULL;
	size_t count = 0;
	bool squeeze = false;
	buf_reset(&t->answer);
	int r = move_tags_read(buf_text(&t->body), t->body.len, key, &tags, &count, &squeeze, e);
	if (r == 0)
		r = open_memory(t, e);
	if (r == 0)
		r = have_sealer(t, key, e);
	return r < 0 ? r : read_others(t, tags, count, squeeze, e);
}
