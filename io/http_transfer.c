/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_transfer.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <limits.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	TIMEOUT_DEFAULT_MS = 30000,
	CONNECT_TIMEOUT_DEFAULT_MS = 5000,
	BODY_DEFAULT = 16 << 20,
	CERTIFICATE_MOST = 64 << 10,
	RETRY_AFTER_MOST_S = 6 * 3600, /* as newer versions of libcurl */
};

static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_transfer_global_init(struct error *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, global_init);
	if (global_result != CURLE_OK)
		return error_fault(e, FAULT_INTERNAL, "cannot set up libcurl: %s",
				   curl_easy_strerror(global_result));
	return 0;
}

static size_t take_data(char *data, size_t size, size_t count, void *arg)
{
	struct http_transfer *t = arg;
	size_t len = size * count;
	long status = 0;
	if (t->cancelled)
		return 0;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	/* An error's body is for the caller's eyes, not for the reader of a listing. */
	if (t->on_data && status >= 200 && status < 300) {
		t->refused = t->on_data(data, len, t->arg) != 0;
		return t->refused || t->cancelled ? 0 : len;
	}
	return buf_append(&t->body, data, len) < 0 ? 0 : len;
}

static int add_header(struct http_transfer *t, const char *line)
{
	struct curl_slist *list = curl_slist_append(t->headers, line);
	if (!list)
		return -ENOMEM;
	t->headers = list;
	return 0;
}

static bool has_header(const struct http_request *request, const char *name)
{
	size_t len = strlen(name);
	for (const char *const *h = request->headers; h && *h; h++)
		if (strncasecmp(*h, name, len) == 0 && (*h)[len] == ':')
			return true;
	return false;
}

static int set_headers(struct http_transfer *t, const struct http_request *request)
{
	int r = 0;
	for (const char *const *h = request->headers; r == 0 && h && *h; h++)
		r = add_header(t, *h);
	/* libcurl would call every body a form, and wait a second for leave to send a large one. */
	if (r == 0 && request->body && !has_header(request, "Content-Type"))
		r = add_header(t, "Content-Type: application/json");
	if (r == 0 && request->body)
		r = add_header(t, "Expect:");
	return r;
}

static CURLcode set_method(CURL *easy, const struct http_request *request)
{
	const char *method = request->method ? request->method : "GET";
	CURLcode c = CURLE_OK;
	if (request->body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
		c = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				     (curl_off_t)(request->body ? request->body_len : 0));
		if (!c)
			c = curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS,
					     request->body ? request->body : "");
	} else if (strcmp(method, "HEAD") == 0) {
		c = curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	}
	return c ? c : curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

/* The first failure of several settings. */
#define SET(c, easy, option, value) ((c) = (c) ? (c) : curl_easy_setopt((easy), (option), (value)))

/* --- TLS ------------------------------------------------------------------ */

static bool has_digest(X509 *certificate, const char *hex)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE + 1] = "";
	unsigned len = 0;
	if (X509_digest(certificate, EVP_sha256(), digest, &len) != 1)
		return false;
	for (unsigned i = 0; i < len; i++)
		snprintf(text + 2UL * i, 3, "%02x", digest[i]);
	return strcasecmp(text, hex) == 0;
}

/* Trusts the one authority of those shown that has the digest, and no other. The host's name is
 * looked at by libcurl, as always. */
static int verify_pinned(X509_STORE_CTX *store, void *arg)
{
	const struct http_transfer *t = arg;
	STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
	STACK_OF(X509) *trusted = sk_X509_new_null();
	for (int i = 0; trusted && i < sk_X509_num(shown); i++)
		if (has_digest(sk_X509_value(shown, i), t->pin))
			sk_X509_push(trusted, sk_X509_value(shown, i));
	X509_STORE_CTX_set0_trusted_stack(store, trusted);
	int ok = X509_verify_cert(store);
	sk_X509_free(trusted);
	return ok;
}

static CURLcode pin_authority(CURL *easy, void *tls, void *arg)
{
	(void)easy;
	SSL_CTX_set_cert_verify_callback(tls, verify_pinned, arg);
	return CURLE_OK;
}

/* By its content: libcurl knows kept connections apart by that, not by when a file was read. */
static CURLcode set_certificate(CURL *easy, const struct http_request *request)
{
	cleanup_buf struct buf pem = BUF_INIT(CERTIFICATE_MOST);
	if (fs_read(request->cert_file, &pem, NULL) < 0)
		return CURLE_SSL_CERTPROBLEM;
	struct curl_blob blob = { .data = pem.data, .len = pem.len, .flags = CURL_BLOB_COPY };
	CURLcode c = curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &blob);
	SET(c, easy, CURLOPT_SSLKEY, request->key_file);
	return c;
}

static CURLcode set_tls(struct http_transfer *t, const struct http_request *request)
{
	CURL *easy = t->easy;
	CURLcode c = CURLE_OK;
	if (request->ca_file) {
		SET(c, easy, CURLOPT_CAINFO, request->ca_file);
		/* Debian's libcurl trusts this directory, too, unless told not to. */
		SET(c, easy, CURLOPT_CAPATH, NULL);
		/* Nor one read before: the file may have been replaced. */
		SET(c, easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	}
	if (request->ca_sha256) {
		snprintf(t->pin, sizeof(t->pin), "%s", request->ca_sha256);
		SET(c, easy, CURLOPT_SSL_CTX_FUNCTION, pin_authority);
		SET(c, easy, CURLOPT_SSL_CTX_DATA, (void *)t);
		/* libcurl does not know what a kept connection was verified by. */
		SET(c, easy, CURLOPT_FRESH_CONNECT, 1L);
		SET(c, easy, CURLOPT_FORBID_REUSE, 1L);
		SET(c, easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	}
	if (request->cert_file && !c)
		c = set_certificate(easy, request);
	return c;
}

/* Without the two names before it curl's rule is for whatever the URL names. */
static CURLcode set_connect_to(struct http_transfer *t, const char *where)
{
	char rule[512];
	int len = snprintf(rule, sizeof(rule), "::%s", where);
	if ((size_t)len >= sizeof(rule))
		return CURLE_URL_MALFORMAT;
	t->connect_to = curl_slist_append(NULL, rule);
	return t->connect_to ? curl_easy_setopt(t->easy, CURLOPT_CONNECT_TO, t->connect_to)
			     : CURLE_OUT_OF_MEMORY;
}

static CURLcode set_connection(CURL *easy, const struct http_request *request)
{
	CURLcode c = CURLE_OK;
	long timeout = request->timeout_ms ? request->timeout_ms : TIMEOUT_DEFAULT_MS;
	long connect = request->connect_timeout_ms ? request->connect_timeout_ms
						   : CONNECT_TIMEOUT_DEFAULT_MS;
	SET(c, easy, CURLOPT_NOSIGNAL, 1L);
	SET(c, easy, CURLOPT_TIMEOUT_MS, timeout);
	SET(c, easy, CURLOPT_CONNECTTIMEOUT_MS, connect);
	SET(c, easy, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(c, easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(c, easy, CURLOPT_FOLLOWLOCATION, 0L);
	/* An empty proxy also keeps http_proxy and its kind in our environment from being used:
	 * what we talk to is named exactly. */
	SET(c, easy, CURLOPT_PROXY, "");
	SET(c, easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (request->unix_socket)
		SET(c, easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
	SET(c, easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	return c;
}

static CURLcode set_all(struct http_transfer *t, const struct http_request *request)
{
	CURL *easy = t->easy;
	CURLcode c = set_connection(easy, request);
	c = c ? c : set_tls(t, request);
	if (!c && request->connect_to)
		c = set_connect_to(t, request->connect_to);
	SET(c, easy, CURLOPT_URL, request->url);
	SET(c, easy, CURLOPT_PATH_AS_IS, 1L); /* object names may hold "..": never shorten */
	SET(c, easy, CURLOPT_USERAGENT, "elsa/" ELSA_VERSION);
	SET(c, easy, CURLOPT_HTTPHEADER, t->headers);
	SET(c, easy, CURLOPT_ERRORBUFFER, t->text);
	SET(c, easy, CURLOPT_WRITEFUNCTION, take_data);
	SET(c, easy, CURLOPT_WRITEDATA, (void *)t);
	return c ? c : set_method(easy, request);
}

static bool is_http_url(const char *url)
{
	return url && (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0);
}

int http_transfer_init(struct http_transfer *t, const struct http_request *request, void *arg,
		       struct error *e)
{
	int r = http_transfer_global_init(e);
	if (r < 0)
		return r;
	if (!is_http_url(request->url))
		return error_set(e, EINVAL, "not an http:// or https:// address: %s",
				 request->url ? request->url : "(none)");
	*t = (struct http_transfer) { .on_data = request->on_data, .arg = arg };
	t->body = BUF_INIT(request->max_body ? request->max_body : BODY_DEFAULT);
	t->easy = curl_easy_init();
	CURLcode c = CURLE_OUT_OF_MEMORY;
	if (t->easy && set_headers(t, request) == 0)
		c = set_all(t, request);
	if (c == CURLE_OK)
		return 0;
	http_transfer_deinit(t);
	if (c == CURLE_SSL_CERTPROBLEM)
		return error_set(e, EINVAL, "cannot use the certificate %s", request->cert_file);
	return error_set(e, c == CURLE_OUT_OF_MEMORY ? ENOMEM : EINVAL,
			 "cannot prepare a request to %s: %s", request->url, curl_easy_strerror(c));
}

/* --- the end -------------------------------------------------------------- */

static enum fault fault_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return FAULT_NONE;
	case CURLE_OPERATION_TIMEDOUT:
		return FAULT_TIMEOUT;
	case CURLE_URL_MALFORMAT:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return FAULT_BAD_INPUT;
	case CURLE_PEER_FAILED_VERIFICATION:
		return FAULT_DENIED;
	case CURLE_OUT_OF_MEMORY:
		return FAULT_FULL;
	case CURLE_FAILED_INIT:
	case CURLE_BAD_FUNCTION_ARGUMENT:
		return FAULT_INTERNAL;
	default: /* not there, gone, or talking something that is not HTTP */
		return FAULT_UNAVAILABLE;
	}
}

/* The same failure is told in the same words, or whoever says each but once says it again: how long
 * libcurl tried is left out. */
static const char *why(const struct http_transfer *t, CURLcode code)
{
	bool times = code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT;
	return t->text[0] && !times ? t->text : curl_easy_strerror(code);
}

static void explain(const struct http_transfer *t, CURLcode code, struct error *to)
{
	char *url = NULL;
	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
	if (t->refused)
		error_set(to, ECANCELED, "the answer was refused by its reader");
	else if (code == CURLE_WRITE_ERROR)
		error_fault(to, FAULT_INTERNAL, "the answer is larger than %zu bytes", t->body.cap);
	else
		error_fault(to, fault_of(code), "%s", why(t, code));
	error_wrap(to, 0, "%s", url ? url : "");
}

/* libcurl reads both forms, seconds and date; a date may lie in the past. */
static int retry_after(CURL *easy)
{
	curl_off_t seconds = 0;
	curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
	if (seconds < 0)
		return 0;
	return (int)(seconds < RETRY_AFTER_MOST_S ? seconds : RETRY_AFTER_MOST_S);
}

void http_transfer_reply(struct http_transfer *t, CURLcode code, struct http_reply *reply)
{
	long status = 0;
	*reply = (struct http_reply) { .body = "" };
	if (code != CURLE_OK) {
		explain(t, code, &reply->error);
		return;
	}
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	reply->status = (int)status;
	reply->body = buf_text(&t->body);
	reply->body_len = t->body.len;
	reply->retry_after_s = retry_after(t->easy);
	reply->transfer = t->easy;
}

const char *http_reply_field(const struct http_reply *reply, const char *name)
{
	struct curl_header *header;
	if (!reply->transfer ||
	    curl_easy_header(reply->transfer, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return NULL;
	return header->value;
}

void http_transfer_deinit(struct http_transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	curl_slist_free_all(t->connect_to);
	buf_deinit(&t->body);
	t->easy = NULL;
	t->headers = t->connect_to = NULL;
}
