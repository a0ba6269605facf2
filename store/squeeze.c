/* SPDX-License-Identifier: Apache-2.0 */
#define ZSTD_STATIC_LINKING_ONLY /* for one parameter's number, in the library since 1.3.5 */
#include "store/squeeze.h"

#include "base/cleanup.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <zstd.h>

/*
 *	0  the bytes
 *	1  a zstd frame
 *	2  mask, the planes without a bit in it, len % 128 last bytes, a zstd frame of the
 *	   planes with one
 */
enum codec { CODEC_RAW, CODEC_ZSTD, CODEC_PLANES };

enum {
	PLANES = 8,
	BLOCK = 128,   /* bytes that are sorted into planes together, 16 words */
	RUNS = 32,     /* places looked at to judge the whole, */
	RUN_WORDS = 8, /* ... and words in a row at each */
	SAMPLE = RUNS * RUN_WORDS,
	SAMPLE_BYTES = SAMPLE * PLANES,
	TWIN_SAMPLE = 512,
	MIN_JUDGED = 4096, /* shorter data is simply tried */
	LEVEL = 1,
	KINDS = 16, /* of data, by bits for a byte of it: each half a bit */
	KEEP_CHOICE = 31,
};

/* Data of one kind mostly comes in masses. Of two ways both are tried, and for so many more of the
 * kind the better one is kept to. */
struct choice {
	unsigned char second, left;
};

struct squeezer {
	ZSTD_CCtx *zstd, *entropy; /* entropy: codes only, no matches */
	ZSTD_DCtx *unzstd;
	unsigned char *planes; /* of one frame */
	size_t planes_size;
	unsigned char *other; /* the second way, where both are tried */
	size_t other_size;
	struct choice by_kind[KINDS + 1][KINDS + 1]; /* zstd, or planes */
	struct choice by_plane[PLANES][KINDS + 1];   /* matches, or only codes */
};

DEFINE_CLEANUP(struct squeezer *, squeezer_free)

/* c log2(c) for each count there can be. */
static float weights[SAMPLE_BYTES + 1];
static pthread_once_t weights_once = PTHREAD_ONCE_INIT;

static void fill_weights(void)
{
	for (int c = 1; c <= SAMPLE_BYTES; c++)
		weights[c] = (float)c * log2f((float)c);
}

/* A step over the whole block leaves no place to look for matches at. */
static bool only_codes(ZSTD_CCtx *ctx)
{
	return !ZSTD_isError(
		       ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, ZSTD_minCLevel())) &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_literalCompressionMode,
						    ZSTD_lcm_huffman));
}

int squeezer_new(struct squeezer **squeezer, struct error *e)
{
	*squeezer = NULL;
	pthread_once(&weights_once, fill_weights);
	cleanup(squeezer_freep) struct squeezer *s = calloc(1, sizeof(*s));
	if (!s || !(s->zstd = ZSTD_createCCtx()) || !(s->unzstd = ZSTD_createDCtx()) ||
	    !(s->entropy = ZSTD_createCCtx()))
		return error_set(e, ENOMEM, "out of memory");
	if (!only_codes(s->entropy) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_compressionLevel, LEVEL)))
		return error_set(e, EIO, "libzstd knows not the parameters that are needed");
	*squeezer = steal_ptr(&s);
	return 0;
}

void *squeezer_free(struct squeezer *s)
{
	if (!s)
		return NULL;
	ZSTD_freeCCtx(s->zstd);
	ZSTD_freeCCtx(s->entropy);
	ZSTD_freeDCtx(s->unzstd);
	free(s->planes);
	free(s->other);
	free(s);
	return NULL;
}

/* Memory of at least `len` bytes, kept for the next time. */
static bool have(unsigned char **memory, size_t *size, size_t len)
{
	if (*memory && len <= *size)
		return true;
	free(*memory);
	*memory = malloc(len + 1);
	*size = *memory ? len : 0;
	return *memory;
}

/* --- planes ------------------------------------------------------------------------- */

typedef unsigned char bytes16 __attribute__((vector_size(16)));

/* The even bytes of two vectors, and the odd ones; zip_* put them back. One instruction each, or
 * two, on every processor with vectors. */
#define EVEN(a, b)                                                                                 \
	__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b)                                                                                  \
	__builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define ZIP_LOW(a, b)                                                                              \
	__builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b)                                                                             \
	__builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* Splitting even from odd bytes three times over leaves each of a word's 8 bytes in a vector of its
 * own. */
static inline void split_block(const unsigned char *from, bytes16 v[PLANES])
{
	bytes16 w[PLANES];
	memcpy(v, from, BLOCK);
	for (int step = 0; step < 3; step++) {
		for (size_t i = 0; i < PLANES / 2; i++) {
			w[i] = EVEN(v[2 * i], v[2 * i + 1]);
			w[i + PLANES / 2] = ODD(v[2 * i], v[2 * i + 1]);
		}
		memcpy(v, w, sizeof(w));
	}
}

static inline void join_block(bytes16 v[PLANES], unsigned char *to)
{
	bytes16 w[PLANES];
	for (int step = 0; step < 3; step++) {
		for (size_t i = 0; i < PLANES / 2; i++) {
			w[2 * i] = ZIP_LOW(v[i], v[i + PLANES / 2]);
			w[2 * i + 1] = ZIP_HIGH(v[i], v[i + PLANES / 2]);
		}
		memcpy(v, w, sizeof(w));
	}
	memcpy(to, v, BLOCK);
}

/* Plane p goes to planes[p]; len is of whole blocks. */
static void split(const unsigned char *from, size_t len, unsigned char *const planes[PLANES])
{
	for (size_t at = 0; at < len; at += BLOCK) {
		bytes16 v[PLANES];
		split_block(from + at, v);
		for (size_t i = 0; i < PLANES; i++)
			memcpy(planes[i] + at / PLANES, &v[i], sizeof(v[i]));
	}
}

static void join(const unsigned char *const planes[PLANES], size_t len, unsigned char *to)
{
	for (size_t at = 0; at < len; at += BLOCK) {
		bytes16 v[PLANES];
		for (size_t i = 0; i < PLANES; i++)
			memcpy(&v[i], planes[i] + at / PLANES, sizeof(v[i]));
		join_block(v, to + at);
	}
}

/* --- judging ------------------------------------------------------------------------ */

/* What samples say of data, in bits for a byte of it, from how often each byte value occurs:
 * matches are not counted. */
struct judgement {
	float whole;
	float plane[PLANES];
	float planes; /* their mean, those not worth it counted in full */
};

/* A plane that shrinks by less than an eighth is left: the whole would by less than 2 %. Few
 * samples of noise look a little duller than it is: 7.2 bits in a plane, 7.9 in all. */
#define WORTH_PLANE 6.6F
#define WORTH_WHOLE 7.7F

static size_t place_in(size_t len, size_t run, size_t runs)
{
	return run * (len / runs / 8 * 8);
}

static void count(const unsigned char *data, size_t len, uint16_t counts[PLANES][256])
{
	memset(counts, 0, sizeof(uint16_t[PLANES][256]));
	for (size_t run = 0; run < RUNS; run++) {
		const unsigned char *at = data + place_in(len, run, RUNS);
		for (size_t i = 0; i < RUN_WORDS * 8; i += 8)
			for (size_t p = 0; p < PLANES; p++)
				counts[p][at[i + p]]++;
	}
}

static void judge(const unsigned char *data, size_t len, struct judgement *j)
{
	uint16_t counts[PLANES][256];
	float sums[PLANES] = { 0 }, whole = 0;
	count(data, len, counts);
	for (int v = 0; v < 256; v++) {
		unsigned total = 0;
		for (size_t p = 0; p < PLANES; p++) {
			sums[p] += weights[counts[p][v]];
			total += counts[p][v];
		}
		whole += weights[total];
	}
	j->whole = (weights[SAMPLE_BYTES] - whole) / SAMPLE_BYTES;
	j->planes = 0;
	for (size_t p = 0; p < PLANES; p++) {
		j->plane[p] = (weights[SAMPLE] - sums[p]) / SAMPLE;
		j->planes += (j->plane[p] < WORTH_PLANE ? j->plane[p] : 8) / PLANES;
	}
}

/* Do words occur more than once? What is drawn from a few values has matches, however noisy those
 * are. */
static bool has_twins(const unsigned char *data, size_t len)
{
	uint64_t seen[TWIN_SAMPLE * 4] = { 0 };
	unsigned twins = 0;
	for (size_t i = 0; i < TWIN_SAMPLE; i++) {
		uint64_t word;
		memcpy(&word, data + place_in(len, i, TWIN_SAMPLE), 8);
		uint64_t *slot = &seen[word * 0x9e3779b97f4a7c15 >> 53];
		twins += *slot == word;
		*slot = word;
	}
	return twins > TWIN_SAMPLE / 20;
}
_Static_assert(TWIN_SAMPLE * 4 == 1 << (64 - 53), "the hash has as many values as there are slots");

/* --- squeezing ------------------------------------------------------------------------ */

static int kind_of(float bits)
{
	return (int)(bits * (KINDS / 8.0F));
}

/* Whether one way can do; then *c says which. */
static bool chosen(struct choice *c)
{
	if (!c->left)
		return false;
	c->left--;
	return true;
}

static void choose(struct choice *c, bool second)
{
	*c = (struct choice) { .second = second, .left = KEEP_CHOICE };
}

static size_t store_raw(const unsigned char *data, size_t len, unsigned char *to)
{
	to[0] = CODEC_RAW;
	memcpy(to + 1, data, len);
	return len + 1;
}

/* 0 when it does not fit. */
static size_t compress(ZSTD_CCtx *ctx, const unsigned char *data, size_t len, unsigned char *to,
		       size_t room)
{
	size_t n = ZSTD_compress2(ctx, to, room, data, len);
	return ZSTD_isError(n) ? 0 : n;
}

/* 0 when it does not get smaller, as for the others below. */
static size_t squeeze_zstd(struct squeezer *s, const unsigned char *data, size_t len,
			   unsigned char *to)
{
	to[0] = CODEC_ZSTD;
	size_t n = len ? compress(s->zstd, data, len, to + 1, len - 1) : 0;
	return n ? n + 1 : 0;
}

/* A plane as a zstd frame. Codes alone are quicker, and where neighbours have nothing to do with
 * each other also shorter. */
static size_t squeeze_plane(struct squeezer *s, struct choice *c, const unsigned char *plane,
			    size_t len, unsigned char *to, size_t room)
{
	if (chosen(c))
		return compress(c->second ? s->entropy : s->zstd, plane, len, to, room);
	size_t matches = compress(s->zstd, plane, len, to, room);
	size_t codes = compress(s->entropy, plane, len, to, room);
	bool second = codes && (!matches || codes < matches + matches / 32);
	choose(c, second);
	return second ? codes : compress(s->zstd, plane, len, to, room);
}

/* Each plane is a zstd frame of its own, so that it has its own codes; zstd reads frames that
 * follow each other as one. */
static size_t squeeze_planes(struct squeezer *s, const struct judgement *j,
			     const unsigned char *data, size_t len, unsigned char *to)
{
	unsigned char *planes[PLANES];
	size_t whole = len / BLOCK * BLOCK, each = whole / PLANES, n = 2;
	if (!have(&s->planes, &s->planes_size, whole))
		return 0;
	to[0] = CODEC_PLANES;
	to[1] = 0;
	/* Those that are left go where they belong at once. */
	for (size_t p = 0; p < PLANES; p++) {
		bool worth = j->plane[p] < WORTH_PLANE;
		planes[p] = worth ? s->planes + p * each : to + n;
		to[1] |= (unsigned char)(worth << p);
		n += worth ? 0 : each;
	}
	if (!to[1])
		return 0;
	split(data, whole, planes);
	memcpy(to + n, data + whole, len - whole);
	n += len - whole;
	for (size_t p = 0; p < PLANES; p++) {
		if (!(to[1] & 1 << p))
			continue;
		size_t m = squeeze_plane(s, &s->by_plane[p][kind_of(j->plane[p])], planes[p], each,
					 to + n, len - n);
		if (!m)
			return 0;
		n += m;
	}
	return n < len ? n : 0;
}

/* Both ways; `to` has the better one afterwards. Planes take half the time of zstd and less, so
 * they may be a little longer. */
static size_t squeeze_both(struct squeezer *s, const struct judgement *j, struct choice *c,
			   const unsigned char *data, size_t len, unsigned char *to)
{
	size_t a = squeeze_zstd(s, data, len, to);
	if (!have(&s->other, &s->other_size, squeeze_most(len)))
		return a;
	size_t b = squeeze_planes(s, j, data, len, s->other);
	bool second = b && (!a || b < a + a / 16);
	choose(c, second);
	if (second)
		memcpy(to, s->other, b);
	return second ? b : a;
}

static size_t squeeze_judged(struct squeezer *s, const unsigned char *data, size_t len,
			     unsigned char *to)
{
	struct judgement j;
	judge(data, len, &j);
	bool noise = j.whole > WORTH_WHOLE && j.planes > WORTH_WHOLE;
	if (noise && !has_twins(data, len))
		return 0;
	/* Nothing is gained by sorting bytes of one kind, like text. */
	if (j.planes >= j.whole)
		return squeeze_zstd(s, data, len, to);
	struct choice *c = &s->by_kind[kind_of(j.whole)][kind_of(j.planes)];
	if (!chosen(c))
		return squeeze_both(s, &j, c, data, len, to);
	return c->second ? squeeze_planes(s, &j, data, len, to) : squeeze_zstd(s, data, len, to);
}

size_t squeeze(struct squeezer *s, const void *data, size_t len, void *to)
{
	size_t n = len < MIN_JUDGED ? squeeze_zstd(s, data, len, to)
				    : squeeze_judged(s, data, len, to);
	return n ? n : store_raw(data, len, to);
}

/* --- and back ------------------------------------------------------------------------- */

static int bad(struct error *e)
{
	return error_set(e, EBADMSG, "a frame's content is not what it says");
}

static int unzstd(struct squeezer *s, const unsigned char *data, size_t data_len, unsigned char *to,
		  size_t len, struct error *e)
{
	size_t n = ZSTD_decompressDCtx(s->unzstd, to, len, data, data_len);
	return ZSTD_isError(n) || n != len ? bad(e) : 0;
}

static int unsqueeze_planes(struct squeezer *s, const unsigned char *data, size_t data_len,
			    unsigned char *to, size_t len, struct error *e)
{
	const unsigned char *planes[PLANES];
	size_t whole = len / BLOCK * BLOCK, each = whole / PLANES;
	if (data_len < 1)
		return bad(e);
	size_t squeezed = (size_t)__builtin_popcount(data[0]) * each;
	size_t plain = len - squeezed, at = 1, out = 0;
	if (data_len - 1 < plain)
		return bad(e);
	if (!have(&s->planes, &s->planes_size, squeezed))
		return error_set(e, ENOMEM, "out of memory");
	for (size_t p = 0; p < PLANES; p++) {
		bool shrunk = data[0] & 1 << p;
		planes[p] = shrunk ? s->planes + out : data + at;
		*(shrunk ? &out : &at) += each;
	}
	memcpy(to + whole, data + at, len - whole);
	at += len - whole;
	int r = unzstd(s, data + at, data_len - at, s->planes, squeezed, e);
	if (r == 0)
		join(planes, whole, to);
	return r;
}

int unsqueeze(struct squeezer *s, const void *data, size_t data_len, void *to, size_t len,
	      struct error *e)
{
	const unsigned char *from = data;
	if (data_len < 1)
		return bad(e);
	switch (from[0]) {
	case CODEC_RAW:
		if (data_len - 1 != len)
			return bad(e);
		memcpy(to, from + 1, len);
		return 0;
	case CODEC_ZSTD:
		return unzstd(s, from + 1, data_len - 1, to, len, e);
	case CODEC_PLANES:
		return unsqueeze_planes(s, from + 1, data_len - 1, to, len, e);
	default:
		return bad(e);
	}
}
