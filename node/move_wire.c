/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_wire_private.h"

#include "base/cleanup.h"
#include "store/squeeze.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* All numbers are little-endian.
 *
 * header	'E' 'M' version type, u32 length of the body
 * ranges	u32 flags, and for each: i32 pid, u32 pages, u64 address
 * pages	u8 form, a bit for each page that is not zeros, and those pages:
 *		as they are; or up to GROUP at a time, u32 length, store/squeeze.h
 */
enum {
	PAGE = MOVE_PAGE,
	GROUP = 16,
	FLAGS_BYTES = 4,
	LENGTH_BYTES = 4,
};
enum form { FORM_PLAIN, FORM_SQUEEZED, FORM_COUNT };

static const unsigned char zeros[PAGE];

/* --- headers and texts ------------------------------------------------------------- */

static bool is_known(uint8_t type)
{
	return (type >= MOVE_HELLO && type <= MOVE_EARLY) || (type >= MOVE_OK && type <= MOVE_DATA);
}

void move_header_write(const struct move_header *h, unsigned char to[MOVE_HEADER_BYTES])
{
	to[0] = 'E';
	to[1] = 'M';
	to[2] = MOVE_VERSION;
	to[3] = h->type;
	move_put_u32(to + 4, h->len);
}

int move_header_read(const unsigned char from[MOVE_HEADER_BYTES], struct move_header *h,
		     struct error *e)
{
	*h = (struct move_header) { from[3], move_get_u32(from + 4) };
	if (from[0] != 'E' || from[1] != 'M')
		return error_set(e, EBADMSG, "the other side does not speak of moving sessions");
	if (h->len > MOVE_BODY_MOST)
		return error_set(e, EBADMSG, "the other node sends too much at once");
	if (from[2] != MOVE_VERSION) {
		error_fault(e, FAULT_REFUSED,
			    "one node speaks version %d of moving sessions, the other %d", from[2],
			    MOVE_VERSION);
		return error_remedy(e, -EPROTONOSUPPORT,
				    "Install the same version of Elsa on both nodes.");
	}
	if (!is_known(h->type))
		return error_set(e, EBADMSG, "the other node says what is no message (%d)",
				 h->type);
	return 0;
}

#define FIELD(s, f, kind) { #f, kind, .offset = offsetof(struct s, f) }
#define NEEDED(s, f)      { #f, WIRE_STRING, .offset = offsetof(struct s, f), .required = true }
#define COUNT(s, f)       { #f, WIRE_INT, .offset = offsetof(struct s, f), .max = INT64_MAX }
#define TABLE_OF(s)                                                                                \
	const struct wire_struct wire_##s = { .name = #s,                                          \
					      .size = sizeof(struct s),                            \
					      .fields = s##_fields,                                \
					      .field_count = ARRAY_SIZE(s##_fields) }

static const struct wire_field move_hello_fields[] = {
	COUNT(move_hello, version),
	NEEDED(move_hello, departure),
	NEEDED(move_hello, session),
	FIELD(move_hello, control, WIRE_BOOL),
};
TABLE_OF(move_hello);

static const struct wire_field move_offer_fields[] = {
	COUNT(move_offer, version),
	FIELD(move_offer, criu, WIRE_STRING),
	FIELD(move_offer, cpu, WIRE_STRING),
	{ "spec", WIRE_STRUCT, offsetof(struct move_offer, spec), .required = true,
	  .nested = &wire_session_spec },
	COUNT(move_offer, generation),
	COUNT(move_offer, fence),
	COUNT(move_offer, tried),
	COUNT(move_offer, started_at),
	COUNT(move_offer, memory_bytes),
};
TABLE_OF(move_offer);

static const struct wire_field move_skeleton_fields[] = {
	COUNT(move_skeleton, frozen_us),
	COUNT(move_skeleton, files_bytes),
	COUNT(move_skeleton, memory_limit),
};
TABLE_OF(move_skeleton);

static const struct wire_field move_failure_fields[] = {
	NEEDED(move_failure, fault),
	NEEDED(move_failure, text),
	FIELD(move_failure, remedy, WIRE_STRING),
};
TABLE_OF(move_failure);

/* --- pages that are asked for ------------------------------------------------------- */

static bool range_is_sane(const struct move_range *r)
{
	uint64_t len = (uint64_t)r->pages * PAGE;
	return r->pid > 0 && r->pages > 0 && r->pages <= MOVE_PAGES_MOST &&
	       r->address % PAGE == 0 && r->address + len > r->address;
}

void move_range_put(unsigned char to[MOVE_RANGE_BYTES], const struct move_range *r)
{
	move_put_u32(to, (uint32_t)r->pid);
	move_put_u32(to + 4, r->pages);
	move_put_u64(to + 8, r->address);
}

bool move_range_get(const unsigned char from[MOVE_RANGE_BYTES], struct move_range *r,
		    uint64_t *pages)
{
	*r = (struct move_range) { .pid = (int32_t)move_get_u32(from),
				   .pages = move_get_u32(from + 4),
				   .address = move_get_u64(from + 8) };
	*pages += r->pages;
	return range_is_sane(r) && *pages <= MOVE_PAGES_MOST;
}

int move_ranges_write(const struct move_range *ranges, size_t count, bool squeeze, struct buf *to,
		      struct error *e)
{
	void *at;
	int r = buf_extend(to, FLAGS_BYTES + count * MOVE_RANGE_BYTES, &at);
	if (r < 0)
		return error_set(e, -r, "too many pages are asked for at once");
	unsigned char *p = at;
	move_put_u32(p, squeeze ? MOVE_SQUEEZE_ALLOWED : 0);
	p += FLAGS_BYTES;
	for (size_t i = 0; i < count; i++, p += MOVE_RANGE_BYTES)
		move_range_put(p, &ranges[i]);
	return 0;
}

static int read_ranges(const unsigned char *from, struct move_range *to, size_t count)
{
	uint64_t pages = 0;
	for (size_t i = 0; i < count; i++, from += MOVE_RANGE_BYTES)
		if (!move_range_get(from, &to[i], &pages))
			return -EBADMSG;
	return 0;
}

int move_ranges_read(const void *from, size_t len, struct move_range **ranges, size_t *count,
		     bool *squeeze, struct error *e)
{
	size_t n = len < FLAGS_BYTES ? 0 : (len - FLAGS_BYTES) / MOVE_RANGE_BYTES;
	if (n == 0 || n > MOVE_RANGES_MOST || len != FLAGS_BYTES + n * MOVE_RANGE_BYTES)
		return error_set(e, EBADMSG, "the other node asks for pages in an unknown way");
	cleanup_free struct move_range *list = calloc(n, sizeof(*list));
	if (!list)
		return error_set(e, ENOMEM, "out of memory");
	if (read_ranges((const unsigned char *)from + FLAGS_BYTES, list, n) < 0)
		return error_set(e, EBADMSG, "the other node asks for pages that cannot be");
	*squeeze = move_get_u32(from) & MOVE_SQUEEZE_ALLOWED;
	*ranges = steal_ptr(&list);
	*count = n;
	return 0;
}

/* --- pages that are given ----------------------------------------------------------- */

static pthread_key_t squeezers;
static pthread_once_t squeezers_once = PTHREAD_ONCE_INIT;

static void free_squeezer(void *s)
{
	squeezer_free(s);
}

static void make_key(void)
{
	pthread_key_create(&squeezers, free_squeezer);
}

/* This thread's; what it has learnt about the data stays with it. */
static struct squeezer *squeezer_here(void)
{
	struct squeezer *s;
	pthread_once(&squeezers_once, make_key);
	s = pthread_getspecific(squeezers);
	if (!s && squeezer_new(&s, NULL) == 0 && pthread_setspecific(squeezers, s) != 0)
		s = squeezer_free(s);
	return s;
}

static size_t map_bytes(size_t count)
{
	return (count + 7) / 8;
}

static bool is_there(const unsigned char *map, size_t page)
{
	return map[page / 8] >> page % 8 & 1;
}

/* The next page from `i` on that is there; `count` at the end. */
static size_t next_there(const unsigned char *map, size_t i, size_t count)
{
	while (i < count && !is_there(map, i))
		i++;
	return i;
}

/* The end of those that follow in a row. */
static size_t end_of_run(const unsigned char *map, size_t i, size_t count)
{
	while (i < count && is_there(map, i))
		i++;
	return i;
}

static int write_plain(const unsigned char *pages, const unsigned char *map, size_t count,
		       struct buf *to)
{
	int r = 0;
	for (size_t i = 0, end; r == 0 && (i = next_there(map, i, count)) < count; i = end) {
		end = end_of_run(map, i, count);
		r = buf_append(to, pages + i * PAGE, (end - i) * PAGE);
	}
	return r;
}

/* Up to GROUP pages that are there, together; where they lie apart they are copied. */
static const unsigned char *gather(const unsigned char *pages, const unsigned char *map, size_t *at,
				   size_t count, size_t *taken, unsigned char scratch[GROUP * PAGE])
{
	size_t first = next_there(map, *at, count), end = end_of_run(map, first, count);
	*taken = 0;
	if (end - first >= GROUP) {
		*at = first + GROUP;
		*taken = GROUP;
		return pages + first * PAGE;
	}
	for (size_t i = first; i < count && *taken < GROUP; i = next_there(map, i + 1, count)) {
		memcpy(scratch + (*taken)++ * PAGE, pages + i * PAGE, PAGE);
		*at = i + 1;
	}
	return scratch;
}

static int write_squeezed(struct squeezer *s, const unsigned char *pages, const unsigned char *map,
			  size_t count, struct buf *to)
{
	unsigned char scratch[GROUP * PAGE];
	size_t at = 0, taken;
	while (next_there(map, at, count) < count) {
		const unsigned char *data = gather(pages, map, &at, count, &taken, scratch);
		void *place;
		size_t most = LENGTH_BYTES + squeeze_most(taken * PAGE);
		int r = buf_extend(to, most, &place);
		if (r < 0)
			return r;
		unsigned char *p = place;
		size_t len = squeeze(s, data, taken * PAGE, p + LENGTH_BYTES);
		move_put_u32(p, (uint32_t)len);
		to->len -= most - LENGTH_BYTES - len;
	}
	return 0;
}

static size_t note_zeros(const unsigned char *pages, size_t count, unsigned char *map)
{
	size_t there = 0;
	memset(map, 0, map_bytes(count));
	for (size_t i = 0; i < count; i++) {
		if (memcmp(pages + i * PAGE, zeros, PAGE) == 0)
			continue;
		map[i / 8] |= (unsigned char)(1 << i % 8);
		there++;
	}
	return there;
}

int move_pages_write(const void *pages, size_t count, bool allowed, struct buf *to, struct error *e)
{
	unsigned char map[MOVE_PAGES_MOST / 8];
	if (count > MOVE_PAGES_MOST)
		return error_set(e, EINVAL, "too many pages at once");
	size_t there = note_zeros(pages, count, map);
	struct squeezer *s = allowed ? squeezer_here() : NULL;
	unsigned char form = s ? FORM_SQUEEZED : FORM_PLAIN;
	size_t begin = to->len;
	int r = buf_append(to, &form, 1);
	if (r == 0)
		r = buf_append(to, map, map_bytes(count));
	size_t head = to->len;
	if (r == 0 && s)
		r = write_squeezed(s, pages, map, count, to);
	if (r == 0 && s && to->len - head >= there * PAGE) {
		to->len = head;
		to->data[begin] = FORM_PLAIN;
		s = NULL;
	}
	if (r == 0 && !s)
		r = write_plain(pages, map, count, to);
	return r < 0 ? error_set(e, -r, "no memory for pages") : 0;
}

static bool read_plain(const unsigned char *from, size_t len, const unsigned char *map,
		       unsigned char *to, size_t count)
{
	for (size_t i = 0, end; (i = next_there(map, i, count)) < count; i = end) {
		end = end_of_run(map, i, count);
		size_t bytes = (end - i) * PAGE;
		if (bytes > len)
			return false;
		memcpy(to + i * PAGE, from, bytes);
		from += bytes;
		len -= bytes;
	}
	return len == 0;
}

/* Where they go, as far as GROUP pages: the first, whether they lie together, and the place behind
 * the last. */
struct group {
	size_t first, behind, count;
};

static struct group next_group(const unsigned char *map, size_t at, size_t count)
{
	struct group g = { .first = next_there(map, at, count) };
	for (size_t i = g.first; i < count && g.count < GROUP; i = next_there(map, i + 1, count)) {
		g.count++;
		g.behind = i + 1;
	}
	return g;
}

static void spread(const struct group *g, const unsigned char *map, const unsigned char *from,
		   unsigned char *to)
{
	for (size_t i = g->first; i < g->behind; i++) {
		if (!is_there(map, i))
			continue;
		memcpy(to + i * PAGE, from, PAGE);
		from += PAGE;
	}
}

static bool read_squeezed(struct squeezer *s, const unsigned char *from, size_t len,
			  const unsigned char *map, unsigned char *to, size_t count)
{
	unsigned char scratch[GROUP * PAGE];
	struct group g = { 0 };
	while (g = next_group(map, g.behind, count), g.count > 0) {
		bool together = g.behind - g.first == g.count;
		unsigned char *place = together ? to + g.first * PAGE : scratch;
		uint32_t bytes = len < LENGTH_BYTES ? 0 : move_get_u32(from);
		if (bytes == 0 || bytes > len - LENGTH_BYTES ||
		    unsqueeze(s, from + LENGTH_BYTES, bytes, place, g.count * PAGE, NULL) < 0)
			return false;
		if (!together)
			spread(&g, map, scratch, to);
		from += LENGTH_BYTES + bytes;
		len -= LENGTH_BYTES + bytes;
	}
	return len == 0;
}

/* Pages of zeros, and that there is no bit behind the last. */
static bool clear_missing(const unsigned char *map, unsigned char *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!is_there(map, i))
			memset(to + i * PAGE, 0, PAGE);
	return count % 8 == 0 || map[count / 8] >> count % 8 == 0;
}

int move_pages_read(const void *from, size_t len, void *to, size_t count, struct error *e)
{
	const unsigned char *p = from, *map = p + 1;
	size_t head = 1 + map_bytes(count);
	bool ok = count <= MOVE_PAGES_MOST && len >= head && p[0] < FORM_COUNT &&
		  clear_missing(map, to, count);
	if (ok && p[0] == FORM_PLAIN) {
		ok = read_plain(p + head, len - head, map, to, count);
	} else if (ok) {
		struct squeezer *s = squeezer_here();
		if (!s)
			return error_set(e, ENOMEM, "out of memory");
		ok = read_squeezed(s, p + head, len - head, map, to, count);
	}
	return ok ? 0 : error_set(e, EBADMSG, "the other node's pages are damaged");
}
