/* SPDX-License-Identifier: Apache-2.0 */
#include "store/manifest.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "store/digest.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define FORMAT "elsa-checkpoint"

void store_meta_deinit(struct store_meta *meta)
{
	free(meta->user);
	free(meta->server);
	free(meta->spec);
	free(meta->cpu);
	free(meta->criu);
	free(meta->kernel);
	*meta = (struct store_meta) { 0 };
}

void manifest_deinit(struct manifest *m)
{
	store_meta_deinit(&m->meta);
	for (size_t i = 0; i < m->count; i++) {
		free(m->files[i].name);
		free(m->files[i].object);
		free(m->files[i].digests);
	}
	free(m->files);
	*m = (struct manifest) { 0 };
}

size_t manifest_chunks(uint64_t size, uint64_t chunk)
{
	return (size_t)((size + chunk - 1) / chunk);
}

size_t manifest_chunk_size(const struct manifest_file *file, uint64_t chunk, size_t i)
{
	uint64_t left = file->size - i * chunk;
	return (size_t)(left < chunk ? left : chunk);
}

bool manifest_name_valid(const char *name)
{
	size_t len = strlen(name);
	if (len == 0 || len > MANIFEST_MAX_NAME)
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

/* The strings of store_meta; any may be NULL. */
static const struct {
	const char *key;
	size_t offset;
} meta_strings[] = {
	{ "user", offsetof(struct store_meta, user) },
	{ "server", offsetof(struct store_meta, server) },
	{ "spec", offsetof(struct store_meta, spec) },
	{ "cpu", offsetof(struct store_meta, cpu) },
	{ "criu", offsetof(struct store_meta, criu) },
	{ "kernel", offsetof(struct store_meta, kernel) },
};

static char **meta_string(const struct store_meta *meta, size_t i)
{
	return (char **)((char *)meta + meta_strings[i].offset);
}

static json_t *encode_file(const struct manifest_file *file)
{
	json_t *digests = json_array();
	for (size_t i = 0; i < file->chunks; i++) {
		char text[DIGEST_TEXT_SIZE];
		digest_format(file->digests + i * DIGEST_SIZE, text);
		if (json_array_append_new(digests, json_string(text)) < 0)
			digests = (json_decref(digests), NULL);
	}
	return json_pack("{ss ss sI si so}", "name", file->name, "object", file->object, "size",
			 (json_int_t)file->size, "mode", (int)file->mode, "sha256", digests);
}

static json_t *encode_body(const struct manifest *m)
{
	const struct store_meta *meta = &m->meta;
	cleanup(json_decrefp) json_t *files = json_array();
	for (size_t i = 0; i < m->count; i++)
		if (json_array_append_new(files, encode_file(&m->files[i])) < 0)
			return NULL;
	cleanup(json_decrefp) json_t *body = json_pack(
		"{ss sI sI sI sI sI sO}", "session", meta->session, "generation",
		(json_int_t)meta->generation, "created_at", (json_int_t)meta->created_at,
		"memory_bytes", (json_int_t)meta->memory_bytes, "stored_bytes",
		(json_int_t)meta->stored_bytes, "chunk", (json_int_t)m->chunk, "files", files);
	for (size_t i = 0; i < ARRAY_SIZE(meta_strings); i++) {
		const char *text = *meta_string(meta, i);
		if (json_object_set_new(body, meta_strings[i].key,
					text ? json_string(text) : json_null()) < 0)
			return NULL;
	}
	return steal_ptr(&body);
}

int manifest_encode(const struct manifest *m, struct buf *to, struct error *e)
{
	unsigned char digest[DIGEST_SIZE];
	char hex[DIGEST_TEXT_SIZE];
	cleanup(json_decrefp) json_t *body = encode_body(m);
	cleanup_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	if (!text)
		return error_set(e, EINVAL,
				 "the checkpoint's manifest cannot be written as JSON: "
				 "a text in it is not UTF-8, or out of memory");
	if (digest_bytes(text, strlen(text), digest) < 0)
		return error_set(e, EIO, "libcrypto cannot compute SHA-256");
	digest_format(digest, hex);
	int r = buf_printf(to, "{\"format\":\"" FORMAT "\",\"version\":%d,\"sha256\":\"%s\"}\n",
			   MANIFEST_VERSION, hex);
	if (r == 0)
		r = buf_printf(to, "%s\n", text);
	return r < 0 ? error_set(e, -r, "the checkpoint's manifest is larger than %zu bytes",
				 to->cap)
		     : 0;
}

static int fail(struct error *e, const char *what)
{
	return error_set(e, EBADMSG, "%s", what);
}

/* JSON null stands for NULL, where that may be. */
static int take_string(json_t *text, bool null_ok, char **to, struct error *e)
{
	if (null_ok && json_is_null(text))
		return 0;
	if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text))
		return fail(e, "a text is missing or of the wrong type");
	*to = strdup(json_string_value(text));
	return *to ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int decode_digests(const json_t *list, uint64_t chunk, struct manifest_file *file,
			  struct error *e)
{
	file->chunks = manifest_chunks(file->size, chunk);
	if (json_array_size(list) != file->chunks)
		return fail(e, "the number of digests does not fit a file's size");
	file->digests = malloc(file->chunks * DIGEST_SIZE + 1);
	if (!file->digests)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < file->chunks; i++) {
		const char *text = json_string_value(json_array_get(list, i));
		if (!text || digest_parse(text, file->digests + i * DIGEST_SIZE) < 0)
			return fail(e, "a digest is not 64 hexadecimal digits");
	}
	return 0;
}

static int decode_file(json_t *from, uint64_t chunk, struct manifest_file *file, struct error *e)
{
	json_t *name;
	json_t *object;
	json_t *digests;
	json_int_t size;
	int mode;
	if (json_unpack(from, "{so so sI si so !}", "name", &name, "object", &object, "size", &size,
			"mode", &mode, "sha256", &digests) < 0 ||
	    !json_is_array(digests))
		return fail(e, "an entry of a file lacks something or has more than it should");
	int r = take_string(name, false, &file->name, e);
	if (r == 0)
		r = take_string(object, false, &file->object, e);
	if (r < 0)
		return r;
	if (!manifest_name_valid(file->name))
		return fail(e, "a file's name would leave the checkpoint's directory");
	if (!object_key_valid(file->object))
		return fail(e, "the name of a file's object is not one");
	if (size < 0 || (uint64_t)size > MANIFEST_MAX_FILE_SIZE || mode < 0 || mode > 07777)
		return fail(e, "a file's size or mode is out of range");
	file->size = (uint64_t)size;
	file->mode = (uint32_t)mode;
	return decode_digests(digests, chunk, file, e);
}

/* Their order makes names distinct: no file can be laid over another. */
static int decode_files(const json_t *list, struct manifest *m, struct error *e)
{
	size_t count = json_array_size(list);
	if (!json_is_array(list) || count > MANIFEST_MAX_FILES)
		return fail(e, "the list of files is missing or too long");
	m->files = calloc(count + 1, sizeof(*m->files));
	if (!m->files)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		m->count = i + 1;
		int r = decode_file(json_array_get(list, i), m->chunk, &m->files[i], e);
		if (r < 0)
			return r;
		if (i && strcmp(m->files[i - 1].name, m->files[i].name) >= 0)
			return fail(e, "files are not in the order of their names");
		m->meta.stored_bytes += (int64_t)m->files[i].size;
		if (m->meta.stored_bytes > (int64_t)MANIFEST_MAX_FILE_SIZE)
			return fail(e, "the files are too large together");
	}
	m->meta.objects = (int64_t)count;
	return 0;
}

static int decode_body(json_t *body, struct manifest *m, struct error *e)
{
	struct store_meta *meta = &m->meta;
	json_t *strings[ARRAY_SIZE(meta_strings)];
	const char *session;
	json_int_t generation, created_at, memory_bytes, stored_bytes, chunk;
	json_t *files;
	if (json_unpack(body, "{ss sI sI sI sI sI so so so so so so so !}", "session", &session,
			"generation", &generation, "created_at", &created_at, "memory_bytes",
			&memory_bytes, "stored_bytes", &stored_bytes, "chunk", &chunk, "files",
			&files, meta_strings[0].key, &strings[0], meta_strings[1].key, &strings[1],
			meta_strings[2].key, &strings[2], meta_strings[3].key, &strings[3],
			meta_strings[4].key, &strings[4], meta_strings[5].key, &strings[5]) < 0)
		return fail(e, "something is missing or not known");
	if (!id_valid(session) || generation < 0 || created_at < 0 || memory_bytes < 0)
		return fail(e, "its session, generation, time or size is out of range");
	if (chunk < MANIFEST_MIN_CHUNK || chunk > MANIFEST_MAX_CHUNK || (chunk & (chunk - 1)))
		return fail(e, "its chunk size is out of range");
	memcpy(meta->session, session, sizeof(meta->session));
	meta->generation = generation;
	meta->created_at = created_at;
	meta->memory_bytes = memory_bytes;
	m->chunk = (uint64_t)chunk;
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(meta_strings) && r == 0; i++)
		r = take_string(strings[i], true, meta_string(meta, i), e);
	if (r == 0)
		r = decode_files(files, m, e);
	if (r == 0 && meta->stored_bytes != stored_bytes)
		return fail(e, "its files are not as large together as it says");
	return r;
}

static json_t *load(const char *data, size_t len)
{
	return json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
}

/* Gives the body, once its digest is right. */
static int check_header(const char *data, size_t len, const char **body, size_t *body_len,
			struct error *e)
{
	unsigned char wanted[DIGEST_SIZE];
	unsigned char found[DIGEST_SIZE];
	const char *format;
	const char *hex;
	int version;
	const char *end = memchr(data, '\n', len);
	if (!end || data[len - 1] != '\n' || end == data + len - 1)
		return fail(e, "it is cut short");
	cleanup(json_decrefp) json_t *header = load(data, (size_t)(end - data));
	if (json_unpack(header, "{ss si}", "format", &format, "version", &version) < 0 ||
	    strcmp(format, FORMAT) != 0)
		return fail(e, "it is not a manifest");
	if (version != MANIFEST_VERSION)
		return error_set(e, EBADMSG, "it has version %d, and this program knows only %d",
				 version, MANIFEST_VERSION);
	*body = end + 1;
	*body_len = (size_t)(data + len - *body) - 1;
	if (json_unpack(header, "{ss}", "sha256", &hex) < 0 || json_object_size(header) != 3 ||
	    digest_parse(hex, wanted) < 0)
		return fail(e, "it is not a manifest");
	if (digest_bytes(*body, *body_len, found) < 0 || memcmp(wanted, found, DIGEST_SIZE) != 0)
		return fail(e, "it differs from its own SHA-256");
	return 0;
}

int manifest_decode(const char *data, size_t len, struct manifest *m, struct error *e)
{
	const char *text = NULL;
	size_t text_len = 0;
	*m = (struct manifest) { 0 };
	if (len == 0 || len > MANIFEST_MAX_BYTES)
		return fail(e, len ? "it is too large" : "it is empty");
	int r = check_header(data, len, &text, &text_len, e);
	if (r < 0)
		return r;
	cleanup(json_decrefp) json_t *body = load(text, text_len);
	r = body ? decode_body(body, m, e) : fail(e, "it is not JSON");
	if (r < 0)
		manifest_deinit(m);
	return r;
}
