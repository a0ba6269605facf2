/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* The manifest comes first: it says what will follow. */
#include "base/fs.h"
#include "store/internal.h"
#include "store/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { PART = 1 << 20, KEY_MOST = 4096 };

struct export
{
	struct store *store;
	struct tar *tar;
	struct manifest m;
	char *part;
	uint64_t done, total;
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	struct error *e;
};

static void export_deinit(struct export *x)
{
	tar_free(x->tar);
	manifest_deinit(&x->m);
	free(x->part);
}

static int write_text(struct export *x, const char *key, size_t most)
{
	cleanup_buf struct buf text = BUF_INIT(most);
	int r = object_read_all(x->store->objects, key, &text, x->e);
	if (r == 0)
		r = tar_entry(x->tar, key, text.len, x->e);
	if (r == 0)
		r = tar_write(x->tar, buf_text(&text), text.len, x->e);
	return r;
}

static int write_manifest(struct export *x)
{
	cleanup_free char *key = NULL;
	int r = store_key(x->m.meta.session, x->m.meta.generation, STORE_MANIFEST, &key, x->e);
	return r < 0 ? r : write_text(x, key, MANIFEST_MAX_BYTES);
}

static int write_keys(struct export *x)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(x->store, x->m.meta.session, -1, &scan, x->e);
	for (size_t i = 0; i < scan.count && r == 0; i++)
		if (scan.list[i].kind == STORE_KIND_KEY)
			r = write_text(x, scan.list[i].key, KEY_MOST);
	return r;
}

static int write_pack(struct export *x, const struct manifest_pack *pack)
{
	cleanup_free char *key = NULL;
	int r = store_pack_key(x->m.meta.session, pack, &key, x->e);
	if (r == 0)
		r = tar_entry(x->tar, key, pack->size, x->e);
	for (uint64_t at = 0; at < pack->size && r == 0; at += PART) {
		size_t len = pack->size - at < PART ? (size_t)(pack->size - at) : PART;
		r = store_damage(x->e, object_read(x->store->objects, key, at, x->part, len, x->e));
		if (r == 0)
			r = tar_write(x->tar, x->part, len, x->e);
		x->done += len;
		if (x->progress)
			x->progress(x->done, x->total, x->arg);
	}
	return r;
}

static int write_all(struct export *x)
{
	int r = write_manifest(x);
	if (r == 0)
		r = write_keys(x);
	for (size_t i = 0; i < x->m.pack_count && r == 0; i++)
		r = write_pack(x, &x->m.packs[i]);
	return r < 0 ? r : tar_write_end(x->tar, x->e);
}

int store_export(struct store *store, const char *session, int64_t generation, int fd,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct error *e)
{
	cleanup(export_deinit) struct export x = {
		.store = store, .progress = progress, .arg = arg, .e = e
	};
	int r = store_manifest_read(store, session, generation, NULL, &x.m, e);
	if (r == 0)
		r = store_check_packs(store, &x.m, NULL, e);
	if (r == 0 && !(x.part = malloc(PART)))
		r = store_oom(e);
	if (r == 0)
		r = tar_write_open(fd, &x.tar, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < x.m.pack_count; i++)
		x.total += x.m.packs[i].size;
	return write_all(&x);
}
