/* SPDX-License-Identifier: Apache-2.0 */
#include "io/x509.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERIAL_BYTES = 16, FILE_MOST = 64 << 10 };

DEFINE_CLEANUP(BIO *, BIO_free_all)
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(X509_REQ *, X509_REQ_free)
#define cleanup_bio  cleanup(BIO_free_allp)
#define cleanup_key  cleanup(EVP_PKEY_freep)
#define cleanup_x509 cleanup(X509_freep)
#define cleanup_req  cleanup(X509_REQ_freep)

/* With what libcrypto says first, which is the cause. */
static int crypto_error(struct error *e, int code, const char *what)
{
	unsigned long first = ERR_get_error();
	const char *reason = first ? ERR_reason_error_string(first) : NULL;
	ERR_clear_error();
	return error_set(e, code, "%s: %s", what, reason ? reason : "libcrypto does not say why");
}

/* Never a terminal, whatever a file says of itself. */
static int no_password(char *to, int size, int writing, void *arg)
{
	(void)to;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int read_key(const char *path, EVP_PKEY **key, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_MOST);
	int r = fs_read(path, &text, e);
	if (r < 0)
		return r;
	ERR_clear_error();
	cleanup_bio BIO *in = BIO_new_mem_buf(buf_text(&text), (int)text.len);
	*key = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
	OPENSSL_cleanse(text.data, text.len);
	if (*key)
		return 0;
	int failed = crypto_error(e, EINVAL, "not a private key");
	return error_wrap(e, failed, "%s", path);
}

static int read_certificate(const char *pem, X509 **certificate, struct error *e)
{
	ERR_clear_error();
	cleanup_bio BIO *in = BIO_new_mem_buf(pem, -1);
	*certificate = in ? PEM_read_bio_X509(in, NULL, no_password, NULL) : NULL;
	return *certificate ? 0 : crypto_error(e, EINVAL, "not a certificate");
}

/* What was written into memory, as text of its own. */
static int take_text(BIO *out, char **text, struct error *e)
{
	char *data = NULL;
	long len = BIO_get_mem_data(out, &data);
	*text = len > 0 ? strndup(data, (size_t)len) : NULL;
	return *text ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int digest_text(const unsigned char *digest, unsigned len, char to[X509_DIGEST_SIZE])
{
	for (unsigned i = 0; i < len && 2 * i + 2 < X509_DIGEST_SIZE; i++)
		snprintf(to + 2UL * i, 3, "%02x", digest[i]);
	return 0;
}

static int key_digest(EVP_PKEY *key, char to[X509_DIGEST_SIZE], struct error *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned char *der = NULL;
	unsigned len = 0;
	int der_len = i2d_PUBKEY(key, &der);
	int ok = der_len > 0 &&
		 EVP_Digest(der, (size_t)der_len, digest, &len, EVP_sha256(), NULL) == 1;
	OPENSSL_free(der);
	return ok ? digest_text(digest, len, to) : crypto_error(e, EINVAL, "cannot read the key");
}

/* --- keys and requests ---------------------------------------------------- */

int x509_make_key(const char *path, struct error *e)
{
	cleanup_key EVP_PKEY *key = EVP_EC_gen("P-256");
	cleanup_bio BIO *out = BIO_new(BIO_s_secmem());
	char *data = NULL;
	if (!key || !out || PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) != 1)
		return crypto_error(e, ENOMEM, "cannot make a key");
	long len = BIO_get_mem_data(out, &data);
	return fs_replace(path, data, (size_t)len, 0600, e);
}

static int set_name(X509_NAME *to, const char *name, struct error *e)
{
	if (!name[0] || strlen(name) >= X509_NAME_SIZE)
		return error_set(e, EINVAL, "not a name for a certificate: \"%s\"", name);
	if (X509_NAME_add_entry_by_txt(to, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
				       0) != 1)
		return crypto_error(e, EINVAL, "cannot name a certificate");
	return 0;
}

int x509_make_csr(const char *key_file, const char *name, char **pem, struct error *e)
{
	cleanup_key EVP_PKEY *key = NULL;
	cleanup_req X509_REQ *req = X509_REQ_new();
	cleanup_bio BIO *out = BIO_new(BIO_s_mem());
	int r = read_key(key_file, &key, e);
	if (r < 0)
		return r;
	if (!req || !out || X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1)
		return error_set(e, ENOMEM, "out of memory");
	r = set_name(X509_REQ_get_subject_name(req), name, e);
	if (r < 0)
		return r;
	if (X509_REQ_set_pubkey(req, key) != 1 || X509_REQ_sign(req, key, EVP_sha256()) <= 0 ||
	    PEM_write_bio_X509_REQ(out, req) != 1)
		return crypto_error(e, EINVAL, "cannot make a request for a certificate");
	return take_text(out, pem, e);
}

static int read_csr(const char *csr, X509_REQ **req, struct error *e)
{
	char group[32] = "";
	ERR_clear_error();
	cleanup_bio BIO *in = BIO_new_mem_buf(csr, -1);
	cleanup_req X509_REQ *read = in ? PEM_read_bio_X509_REQ(in, NULL, no_password, NULL) : NULL;
	EVP_PKEY *key = read ? X509_REQ_get0_pubkey(read) : NULL;
	if (!key)
		return crypto_error(e, EINVAL, "not a request for a certificate");
	if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1 ||
	    strcmp(group, SN_X9_62_prime256v1) != 0)
		return error_set(e, EINVAL, "the key is not one of the curve P-256");
	if (X509_REQ_verify(read, key) != 1)
		return crypto_error(e, EINVAL, "the request is not signed by its key");
	*req = steal_ptr(&read);
	return 0;
}

int x509_check_csr(const char *csr, char digest[X509_DIGEST_SIZE], struct error *e)
{
	cleanup_req X509_REQ *req = NULL;
	int r = read_csr(csr, &req, e);
	return r < 0 ? r : key_digest(X509_REQ_get0_pubkey(req), digest, e);
}

/* --- certificates --------------------------------------------------------- */

static int set_serial(X509 *to, struct error *e)
{
	unsigned char bytes[SERIAL_BYTES];
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return crypto_error(e, EIO, "no random numbers");
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, of one length */
	BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(to));
	BN_free(number);
	return ok ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int extend(X509 *to, X509 *issuer, int what, const char *value, struct error *e)
{
	X509V3_CTX context;
	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, to, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, what, value);
	bool ok = extension && X509_add_ext(to, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok ? 0 : crypto_error(e, EINVAL, "cannot write a certificate");
}

struct extension {
	int what;
	const char *value;
};

/* An authority signs no further ones. */
static const struct extension of_ca[] = {
	{ NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
	{ NID_key_usage, "critical,keyCertSign,cRLSign" },
	{ NID_subject_key_identifier, "hash" },
	{ 0 },
};

static const struct extension of_leaf[] = {
	{ NID_basic_constraints, "critical,CA:FALSE" },
	{ NID_key_usage, "critical,digitalSignature" },
	{ NID_ext_key_usage, "serverAuth,clientAuth" },
	{ NID_subject_key_identifier, "hash" },
	{ NID_authority_key_identifier, "keyid:always" },
	{ 0 },
};

static int extend_all(X509 *to, X509 *issuer, const char *host, struct error *e)
{
	int r = 0;
	for (const struct extension *x = to == issuer ? of_ca : of_leaf; r == 0 && x->what; x++)
		r = extend(to, issuer, x->what, x->value, e);
	if (r < 0 || !host)
		return r;
	/* It becomes a line of OpenSSL's own configuration language. */
	if (!host[0] || host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-")])
		return error_set(e, EINVAL, "not a host's name: \"%s\"", host);
	cleanup_free char *names = str_printf("DNS:%s", host);
	return names ? extend(to, issuer, NID_subject_alt_name, names, e)
		     : error_set(e, ENOMEM, "out of memory");
}

/* `issuer` NULL: itself. */
static int make(EVP_PKEY *subject, X509 *issuer, EVP_PKEY *key, const struct x509_terms *terms,
		char **pem, struct error *e)
{
	cleanup_x509 X509 *made = X509_new();
	cleanup_bio BIO *out = BIO_new(BIO_s_mem());
	if (!made || !out || X509_set_version(made, X509_VERSION_3) != 1)
		return error_set(e, ENOMEM, "out of memory");
	int r = set_serial(made, e);
	if (r == 0)
		r = set_name(X509_get_subject_name(made), terms->name, e);
	if (r < 0)
		return r;
	issuer = issuer ? issuer : made;
	if (X509_set_issuer_name(made, X509_get_subject_name(issuer)) != 1 ||
	    !ASN1_TIME_set(X509_getm_notBefore(made), terms->from / 1000) ||
	    !ASN1_TIME_set(X509_getm_notAfter(made), terms->until / 1000) ||
	    X509_set_pubkey(made, subject) != 1)
		return crypto_error(e, EINVAL, "cannot write a certificate");
	r = extend_all(made, issuer, terms->host, e);
	if (r < 0)
		return r;
	if (X509_sign(made, key, EVP_sha256()) <= 0 || PEM_write_bio_X509(out, made) != 1)
		return crypto_error(e, EINVAL, "cannot sign a certificate");
	return take_text(out, pem, e);
}

int x509_make_ca(const char *key_file, const struct x509_terms *terms, char **pem, struct error *e)
{
	cleanup_key EVP_PKEY *key = NULL;
	int r = read_key(key_file, &key, e);
	return r < 0 ? r : make(key, NULL, key, terms, pem, e);
}

int x509_sign(const char *csr, const char *ca, const char *ca_key_file,
	      const struct x509_terms *terms, char **pem, struct error *e)
{
	cleanup_key EVP_PKEY *key = NULL;
	cleanup_x509 X509 *issuer = NULL;
	cleanup_req X509_REQ *req = NULL;
	int r = read_csr(csr, &req, e);
	if (r == 0)
		r = read_certificate(ca, &issuer, e);
	if (r == 0)
		r = read_key(ca_key_file, &key, e);
	if (r == 0 && X509_check_private_key(issuer, key) != 1)
		r = crypto_error(e, EINVAL, "the authority's key is not its certificate's");
	return r < 0 ? r : make(X509_REQ_get0_pubkey(req), issuer, key, terms, pem, e);
}

/* --- what is in one ------------------------------------------------------- */

static int read_time(const ASN1_TIME *from, wall_ms *to)
{
	struct tm tm = { 0 };
	if (ASN1_TIME_to_tm(from, &tm) != 1)
		return -EINVAL;
	*to = (wall_ms)timegm(&tm) * 1000;
	return 0;
}

static int read_serial(X509 *certificate, char to[X509_SERIAL_SIZE])
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
	char *hex = number ? BN_bn2hex(number) : NULL;
	int len = hex ? snprintf(to, X509_SERIAL_SIZE, "%s", hex) : -1;
	OPENSSL_free(hex);
	BN_free(number);
	return len > 0 && len < X509_SERIAL_SIZE ? 0 : -EINVAL;
}

int x509_facts(const char *pem, struct x509_facts *facts, struct error *e)
{
	cleanup_x509 X509 *read = NULL;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int r = read_certificate(pem, &read, e);
	if (r < 0)
		return r;
	*facts = (struct x509_facts) { 0 };
	int name = X509_NAME_get_text_by_NID(X509_get_subject_name(read), NID_commonName,
					     facts->name, sizeof(facts->name));
	if (name <= 0 || (size_t)name != strlen(facts->name) ||
	    read_serial(read, facts->serial) < 0 ||
	    read_time(X509_get0_notBefore(read), &facts->from) < 0 ||
	    read_time(X509_get0_notAfter(read), &facts->until) < 0 ||
	    X509_digest(read, EVP_sha256(), digest, &len) != 1)
		return crypto_error(e, EINVAL, "not a certificate that we made");
	digest_text(digest, len, facts->digest);
	return key_digest(X509_get0_pubkey(read), facts->key_digest, e);
}

int x509_check_pair(const char *pem, const char *ca, const char *key_file, struct error *e)
{
	cleanup_x509 X509 *read = NULL;
	cleanup_x509 X509 *issuer = NULL;
	cleanup_key EVP_PKEY *key = NULL;
	int r = read_certificate(pem, &read, e);
	if (r == 0)
		r = read_certificate(ca, &issuer, e);
	if (r == 0)
		r = read_key(key_file, &key, e);
	if (r < 0)
		return r;
	if (X509_check_private_key(read, key) != 1)
		return crypto_error(e, EINVAL, "the certificate is not one of the key");
	if (X509_verify(read, X509_get0_pubkey(issuer)) != 1)
		return crypto_error(e, EINVAL, "the certificate is not one of the authority");
	return 0;
}
