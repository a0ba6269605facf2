/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "store/key.h"
#include "store/master.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

DEFINE_CLEANUP(struct keyring *, keyring_free)
DEFINE_CLEANUP(struct object_store *, object_store_free)

#define SESSION "0123456789abcdef"
#define OTHER   "fedcba9876543210"
#define HEX_A   "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define HEX_B   "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define BASE_A  "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8="

static char dir[] = "/tmp/elsa-key-XXXXXX";
static char file_a[64], file_b[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(file_a, sizeof(file_a), "%s/a", dir);
	snprintf(file_b, sizeof(file_b), "%s/b", dir);
	return fs_replace(file_a, HEX_A "\n", 65, 0600, NULL) < 0 ||
	       fs_replace(file_b, HEX_B, 64, 0400, NULL) < 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return fs_remove_tree(dir, NULL);
}

static struct object_store *objects(void)
{
	struct object_store *s;
	assert_int_equal(object_store_open("memory:", &s, NULL), 0);
	return s;
}

static struct keyring *open_with(struct object_store *s, const char *file, const char *old)
{
	struct error e = ERROR_INIT;
	struct keyring *k;
	const char *const olds[] = { old, NULL };
	struct store_options o = { .key_file = file, .old_key_files = olds };
	if (keyring_open(&o, s, &k, &e) < 0)
		fail_msg("%s", e.text);
	return k;
}

static void name_of_key(const char *hex, char name[SEAL_NAME])
{
	struct seal_key key;
	assert_int_equal(master_parse(hex, strlen(hex), &key, NULL), 0);
	seal_key_name(&key, name);
}

static void object_of_key(const char *session, const char *hex, char object[64])
{
	char name[SEAL_NAME];
	name_of_key(hex, name);
	snprintf(object, 64, "s/%s/key-%s", session, name);
}

/* --- the master key -------------------------------------------------------------------- */

static void keys_in_all_writings(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool valid, same; /* as HEX_A */
	} cases[] = {
		{ HEX_A, true, true },
		{ HEX_A "\n", true, true },
		{ HEX_A "\r\n", true, true },
		{ BASE_A, true, true },
		{ BASE_A "\n", true, true },
		{ HEX_B, true, false },
		{ "this is a key of 32 plain bytes.", true, false },
		{ "this is a key of 32 plain bytes.\n", true, false },
		{ "", false, false },
		{ "\n", false, false },
		{ "short", false, false },
		{ HEX_A "\n\n", false, false },
		{ HEX_A "0", false, false },
		{ " " HEX_A, false, false },
		{ "g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false,
		  false },
		{ "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8A", false, false },
		{ "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v==", false, false },
		{ "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd 7v=", false, false },
	};
	struct seal_key wanted, found;
	assert_int_equal(master_parse(HEX_A, 64, &wanted, NULL), 0);
	assert_int_equal(wanted.bytes[1], 0x11);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		int r = master_parse(cases[i].text, strlen(cases[i].text), &found, &e);
		if (r != (cases[i].valid ? 0 : -EINVAL))
			fail_msg("\"%s\" gave %d", cases[i].text, r);
		if (r < 0)
			assert_non_null(strstr(e.remedy, "openssl rand"));
		else
			assert_int_equal(memcmp(&wanted, &found, SEAL_KEY) == 0, cases[i].same);
	}
}

static void a_missing_file_is_made_once(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup_free char *path = str_printf("%s/new/below/key", dir);
	struct seal_key first, again;
	struct stat st;
	cleanup_buf struct buf text = BUF_INIT(1000);
	struct store_options o = { .key_file = path };
	assert_int_equal(master_load(&o, s, &first, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(fs_read(path, &text, NULL), 0);
	assert_int_equal(text.len, 65);
	assert_int_equal(master_load(&o, s, &again, NULL), 0);
	assert_memory_equal(&first, &again, SEAL_KEY);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(master_load(&o, s, &again, NULL), 0);
	assert_memory_not_equal(&first, &again, SEAL_KEY);
}

static void a_lost_key_is_not_made_anew(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup_free char *path = str_printf("%s/lost", dir);
	struct store_options o = { .key_file = path };
	struct seal_key key;
	struct error e = ERROR_INIT;
	assert_int_equal(object_put(s, "s/" SESSION "/1/manifest", "x", 1, true, NULL), 0);
	assert_int_equal(master_load(&o, s, &key, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "is missing; the store was written with key unknown"));
	assert_int_equal(object_put(s, "s/" SESSION "/key-0011223344556677", "x", 1, true, NULL),
			 0);
	assert_int_equal(master_load(&o, s, &key, &e), -ENOKEY);
	assert_non_null(strstr(e.text, path));
	assert_non_null(strstr(e.text, "the store was written with key 0011223344556677"));
	assert_non_null(strstr(e.remedy, "old_key_files"));
	assert_int_equal(e.fault, FAULT_DENIED);
	assert_int_equal(access(path, F_OK), -1);
}

static void files_that_others_may_read_are_refused(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup_free char *path = str_printf("%s/open", dir);
	struct store_options o = { .key_file = path };
	static const mode_t modes[] = { 0640, 0604, 0620, 0610, 0602 };
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct error e = ERROR_INIT;
		struct seal_key key;
		assert_int_equal(fs_replace(path, HEX_A, 64, modes[i], NULL), 0);
		assert_int_equal(master_load(&o, s, &key, &e), -EACCES);
		assert_non_null(strstr(e.remedy, "chmod 600"));
	}
}

static void other_files_are_refused(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup_free char *path = str_printf("%s/bad", dir);
	struct seal_key key;
	struct error e = ERROR_INIT;
	assert_int_equal(fs_replace(path, "too short", 9, 0600, NULL), 0);
	assert_int_equal(master_load(&(struct store_options) { .key_file = path }, s, &key, &e),
			 -EINVAL);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(master_load(&(struct store_options) { .key_file = dir }, s, &key, &e),
			 -EINVAL);
	assert_int_equal(master_load(&(struct store_options) { .url = "" }, s, &key, &e), -EINVAL);
	assert_non_null(strstr(e.remedy, "store.key_file"));
}

static void commands_print_keys(void **state)
{
	(void)state;
	const char *const good[] = { "/bin/echo", HEX_A, NULL };
	const char *const bad[] = { "/bin/sh", "-c", "echo " HEX_A "; echo no luck >&2; exit 3",
				    NULL };
	const char *const no_key[] = { "/bin/echo", "a secret", NULL };
	const char *const none[] = { "/nonexistent/kms", NULL };
	struct seal_key wanted, key;
	struct error e = ERROR_INIT;
	assert_int_equal(master_parse(HEX_A, 64, &wanted, NULL), 0);
	assert_int_equal(
		master_load(&(struct store_options) { .key_command = good }, NULL, &key, &e), 0);
	assert_memory_equal(&key, &wanted, SEAL_KEY);
	assert_int_equal(
		master_load(&(struct store_options) { .key_command = bad }, NULL, &key, &e), -EIO);
	assert_non_null(strstr(e.text, "status 3: no luck"));
	assert_null(strstr(e.text, HEX_A));
	assert_int_equal(
		master_load(&(struct store_options) { .key_command = no_key }, NULL, &key, &e),
		-EINVAL);
	assert_null(strstr(e.text, "a secret"));
	assert_true(master_load(&(struct store_options) { .key_command = none }, NULL, &key, &e) <
		    0);
	assert_non_null(strstr(e.text, "/nonexistent/kms"));
}

static void the_environment_has_keys(void **state)
{
	(void)state;
	struct store_options o = { .key_env = "ELSA_TEST_KEY" };
	struct seal_key wanted, key;
	struct error e = ERROR_INIT;
	assert_int_equal(master_parse(HEX_A, 64, &wanted, NULL), 0);
	assert_int_equal(unsetenv("ELSA_TEST_KEY"), 0);
	assert_int_equal(master_load(&o, NULL, &key, &e), -ENOKEY);
	assert_non_null(strstr(e.text, "ELSA_TEST_KEY"));
	assert_int_equal(setenv("ELSA_TEST_KEY", BASE_A, 1), 0);
	assert_int_equal(master_load(&o, NULL, &key, &e), 0);
	assert_memory_equal(&key, &wanted, SEAL_KEY);
	assert_int_equal(setenv("ELSA_TEST_KEY", "a secret", 1), 0);
	assert_int_equal(master_load(&o, NULL, &key, &e), -EINVAL);
	assert_null(strstr(e.text, "a secret"));
}

static void old_files_must_be_there(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	struct keyring *k;
	struct error e = ERROR_INIT;
	const char *const olds[] = { file_b, "/nonexistent/old", NULL };
	struct store_options o = { .key_file = file_a, .old_key_files = olds };
	assert_int_equal(keyring_open(&o, s, &k, &e), -ENOENT);
	assert_null(k);
	assert_non_null(strstr(e.text, "store.old_key_files"));
	assert_non_null(strstr(e.text, "/nonexistent/old"));
}

/* --- sessions' keys --------------------------------------------------------------------- */

static void sessions_have_a_key_each(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *k = open_with(s, file_a, NULL);
	struct seal_key one, two, again;
	struct error e = ERROR_INIT;
	assert_int_equal(keyring_session(k, SESSION, false, &one, &e), -ENOENT);
	assert_int_equal(keyring_session(k, "../x", true, &one, &e), -EINVAL);
	assert_int_equal(keyring_session(k, SESSION, true, &one, &e), 0);
	assert_int_equal(keyring_session(k, OTHER, true, &two, &e), 0);
	assert_memory_not_equal(&one, &two, SEAL_KEY);
	for (int make = 0; make < 2; make++) {
		assert_int_equal(keyring_session(k, SESSION, make, &again, &e), 0);
		assert_memory_equal(&one, &again, SEAL_KEY);
	}
	cleanup(keyring_freep) struct keyring *later = open_with(s, file_a, NULL);
	assert_int_equal(keyring_session(later, SESSION, false, &again, &e), 0);
	assert_memory_equal(&one, &again, SEAL_KEY);
}

/* What was removed by another node is not written under any more. */
static void a_removed_key_is_not_used(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *k = open_with(s, file_a, NULL);
	struct seal_key first, second, again;
	char object[64];
	object_of_key(SESSION, HEX_A, object);
	assert_int_equal(keyring_session(k, SESSION, true, &first, NULL), 0);
	assert_int_equal(object_remove(s, object, NULL), 0);
	assert_int_equal(keyring_session(k, SESSION, true, &second, NULL), 0);
	assert_memory_not_equal(&first, &second, SEAL_KEY);
	assert_int_equal(keyring_session(k, SESSION, false, &again, NULL), 0);
	assert_memory_equal(&second, &again, SEAL_KEY);
	assert_int_equal(object_remove(s, object, NULL), 0);
	keyring_forget(k, SESSION);
	keyring_forget(k, SESSION);
	assert_int_equal(keyring_session(k, SESSION, false, &again, NULL), -ENOENT);
}

struct maker {
	pthread_t thread;
	struct keyring *keyring;
	struct seal_key key;
	int r;
};

static void *make_one(void *arg)
{
	struct maker *m = arg;
	m->r = keyring_session(m->keyring, SESSION, true, &m->key, NULL);
	return NULL;
}

static void makers_agree(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		cleanup(object_store_freep) struct object_store *s = objects();
		struct maker makers[8] = { 0 };
		for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
			/* Nodes of their own, and threads of one. */
			makers[i].keyring =
				i % 2 ? makers[i - 1].keyring : open_with(s, file_a, NULL);
		}
		for (size_t i = 0; i < ARRAY_SIZE(makers); i++)
			assert_int_equal(
				pthread_create(&makers[i].thread, NULL, make_one, &makers[i]), 0);
		for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
			pthread_join(makers[i].thread, NULL);
			assert_int_equal(makers[i].r, 0);
			assert_memory_equal(&makers[i].key, &makers[0].key, SEAL_KEY);
		}
		for (size_t i = 0; i < ARRAY_SIZE(makers); i += 2)
			keyring_free(makers[i].keyring);
	}
}

static void a_wrong_master_is_told(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *a = open_with(s, file_a, NULL);
	cleanup(keyring_freep) struct keyring *b = open_with(s, file_b, NULL);
	char name_a[SEAL_NAME], name_b[SEAL_NAME];
	struct seal_key key;
	name_of_key(HEX_A, name_a);
	name_of_key(HEX_B, name_b);
	assert_int_equal(keyring_session(a, SESSION, true, &key, NULL), 0);
	for (int make = 0; make < 2; make++) {
		struct error e = ERROR_INIT;
		assert_int_equal(keyring_session(b, SESSION, make, &key, &e), -EKEYREJECTED);
		assert_non_null(strstr(e.text, name_a));
		assert_non_null(strstr(e.text, name_b));
		assert_non_null(strstr(e.remedy, "store.key_file"));
		assert_non_null(strstr(e.remedy, "store.old_key_files"));
		assert_int_equal(e.fault, FAULT_DENIED);
	}
	assert_int_equal(keyring_rewrap(b, SESSION, NULL), -EKEYREJECTED);
}

static void moved_and_changed_keys_are_refused(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *k = open_with(s, file_a, NULL);
	cleanup_buf struct buf wrapped = BUF_INIT(1000);
	struct seal_key key;
	char from[64], to[64];
	object_of_key(SESSION, HEX_A, from);
	object_of_key(OTHER, HEX_A, to);
	assert_int_equal(keyring_session(k, SESSION, true, &key, NULL), 0);
	assert_int_equal(object_read_all(s, from, &wrapped, NULL), 0);
	assert_int_equal(wrapped.len, SEAL_WRAPPED);
	/* of another session, short, changed */
	for (int i = 0; i < 3; i++) {
		struct error e = ERROR_INIT;
		if (i == 2)
			wrapped.data[40] ^= 1;
		assert_int_equal(
			object_put(s, to, wrapped.data, wrapped.len - (i == 1), false, NULL), 0);
		for (int make = 0; make < 2; make++) {
			assert_int_equal(keyring_session(k, OTHER, make, &key, &e), -EKEYREJECTED);
			assert_non_null(strstr(e.text, to));
		}
	}
}

struct reader {
	pthread_t thread;
	struct object_store *objects;
	_Atomic bool stop;
	long reads, failures;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct seal_key key;
	do {
		cleanup(keyring_freep) struct keyring *k = open_with(r->objects, file_b, file_a);
		r->failures += keyring_session(k, SESSION, false, &key, NULL) != 0;
		r->reads++;
	} while (!r->stop);
	return NULL;
}

/* Whatever moment of a rotation a reader sees, the key is there. */
static void readers_and_rotation(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *a_to_b = open_with(s, file_b, file_a);
	cleanup(keyring_freep) struct keyring *b_to_a = open_with(s, file_a, file_b);
	struct reader reader = { .objects = s };
	struct seal_key key;
	assert_int_equal(keyring_session(b_to_a, SESSION, true, &key, NULL), 0);
	assert_int_equal(pthread_create(&reader.thread, NULL, read_on, &reader), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(keyring_rewrap(a_to_b, SESSION, NULL), 1);
		assert_int_equal(keyring_rewrap(b_to_a, SESSION, NULL), 1);
	}
	reader.stop = true;
	pthread_join(reader.thread, NULL);
	assert_true(reader.reads > 0);
	assert_int_equal(reader.failures, 0);
}

/* --- rotation --------------------------------------------------------------------------- */

static void rotation(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *before = open_with(s, file_a, NULL);
	cleanup(keyring_freep) struct keyring *during = open_with(s, file_b, file_a);
	struct seal_key key, found;
	struct object_stat st;
	char old[64], new[64];
	object_of_key(SESSION, HEX_A, old);
	object_of_key(SESSION, HEX_B, new);
	assert_int_equal(keyring_rewrap(during, SESSION, NULL), -ENOENT);
	assert_int_equal(keyring_session(before, SESSION, true, &key, NULL), 0);
	assert_int_equal(keyring_session(during, SESSION, true, &found, NULL), 0);
	assert_memory_equal(&key, &found, SEAL_KEY);
	assert_int_equal(object_stat(s, new, &st, NULL), -ENOENT);
	assert_int_equal(keyring_rewrap(during, SESSION, NULL), 1);
	assert_int_equal(object_stat(s, new, &st, NULL), 0);
	assert_int_equal(object_stat(s, old, &st, NULL), -ENOENT);
	assert_int_equal(keyring_rewrap(during, SESSION, NULL), 0);
	cleanup(keyring_freep) struct keyring *after = open_with(s, file_b, NULL);
	assert_int_equal(keyring_session(after, SESSION, false, &found, NULL), 0);
	assert_memory_equal(&key, &found, SEAL_KEY);
}

/* It ended between the put of the new object and the removal of the old one. */
static void rotation_goes_on(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *before = open_with(s, file_a, NULL);
	cleanup(keyring_freep) struct keyring *during = open_with(s, file_b, file_a);
	cleanup_buf struct buf wrapped = BUF_INIT(1000);
	struct object_stat st;
	struct seal_key key;
	char old[64];
	object_of_key(SESSION, HEX_A, old);
	assert_int_equal(keyring_session(before, SESSION, true, &key, NULL), 0);
	assert_int_equal(object_read_all(s, old, &wrapped, NULL), 0);
	assert_int_equal(keyring_rewrap(during, SESSION, NULL), 1);
	assert_int_equal(object_put(s, old, wrapped.data, wrapped.len, true, NULL), 0);
	assert_int_equal(keyring_rewrap(during, SESSION, NULL), 0);
	assert_int_equal(object_stat(s, old, &st, NULL), -ENOENT);
}

/* Two nodes with different masters, of which each made a key: neither is thrown away. */
static void a_different_old_key_stays(void **state)
{
	(void)state;
	cleanup(object_store_freep) struct object_store *s = objects();
	cleanup(keyring_freep) struct keyring *a = open_with(s, file_a, NULL);
	cleanup(keyring_freep) struct keyring *both = open_with(s, file_b, file_a);
	cleanup_buf struct buf wrapped = BUF_INIT(1000);
	struct object_stat st;
	struct seal_key key;
	struct error e = ERROR_INIT;
	char old[64], new[64];
	object_of_key(SESSION, HEX_A, old);
	object_of_key(SESSION, HEX_B, new);
	assert_int_equal(keyring_session(a, SESSION, true, &key, NULL), 0);
	assert_int_equal(object_read_all(s, old, &wrapped, NULL), 0);
	assert_int_equal(object_remove(s, old, NULL), 0);
	assert_int_equal(keyring_session(both, SESSION, true, &key, NULL), 0);
	assert_int_equal(object_put(s, old, wrapped.data, wrapped.len, true, NULL), 0);
	assert_int_equal(keyring_rewrap(both, SESSION, &e), -EKEYREJECTED);
	assert_non_null(strstr(e.text, old));
	assert_int_equal(object_stat(s, old, &st, NULL), 0);
	assert_int_equal(object_stat(s, new, &st, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_in_all_writings),
		cmocka_unit_test(a_missing_file_is_made_once),
		cmocka_unit_test(a_lost_key_is_not_made_anew),
		cmocka_unit_test(files_that_others_may_read_are_refused),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(commands_print_keys),
		cmocka_unit_test(the_environment_has_keys),
		cmocka_unit_test(old_files_must_be_there),
		cmocka_unit_test(sessions_have_a_key_each),
		cmocka_unit_test(a_removed_key_is_not_used),
		cmocka_unit_test(makers_agree),
		cmocka_unit_test(a_wrong_master_is_told),
		cmocka_unit_test(moved_and_changed_keys_are_refused),
		cmocka_unit_test(readers_and_rotation),
		cmocka_unit_test(rotation),
		cmocka_unit_test(rotation_goes_on),
		cmocka_unit_test(a_different_old_key_stays),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
