/* SPDX-License-Identifier: Apache-2.0 */
#include "store/manifest.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "store/signed.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static const struct signed_format manifest_format = { "elsa-checkpoint", MANIFEST_VERSION,
						      "manifest" };

#define MAX_PACK_SIZE UINT32_MAX         /* offsets have 32 bits */
#define MAX_NUMBER    (INT64_C(1) << 50) /* sums of them do not overflow */

void store_meta_deinit(struct store_meta *meta)
{
	free(meta->user);
	free(meta->server);
	free(meta->cpu);
	free(meta->criu);
	free(meta->kernel);
	free(meta->spec);
	*meta = (struct store_meta) { 0 };
}

void manifest_deinit(struct manifest *m)
{
	store_meta_deinit(&m->meta);
	free(m->packs);
	free(m->index);
	*m = (struct manifest) { 0 };
}

/* The members of store_meta that are in it: texts, of which any may be NULL, and numbers. */
static const struct {
	const char *key;
	size_t offset;
} texts[] = {
	{ "user", offsetof(struct store_meta, user) },
	{ "server", offsetof(struct store_meta, server) },
	{ "cpu", offsetof(struct store_meta, cpu) },
	{ "criu", offsetof(struct store_meta, criu) },
	{ "kernel", offsetof(struct store_meta, kernel) },
}, numbers[] = {
	{ "generation", offsetof(struct store_meta, generation) },
	{ "created_at", offsetof(struct store_meta, created_at) },
	{ "memory_bytes", offsetof(struct store_meta, memory_bytes) },
	{ "basis", offsetof(struct store_meta, basis) },
	{ "stored_bytes", offsetof(struct store_meta, stored_bytes) },
	{ "shared_bytes", offsetof(struct store_meta, shared_bytes) },
	{ "objects", offsetof(struct store_meta, objects) },
};

static char **text_at(const struct store_meta *meta, size_t i)
{
	return (char **)((char *)meta + texts[i].offset);
}

static int64_t *number_at(const struct store_meta *meta, size_t i)
{
	return (int64_t *)((char *)meta + numbers[i].offset);
}

/* --- writing ------------------------------------------------------------------------ */

/* Lists are written by hand: with jansson a manifest of many packs would take many times its size.
 */
static int encode_lists(const struct manifest *m, struct buf *to)
{
	int r = buf_printf(to, ",\"packs\":[");
	for (size_t i = 0; r == 0 && i < m->pack_count; i++) {
		const struct manifest_pack *p = &m->packs[i];
		r = buf_printf(to, "%s[%" PRId64 ",\"%s\",%" PRIu32 ",%" PRIu64 "]", i ? "," : "",
			       p->generation, p->writer, p->number, p->size);
	}
	if (r == 0)
		r = buf_printf(to, "],\"index\":[");
	for (size_t i = 0; r == 0 && i < m->index_count; i++) {
		const struct manifest_piece *p = &m->index[i];
		r = buf_printf(to, "%s[%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "]",
			       i ? "," : "", p->pack, p->offset, p->stored, p->len);
	}
	return r == 0 ? buf_printf(to, "]}") : r;
}

static int encode_text(const char *text, struct buf *to)
{
	if (!text)
		return buf_printf(to, "null");
	cleanup(json_decrefp) json_t *value = json_string(text);
	cleanup_free char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
	return quoted ? buf_printf(to, "%s", quoted) : -EINVAL;
}

static int encode_body(const struct manifest *m, struct buf *to)
{
	const struct store_meta *meta = &m->meta;
	int r = buf_printf(to, "{\"session\":\"%s\",\"writer\":\"%s\"", meta->session, m->writer);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++)
		r = buf_printf(to, ",\"%s\":%" PRId64, numbers[i].key, *number_at(meta, i));
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++) {
		r = buf_printf(to, ",\"%s\":", texts[i].key);
		if (r == 0)
			r = encode_text(*text_at(meta, i), to);
	}
	return r == 0 ? encode_lists(m, to) : r;
}

int manifest_encode(const struct manifest *m, const struct seal_key *mac_key, struct buf *to,
		    struct error *e)
{
	cleanup_buf struct buf body = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = encode_body(m, &body);
	if (r == -EINVAL)
		return error_set(e, EINVAL, "the manifest cannot be written: a text is not UTF-8");
	if (r == -ENOMEM)
		return error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return error_set(e, -r, "the manifest is larger than %zu bytes", to->cap);
	return signed_encode(&manifest_format, &body, mac_key, to, e);
}

/* --- reading ------------------------------------------------------------------------ */

static int fail(struct error *e, const char *what)
{
	return error_set(e, EBADMSG, "%s", what);
}

/* JSON null stands for NULL. */
static int take_text(const json_t *text, char **to, struct error *e)
{
	if (json_is_null(text))
		return 0;
	if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text))
		return fail(e, "a text is missing or of the wrong type");
	*to = strdup(json_string_value(text));
	return *to ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int take_number(const json_t *number, int64_t *to, struct error *e)
{
	if (!json_is_integer(number) || json_integer_value(number) < 0 ||
	    json_integer_value(number) > MAX_NUMBER)
		return fail(e, "a number is missing or out of range");
	*to = json_integer_value(number);
	return 0;
}

static int take_id(const json_t *id, char to[ID_SIZE], struct error *e)
{
	if (!id_valid(json_string_value(id)))
		return fail(e, "an id is missing or is not one");
	memcpy(to, json_string_value(id), ID_SIZE);
	return 0;
}

static int decode_pack(json_t *from, int64_t generation, struct manifest_pack *pack,
		       struct error *e)
{
	json_int_t of, number, size;
	json_t *writer;
	if (json_unpack(from, "[I o I I !]", &of, &writer, &number, &size) < 0)
		return fail(e, "an entry of a pack lacks something or has more than it should");
	if (of < 0 || of > generation)
		return fail(e, "a pack is of a generation that was not yet");
	if (number < 0 || number > UINT32_MAX || size <= 0 || size > MAX_PACK_SIZE)
		return fail(e, "a pack's number or size is out of range");
	pack->generation = of;
	pack->number = (uint32_t)number;
	pack->size = (uint64_t)size;
	return take_id(writer, pack->writer, e);
}

static int decode_packs(const json_t *list, struct manifest *m, struct error *e)
{
	size_t count = json_array_size(list);
	if (!json_is_array(list) || count > MANIFEST_MAX_PACKS)
		return fail(e, "the list of packs is missing or too long");
	m->packs = calloc(count + 1, sizeof(*m->packs));
	if (!m->packs)
		return error_set(e, ENOMEM, "out of memory");
	for (; m->pack_count < count; m->pack_count++) {
		int r = decode_pack(json_array_get(list, m->pack_count), m->meta.generation,
				    &m->packs[m->pack_count], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_piece(json_t *from, const struct manifest *m, struct manifest_piece *piece,
			struct error *e)
{
	json_int_t pack, offset, stored, len;
	if (json_unpack(from, "[I I I I !]", &pack, &offset, &stored, &len) < 0)
		return fail(e, "a piece of the index lacks something or has more than it should");
	if (pack < 0 || (uint64_t)pack >= m->pack_count)
		return fail(e, "a piece of the index is in a pack that is not listed");
	if (offset < 0 || stored <= SEAL_TAG || offset > UINT32_MAX || stored > UINT32_MAX ||
	    (uint64_t)(offset + stored) > m->packs[pack].size)
		return fail(e, "a piece of the index is not inside its pack");
	if (len <= 0 || len > MANIFEST_MAX_PIECE)
		return fail(e, "a piece of the index is too large");
	*piece = (struct manifest_piece) {
		.pack = (uint32_t)pack,
		.offset = (uint32_t)offset,
		.stored = (uint32_t)stored,
		.len = (uint32_t)len,
	};
	return 0;
}

static int decode_index(const json_t *list, struct manifest *m, struct error *e)
{
	size_t count = json_array_size(list);
	if (!json_is_array(list) || count == 0 || count > MANIFEST_MAX_PIECES)
		return fail(e, "the list of the index's pieces is missing, empty or too long");
	m->index = calloc(count, sizeof(*m->index));
	if (!m->index)
		return error_set(e, ENOMEM, "out of memory");
	for (; m->index_count < count; m->index_count++) {
		int r = decode_piece(json_array_get(list, m->index_count), m,
				     &m->index[m->index_count], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_meta(json_t *body, struct store_meta *meta, struct error *e)
{
	int r = take_id(json_object_get(body, "session"), meta->session, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(numbers); i++)
		r = take_number(json_object_get(body, numbers[i].key), number_at(meta, i), e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
		r = take_text(json_object_get(body, texts[i].key), text_at(meta, i), e);
	if (r == 0 && meta->basis > 0 && meta->basis >= meta->generation)
		r = fail(e, "its basis is not an older generation");
	return r;
}

static int decode_body(json_t *body, struct manifest *m, struct error *e)
{
	/* All of them are asked for below, so that many are only these. */
	static const char *const others[] = { "session", "writer", "packs", "index" };
	if (json_object_size(body) != ARRAY_SIZE(others) + ARRAY_SIZE(numbers) + ARRAY_SIZE(texts))
		return fail(e, "something is missing or not known");
	int r = decode_meta(body, &m->meta, e);
	if (r == 0)
		r = take_id(json_object_get(body, "writer"), m->writer, e);
	if (r == 0)
		r = decode_packs(json_object_get(body, "packs"), m, e);
	if (r == 0)
		r = decode_index(json_object_get(body, "index"), m, e);
	return r;
}

static json_t *load(const char *data, size_t len)
{
	return json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
}

int manifest_decode(const char *data, size_t len, const struct seal_key *mac_key,
		    struct manifest *m, struct error *e)
{
	const char *text = NULL;
	size_t text_len = 0;
	*m = (struct manifest) { 0 };
	if (len == 0 || len > MANIFEST_MAX_BYTES)
		return fail(e, len ? "it is too large" : "it is empty");
	int r = signed_decode(&manifest_format, data, len, mac_key, &text, &text_len, e);
	if (r < 0)
		return r;
	cleanup(json_decrefp) json_t *body = load(text, text_len);
	r = body ? decode_body(body, m, e) : fail(e, "it is not JSON");
	if (r < 0)
		manifest_deinit(m);
	return r;
}
