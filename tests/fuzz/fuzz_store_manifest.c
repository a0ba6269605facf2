/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: the input as it is, and as the body under a header whose HMAC is right, or nothing
 * would ever get past that. */
#include "base/cleanup.h"
#include "base/id.h"
#include "store/manifest.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>

static const struct seal_key key = { "fuzz" };

/* What was accepted must be safe to act on, and come out the same again. */
static void check(const struct manifest *m)
{
	struct manifest again;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	FUZZ_CHECK(id_valid(m->meta.session) && id_valid(m->writer));
	FUZZ_CHECK(m->pack_count <= MANIFEST_MAX_PACKS && m->index_count > 0);
	FUZZ_CHECK(m->meta.generation >= 0 && m->meta.basis >= 0 && !m->meta.spec);
	for (size_t i = 0; i < m->pack_count; i++) {
		FUZZ_CHECK(id_valid(m->packs[i].writer) && m->packs[i].size <= UINT32_MAX);
		FUZZ_CHECK(m->packs[i].generation <= m->meta.generation);
	}
	for (size_t i = 0; i < m->index_count; i++) {
		const struct manifest_piece *piece = &m->index[i];
		FUZZ_CHECK(piece->pack < m->pack_count && piece->len <= MANIFEST_MAX_PIECE);
		FUZZ_CHECK((uint64_t)piece->offset + piece->stored <= m->packs[piece->pack].size);
	}
	if (manifest_encode(m, &key, &text, NULL) < 0)
		return;
	FUZZ_CHECK(manifest_decode(text.data, text.len, &key, &again, NULL) == 0);
	FUZZ_CHECK(again.pack_count == m->pack_count && again.index_count == m->index_count);
	FUZZ_CHECK(memcmp(again.index, m->index, m->index_count * sizeof(*m->index)) == 0);
	manifest_deinit(&again);
}

static void decode(const char *data, size_t size, const struct seal_key *mac_key)
{
	struct manifest m;
	struct error e = ERROR_INIT;
	int r = manifest_decode(data, size, mac_key, &m, &e);
	FUZZ_CHECK(r == 0 || e.text[0]);
	if (r == 0)
		check(&m);
	manifest_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char mac[32];
	char hex[65];
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	decode((const char *)data, size, &key);
	decode((const char *)data, size, NULL);
	FUZZ_CHECK(seal_mac(&key, data, size, mac, NULL) == 0);
	for (size_t i = 0; i < sizeof(mac); i++)
		snprintf(hex + 2 * i, 3, "%02x", mac[i]);
	if (buf_printf(&text, "{\"format\":\"elsa-checkpoint\",\"version\":2,\"hmac\":\"%s\"}\n",
		       hex) == 0 &&
	    buf_append(&text, data, size) == 0 && buf_append(&text, "\n", 1) == 0)
		decode(text.data, text.len, &key);
	return 0;
}
