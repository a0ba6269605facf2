/* SPDX-License-Identifier: Apache-2.0 */
/* The authority, and the tokens by which nodes join. */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/nodes_api.h"
#include "controller/tokens.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct world {
	char dir[64], database[96];
	struct config *config;
	struct controller c;
	struct nodes_api api;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char text[256];
	log_init(LOG_LEVEL_ERROR);
	snprintf(w->dir, sizeof(w->dir), "/tmp/elsa-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	snprintf(w->database, sizeof(w->database), "%s/elsa.db", w->dir);
	int len = snprintf(text, sizeof(text), "[controller]\ndatabase = \"%s\"\n", w->database);
	if (config_parse(text, (size_t)len, "test", &w->config, NULL) < 0 ||
	    db_open(w->database, &w->c.db, NULL) < 0)
		return -1;
	w->c.config = w->config;
	w->c.base = event_base_new();
	w->c.nodes_api = &w->api;
	w->api.tokens = tokens_new();
	*state = w;
	return ca_open(&w->c, &w->api.ca, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;
	ca_close(w->api.ca);
	tokens_free(w->api.tokens);
	event_base_free(w->c.base);
	db_close(w->c.db);
	config_free(w->config);
	fs_remove_tree(w->dir, NULL);
	free(w);
	return 0;
}

/* --- the authority -------------------------------------------------------- */

static void reopen(struct world *w)
{
	struct error e = ERROR_INIT;
	ca_close(w->api.ca);
	w->api.ca = NULL;
	if (ca_open(&w->c, &w->api.ca, &e) < 0)
		fail_msg("%s", e.text);
}

static void read_facts(const char *path, struct x509_facts *facts)
{
	cleanup_buf struct buf pem = BUF_INIT(1 << 16);
	assert_int_equal(fs_read(path, &pem, NULL), 0);
	assert_int_equal(x509_facts(buf_text(&pem), facts, NULL), 0);
}

static void test_kept(void **state)
{
	struct world *w = *state;
	struct stat st;
	struct x509_facts before, after;
	assert_int_equal(stat(w->api.ca->dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(w->api.ca->ca_key_file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	read_facts(w->api.ca->cert_file, &before);
	assert_string_equal(before.name, "controller.elsa");
	reopen(w);
	read_facts(w->api.ca->cert_file, &after);
	assert_string_equal(before.serial, after.serial);
}

/* A kill after any of the files: what is missing is made, and what is there stays. */
static void test_half_made(void **state)
{
	struct world *w = *state;
	char digest[X509_DIGEST_SIZE];
	struct x509_facts facts;
	snprintf(digest, sizeof(digest), "%s", w->api.ca->digest);
	unlink(w->api.ca->cert_file);
	unlink(w->api.ca->key_file);
	reopen(w);
	assert_string_equal(w->api.ca->digest, digest);
	read_facts(w->api.ca->cert_file, &facts);
	assert_string_equal(facts.name, "controller.elsa");
	unlink(w->api.ca->ca_file);
	unlink(w->api.ca->cert_file);
	reopen(w);
	assert_string_not_equal(w->api.ca->digest, digest);
}

static void test_another_authority(void **state)
{
	struct world *w = *state;
	cleanup_free char *known = NULL;
	fs_remove_tree(w->api.ca->dir, NULL);
	reopen(w);
	assert_int_equal(db_fact_get(w->c.db, "nodes.ca", &known, NULL), 0);
	assert_string_equal(known, w->api.ca->digest);
}

static void test_damaged(void **state)
{
	struct world *w = *state;
	struct ca *ca = NULL;
	struct error e = ERROR_INIT;
	assert_int_equal(fs_replace(w->api.ca->ca_file, "x", 1, 0644, NULL), 0);
	assert_int_equal(ca_open(&w->c, &ca, &e), -EINVAL);
	assert_non_null(strstr(e.text, w->api.ca->dir));
	assert_true(e.remedy[0]);
}

/* --- tokens --------------------------------------------------------------- */

static void make(struct world *w, int64_t ttl_ms, int64_t uses, char **token)
{
	wall_ms expires;
	assert_int_equal(tokens_make(&w->c, ttl_ms, uses, token, &expires, NULL), 0);
	assert_non_null(strstr(*token, w->api.ca->digest));
}

static int check_and_take(struct world *w, const char *token, bool again, struct error *e)
{
	struct db_join_token row = { 0 };
	int r = tokens_check(&w->c, token, &row, e);
	if (r == 0)
		r = tokens_take(&w->c, &row, again, e);
	db_join_token_deinit(&row);
	return r;
}

static void test_uses(void **state)
{
	struct world *w = *state;
	cleanup_free char *two = NULL;
	cleanup_free char *any = NULL;
	struct error e = ERROR_INIT;
	make(w, 60000, 2, &two);
	make(w, 60000, 0, &any);
	assert_int_equal(check_and_take(w, two, false, NULL), 0);
	assert_int_equal(check_and_take(w, two, true, NULL), 0);
	assert_int_equal(check_and_take(w, two, false, NULL), 0);
	assert_int_equal(check_and_take(w, two, false, &e), -EACCES);
	assert_non_null(strstr(e.text, "used up"));
	assert_int_equal(check_and_take(w, two, true, NULL), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(check_and_take(w, any, false, NULL), 0);
}

static void test_expired(void **state)
{
	struct world *w = *state;
	cleanup_free char *token = NULL;
	struct error e = ERROR_INIT;
	make(w, 1, 1, &token);
	usleep(2000);
	assert_int_equal(check_and_take(w, token, true, &e), -EACCES);
	assert_non_null(strstr(e.text, "expired"));
	assert_true(e.remedy[0]);
}

/* Whoever has only the name of a token learns nothing of it. */
static void test_wrong_secret(void **state)
{
	struct world *w = *state;
	cleanup_free char *token = NULL;
	struct error e = ERROR_INIT;
	make(w, 60000, 1, &token);
	char *secret = token + strlen("elsa1.0123456789abcdef.");
	*secret = *secret == '0' ? '1' : '0';
	assert_int_equal(check_and_take(w, token, false, &e), -EACCES);
	assert_string_equal(e.text, "the join token is not valid");
	assert_int_equal(check_and_take(w, "elsa1.", false, &e), -EACCES);
	assert_string_equal(e.text, "the join token is not valid");
}

/* --- who tries wrong ones ------------------------------------------------- */

static void test_slowed_down(void **state)
{
	struct world *w = *state;
	struct tokens *t = w->api.tokens;
	mono_us now = 1000000;
	int64_t wait = 0, before = 0;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(tokens_listen_to(t, "a", now, &wait, NULL), 0);
		tokens_wrong(t, "a", now);
	}
	for (int i = 0; i < 20; i++) {
		tokens_wrong(t, "a", now);
		assert_int_equal(tokens_listen_to(t, "a", now, &wait, NULL), -EAGAIN);
		assert_int_equal(tokens_listen_to(t, "b", now, &wait, NULL), 0);
		assert_true(wait > before || wait == 300);
		now += wait * 1000000;
		before = wait;
	}
	assert_int_equal(wait, 300);
	assert_int_equal(tokens_listen_to(t, "a", now, &wait, NULL), 0);
	tokens_right(t, "a");
	tokens_wrong(t, "a", now);
	assert_int_equal(tokens_listen_to(t, "a", now, &wait, NULL), 0);
}

/* Many addresses: those heard of last are remembered. */
static void test_many_strangers(void **state)
{
	struct world *w = *state;
	struct tokens *t = w->api.tokens;
	char address[32];
	int64_t wait;
	for (int i = 0; i < 1000; i++)
		for (int wrong = 0; wrong < 6; wrong++) {
			snprintf(address, sizeof(address), "10.0.%d.%d", i / 256, i % 256);
			tokens_wrong(t, address, 1000000 + i);
		}
	assert_int_equal(tokens_listen_to(t, address, 1000999, &wait, NULL), -EAGAIN);
	assert_int_equal(tokens_listen_to(t, "10.0.0.0", 1000999, &wait, NULL), 0);
}

/* --- where they are ------------------------------------------------------- */

static const struct {
	const char *listen, *peer, *is; /* NULL: neither */
} listens[] = {
	{ "10.0.0.5:8444", "10.0.0.9", "10.0.0.5:8444" },
	{ "0.0.0.0:8444", "10.0.0.9", "10.0.0.9:8444" },
	{ "[::]:1", "10.0.0.9", "10.0.0.9:1" },
	{ "0.0.0.0:8444", "fd00::1", NULL },
	{ "0.0.0.0:8444", "?", NULL },
	{ "10.0.0.5", "10.0.0.9", NULL },
	{ "10.0.0.5:", "10.0.0.9", NULL },
	{ "10.0.0.5:0", "10.0.0.9", NULL },
	{ "10.0.0.5:65536", "10.0.0.9", NULL },
	{ "10.0.0.5:80 ", "10.0.0.9", NULL },
	{ "n1.example:80", "10.0.0.9", NULL },
	{ ":80", "10.0.0.9", NULL },
	{ "", "10.0.0.9", NULL },
	{ NULL, "10.0.0.9", NULL },
};

static void test_listen(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(listens); i++) {
		cleanup_free char *is = NULL;
		int r = node_listen_address(listens[i].listen, listens[i].peer, &is, NULL);
		assert_int_equal(r, listens[i].is ? 0 : -EINVAL);
		if (listens[i].is)
			assert_string_equal(is, listens[i].is);
	}
}

static void test_moved(void **state)
{
	struct world *w = *state;
	struct db_node row = { .name = "n1",
			       .state = "ready",
			       .listen = "10.0.0.5:8444",
			       .overlay = "10.98.0.16",
			       .serial = "4A",
			       .key_digest = "k",
			       .token = "t" };
	assert_int_equal(node_moved(&w->c, "n1", "0.0.0.0:8444", "10.0.0.5", NULL), -ENOENT);
	assert_int_equal(db_node_put(w->c.db, &row, NULL), 0);
	assert_int_equal(node_moved(&w->c, "n1", "0.0.0.0:8444", "10.0.0.5", NULL), 0);
	assert_int_equal(node_moved(&w->c, "n1", "0.0.0.0:8444", "10.0.0.6", NULL), 1);
	assert_int_equal(node_moved(&w->c, "n1", "nowhere", "10.0.0.6", NULL), -EINVAL);
	assert_int_equal(db_node_get(w->c.db, "n1", &row, NULL), 0);
	assert_string_equal(row.listen, "10.0.0.6:8444");
	assert_string_equal(row.serial, "4A");
	db_node_deinit(&row);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kept),         TEST(test_half_made),   TEST(test_another_authority),
		TEST(test_damaged),      TEST(test_uses),        TEST(test_expired),
		TEST(test_wrong_secret), TEST(test_slowed_down), TEST(test_many_strangers),
		TEST(test_listen),       TEST(test_moved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
