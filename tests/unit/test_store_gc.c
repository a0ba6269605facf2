/* SPDX-License-Identifier: Apache-2.0 */
/* What crashed writers leave, and sweeps beside writers: every step of one against every step of the
 * other. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_kit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static void tiny_model(struct model *m)
{
	*m = (struct model) { .file_count = 1, .file_seed = 5 };
	model_add(m, "pagemap-1.img", 60, 1001);
}

static void put_text(struct store *s, const char *key, const char *text)
{
	assert_int_equal(object_put(s->objects, key, text, strlen(text), false, NULL), 0);
}

/* The text of the mark of a process that has ended, on this machine. */
static void kill_mark(struct store *s, const char *key)
{
	cleanup_buf struct buf b = BUF_INIT(4096);
	char id[17];
	long pid;
	unsigned long long ticks;
	assert_int_equal(object_read_all(s->objects, key, &b, NULL), 0);
	assert_int_equal(sscanf(buf_text(&b), "1 %16s %ld %llu", id, &pid, &ticks), 3);
	cleanup_free char *text = str_printf("1 0000000000000000 %ld %llu\n%s", pid, ticks + 1,
					     strchr(buf_text(&b), '\n') + 1);
	put_text(s, key, text);
}

/* --- one after the other ------------------------------------------------------------------ */

static void test_nothing_to_do(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_gc gc = { 0 };
	struct error e = ERROR_INIT;
	tiny_model(&m);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	model_write(k->s, 1, &m, NULL);
	m.memories[0].seeds[0]++;
	model_write(k->s, 2, &m, NULL);
	struct count before = kit_count(k->s, "");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(gc.kept_objects, before.count);
	assert_int_equal(gc.kept_bytes, before.bytes);
	assert_int_equal(kit_count(k->s, "").count, before.count);
	model_deinit(&m);
}

/* A process that is killed while it writes. */
static void leave_a_crash(struct kit *k, int64_t generation, const struct model *m)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct error e = ERROR_INIT;
		struct store_write *w;
		struct store *s = kit_open(k, k->root, k->key);
		if (store_write_begin(s, SESSION, generation, &w, &e) < 0 ||
		    put_memory(w, &m->memories[0], &e) < 0 || put_files(w, m, &e) < 0)
			_exit(1);
		/* Something of it has been put. */
		while (kit_count(s, str_printf("/%" PRId64 "/", generation)).count < 2)
			nanosleep(&(struct timespec) { .tv_nsec = 1000000 }, NULL);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static bool says_live(const char *session, int64_t generation, void *arg)
{
	assert_string_equal(session, SESSION);
	return generation == *(int64_t *)arg;
}

static void test_crashed_writer(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct model big;
	struct error e = ERROR_INIT;
	int64_t generation = 2;
	tiny_model(&m);
	model_init(&big, 12000);
	for (size_t i = 0; i < 12000; i++)
		big.memories[0].seeds[i] = (uint32_t)i * 2 + 1;
	model_write(k->s, 1, &m, NULL);
	leave_a_crash(k, 2, &big);
	assert_int_equal(kit_count(k->s, ".mark").count, 1);
	struct count left = kit_count(k->s, "/2/");
	assert_true(left.count >= 2);
	/* Its node says that it is at work. */
	struct store_gc gc = { .live = says_live, .arg = &generation };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(kit_count(k->s, "/2/").count, left.count);
	gc = (struct store_gc) { .dry_run = true };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, left.count);
	assert_int_equal(gc.bytes, left.bytes);
	assert_int_equal(kit_count(k->s, "/2/").count, left.count);
	gc = (struct store_gc) { 0 };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, left.count);
	assert_int_equal(gc.bytes, left.bytes);
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	model_check(k->s, 1, &m);
	model_write(k->s, 2, &m, NULL);
	model_deinit(&m);
	model_deinit(&big);
}


/* Of another machine nothing is known but how old a mark is. */
static void test_marks_of_others(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	cleanup_free char *path = str_printf("%s/s/" SESSION "/2/00000000000000aa.mark", k->root);
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	put_text(k->s, "s/" SESSION "/2/00000000000000aa.mark",
		 "1 00000000000000bb 1 1\nanother-boot pid:[1]\n");
	put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "pack");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	/* A day and a minute ago. */
	struct timespec times[2] = { { .tv_sec = time(NULL) - 24 * 3600 - 60 },
				     { .tv_sec = time(NULL) - 24 * 3600 - 60 } };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 2);
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	/* One that cannot be read says nothing, and is believed. */
	put_text(k->s, "s/" SESSION "/2/00000000000000aa.mark", "");
	put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "pack");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	model_check(k->s, 1, &m);
	model_deinit(&m);
}

static void test_damaged_manifest_keeps_all(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	put_text(k->s, "s/" SESSION "/1/00000000000000aa-0", "garbage");
	cleanup_buf struct buf b = BUF_INIT(MIB);
	assert_int_equal(object_read_all(k->s->objects, "s/" SESSION "/1/manifest", &b, NULL), 0);
	put_text(k->s, "s/" SESSION "/1/manifest", "{}");
	struct count before = kit_count(k->s, "");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(kit_count(k->s, "").count, before.count);
	/* It comes back from a backup, say. */
	assert_int_equal(object_put(k->s->objects, "s/" SESSION "/1/manifest", b.data, b.len, false,
				    NULL),
			 0);
	model_check(k->s, 1, &m);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 1);
	model_check(k->s, 1, &m);
	model_deinit(&m);
}

static void test_others_things_stay(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	static const char *const keys[] = {
		"readme", "s/readme", "s/" SESSION "/notes", "s/" SESSION "/1/notes",
		"s/" SESSION "/01/00000000000000aa-0", "s/" SESSION "/1/00000000000000aa-00",
	};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		put_text(k->s, keys[i], "x");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(kit_count(k->s, "").count, ARRAY_SIZE(keys));
}

/* --- beside each other ----------------------------------------------------------------------- */

/* Two threads that can be made to stop before a request of theirs. */
struct race {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int single; /* the side that makes all its requests on one thread: */
	pthread_t single_thread;
	bool single_started;
	int count[2], stop_at[2];
	bool stopped[2], go[2], done[2];
	int r[2];
	struct store *s;
	const struct model *next;
	int (*run[2])(struct race *race);
	int tar;
};

static int step(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	struct race *race = arg;
	(void)call;
	(void)number;
	(void)key;
	(void)after;
	pthread_mutex_lock(&race->lock);
	bool is_single = race->single_started && pthread_equal(pthread_self(), race->single_thread);
	int who = is_single ? race->single : !race->single;
	if (race->count[who]++ == race->stop_at[who]) {
		race->stopped[who] = true;
		pthread_cond_broadcast(&race->changed);
		while (!race->go[who])
			pthread_cond_wait(&race->changed, &race->lock);
	}
	pthread_mutex_unlock(&race->lock);
	return 0;
}

static void *run_side(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	if (who == race->single) {
		race->single_thread = pthread_self();
		race->single_started = true;
	}
	pthread_mutex_unlock(&race->lock);
	int r = race->run[who](race);
	pthread_mutex_lock(&race->lock);
	race->r[who] = r;
	race->done[who] = true;
	pthread_cond_broadcast(&race->changed);
	pthread_mutex_unlock(&race->lock);
	return NULL;
}

static void *run_a(void *arg)
{
	return run_side(arg, 0);
}

static void *run_b(void *arg)
{
	return run_side(arg, 1);
}

static void wait_stopped(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	while (!race->stopped[who] && !race->done[who])
		pthread_cond_wait(&race->changed, &race->lock);
	pthread_mutex_unlock(&race->lock);
}

static void let_go(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	race->go[who] = true;
	pthread_cond_broadcast(&race->changed);
	pthread_mutex_unlock(&race->lock);
}

/* Until it is done, or for a moment: it may be waiting for the other. */
static void wait_done(struct race *race, int who)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 300 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&race->lock);
	while (!race->done[who] &&
	       pthread_cond_timedwait(&race->changed, &race->lock, &until) == 0)
		;
	pthread_mutex_unlock(&race->lock);
}

/* A up to its request i, B up to its request j, the rest of A, the rest of B. False when i, or j (with
 * *j_over), is more than there are. */
static bool play(struct race *race, int i, int j, void (*between)(struct race *race), bool *j_over)
{
	pthread_t a;
	pthread_t b;
	pthread_mutex_init(&race->lock, NULL);
	pthread_cond_init(&race->changed, NULL);
	race->stop_at[0] = i;
	race->stop_at[1] = j;
	hook_on(race->s);
	hook.arg = race;
	hook.before = step;
	assert_int_equal(pthread_create(&a, NULL, run_a, race), 0);
	wait_stopped(race, 0);
	bool reached = race->stopped[0];
	hook.before = NULL;
	if (between)
		between(race);
	hook.before = step;
	assert_int_equal(pthread_create(&b, NULL, run_b, race), 0);
	wait_stopped(race, 1);
	*j_over = !race->stopped[1];
	let_go(race, 0);
	wait_done(race, 0);
	let_go(race, 1);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	hook.before = NULL;
	pthread_cond_destroy(&race->changed);
	pthread_mutex_destroy(&race->lock);
	return reached;
}

static int write_next(struct race *race)
{
	struct error e = ERROR_INIT;
	return model_try(race->s, 3, race->next, NULL, &e);
}

static int remove_basis(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	int r = store_remove(race->s, SESSION, 2, &e);
	return r < 0 ? r : store_gc(race->s, &gc, &e);
}

static void doom(struct race *race)
{
	struct count mark = kit_count(race->s, ".mark");
	if (mark.count)
		kill_mark(race->s, mark.last);
}

/* What was committed is whole; what was not has left nothing behind that is not found. */
static void check_after(struct race *race, bool must_succeed)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	assert_int_equal(race->r[1], 0);
	if (must_succeed && race->r[0] < 0)
		fail_msg("the writer failed: %d", race->r[0]);
	assert_int_equal(kit_count(race->s, "/3/manifest").count, race->r[0] == 0);
	if (race->r[0] == 0) {
		model_check(race->s, 3, race->next);
		assert_int_equal(kit_verify(race->s, 3, &e), 0);
	}
	assert_int_equal(store_gc(race->s, &gc, &e), 0);
	if (race->r[0] == 0)
		assert_int_equal(kit_verify(race->s, 3, &e), 0);
	assert_int_equal(kit_count(race->s, "sweep-").count, 0);
	/* All objects are named now. */
	gc = (struct store_gc) { .dry_run = true };
	assert_int_equal(store_gc(race->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
}

static void race_all(void (*between)(struct race *race), bool writer_first)
{
	struct model first;
	struct model next;
	tiny_model(&first);
	tiny_model(&next);
	next.memories[0].seeds[7] = 12345;
	int failed = 0;
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		assert_true(i < 100);
		for (int j = 0; !over; j++) {
			struct kit *k;
			assert_int_equal(kit_memory((void **)&k), 0);
			struct race race = { .s = k->s, .next = &next, .single = writer_first };
			race.run[0] = writer_first ? write_next : remove_basis;
			race.run[1] = writer_first ? remove_basis : write_next;
			assert_true(j < 100);
			model_write(k->s, 1, &first, NULL);
			model_write(k->s, 2, &first, NULL);
			put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "garbage");
			more_i = play(&race, i, j, between, &over);
			if (!writer_first) {
				int r = race.r[0];
				race.r[0] = race.r[1];
				race.r[1] = r;
			}
			failed += race.r[0] < 0;
			check_after(&race, !between);
			kit_close((void **)&k);
		}
	}
	if (between)
		assert_true(failed > 0); /* it was taken for dead in time */
	model_deinit(&first);
	model_deinit(&next);
}

static void test_sweep_within_write(void **state)
{
	(void)state;
	race_all(NULL, true);
}

static void test_write_within_sweep(void **state)
{
	(void)state;
	race_all(NULL, false);
}

/* A writer whose mark is wrongly taken for one of a dead process loses nothing: it fails. */
static void test_sweep_of_the_living(void **state)
{
	(void)state;
	race_all(doom, true);
}

static int forget_it(struct race *race)
{
	struct error e = ERROR_INIT;
	int r = store_forget(race->s, SESSION, &e);
	return r == -EBUSY ? 0 : r;
}

/* Either the writer fails or the checkpoint comes after the end of the session, and is whole. */
static void test_forget_within_write(void **state)
{
	(void)state;
	struct model next;
	tiny_model(&next);
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		for (int j = 0; !over; j++) {
			struct kit *k;
			struct error e = ERROR_INIT;
			struct store_gc gc = { 0 };
			assert_int_equal(kit_memory((void **)&k), 0);
			struct race race = { .s = k->s, .next = &next, .single = 1 };
			race.run[0] = write_next;
			race.run[1] = forget_it;
			model_write(k->s, 1, &next, NULL);
			more_i = play(&race, i, j, NULL, &over);
			assert_int_equal(race.r[1], 0);
			bool there = kit_count(k->s, "/3/manifest").count;
			if (there)
				assert_int_equal(kit_verify(k->s, 3, &e), 0);
			assert_int_equal(store_gc(k->s, &gc, &e), 0);
			if (there)
				assert_int_equal(kit_verify(k->s, 3, &e), 0);
			else
				assert_int_equal(kit_count(k->s, "/3/").count, 0);
			kit_close((void **)&k);
		}
	}
	model_deinit(&next);
}

/* --- imports --------------------------------------------------------------------------------- */

static int import_it(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_meta meta = { 0 };
	int fd = dup(race->tar);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	int r = store_import(race->s, fd, &meta, NULL, NULL, &e);
	store_meta_deinit(&meta);
	close(fd);
	return r;
}

static int just_sweep(struct race *race)
{
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	return store_gc(race->s, &gc, &e);
}

/* Packs that are garbage until the import needs them under their old names. */
static void race_import(bool import_first)
{
	struct model m;
	struct kit *from;
	struct error e = ERROR_INIT;
	tiny_model(&m);
	assert_int_equal(kit_memory((void **)&from), 0);
	model_write(from->s, 3, &m, NULL);
	cleanup_fd int tar = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(store_export(from->s, SESSION, 3, tar, NULL, NULL, &e), 0);
	for (int i = 0, more_i = 1; more_i; i++) {
		bool over = false;
		for (int j = 0; !over; j++) {
			struct kit *k;
			assert_int_equal(kit_memory((void **)&k), 0);
			store_close(k->s);
			k->s = kit_open(k, "", from->key);
			struct race race = { .s = k->s, .next = &m, .tar = tar };
			race.run[!import_first] = import_it;
			race.run[import_first] = just_sweep;
			assert_int_equal(import_it(&race), 0);
			assert_int_equal(
				object_remove(k->s->objects, "s/" SESSION "/3/manifest", NULL), 0);
			more_i = play(&race, i, j, NULL, &over);
			assert_int_equal(race.r[import_first], 0);
			assert_int_equal(race.r[!import_first], 0);
			model_check(k->s, 3, &m);
			assert_int_equal(kit_verify(k->s, 3, &e), 0);
			kit_close((void **)&k);
		}
	}
	kit_close((void **)&from);
	model_deinit(&m);
}

static void test_sweep_within_import(void **state)
{
	(void)state;
	race_import(true);
}

static void test_import_within_sweep(void **state)
{
	(void)state;
	race_import(false);
}

int main(void)
{
#define FILES(test)  cmocka_unit_test_setup_teardown(test, kit_file, kit_close)
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		MEMORY(test_nothing_to_do),
		FILES(test_crashed_writer),
		FILES(test_marks_of_others),
		MEMORY(test_damaged_manifest_keeps_all),
		MEMORY(test_others_things_stay),
		cmocka_unit_test(test_sweep_within_write),
		cmocka_unit_test(test_write_within_sweep),
		cmocka_unit_test(test_sweep_of_the_living),
		cmocka_unit_test(test_forget_within_write),
		cmocka_unit_test(test_sweep_within_import),
		cmocka_unit_test(test_import_within_sweep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
