/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_ahead.h"
#include "node/move_pages.h"
#include "node/move_source.h"
#include "node/pagemap_image.h"
#include "node/pages_index.h"
#include "store/seal.h"
#include "tests/unit/move_world.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = STORE_PAGE, PEERS = 32, LAZY = 2, EAGER = 4 };

/* --- the node it came from ------------------------------------------------------------ */

enum wrong { NOTHING, HANGS_UP, IS_GONE, IS_KEPT, IS_DAMAGED, IS_BUSY, IS_OTHER };

struct peer {
	struct move_world world;
	struct move_tls *theirs, *ours;
	pthread_t listening;
	atomic_bool stop;
	struct move_conn *conns[PEERS];
	pthread_t threads[PEERS];
	_Atomic int count; /* connections so far */
	_Atomic enum wrong wrong;
	atomic_bool bulk_waits; /* more than a frame is not answered */
	atomic_bool squeezed;   /* that was allowed once */
	_Atomic int delay_us;   /* of an answer */
	_Atomic int hellos, questions, asked_if_same;
	_Atomic size_t sent, same; /* pages */
	struct move_ahead *ahead;  /* for the next source */
	_Atomic int gone, silent, opened, dropped;
};

static void fill(void *to, int32_t pid, uint64_t address)
{
	uint64_t *words = to;
	bool zeros = address / PAGE % 7 == 3;
	for (size_t i = 0; i < PAGE / 8; i++)
		words[i] = zeros ? 0 : (address + i) * 0x9e3779b97f4a7c15 + (uint64_t)pid;
}

static int answer_pages(struct peer *p, struct move_conn *c, const struct buf *question)
{
	cleanup_free struct move_range *ranges = NULL;
	cleanup_free unsigned char *pages = malloc((size_t)MOVE_PAGES_MOST * PAGE);
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	size_t count, n = 0;
	bool squeeze;
	assert_int_equal(
		move_ranges_read(question->data, question->len, &ranges, &count, &squeeze, NULL),
		0);
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < ranges[i].pages; k++)
			fill(pages + n++ * PAGE, ranges[i].pid, ranges[i].address + k * PAGE);
	while (n > STORE_FRAME_PAGES && p->bulk_waits && !p->stop)
		usleep(1000);
	if (squeeze)
		p->squeezed = true;
	assert_int_equal(move_pages_write(pages, n, squeeze, &body, NULL), 0);
	usleep((useconds_t)p->delay_us);
	if (p->wrong == IS_DAMAGED)
		body.len--;
	return move_send(c, MOVE_DATA, body.data, body.len, NULL);
}

/* As the node where it stands still does. */
static int answer_same(struct peer *p, struct move_conn *c, const struct buf *question)
{
	cleanup_free struct move_tag *tags = NULL;
	cleanup_free unsigned char *pages = malloc((size_t)MOVE_PAGES_MOST * PAGE);
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	bool squeeze, same[MOVE_PAGES_MOST];
	struct seal_key key;
	struct sealer *sealer;
	size_t count, n = 0;
	assert_int_equal(move_tags_read(question->data, question->len, key.bytes, &tags, &count,
					&squeeze, NULL),
			 0);
	assert_int_equal(sealer_new(&key, &sealer, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		const struct move_range *r = &tags[i].range;
		unsigned char tag[MOVE_TAG];
		for (uint32_t k = 0; k < r->pages; k++)
			fill(pages + (n + k) * PAGE, r->pid, r->address + k * PAGE);
		assert_int_equal(seal_tag(sealer, pages + n * PAGE, r->pages * PAGE, tag), 0);
		same[i] = tags[i].has && memcmp(tag, tags[i].tag, MOVE_TAG) == 0;
		n += same[i] ? 0 : r->pages;
		p->same += same[i] ? r->pages : 0;
	}
	sealer_free(sealer);
	p->sent += n;
	assert_int_equal(move_same_write(same, count, pages, n, squeeze, &body, NULL), 0);
	if (p->wrong == IS_DAMAGED)
		body.len--;
	return move_send(c, MOVE_DATA, body.data, body.len, NULL);
}

static int answer(struct peer *p, struct move_conn *c, enum move_type type, const struct buf *body)
{
	struct error e = ERROR_INIT;
	struct move_hello hello;
	if (p->wrong == HANGS_UP)
		return -1;
	if (p->wrong == IS_GONE || p->wrong == IS_KEPT || p->wrong == IS_BUSY) {
		static const enum fault faults[] = { [IS_GONE] = FAULT_NOT_FOUND,
						     [IS_KEPT] = FAULT_CONFLICT,
						     [IS_BUSY] = FAULT_UNAVAILABLE };
		error_fault(&e, faults[p->wrong], "no memory of that");
		return move_send_error(c, &e);
	}
	if (p->wrong == IS_OTHER)
		return move_world_say_otherwise(c);
	if (type == MOVE_PAGES) {
		p->questions++;
		return answer_pages(p, c, body);
	}
	if (type == MOVE_SAME) {
		p->asked_if_same++;
		return answer_same(p, c, body);
	}
	assert_int_equal(type, MOVE_HELLO);
	assert_int_equal(
		wire_decode_text(&wire_move_hello, buf_text(body), body->len, &hello, NULL), 0);
	assert_string_equal(hello.departure, "d1");
	assert_string_equal(hello.session, "s1");
	assert_false(hello.control);
	wire_free(&wire_move_hello, &hello);
	p->hellos++;
	return move_send(c, MOVE_OK, NULL, 0, NULL);
}

struct serving {
	struct peer *peer;
	struct move_conn *conn;
};

static void *serve(void *arg)
{
	struct serving s = *(struct serving *)arg;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	enum move_type type;
	free(arg);
	while (move_recv(s.conn, &type, &body, 60000, NULL) == 0)
		if (answer(s.peer, s.conn, type, &body) < 0)
			break;
	move_conn_hang_up(s.conn);
	return NULL;
}

static void accept_one(struct peer *p)
{
	int at = p->count;
	int fd = accept4(p->world.listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || at == PEERS || move_accept(p->theirs, fd, 5000, &p->conns[at], NULL) < 0)
		return;
	struct serving *s = malloc(sizeof(*s));
	*s = (struct serving) { p, p->conns[at] };
	assert_int_equal(pthread_create(&p->threads[at], NULL, serve, s), 0);
	p->count++;
}

static void *listen_main(void *arg)
{
	struct peer *p = arg;
	while (!p->stop) {
		struct pollfd fd = { .fd = p->world.listener, .events = POLLIN };
		if (poll(&fd, 1, 10) > 0)
			accept_one(p);
	}
	return NULL;
}

static void hang_up_all(struct peer *p)
{
	for (int i = 0; i < p->count; i++)
		move_conn_hang_up(p->conns[i]);
}

/* --- what is missing here --------------------------------------------------------------- */

static void write_image(struct peer *p, int pid, const struct store_extent *extents, size_t count)
{
	cleanup_free char *path = str_printf("%s/pagemap-%d.img", p->world.dir, pid);
	cleanup_buf struct buf image = BUF_INIT(1 << 20);
	const struct store_memory m = { .extents = (struct store_extent *)(uintptr_t)extents,
					.extent_count = count };
	assert_int_equal(pagemap_image(&m, 1, &image), 0);
	assert_int_equal(fs_replace(path, image.data, image.len, 0600, NULL), 0);
}

static const struct store_extent of_10[] = {
	{ 0x10000, 3, EAGER },
	{ 0x13000, 5, LAZY },
	{ 0x20000, 16, LAZY | EAGER },
	{ 0x7f0000001000, 600, LAZY },
};
static const struct store_extent of_11[] = { { 0x5000, 1, EAGER } };
static const struct store_extent of_9[] = { { 0x5000, 1, LAZY } };

static struct move_tls *give_tls(void *arg, struct error *e)
{
	struct peer *p = arg;
	cleanup_free char *key = str_printf("%s/n2.key", p->world.dir);
	cleanup_free char *cert = str_printf("%s/n2.pem", p->world.dir);
	cleanup_free char *ca = str_printf("%s/ca.pem", p->world.dir);
	const struct identity id = { .key_file = key, .cert_file = cert, .ca_file = ca };
	struct move_tls *tls = NULL;
	move_tls_new(&id, &tls, e);
	return tls;
}

static void on_gone(void *arg, bool said)
{
	struct peer *p = arg;
	if (said)
		p->gone++;
	else
		p->silent++;
}

static void on_drop(void *arg)
{
	((struct peer *)arg)->dropped++;
}

#define until(condition)                                                                           \
	for (int i = 0; i < 5000 && !(condition); i++)                                             \
	usleep(1000)

static void open_on(struct peer *p, bool connected, struct page_source *source)
{
	struct error e = ERROR_INIT;
	const struct move_lines_options to = {
		.departure = "d1",
		.session = "s1",
		.node = "n1",
		.at = p->world.at,
		.tls = give_tls,
		.gone = on_gone,
		.patience_ms = 300,
		.drop = on_drop,
		.arg = p,
	};
	struct move_source_options o = {
		.images = p->world.dir,
		.ahead = steal_ptr(&p->ahead),
	};
	p->opened++;
	if (move_lines_new(&to, &o.lines, &e) < 0)
		fail_msg("%s", e.text);
	if (connected)
		move_lines_connect(o.lines);
	if (move_source_open(&o, source, &e) < 0)
		fail_msg("%s", e.text);
}

static void open_source(struct peer *p, struct page_source *source)
{
	open_on(p, false, source);
}

static void open_connected(struct peer *p, struct page_source *source)
{
	int before = p->hellos;
	open_on(p, true, source);
	assert_int_equal(p->hellos, before + MOVE_LINES);
}

static int setup(void **state)
{
	struct peer *p = calloc(1, sizeof(*p));
	move_world_init(&p->world);
	p->theirs = move_world_tls(&p->world, "ca", "n1", MOVE_HOUR);
	p->ours = move_world_tls(&p->world, "ca", "n2", MOVE_HOUR);
	write_image(p, 10, of_10, ARRAY_SIZE(of_10));
	write_image(p, 9, of_9, ARRAY_SIZE(of_9));
	write_image(p, 11, of_11, ARRAY_SIZE(of_11));
	assert_int_equal(pthread_create(&p->listening, NULL, listen_main, p), 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct peer *p = *state;
	assert_int_equal(p->dropped, p->opened);
	p->stop = true;
	pthread_join(p->listening, NULL);
	hang_up_all(p);
	for (int i = 0; i < p->count; i++) {
		pthread_join(p->threads[i], NULL);
		move_conn_free(p->conns[i]);
	}
	move_tls_free(p->theirs);
	move_tls_free(p->ours);
	move_world_deinit(&p->world);
	free(p);
	return 0;
}

/* --- reading ------------------------------------------------------------------------------ */

struct got {
	const struct page_source *source;
	uint32_t next; /* frames come in the order in which they were asked for */
	size_t frames;
	size_t stop_after;
};

/* Where a frame belongs, as the page service finds it. */
static int on_frame(uint32_t frame, const void *pages, size_t len, void *arg)
{
	struct got *g = arg;
	unsigned char expected[PAGE];
	size_t seen = 0;
	assert_true(frame >= g->next);
	g->next = frame + 1;
	assert_int_equal(len, (size_t)g->source->frames[frame].pages * PAGE);
	for (size_t i = 0; i < g->source->memory_count; i++) {
		const struct store_memory *m = &g->source->memories[i];
		int32_t pid = (int32_t)strtol(m->name + strlen("pagemap-"), NULL, 10);
		uint64_t page = 0;
		for (size_t k = 0; k < m->extent_count; k++)
			for (uint64_t n = 0; n < m->extents[k].pages; n++, page++) {
				if (m->frames[page] != frame)
					continue;
				fill(expected, pid, m->extents[k].vaddr + n * PAGE);
				assert_memory_equal((const char *)pages + m->slots[page] * PAGE,
						    expected, PAGE);
				seen++;
			}
	}
	assert_int_equal(seen * PAGE, len);
	return ++g->frames == g->stop_after ? -ECANCELED : 0;
}

static int read_frames(const struct page_source *s, uint32_t first, size_t count, struct error *e)
{
	uint32_t frames[64];
	struct got g = { .source = s };
	for (size_t i = 0; i < count; i++)
		frames[i] = first + (uint32_t)i;
	error_clear(e);
	int r = s->read(s->from, frames, count, on_frame, &g, e);
	assert_true(r < 0 || g.frames == count);
	return r;
}

static void assert_read(const struct page_source *s, uint32_t first, size_t count)
{
	struct error e = ERROR_INIT;
	if (read_frames(s, first, count, &e) < 0)
		fail_msg("%s", e.text);
}

static void test_frames(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct pages_index x;
	struct error e = ERROR_INIT;
	open_source(p, &s);
	/* 9; of 10: 5 pages, 16, 15 up to a whole frame and 585 after that; 11 has none. */
	assert_int_equal(s.memory_count, 3);
	assert_int_equal(s.frame_count, 1 + 1 + 1 + 1 + 37);
	/* They are all in small pieces. */
	assert_int_equal(s.likely_count, s.frame_count);
	uint64_t once = 0;
	for (uint32_t f = 0; f < s.frame_count; f++)
		once |= UINT64_C(1) << s.likely[f];
	assert_int_equal(once, (UINT64_C(1) << s.frame_count) - 1);
	if (pages_index_init(&x, &s, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(x.start[s.frame_count], 1 + 5 + 16 + 600);
	assert_true(pages_index_find(&x, 11) >= 0);
	assert_true(pages_index_find(&x, 12) < 0);
	pages_index_deinit(&x);
	s.free(s.from);
	assert_int_equal(p->dropped, p->opened);
}

static void test_read(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	open_source(p, &s);
	for (uint32_t f = 0; f < s.frame_count; f++)
		assert_read(&s, f, 1);
	assert_read(&s, 0, s.frame_count);
	/* Apart from each other. */
	static const uint32_t some[] = { 0, 2, 3, 7, 8, 20, 40 };
	struct got g = { .source = &s };
	assert_int_equal(s.read(s.from, some, ARRAY_SIZE(some), on_frame, &g, NULL), 0);
	assert_int_equal(g.frames, ARRAY_SIZE(some));
	assert_int_equal(s.read(s.from, some, 0, on_frame, &g, NULL), 0);
	s.free(s.from);
}

/* The answers that nobody waits for any more are nobody's, on the same connection. */
static void test_stopped(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	uint32_t all[64];
	open_source(p, &s);
	for (uint32_t f = 0; f < s.frame_count; f++)
		all[f] = f;
	for (size_t after = 1; after < s.frame_count; after += 3) {
		struct got g = { .source = &s, .stop_after = after };
		assert_int_equal(s.read(s.from, all, s.frame_count, on_frame, &g, NULL),
				 -ECANCELED);
		assert_int_equal(g.frames, after);
		assert_read(&s, 0, 8);
	}
	assert_int_equal(p->count, 1);
	/* It may break before they have come. */
	struct got g = { .source = &s, .stop_after = 1 };
	assert_int_equal(s.read(s.from, all, s.frame_count, on_frame, &g, NULL), -ECANCELED);
	hang_up_all(p);
	assert_read(&s, 0, s.frame_count);
	assert_int_equal(p->count, 2);
	s.free(s.from);
}

/* Of three frames one came as it is, one as it was once, and one did not. */
static void put_ahead(struct peer *p, uint64_t first, uint64_t end)
{
	static unsigned char page[PAGE];
	struct error e = ERROR_INIT;
	if (move_ahead_new(p->world.dir, UINT64_MAX, &p->ahead, &e) < 0)
		fail_msg("%s", e.text);
	for (uint64_t at = first; at < end; at += PAGE) {
		const struct move_range r = { .pid = 10, .pages = 1, .address = at };
		uint64_t kind = at / STORE_FRAME_BYTES % 3;
		fill(page, 10, at);
		if (kind == 1)
			page[at / PAGE % 7] ^= 1;
		if (kind < 2)
			assert_int_equal(move_ahead_put(p->ahead, &r, page, &e), 0);
	}
}

static void test_ahead(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	put_ahead(p, 0x7f0000001000, 0x7f0000001000 + 600 * PAGE);
	open_connected(p, &s);
	for (uint32_t f = 0; f < s.frame_count; f++)
		assert_read(&s, f, 1);
	assert_true(p->questions > 0 && p->asked_if_same > 0);
	/* Frames of which there is no copy are not asked about. */
	size_t same = p->same;
	assert_in_range(same, 600 / 3 - 2 * STORE_FRAME_PAGES, 600 / 3 + STORE_FRAME_PAGES);
	assert_in_range(p->sent, 600 / 3 - 2 * STORE_FRAME_PAGES, 600 / 3 + STORE_FRAME_PAGES);
	/* Many at once, and again on connections that are new. */
	assert_read(&s, 0, s.frame_count);
	assert_int_equal(p->same, 2 * same);
	hang_up_all(p);
	assert_read(&s, 0, s.frame_count);
	assert_int_equal(p->same, 3 * same);
	s.free(s.from);
}

/* It is asked for again, of what there is a copy, too. */
static void test_ahead_damaged(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	put_ahead(p, 0x7f0000001000, 0x7f0000001000 + 600 * PAGE);
	open_source(p, &s);
	p->wrong = IS_DAMAGED;
	assert_true(read_frames(&s, 0, s.frame_count, &e) < 0);
	assert_int_equal(e.fault, FAULT_UNAVAILABLE);
	p->wrong = NOTHING;
	assert_read(&s, 0, s.frame_count);
	s.free(s.from);
}

/* What breaks between two reads is not noticed by who reads. */
static void test_connections_end(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	open_connected(p, &s);
	assert_read(&s, 0, 1);
	assert_read(&s, 0, 8);
	hang_up_all(p);
	assert_read(&s, 3, 1);
	assert_read(&s, 0, s.frame_count);
	s.free(s.from);
}

static void test_away_and_back(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	open_connected(p, &s);
	assert_read(&s, 0, 1);
	p->wrong = HANGS_UP;
	assert_true(read_frames(&s, 0, 1, &e) < 0);
	assert_int_equal(e.fault, FAULT_UNAVAILABLE);
	assert_non_null(strstr(e.text, "node n1"));
	assert_true(read_frames(&s, 0, 8, &e) < 0);
	int before = p->count;
	/* Nobody is asked again and again. */
	for (int i = 0; i < 100; i++)
		assert_true(read_frames(&s, 0, 1, &e) < 0);
	assert_in_range(p->count - before, 0, 5);
	p->wrong = NOTHING;
	until(read_frames(&s, 0, 1, &e) == 0);
	assert_read(&s, 0, s.frame_count);
	assert_int_equal(p->gone, 0);
	s.free(s.from);
}

static void test_busy(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	open_connected(p, &s);
	p->wrong = IS_BUSY;
	assert_true(read_frames(&s, 0, 1, &e) < 0);
	assert_non_null(strstr(e.text, "node n1: no memory of that"));
	assert_int_equal(p->gone, 0);
	s.free(s.from);
}

/* It was upgraded while memory was on its way: that is waited for, and nothing of it given up. */
static void test_another_version(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	open_connected(p, &s);
	p->wrong = IS_OTHER;
	for (int i = 0; i < 3; i++)
		assert_true(read_frames(&s, 0, i % 2 ? 8 : 1, &e) < 0);
	assert_non_null(strstr(e.text, "version"));
	assert_int_equal(p->gone, 0);
	p->wrong = NOTHING;
	until(read_frames(&s, 0, 1, &e) == 0);
	s.free(s.from);
}

static void test_gone(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	static const struct {
		enum wrong wrong;
		int result;
	} table[] = { { IS_GONE, -ENOENT }, { IS_KEPT, -EBUSY } };
	for (size_t k = 0; k < ARRAY_SIZE(table); k++) {
		p->wrong = NOTHING;
		p->gone = 0;
		open_connected(p, &s);
		assert_read(&s, 0, 1);
		p->wrong = table[k].wrong;
		for (int i = 0; i < 3; i++)
			assert_int_equal(read_frames(&s, 0, i % 2 ? 8 : 1, &e), table[k].result);
		assert_int_equal(p->gone, 1);
		s.free(s.from);
	}
}

/* Whoever need not wait for ever is told; and reads go right when it is back. */
static void test_silent(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	open_connected(p, &s);
	assert_read(&s, 0, 1);
	p->wrong = HANGS_UP;
	mono_us begun = clock_mono();
	until(read_frames(&s, 0, 1, &e) < 0 && p->silent);
	assert_in_range(clock_mono() - begun, 300000, 5000000);
	assert_int_equal(p->silent, 1);
	p->wrong = NOTHING;
	until(read_frames(&s, 0, 1, &e) == 0);
	assert_int_equal(p->gone, 0);
	s.free(s.from);
}

/* A page that did not come whole is never put anywhere, and is not called damaged for good. */
static void test_damaged(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct error e = ERROR_INIT;
	open_source(p, &s);
	p->wrong = IS_DAMAGED;
	assert_int_equal(read_frames(&s, 0, 8, &e), -EHOSTDOWN);
	p->wrong = NOTHING;
	assert_read(&s, 0, 8);
	s.free(s.from);
}

struct bulk {
	struct page_source *source;
	pthread_t thread;
};

static void *read_bulk(void *arg)
{
	const struct bulk *b = arg;
	struct error e;
	read_frames(b->source, 4, 20, &e);
	return NULL;
}

static void test_faults_first(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	struct bulk many[6];
	open_source(p, &s);
	p->bulk_waits = true;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		many[i].source = &s;
		assert_int_equal(pthread_create(&many[i].thread, NULL, read_bulk, &many[i]), 0);
	}
	until(p->questions >= 4);
	for (uint32_t f = 0; f < 8; f++)
		assert_read(&s, f, 1);
	p->bulk_waits = false;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		pthread_join(many[i].thread, NULL);
	s.free(s.from);
}

static void test_bad_images(void **state)
{
	struct peer *p = *state;
	struct move_pages pages;
	struct error e = ERROR_INIT;
	cleanup_free char *dir = str_printf("%s/none", p->world.dir);
	cleanup_free char *image = str_printf("%s/pagemap-10.img", p->world.dir);
	cleanup_buf struct buf whole = BUF_INIT(1 << 20);
	assert_int_equal(move_pages_init(&pages, dir, &e), -ENOENT);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(move_pages_init(&pages, dir, &e), -EBADMSG);
	assert_int_equal(fs_read(image, &whole, NULL), 0);
	size_t good = 0;
	for (size_t len = 0; len <= whole.len; len++) {
		assert_int_equal(fs_replace(image, whole.data, len, 0600, NULL), 0);
		if (move_pages_init(&pages, p->world.dir, &e) == 0)
			good++;
		move_pages_deinit(&pages);
	}
	/* Cut between two messages it is one that has less. */
	assert_int_equal(good, ARRAY_SIZE(of_10) + 1);
}

/* Over a link that is slow the peer is told that it may compress, and what comes is the same. */
static void test_slow_link(void **state)
{
	struct peer *p = *state;
	struct page_source s;
	open_source(p, &s);
	/* Slower than we are at looking at what has come. */
	for (int i = 0; i < 50 && !p->squeezed; i++) {
		p->delay_us += 20000;
		assert_read(&s, 4, 37);
	}
	assert_true(p->squeezed);
	assert_read(&s, 0, s.frame_count);
	s.free(s.from);
}

#define peer_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		peer_test(test_frames),          peer_test(test_read),
		peer_test(test_stopped),         peer_test(test_ahead),
		peer_test(test_ahead_damaged),   peer_test(test_connections_end),
		peer_test(test_away_and_back),   peer_test(test_busy),
		peer_test(test_silent),          peer_test(test_gone),
		peer_test(test_another_version), peer_test(test_damaged),
		peer_test(test_faults_first),    peer_test(test_bad_images),
		peer_test(test_slow_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
