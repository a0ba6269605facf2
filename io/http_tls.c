/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_tls.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Reports in a row, and the time after which there may be as many again. */
enum { REPORTS_MOST = 5, REPORTS_IN_US = 60 * 1000 * 1000 };

enum tls_file { TLS_CERT, TLS_KEY, TLS_CA, TLS_FILE_COUNT };

struct http_tls_context {
	char *files[TLS_FILE_COUNT];
	struct stat seen[TLS_FILE_COUNT]; /* as they were read, or could not be */
	SSL_CTX *ssl;
	void (*report)(const char *what, void *arg);
	void *report_arg;
	mono_us since; /* of the reports that are counted */
	int reported, kept_back;
};

DEFINE_CLEANUP(SSL_CTX *, SSL_CTX_free)
#define cleanup_ssl_ctx cleanup(SSL_CTX_freep)

DEFINE_CLEANUP(X509 *, X509_free)
#define cleanup_x509 cleanup(X509_freep)

/* Error with what libcrypto says first, which is the cause. */
static int tls_error(struct error *e, int code, const char *what, const char *file)
{
	char text[256];
	unsigned long first = ERR_get_error();
	ERR_error_string_n(first, text, sizeof(text));
	ERR_clear_error();
	const char *reason = first ? ERR_reason_error_string(first) : NULL;
	return error_set(e, code, "%s%s%s: %s", what, file ? " " : "", file ? file : "",
			 reason ? reason : text);
}

/* --- reports -------------------------------------------------------------- */

static void report(struct http_tls_context *c, const char *what)
{
	char text[768];
	mono_us now = clock_mono();
	if (!c->report)
		return;
	if (now - c->since >= REPORTS_IN_US) {
		c->since = now;
		c->reported = 0;
	}
	if (c->reported++ >= REPORTS_MOST) {
		c->kept_back++;
		return;
	}
	snprintf(text, sizeof(text), "%s", what);
	if (c->kept_back)
		snprintf(text, sizeof(text), "%s (and %d more of that kind before)", what,
			 c->kept_back);
	c->kept_back = 0;
	c->report(text, c->report_arg);
}

static void peer_address(const SSL *ssl, char to[INET6_ADDRSTRLEN])
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	snprintf(to, INET6_ADDRSTRLEN, "?");
	if (getpeername(SSL_get_fd(ssl), (struct sockaddr *)&peer, &len) < 0)
		return;
	if (peer.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&peer)->sin_addr, to, INET6_ADDRSTRLEN);
	if (peer.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&peer)->sin6_addr, to,
			  INET6_ADDRSTRLEN);
}

/* What a name from outside may do to a log. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
			*text = '?';
}

/* The client's certificate, or one of its chain, is looked at. */
static int on_verified(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct http_tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	X509 *shown = X509_STORE_CTX_get_current_cert(store);
	char name[128] = "";
	char address[INET6_ADDRSTRLEN];
	char text[512];
	if (ok)
		return ok;
	if (shown)
		X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name,
					  sizeof(name));
	make_printable(name);
	peer_address(ssl, address);
	snprintf(text, sizeof(text), "the certificate \"%s\" of %s was refused: %s", name, address,
		 X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	report(c, text);
	return ok;
}

/* The client says what it has against us. */
static void on_info(const SSL *ssl, int where, int alert)
{
	struct http_tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	char address[INET6_ADDRSTRLEN];
	char text[256];
	if ((where & SSL_CB_READ_ALERT) != SSL_CB_READ_ALERT || alert >> 8 != SSL3_AL_FATAL)
		return;
	peer_address(ssl, address);
	snprintf(text, sizeof(text), "%s has ended a TLS connection: %s", address,
		 SSL_alert_desc_string_long(alert));
	report(c, text);
}

/* --- certificates --------------------------------------------------------- */

static int trust(SSL_CTX *ssl, const char *ca_file, struct error *e)
{
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca_file);
	if (!names || SSL_CTX_load_verify_locations(ssl, ca_file, NULL) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return tls_error(e, EINVAL, "cannot use the authority", ca_file);
	}
	SSL_CTX_set_client_CA_list(ssl, names); /* takes it over */
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, on_verified);
	return 0;
}

static int load(struct http_tls_context *c, SSL_CTX **loaded, struct error *e)
{
	cleanup_ssl_ctx SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
	ERR_clear_error();
	if (!ssl || SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) != 1)
		return tls_error(e, ENOMEM, "cannot set up TLS", NULL);
	/* A peer that goes without a word is one that goes: HTTP says where a body ends. */
	SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, 0);
	SSL_CTX_set_app_data(ssl, c);
	SSL_CTX_set_info_callback(ssl, on_info);
	if (SSL_CTX_use_certificate_chain_file(ssl, c->files[TLS_CERT]) != 1)
		return tls_error(e, EINVAL, "cannot use the certificate", c->files[TLS_CERT]);
	if (SSL_CTX_use_PrivateKey_file(ssl, c->files[TLS_KEY], SSL_FILETYPE_PEM) != 1)
		return tls_error(e, EINVAL, "cannot use the key", c->files[TLS_KEY]);
	int r = trust(ssl, c->files[TLS_CA], e);
	if (r == 0)
		*loaded = steal_ptr(&ssl);
	return r;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Have the files changed since they were looked at last? */
static bool look(struct http_tls_context *c)
{
	bool changed = false;
	for (int i = 0; i < TLS_FILE_COUNT; i++) {
		struct stat now;
		if (stat(c->files[i], &now) < 0)
			now = (struct stat) { 0 };
		changed |= !is_same_file(&now, &c->seen[i]);
		c->seen[i] = now;
	}
	return changed;
}

static void take_up_changes(struct http_tls_context *c)
{
	struct error e = ERROR_INIT;
	SSL_CTX *fresh = NULL;
	if (!look(c))
		return;
	if (load(c, &fresh, &e) < 0) {
		error_wrap(&e, 0, "the old certificate stays in use");
		report(c, e.text);
		return;
	}
	SSL_CTX_free(c->ssl); /* connections keep it as long as they need */
	c->ssl = fresh;
}

/* --- life ----------------------------------------------------------------- */

int http_tls_new(const struct http_tls *options, struct http_tls_context **context, struct error *e)
{
	struct http_tls_context *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	*c = (struct http_tls_context) {
		.files = { [TLS_CERT] = strdup(options->cert_file),
			   [TLS_KEY] = strdup(options->key_file),
			   [TLS_CA] = strdup(options->ca_file) },
		.report = options->report,
		.report_arg = options->report_arg,
	};
	int r = c->files[TLS_CERT] && c->files[TLS_KEY] && c->files[TLS_CA]
			? 0
			: error_set(e, ENOMEM, "out of memory");
	if (r == 0) {
		look(c);
		r = load(c, &c->ssl, e);
	}
	if (r < 0) {
		http_tls_free(c);
		return r;
	}
	*context = c;
	return 0;
}

void *http_tls_free(struct http_tls_context *context)
{
	if (!context)
		return NULL;
	SSL_CTX_free(context->ssl);
	for (int i = 0; i < TLS_FILE_COUNT; i++)
		free(context->files[i]);
	free(context);
	return NULL;
}

struct bufferevent *http_tls_accept(struct http_tls_context *context, struct event_base *base)
{
	take_up_changes(context);
	SSL *ssl = SSL_new(context->ssl);
	/* The bufferevent takes it over, also when it cannot be made. */
	return ssl ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
						    BEV_OPT_CLOSE_ON_FREE)
		   : NULL;
}

bool http_tls_is_on(struct bufferevent *connection)
{
	return bufferevent_openssl_get_ssl(connection) != NULL;
}

int http_tls_peer(struct bufferevent *connection, struct http_peer *peer, struct error *e)
{
	SSL *ssl = bufferevent_openssl_get_ssl(connection);
	cleanup_x509 X509 *shown = SSL_get1_peer_certificate(ssl);
	if (!shown)
		return 0;
	/* It was valid when the connection was made, which may be long ago. */
	if (SSL_get_verify_result(ssl) != X509_V_OK ||
	    X509_cmp_current_time(X509_get0_notAfter(shown)) <= 0)
		return error_set(e, EACCES, "the certificate has expired");
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(shown), NULL);
	char *hex = serial ? BN_bn2hex(serial) : NULL;
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName,
					    peer->name, sizeof(peer->name));
	bool whole = hex && strlen(hex) < sizeof(peer->serial) && len > 0 &&
		     (size_t)len == strlen(peer->name) && (size_t)len < sizeof(peer->name) - 1;
	if (whole)
		snprintf(peer->serial, sizeof(peer->serial), "%s", hex);
	OPENSSL_free(hex);
	BN_free(serial);
	return whole ? 1 : error_set(e, EACCES, "the certificate has no usable name");
}
