/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that fail at every place, and objects that are not what they were. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_kit.h"

#include "store/cache.h"

/* --- requests that fail ------------------------------------------------------------------ */

struct trouble {
	int at;       /* request */
	bool forever; /* ... and all after it */
	bool done;    /* it has been done all the same */
	int r;
	atomic_int refused; /* removals */
};

static int fail_at(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	struct trouble *f = arg;
	(void)key;
	if (number != f->at && !(f->forever && number > f->at))
		return 0;
	if (call == HOOK_REMOVE)
		atomic_fetch_add(&f->refused, 1);
	if (!f->done)
		return f->r;
	*after = f->r;
	return 0;
}

static void small_model(struct model *m)
{
	model_init(m, 300);
	m->file_count = 3;
}

/* A second checkpoint of a session is written, with a fault: it is there and whole, or it is not
 * there; the first one is as before; and what is left is found by gc. */
static bool write_with(struct kit *k, struct trouble *f, const struct model *first,
		       const struct model *second)
{
	struct error e = ERROR_INIT;
	hook_on(k->s);
	hook.arg = f;
	hook.before = fail_at;
	atomic_store(&hook.number, 0);
	atomic_store(&f->refused, 0);
	int r = model_try(k->s, 2, second, NULL, &e);
	int requests = atomic_load(&hook.number);
	hook.before = NULL;
	/* Each takes as long as a request is tried for. */
	assert_true(atomic_load(&f->refused) <= 2);
	if (r < 0)
		assert_true(e.text[0] && e.fault != FAULT_NONE);
	bool there = kit_count(k->s, "/2/manifest").count;
	if (r == 0 || !f->forever)
		assert_int_equal(there, r == 0);
	if (there)
		model_check(k->s, 2, second);
	model_check(k->s, 1, first);
	struct store_gc gc = { 0 };
	if (store_gc(k->s, &gc, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(kit_count(k->s, ".mark").count, 0);
	if (!there) {
		assert_int_equal(kit_count(k->s, "/2/").count, 0);
		assert_int_equal(model_try(k->s, 2, second, NULL, &e), 0);
	}
	model_check(k->s, 2, second);
	model_check(k->s, 1, first);
	assert_int_equal(store_remove(k->s, SESSION, 2, &e), 0);
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	return requests > f->at;
}

static void write_with_faults(void **state, struct trouble f)
{
	struct kit *k = *state;
	struct model first;
	struct model second;
	small_model(&first);
	small_model(&second);
	second.memories[0].seeds[10] += 100001;
	second.file_seed++;
	model_write(k->s, 1, &first, NULL);
	for (f.at = 0; write_with(k, &f, &first, &second); f.at++)
		assert_true(f.at < 200);
	assert_true(f.at > 15);
	model_deinit(&first);
	model_deinit(&second);
}

static void test_write_fails_once(void **state)
{
	write_with_faults(state, (struct trouble) { .r = -EHOSTDOWN });
}

static void test_write_fails_for_good(void **state)
{
	write_with_faults(state, (struct trouble) { .r = -ECONNRESET, .forever = true });
}

static void test_write_answers_are_lost(void **state)
{
	write_with_faults(state, (struct trouble) { .r = -ETIMEDOUT, .done = true });
}

static void test_write_all_answers_are_lost(void **state)
{
	write_with_faults(state,
			  (struct trouble) { .r = -ETIMEDOUT, .done = true, .forever = true });
}

static void test_write_says_damaged(void **state)
{
	write_with_faults(state, (struct trouble) { .r = -EBADMSG });
}

static void test_write_disk_full(void **state)
{
	write_with_faults(state, (struct trouble) { .r = -ENOSPC, .forever = true });
}

static void test_read_fails(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct trouble f = { .r = -EHOSTDOWN };
	int requests;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	hook_on(k->s);
	do {
		struct error e = ERROR_INIT;
		hook.arg = &f;
		hook.before = fail_at;
		atomic_store(&hook.number, 0);
		int r = model_read(k->s, 1, &m, &e);
		requests = atomic_load(&hook.number);
		if (requests > f.at) {
			assert_int_equal(r, -EHOSTDOWN);
			assert_int_equal(e.fault, FAULT_UNAVAILABLE);
		} else {
			assert_int_equal(r, 0);
		}
		f.at++;
	} while (requests >= f.at);
	assert_true(f.at > 5);
	model_deinit(&m);
}

/* --- bits that are turned over on the way -------------------------------------------------- */

struct spoiler {
	int at, seen;
	bool forever;
};

static void spoil_read(const char *key, uint64_t offset, void *data, size_t len, void *arg)
{
	struct spoiler *s = arg;
	(void)offset;
	if (!strstr(key, "-") || strstr(key, "key-") || len == 0)
		return;
	if (s->seen++ == s->at || (s->forever && s->seen > s->at))
		((unsigned char *)data)[len / 2] ^= 4;
}

static void test_bits_flip_on_the_way(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct spoiler s = { 0 };
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	hook_on(k->s);
	hook.arg = &s;
	hook.spoil = spoil_read;
	do {
		struct error e = ERROR_INIT;
		s.seen = 0;
		s.forever = false;
		assert_int_equal(model_read(k->s, 1, &m, &e), 0);
		if (s.seen <= s.at)
			break;
		s.seen = 0;
		s.forever = true;
		assert_int_equal(model_read(k->s, 1, &m, &e), -EBADMSG);
		assert_int_equal(e.fault, FAULT_CORRUPT);
		assert_non_null(strstr(e.text, "object s/" SESSION "/1/"));
	} while (++s.at);
	assert_true(s.at >= 3);
	model_deinit(&m);
}

/* A store that keeps something else than it was given is found out before the commit. */
static void test_bits_flip_when_stored(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct spoiler s = { .forever = true };
	small_model(&m);
	hook_on(k->s);
	hook.arg = &s;
	hook.spoil = spoil_read;
	assert_int_equal(model_try(k->s, 1, &m, NULL, &e), -EBADMSG);
	hook.spoil = NULL;
	assert_int_equal(kit_count(k->s, "/1/").count, 0);
	model_deinit(&m);
}

/* --- objects that are not what they were ----------------------------------------------------- */

struct keys {
	char *list[64];
	size_t count;
};

static int keep_key(const char *key, const struct object_stat *st, void *arg)
{
	struct keys *keys = arg;
	(void)st;
	keys->list[keys->count++] = strdup(key);
	return 0;
}

static void keys_deinit(struct keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		free(keys->list[i]);
}

static struct buf get(struct store *s, const char *key)
{
	struct buf b = BUF_INIT(64 * MIB);
	assert_int_equal(object_read_all(s->objects, key, &b, NULL), 0);
	return b;
}

static void put(struct store *s, const char *key, const void *data, size_t len)
{
	assert_int_equal(object_put(s->objects, key, data, len, false, NULL), 0);
}

static void assert_damaged(struct kit *k, int64_t generation, const char *key)
{
	struct error e = ERROR_INIT;
	int r = kit_verify(k->s, generation, &e);
	if (r != -EBADMSG || e.fault != FAULT_CORRUPT || !strstr(e.text, key))
		fail_msg("%s: %d: %s", key, r, e.text);
}

static void damage(struct kit *k, const char *key)
{
	cleanup_buf struct buf good = get(k->s, key);
	for (size_t i = 0; i < 16; i++) {
		size_t at = i < 8 ? i * (good.len / 8) : good.len - 1 - (i - 8);
		good.data[at] ^= 1;
		put(k->s, key, good.data, good.len);
		good.data[at] ^= 1;
		assert_damaged(k, 2, key);
	}
	put(k->s, key, good.data, good.len - 1);
	assert_damaged(k, 2, key);
	put(k->s, key, "", 0);
	assert_damaged(k, 2, key);
	put(k->s, key, good.data, good.len);
}

static void test_damaged_objects(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	cleanup(keys_deinit) struct keys keys = { 0 };
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	m.memories[0].seeds[0]++;
	model_write(k->s, 2, &m, NULL);
	assert_int_equal(object_list(k->s->objects, "s/", keep_key, &keys, NULL), 0);
	size_t tried = 0;
	for (size_t i = 0; i < keys.count; i++) {
		const char *key = keys.list[i];
		struct store_object o;
		store_key_parse(key, &o);
		struct manifest manifest;
		assert_int_equal(store_manifest_read(k->s, SESSION, 2, NULL, &manifest, NULL), 0);
		bool named = o.kind == STORE_KIND_MANIFEST && o.generation == 2;
		for (size_t p = 0; p < manifest.pack_count && o.kind == STORE_KIND_PACK; p++)
			named |= strcmp(manifest.packs[p].writer, o.writer) == 0 &&
				 manifest.packs[p].number == o.number;
		manifest_deinit(&manifest);
		if (!named)
			continue;
		damage(k, key);
		cleanup_buf struct buf good = get(k->s, key);
		assert_int_equal(object_remove(k->s->objects, key, NULL), 0);
		if (o.kind == STORE_KIND_PACK)
			assert_damaged(k, 2, key);
		else
			assert_int_equal(kit_verify(k->s, 2, &e), -ENOENT);
		put(k->s, key, good.data, good.len);
		tried++;
	}
	assert_true(tried >= 4);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

static void copy(struct store *s, const char *from, const char *to)
{
	cleanup_buf struct buf b = get(s, from);
	put(s, to, b.data, b.len);
}

static void assert_refused(struct kit *k, int64_t generation, const char *why)
{
	struct error e = ERROR_INIT;
	int r = kit_verify(k->s, generation, &e);
	if (r != -EBADMSG || e.fault != FAULT_CORRUPT || !strstr(e.text, why))
		fail_msg("%d: %s", r, e.text);
}

static void test_manifest_of_another(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	m.memories[0].seeds[0]++;
	model_write(k->s, 2, &m, NULL);
	/* An older generation's, put in the place of a newer one. */
	cleanup_buf struct buf second = get(k->s, "s/" SESSION "/2/manifest");
	copy(k->s, "s/" SESSION "/1/manifest", "s/" SESSION "/2/manifest");
	assert_refused(k, 2, "object s/" SESSION "/2/manifest: it belongs to generation 1");
	put(k->s, "s/" SESSION "/2/manifest", second.data, second.len);
	model_check(k->s, 2, &m);
	/* A whole session under another one's name: its key does not open there. */
	cleanup(keys_deinit) struct keys keys = { 0 };
	assert_int_equal(object_list(k->s->objects, "s/" SESSION "/", keep_key, &keys, NULL), 0);
	for (size_t i = 0; i < keys.count; i++) {
		cleanup_free char *to =
			str_printf("s/" OTHER_SESSION "%s", keys.list[i] + strlen("s/" SESSION));
		copy(k->s, keys.list[i], to);
	}
	assert_int_equal(store_read_open(k->s, OTHER_SESSION, 2, &read, &e), -EKEYREJECTED);
	/* Another session's manifest, in one with a key of its own. */
	cleanup(store_write_freep) struct store_write *w = NULL;
	struct store_meta meta;
	assert_int_equal(store_forget(k->s, OTHER_SESSION, &e), 0);
	assert_int_equal(store_write_begin(k->s, OTHER_SESSION, 2, &w, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &e), 0);
	store_meta_deinit(&meta);
	copy(k->s, "s/" OTHER_SESSION "/2/manifest", "s/" SESSION "/2/manifest");
	assert_refused(k, 2, "it belongs to generation 2 of session " OTHER_SESSION);
	model_deinit(&m);
}

/* A checkpoint that was removed and written again: the old manifest names what is not there. */
static void test_old_manifest_replayed(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	cleanup_buf struct buf old = get(k->s, "s/" SESSION "/1/manifest");
	assert_int_equal(store_remove(k->s, SESSION, 1, &e), 0);
	model_write(k->s, 1, &m, NULL);
	put(k->s, "s/" SESSION "/1/manifest", old.data, old.len);
	assert_refused(k, 1, "is missing");
	model_deinit(&m);
}

/* With the words of its own changed, but well-formed: only the key knows. */
static void test_manifest_forged(void **state)
{
	struct kit *k = *state;
	struct model m;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	cleanup_buf struct buf b = get(k->s, "s/" SESSION "/1/manifest");
	char *at = memmem(b.data, b.len, "sse avx", 7);
	assert_non_null(at);
	at[0] = 'x';
	put(k->s, "s/" SESSION "/1/manifest", b.data, b.len);
	assert_refused(k, 1, "object s/" SESSION "/1/manifest");
	model_deinit(&m);
}

static void test_packs_swapped(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct manifest manifest;
	cleanup_free char *a = NULL;
	cleanup_free char *b = NULL;
	model_init(&m, 300);
	m.file_count = 0;
	/* Two generations that differ in all pages and nothing else: packs of the same size. */
	for (size_t i = 0; i < 300; i++)
		m.memories[0].seeds[i] |= 1;
	model_write(k->s, 1, &m, NULL);
	for (size_t i = 0; i < 300; i++)
		m.memories[0].seeds[i] += 1000;
	model_write(k->s, 2, &m, NULL);
	assert_int_equal(store_manifest_read(k->s, SESSION, 1, NULL, &manifest, NULL), 0);
	assert_int_equal(store_pack_key(SESSION, &manifest.packs[0], &a, NULL), 0);
	manifest_deinit(&manifest);
	assert_int_equal(store_manifest_read(k->s, SESSION, 2, NULL, &manifest, NULL), 0);
	assert_int_equal(store_pack_key(SESSION, &manifest.packs[0], &b, NULL), 0);
	manifest_deinit(&manifest);
	cleanup_buf struct buf first = get(k->s, a);
	cleanup_buf struct buf second = get(k->s, b);
	size_t len = first.len > second.len ? first.len : second.len;
	char *padded = calloc(1, len);
	memcpy(padded, first.data, first.len < second.len ? first.len : second.len);
	put(k->s, b, padded, second.len);
	free(padded);
	assert_damaged(k, 2, b);
	put(k->s, b, second.data, second.len);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

static void test_wrong_master_key(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	char hex[65];
	cleanup_free char *other = str_printf("%s/other", k->dir);
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	memset(hex, 'a', 64);
	assert_int_equal(fs_replace(other, hex, 64, 0600, NULL), 0);
	struct store *s = kit_open(k, k->root, other);
	assert_int_equal(store_read_open(s, SESSION, 1, &read, &e), -EKEYREJECTED);
	assert_true(e.text[0] && e.remedy[0]);
	/* Nor is anything written that the others could not read. */
	assert_int_equal(model_try(s, 2, &m, NULL, &e), -EKEYREJECTED);
	assert_int_equal(kit_count(s, "/2/").count, 0);
	/* What is there can be listed and removed without any key. */
	assert_int_equal(store_remove(s, SESSION, 1, &e), 0);
	assert_int_equal(kit_count(s, "/1/").count, 0);
	store_close(s);
	model_deinit(&m);
}

static void test_key_is_lost(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	struct count keys = kit_count(k->s, "key-");
	assert_int_equal(keys.count, 1);
	assert_int_equal(object_remove(k->s->objects, keys.last, NULL), 0);
	struct store *s = kit_open(k, k->root, k->key);
	assert_int_equal(store_read_open(s, SESSION, 1, &read, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "key"));
	store_close(s);
	model_deinit(&m);
}

/* What is to be gone on from is looked at before. */
static void test_open_newest(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	struct store_numbers n;
	small_model(&m);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 1, &n, &read, &e), -ENOENT);
	assert_int_equal(n.checkpoint, -1);
	model_write(k->s, 1, &m, NULL);
	model_write(k->s, 2, &m, NULL);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 1, &n, &read, &e), -EBUSY);
	assert_int_equal(n.checkpoint, 2);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 3, &n, &read, &e), -EBUSY);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 2, &n, &read, &e), 0);
	assert_null(store_read_free(store_read_share(read)));
	assert_int_equal(store_read_meta(read)->generation, 2);
	store_read_free(read);
	/* A number that was only taken is none. */
	int64_t taken, before;
	assert_int_equal(store_take(k->s, SESSION, 2, "test", &taken, &before, &e), 0);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 2, &n, &read, &e), 0);
	assert_true(n.checkpoint == 2 && n.fence == taken && n.used == taken);
	store_read_free(read);
	assert_int_equal(store_read_open(k->s, SESSION, taken, &read, &e), -ENOENT);
	assert_non_null(strstr(e.text, "fenced"));
	assert_int_equal(store_set_aside(k->s, SESSION, 2, &e), 0);
	assert_int_equal(store_read_open_newest(k->s, SESSION, 1, &n, &read, &e), 0);
	assert_false(store_read_meta(read)->aside);
	store_read_free(read);
	assert_int_equal(store_read_open(k->s, SESSION, 2, &read, &e), 0);
	assert_true(store_read_meta(read)->aside);
	store_read_free(read);
	model_deinit(&m);
}

static int note_first_pack(const char *key, const struct object_stat *st, void *arg)
{
	struct store_object o;
	(void)st;
	store_key_parse(key, &o);
	if (o.kind != STORE_KIND_PACK || o.number != 0)
		return 0;
	snprintf(arg, OBJECT_KEY_MAX + 1, "%s", key);
	return 1;
}

/* A pack that is not there, or cut short, though nothing that is read at once is in it. */
static void test_open_newest_misses_a_pack(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	struct store_numbers n;
	cleanup_buf struct buf data = BUF_INIT(64 * MIB);
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	char key[OBJECT_KEY_MAX + 1] = "";
	assert_int_equal(object_list(k->s->objects, "", note_first_pack, key, NULL), 1);
	assert_int_equal(object_read_all(k->s->objects, key, &data, &e), 0);
	for (int cut = 0; cut < 2; cut++) {
		assert_int_equal(object_remove(k->s->objects, key, &e), 0);
		if (cut)
			assert_int_equal(
				object_put(k->s->objects, key, data.data, data.len - 1, true, &e),
				0);
		error_clear(&e);
		assert_int_equal(store_read_open_newest(k->s, SESSION, 1, &n, &read, &e), -EBADMSG);
		assert_int_equal(e.fault, FAULT_CORRUPT);
		assert_non_null(strstr(e.text, key));
	}
	model_deinit(&m);
}

/* A basis that cannot be used costs only bytes. */
static void test_damaged_basis(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	cleanup_buf struct buf b = get(k->s, "s/" SESSION "/1/manifest");
	put(k->s, "s/" SESSION "/1/manifest", b.data, b.len / 2);
	model_write(k->s, 2, &m, &meta);
	assert_int_equal(meta.basis, 0);
	assert_int_equal(meta.shared_bytes, 0);
	store_meta_deinit(&meta);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

/* A pack of the basis that has gone is seen before the commit, not when it is too late. */
static void test_basis_lacks_a_pack(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct manifest manifest;
	cleanup_free char *key = NULL;
	small_model(&m);
	model_write(k->s, 1, &m, NULL);
	assert_int_equal(store_manifest_read(k->s, SESSION, 1, NULL, &manifest, NULL), 0);
	assert_int_equal(store_pack_key(SESSION, &manifest.packs[0], &key, NULL), 0);
	manifest_deinit(&manifest);
	assert_int_equal(object_remove(k->s->objects, key, NULL), 0);
	assert_int_equal(model_try(k->s, 2, &m, NULL, &e), -EBADMSG);
	assert_non_null(strstr(e.text, key));
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	model_deinit(&m);
}

int main(void)
{
#define FILES(test)  cmocka_unit_test_setup_teardown(test, kit_file, kit_close)
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		MEMORY(test_write_fails_once),
		MEMORY(test_write_fails_for_good),
		MEMORY(test_write_answers_are_lost),
		MEMORY(test_write_all_answers_are_lost),
		MEMORY(test_write_says_damaged),
		MEMORY(test_write_disk_full),
		MEMORY(test_read_fails),
		MEMORY(test_bits_flip_on_the_way),
		MEMORY(test_bits_flip_when_stored),
		MEMORY(test_damaged_objects),
		MEMORY(test_manifest_of_another),
		MEMORY(test_old_manifest_replayed),
		MEMORY(test_manifest_forged),
		MEMORY(test_packs_swapped),
		FILES(test_wrong_master_key),
		FILES(test_key_is_lost),
		FILES(test_open_newest),
		MEMORY(test_open_newest_misses_a_pack),
		MEMORY(test_damaged_basis),
		MEMORY(test_basis_lacks_a_pack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
