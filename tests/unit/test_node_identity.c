/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/identity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HOUR_MS 3600000LL
#define TOKEN   "0123456789abcdef"

struct world {
	char dir[64], ca_key[96];
	char *ca;
	char digest[X509_DIGEST_SIZE];
	struct config *config;
	struct identity id;
};

static int make_authority(struct world *w)
{
	struct x509_facts facts;
	const struct x509_terms terms = { .name = "Elsa",
					  .from = clock_wall(),
					  .until = clock_wall() + 9 * HOUR_MS };
	free(w->ca);
	w->ca = NULL;
	if (x509_make_key(w->ca_key, NULL) < 0 ||
	    x509_make_ca(w->ca_key, &terms, &w->ca, NULL) < 0 ||
	    x509_facts(w->ca, &facts, NULL) < 0)
		return -1;
	snprintf(w->digest, sizeof(w->digest), "%s", facts.digest);
	return 0;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char text[128];
	snprintf(w->dir, sizeof(w->dir), "/tmp/elsa-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	snprintf(w->ca_key, sizeof(w->ca_key), "%s/ca-key.pem", w->dir);
	int len = snprintf(text, sizeof(text), "[node]\nstate_dir = \"%s\"\n", w->dir);
	*state = w;
	return config_parse(text, (size_t)len, "test", &w->config, NULL) < 0 ||
			       make_authority(w) < 0
		       ? -1
		       : identity_init(&w->id, w->config, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;
	identity_deinit(&w->id);
	config_free(w->config);
	fs_remove_tree(w->dir, NULL);
	free(w->ca);
	free(w);
	return 0;
}

/* What elsad does for it. */
static char *sign(struct world *w, const char *name)
{
	cleanup_free char *csr = NULL;
	char *pem = NULL;
	const struct x509_terms terms = { .name = name,
					  .from = clock_wall() - HOUR_MS,
					  .until = clock_wall() + 2 * HOUR_MS };
	assert_int_equal(identity_request(&w->id, name, &csr, NULL), 0);
	assert_int_equal(x509_sign(csr, w->ca, w->ca_key, &terms, &pem, NULL), 0);
	return pem;
}

static void join(struct world *w)
{
	cleanup_free char *pem = sign(w, "n1");
	assert_int_equal(identity_store(&w->id, "n1", pem, w->ca, w->digest, TOKEN, NULL), 0);
	assert_true(w->id.joined);
}

static void test_join(void **state)
{
	struct world *w = *state;
	struct stat st;
	assert_int_equal(identity_load(&w->id, "n1", NULL), 0);
	assert_false(w->id.joined);
	join(w);
	assert_int_equal(stat(w->id.dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(w->id.key_file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_string_equal(w->id.facts.name, "n1");
	assert_string_equal(w->id.token, TOKEN);
	assert_string_equal(w->id.ca_digest, w->digest);
	int64_t left = identity_renew_at(&w->id) - clock_wall();
	assert_in_range(left, HOUR_MS - 60000, HOUR_MS);
}

/* The key is kept: so elsad knows it again. */
static void test_renewal(void **state)
{
	struct world *w = *state;
	join(w);
	struct x509_facts before = w->id.facts;
	cleanup_free char *pem = sign(w, "n1");
	assert_int_equal(identity_store(&w->id, "n1", pem, w->ca, w->digest, NULL, NULL), 0);
	assert_string_not_equal(w->id.facts.serial, before.serial);
	assert_string_equal(w->id.facts.key_digest, before.key_digest);
	assert_string_equal(w->id.token, TOKEN);
}

/* Answers that are not for us leave what we have. */
static void test_wrong_answers(void **state)
{
	struct world *w = *state;
	join(w);
	struct x509_facts before = w->id.facts;
	cleanup_free char *other_name = sign(w, "n2");
	assert_int_equal(identity_store(&w->id, "n1", other_name, w->ca, w->digest, NULL, NULL),
			 -EINVAL);
	char digest[X509_DIGEST_SIZE];
	memcpy(digest, w->digest, sizeof(digest));
	assert_int_equal(make_authority(w), 0);
	cleanup_free char *other_ca = sign(w, "n1");
	assert_int_equal(identity_store(&w->id, "n1", other_ca, w->ca, digest, TOKEN, NULL),
			 -EACCES);
	assert_int_equal(identity_store(&w->id, "n1", w->ca, w->ca, w->digest, TOKEN, NULL),
			 -EINVAL);
	assert_int_equal(identity_load(&w->id, "n1", NULL), 0);
	assert_string_equal(w->id.facts.serial, before.serial);
}

/* Killed between the files, when another authority is joined; or only some were brought back. */
static void test_parts_that_do_not_fit(void **state)
{
	struct world *w = *state;
	struct error e = ERROR_INIT;
	join(w);
	assert_int_equal(make_authority(w), 0);
	assert_int_equal(fs_replace(w->id.ca_file, w->ca, strlen(w->ca), 0600, NULL), 0);
	assert_int_equal(identity_load(&w->id, "n1", &e), -EINVAL);
	assert_non_null(strstr(e.text, w->id.dir));
	assert_false(w->id.joined);
	join(w);
	assert_int_equal(identity_load(&w->id, "n2", &e), -EINVAL);
	assert_false(w->id.joined);
	unlink(w->id.key_file);
	assert_int_equal(identity_load(&w->id, "n1", &e), -ENOENT);
	join(w);
	assert_int_equal(fs_replace(w->id.cert_file, "x", 1, 0600, NULL), 0);
	assert_int_equal(identity_load(&w->id, "n1", &e), -EINVAL);
	join(w);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_join),
		TEST(test_renewal),
		TEST(test_wrong_answers),
		TEST(test_parts_that_do_not_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
