/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: the input as it is, and as the body under a header whose digest is right, or nothing
 * would ever get past that. */
#include "base/cleanup.h"
#include "store/digest.h"
#include "store/manifest.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* What was accepted must be safe to act on, and come out the same again. */
static void check(const struct manifest *m)
{
	struct manifest again;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	FUZZ_CHECK(m->count <= MANIFEST_MAX_FILES);
	for (size_t i = 0; i < m->count; i++) {
		const struct manifest_file *file = &m->files[i];
		FUZZ_CHECK(file->name[0] != '/' && strcmp(file->name, "..") != 0);
		FUZZ_CHECK(!strstr(file->name, "/../") && strncmp(file->name, "../", 3) != 0);
		FUZZ_CHECK(object_key_valid(file->object));
		FUZZ_CHECK(file->chunks == manifest_chunks(file->size, m->chunk));
	}
	if (manifest_encode(m, &text, NULL) < 0)
		return;
	FUZZ_CHECK(manifest_decode(text.data, text.len, &again, NULL) == 0);
	FUZZ_CHECK(again.count == m->count && again.meta.stored_bytes == m->meta.stored_bytes);
	manifest_deinit(&again);
}

static void decode(const char *data, size_t size)
{
	struct manifest m;
	struct error e = ERROR_INIT;
	int r = manifest_decode(data, size, &m, &e);
	FUZZ_CHECK(r == 0 || e.text[0]);
	if (r == 0)
		check(&m);
	manifest_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char digest[DIGEST_SIZE];
	char hex[DIGEST_TEXT_SIZE];
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	decode((const char *)data, size);
	digest_bytes(data, size, digest);
	digest_format(digest, hex);
	if (buf_printf(&text, "{\"format\":\"elsa-checkpoint\",\"version\":1,\"sha256\":\"%s\"}\n",
		       hex) == 0 &&
	    buf_append(&text, data, size) == 0 && buf_append(&text, "\n", 1) == 0)
		decode(text.data, text.len);
	return 0;
}
