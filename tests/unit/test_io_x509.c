/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "io/x509.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* 2026-01-01 and a day */
#define FROM  1767225600000
#define UNTIL (FROM + 86400000)

static char dir[64], key[96], ca_key[96];
static const struct x509_terms ca_terms = { .name = "an authority", .from = FROM, .until = UNTIL };

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/elsa-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(key, sizeof(key), "%s/key.pem", dir);
	snprintf(ca_key, sizeof(ca_key), "%s/ca-key.pem", dir);
	return x509_make_key(key, NULL) < 0 ? -1 : x509_make_key(ca_key, NULL);
}

static int teardown(void **state)
{
	(void)state;
	return fs_remove_tree(dir, NULL);
}

static void test_key_file(void **state)
{
	struct stat st;
	cleanup_buf struct buf before = BUF_INIT(1 << 16);
	cleanup_buf struct buf after = BUF_INIT(1 << 16);
	(void)state;
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fs_read(key, &before, NULL), 0);
	assert_int_equal(x509_make_key(key, NULL), 0);
	assert_int_equal(fs_read(key, &after, NULL), 0);
	assert_string_not_equal(buf_text(&before), buf_text(&after));
}

/* The signer says who it is; what the request says does not matter. */
static void test_sign(void **state)
{
	cleanup_free char *ca = NULL;
	cleanup_free char *csr = NULL;
	cleanup_free char *pem = NULL;
	cleanup_free char *again = NULL;
	char digest[X509_DIGEST_SIZE];
	struct x509_facts facts, other;
	const struct x509_terms terms = {
		.name = "n1", .host = "n1.node.elsa", .from = FROM, .until = UNTIL
	};
	(void)state;
	assert_int_equal(x509_make_ca(ca_key, &ca_terms, &ca, NULL), 0);
	assert_int_equal(x509_make_csr(key, "controller.elsa", &csr, NULL), 0);
	assert_int_equal(x509_check_csr(csr, digest, NULL), 0);
	assert_int_equal(x509_sign(csr, ca, ca_key, &terms, &pem, NULL), 0);
	assert_int_equal(x509_sign(csr, ca, ca_key, &terms, &again, NULL), 0);
	assert_int_equal(x509_facts(pem, &facts, NULL), 0);
	assert_string_equal(facts.name, "n1");
	assert_int_equal(facts.from, FROM);
	assert_int_equal(facts.until, UNTIL);
	assert_string_equal(facts.key_digest, digest);
	assert_int_equal(x509_facts(again, &other, NULL), 0);
	assert_string_not_equal(facts.serial, other.serial);
	assert_string_not_equal(facts.digest, other.digest);
	assert_int_equal(x509_check_pair(pem, ca, key, NULL), 0);
	assert_int_equal(x509_check_pair(pem, ca, ca_key, NULL), -EINVAL);
	assert_int_equal(x509_check_pair(pem, pem, key, NULL), -EINVAL);
}

static void test_sign_by_the_wrong_key(void **state)
{
	cleanup_free char *ca = NULL;
	cleanup_free char *csr = NULL;
	char *pem = NULL;
	struct error e = ERROR_INIT;
	(void)state;
	assert_int_equal(x509_make_ca(ca_key, &ca_terms, &ca, NULL), 0);
	assert_int_equal(x509_make_csr(key, "n1", &csr, NULL), 0);
	assert_int_equal(x509_sign(csr, ca, key, &ca_terms, &pem, &e), -EINVAL);
	assert_null(pem);
}

/* What would be more than a name in the language that extensions are written in. */
static const char *const bad_hosts[] = { "",      "a,DNS:controller.elsa", "a b", "A", "a/b", "@x",
					 "*.elsa" };

static void test_bad_names(void **state)
{
	cleanup_free char *ca = NULL;
	cleanup_free char *csr = NULL;
	char *pem = NULL;
	char name[80];
	(void)state;
	memset(name, 'a', sizeof(name));
	name[65] = '\0';
	assert_int_equal(x509_make_ca(ca_key, &ca_terms, &ca, NULL), 0);
	assert_int_equal(x509_make_csr(key, "n1", &csr, NULL), 0);
	assert_int_equal(x509_make_csr(key, name, &pem, NULL), -EINVAL);
	assert_int_equal(x509_make_csr(key, "", &pem, NULL), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad_hosts); i++) {
		const struct x509_terms terms = {
			.name = "n1", .host = bad_hosts[i], .from = FROM, .until = UNTIL
		};
		assert_int_equal(x509_sign(csr, ca, ca_key, &terms, &pem, NULL), -EINVAL);
	}
	assert_null(pem);
}

/* A request of `openssl req` with a key of another kind, and one whose last bytes are not its
 * signature. */
static void test_bad_requests(void **state)
{
	cleanup_free char *csr = NULL;
	char digest[X509_DIGEST_SIZE];
	struct error e = ERROR_INIT;
	(void)state;
	assert_int_equal(x509_check_csr("", digest, NULL), -EINVAL);
	assert_int_equal(x509_check_csr("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"
					"-----END CERTIFICATE REQUEST-----\n",
					digest, NULL),
			 -EINVAL);
	assert_int_equal(x509_make_csr(key, "n1", &csr, NULL), 0);
	char *in_signature = strstr(csr, "\n-----END") - 12;
	*in_signature = *in_signature == 'A' ? 'B' : 'A';
	assert_int_equal(x509_check_csr(csr, digest, &e), -EINVAL);
	/* A signed one of the curve P-384: made once with `openssl req -newkey ec`. */
	static const char p384[] =
		"-----BEGIN CERTIFICATE REQUEST-----\n"
		"MIIBBTCBjAIBADANMQswCQYDVQQDDAJuMTB2MBAGByqGSM49AgEGBSuBBAAiA2IA\n"
		"BJTSafDnzFbNCG/Jd/IJ4yONO0exdvVYI8EjRdVJku0c8Qdsrd4gdF/StrQvAJK1\n"
		"27shVgd8epsxpYR98S65uJTlDkihsnk4XSTyvROKqBTJngDUUcjGKiApU1I81M50\n"
		"u6AAMAoGCCqGSM49BAMCA2gAMGUCMQCjKWBEZtZTN9a2/2ybqvU8FDMxl9oUc5Ni\n"
		"zNElfCvoG8JX02WxojVc73LLR8TRDW4CMAKpMIFgv4oVTpo38/CiBZ+H3wYVVxZ0\n"
		"tbCJ65k/m/vODmufLXkfXlkDF5PUJ1RKMA==\n"
		"-----END CERTIFICATE REQUEST-----\n";
	assert_int_equal(x509_check_csr(p384, digest, &e), -EINVAL);
	assert_non_null(strstr(e.text, "P-256"));
}

static void test_no_files(void **state)
{
	char *pem = NULL;
	struct x509_facts facts;
	struct error e = ERROR_INIT;
	(void)state;
	assert_int_equal(x509_make_csr("/none/key.pem", "n1", &pem, &e), -ENOENT);
	assert_int_equal(fs_replace(key, "x", 1, 0600, NULL), 0);
	assert_int_equal(x509_make_csr(key, "n1", &pem, &e), -EINVAL);
	assert_non_null(strstr(e.text, key));
	assert_int_equal(x509_facts("", &facts, NULL), -EINVAL);
}

#define x509_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		x509_test(test_key_file),
		x509_test(test_sign),
		x509_test(test_sign_by_the_wrong_key),
		x509_test(test_bad_names),
		x509_test(test_bad_requests),
		x509_test(test_no_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
