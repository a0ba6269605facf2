/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "cloud/s3.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A range under way. What broke off goes on where it ended, if it is still the same object. */
struct reading {
	struct s3_call *call;
	char *to;
	uint64_t offset;
	size_t len, done;
	bool begun;    /* this try's first byte was seen, its headers checked */
	uint64_t size; /* of the object, when it is too short; else 0 */
	atomic_bool stop;
	char range[64];
	char etag[128];
};

static void before_try(struct s3_call *c)
{
	struct reading *r = c->arg;
	r->begun = false;
	c->header_count = 0;
	if (!r->etag[0])
		r->done = 0; /* nothing would tell that it is still the same object */
	snprintf(r->range, sizeof(r->range), "bytes=%" PRIu64 "-%" PRIu64, r->offset + r->done,
		 r->offset + r->len - 1);
	s3_call_header(c, "range", r->range);
	if (r->done)
		s3_call_header(c, "if-match", r->etag);
}

/* "bytes 0-9/443" */
static bool range_is(const char *text, uint64_t first, uint64_t last)
{
	char wanted[64];
	snprintf(wanted, sizeof(wanted), "bytes %" PRIu64 "-%" PRIu64, first, last);
	size_t len = strlen(wanted);
	return strncmp(text, wanted, len) == 0 && (text[len] == '/' || !text[len]);
}

/* The whole object's size behind the '/'; 0 when it is not said. */
static uint64_t size_in_range(const char *text)
{
	const char *slash = strchr(text, '/');
	return slash ? strtoull(slash + 1, NULL, 10) : 0;
}

static bool begin(struct reading *r)
{
	const struct s3_exchange *x = &r->call->x;
	uint64_t first = r->offset + r->done;
	uint64_t last = r->offset + r->len - 1;
	uint64_t size = size_in_range(x->got.content_range);
	if (r->done && strcmp(r->etag, x->got.etag) != 0) {
		r->done = 0; /* another object than the one we began with: from the start */
		return false;
	}
	if (size && size <= last) {
		r->size = size;
		atomic_store(&r->stop, true);
		return false;
	}
	memcpy(r->etag, x->got.etag, sizeof(r->etag));
	r->begun = true;
	if (x->got.content_range[0])
		return range_is(x->got.content_range, first, last);
	return first == 0 && x->length == r->len; /* all of it, from a server without ranges */
}

static int take(const char *data, size_t len, void *arg)
{
	struct reading *r = arg;
	if (!r->begun && !begin(r))
		return -1;
	if (len > r->len - r->done)
		return -1;
	memcpy(r->to + r->done, data, len);
	r->done += len;
	return 0;
}

static int too_short(const char *key, uint64_t size, uint64_t end, struct error *e)
{
	return error_set(e, EBADMSG,
			 "object %s: ends at offset %" PRIu64 ", %" PRIu64 " bytes early", key,
			 size, end - size);
}

static int read_once(struct s3 *s, const char *key, struct reading *r, struct error *e)
{
	struct s3_call c = { .doing = "read",
			     .action = "s3:GetObject",
			     .method = "GET",
			     .key = key,
			     .before = before_try,
			     .on_data = take,
			     .arg = r,
			     .stop = &r->stop };
	uint64_t end = r->offset + r->len;
	r->call = &c;
	int result = s3_call_missing(s, &c, s3_call(s, &c, e), e);
	if (c.status == 416)
		r->size = size_in_range(c.x.got.content_range);
	if (c.status == 416 && !r->size) {
		result = error_set(e, EBADMSG, "object %s: has no byte at offset %" PRIu64, key,
				   r->offset + r->done);
	} else if (r->size) {
		result = too_short(key, r->size, end, e);
	} else if (c.status == 412) {
		result = -ESTALE;
	} else if (result == 0 && r->done != r->len) {
		result = too_short(key, r->offset + r->done, end, e);
	}
	s3_call_deinit(&c);
	return result;
}

static int read_nothing(struct object_store *store, const char *key, uint64_t offset,
			struct error *e)
{
	struct object_stat st;
	int r = s3_stat(store, key, &st, e);
	if (r == 0 && offset > st.size)
		r = too_short(key, st.size, offset, e);
	return r;
}

int s3_read(struct object_store *store, const char *key, uint64_t offset, void *to, size_t len,
	    struct error *e)
{
	struct reading r = { .to = to, .offset = offset, .len = len };
	if (len == 0)
		return read_nothing(store, key, offset, e);
	int result = read_once((struct s3 *)store, key, &r, e);
	if (result == -ESTALE) { /* replaced while it was read */
		r.done = 0;
		result = read_once((struct s3 *)store, key, &r, e);
	}
	if (result == -ESTALE)
		result = error_set(e, EAGAIN, "object %s: changes while it is read", key);
	return result;
}

/* An object whose size the answer says: one request, not two. */
struct whole {
	struct s3_call *call;
	struct buf data;
	bool too_large;
	atomic_bool stop;
};

static void before_whole(struct s3_call *c)
{
	struct whole *w = c->arg;
	buf_reset(&w->data);
}

static int take_whole(const char *data, size_t len, void *arg)
{
	struct whole *w = arg;
	uint64_t size = w->call->x.length;
	w->too_large =
		(size != UINT64_MAX && size > w->data.cap) || len > w->data.cap - w->data.len;
	if (w->too_large)
		atomic_store(&w->stop, true);
	return w->too_large ? -1 : buf_append(&w->data, data, len);
}

int s3_read_all(struct object_store *store, const char *key, struct buf *to, struct error *e)
{
	struct whole w = { .data = BUF_INIT(to->cap - to->len) };
	struct s3_call c = { .doing = "read",
			     .action = "s3:GetObject",
			     .method = "GET",
			     .key = key,
			     .before = before_whole,
			     .on_data = take_whole,
			     .arg = &w,
			     .stop = &w.stop };
	w.call = &c;
	struct s3 *s = (struct s3 *)store;
	int r = s3_call_missing(s, &c, s3_call(s, &c, e), e);
	if (w.too_large)
		r = error_set(e, EBADMSG, "object %s: larger than %zu bytes", key, w.data.cap);
	else if (r == 0 && buf_append(to, buf_text(&w.data), w.data.len) < 0)
		r = error_set(e, ENOMEM, "out of memory for object %s", key);
	s3_call_deinit(&c);
	buf_deinit(&w.data);
	return r;
}
