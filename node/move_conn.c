/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_conn_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	SILENT_MS = 10000, /* what was sent is acknowledged, or the other side is gone */
	PROBE_S = 3,
	PROBES = 3,
	BUFFER = 128 << 10,
	SOCKET_BUFFER = 4 << 20,
};

struct move_tls {
	SSL_CTX *ssl;
};

DEFINE_CLEANUP(struct move_conn *, move_conn_free)
DEFINE_CLEANUP(struct addrinfo *, freeaddrinfo)

/* --- TLS --------------------------------------------------------------------------- */

/* Error with what libcrypto says first, which is the cause. */
static int tls_error(struct error *e, int code, const char *what)
{
	unsigned long first = ERR_get_error();
	const char *reason = first ? ERR_reason_error_string(first) : NULL;
	ERR_clear_error();
	return error_set(e, code, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
}

static bool set_up(SSL_CTX *ssl, const struct identity *id)
{
	SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, 0);
	SSL_CTX_set_read_ahead(ssl, 1);
	SSL_CTX_set_default_read_buffer_len(ssl, BUFFER);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") ==
		       1 &&
	       SSL_CTX_use_certificate_chain_file(ssl, id->cert_file) == 1 &&
	       SSL_CTX_use_PrivateKey_file(ssl, id->key_file, SSL_FILETYPE_PEM) == 1 &&
	       SSL_CTX_check_private_key(ssl) == 1 &&
	       SSL_CTX_load_verify_locations(ssl, id->ca_file, NULL) == 1;
}

int move_tls_new(const struct identity *id, struct move_tls **tls, struct error *e)
{
	cleanup_free struct move_tls *t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(e, ENOMEM, "out of memory");
	/* OpenSSL writes to connections whose peer is gone. */
	signal(SIGPIPE, SIG_IGN);
	ERR_clear_error();
	t->ssl = SSL_CTX_new(TLS_method());
	if (!t->ssl || !set_up(t->ssl, id)) {
		SSL_CTX_free(t->ssl);
		return tls_error(e, EINVAL, "cannot use this node's certificate");
	}
	*tls = steal_ptr(&t);
	return 0;
}

void *move_tls_free(struct move_tls *tls)
{
	if (tls)
		SSL_CTX_free(tls->ssl);
	free(tls);
	return NULL;
}

/* --- waiting ----------------------------------------------------------------------- */

int move_conn_ended(struct move_conn *c, struct error *e)
{
	c->broken = true;
	return error_set(e, ECONNRESET, "the connection to node %s has ended", c->peer);
}

static int64_t until(int timeout_ms)
{
	return clock_mono() + timeout_ms * 1000LL;
}

static int wait_for(struct move_conn *c, short events, int64_t end, struct error *e)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	for (;;) {
		int64_t left = (end - clock_mono() + 999) / 1000;
		int r = poll(&p, 1, left > 0 ? (int)left : 0);
		if (atomic_load(&c->hung_up))
			return move_conn_ended(c, e);
		if (r > 0)
			return 0;
		if (r == 0)
			return error_set(e, ETIMEDOUT, "node %s does not answer", c->peer);
		if (errno != EINTR)
			return error_errno(e, "cannot wait for node %s", c->peer);
	}
}

/* What a call of OpenSSL's that did not succeed wants; 0: again. */
static int after_ssl(struct move_conn *c, int result, int64_t end, struct error *e)
{
	int why = SSL_get_error(c->ssl, result);
	if (why == SSL_ERROR_WANT_READ)
		return wait_for(c, POLLIN, end, e);
	if (why == SSL_ERROR_WANT_WRITE)
		return wait_for(c, POLLOUT, end, e);
	unsigned long reason = why == SSL_ERROR_SSL ? ERR_peek_error() : 0;
	int r = move_conn_ended(c, e);
	if (reason && ERR_GET_REASON(reason) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
		error_wrap(e, r, "%s", ERR_reason_error_string(reason));
	ERR_clear_error();
	return r;
}

static int after_plain(struct move_conn *c, ssize_t result, short events, int64_t end,
		       struct error *e)
{
	if (result < 0 && (errno == EAGAIN || errno == EINTR))
		return wait_for(c, events, end, e);
	return move_conn_ended(c, e);
}

int move_conn_read(struct move_conn *c, void *to, size_t len, size_t *got, int timeout_ms,
		   struct error *e)
{
	int64_t end = until(timeout_ms);
	for (;;) {
		int r;
		if (c->ssl) {
			ERR_clear_error();
			int ok = SSL_read_ex(c->ssl, to, len, got);
			if (ok == 1)
				return 0;
			r = after_ssl(c, ok, end, e);
		} else {
			ssize_t n = recv(c->fd, to, len, 0);
			*got = n > 0 ? (size_t)n : 0;
			if (n > 0)
				return 0;
			r = after_plain(c, n, POLLIN, end, e);
		}
		if (r < 0)
			return r;
	}
}

int move_conn_write(struct move_conn *c, const void *from, size_t len, size_t *done, int timeout_ms,
		    struct error *e)
{
	int64_t end = until(timeout_ms);
	for (;;) {
		int r;
		if (c->ssl) {
			ERR_clear_error();
			int ok = SSL_write_ex(c->ssl, from, len, done);
			if (ok == 1)
				return 0;
			r = after_ssl(c, ok, end, e);
		} else {
			ssize_t n = send(c->fd, from, len, MSG_NOSIGNAL);
			*done = n > 0 ? (size_t)n : 0;
			if (n > 0)
				return 0;
			r = after_plain(c, n, POLLOUT, end, e);
		}
		if (r < 0)
			return r;
	}
}

/* --- connections --------------------------------------------------------------------- */

/* Takes `fd` over, also when it fails. */
static int new_conn(int fd, const char *peer, struct move_conn **to, struct error *e)
{
	cleanup_fd int owned = fd;
	cleanup_free struct move_conn *c = calloc(1, sizeof(*c));
	if (!c || !(c->peer = strdup(peer)))
		return error_set(e, ENOMEM, "out of memory");
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(c->peer);
		return error_errno(e, "cannot set up a connection");
	}
	c->fd = steal_fd(&owned);
	*to = steal_ptr(&c);
	return 0;
}

/* All of it helps, nothing of it is needed. */
static void set_socket(int fd)
{
	const int one = 1, probe_s = PROBE_S, probes = PROBES, silent_ms = SILENT_MS;
	const int buffer = SOCKET_BUFFER;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe_s, sizeof(probe_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof(silent_ms));
	/* Where that is cut to less than the kernel's own growing one, it is better left alone. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
}

static int shake_hands(struct move_conn *c, struct move_tls *tls, bool server, int64_t end,
		       struct error *e)
{
	cleanup_free char *host = server ? NULL : node_host(c->peer);
	set_socket(c->fd);
	ERR_clear_error();
	c->ssl = SSL_new(tls->ssl);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 || (!server && !host))
		return tls_error(e, ENOMEM, "cannot set up TLS");
	if (!server &&
	    (SSL_set1_host(c->ssl, host) != 1 || SSL_set_tlsext_host_name(c->ssl, host) != 1))
		return tls_error(e, EINVAL, "cannot set up TLS");
	for (;;) {
		ERR_clear_error();
		int ok = server ? SSL_accept(c->ssl) : SSL_connect(c->ssl);
		if (ok == 1)
			return 0;
		int why = SSL_get_error(c->ssl, ok);
		long verified = SSL_get_verify_result(c->ssl);
		if (why == SSL_ERROR_SSL && verified != X509_V_OK)
			return error_set(e, EACCES, "the certificate of %s%s is refused: %s",
					 server ? "who calls" : "node ", c->peer,
					 X509_verify_cert_error_string(verified));
		int r = after_ssl(c, ok, end, e);
		if (r < 0)
			return r;
	}
}

/* The common name that was shown; -EACCES when there is none to be used. */
static int take_name(struct move_conn *c, char name[NODE_NAME_MOST + 1], struct error *e)
{
	X509 *shown = SSL_get1_peer_certificate(c->ssl);
	X509_NAME *subject = shown ? X509_get_subject_name(shown) : NULL;
	int len = subject ? X509_NAME_get_text_by_NID(subject, NID_commonName, name,
						      NODE_NAME_MOST + 1)
			  : -1;
	X509_free(shown);
	if (len <= 0 || (size_t)len != strlen(name) || !node_name_valid(name))
		return error_set(e, EACCES, "the certificate is no node's");
	return 0;
}

int move_accept(struct move_tls *tls, int fd, int timeout_ms, struct move_conn **conn,
		struct error *e)
{
	cleanup(move_conn_freep) struct move_conn *c = NULL;
	char name[NODE_NAME_MOST + 1];
	int r = new_conn(fd, "", &c, e);
	if (r == 0)
		r = shake_hands(c, tls, true, until(timeout_ms), e);
	if (r == 0)
		r = take_name(c, name, e);
	if (r < 0)
		return error_wrap(e, r, "a node that wants to connect");
	free(c->peer);
	c->peer = strdup(name);
	if (!c->peer)
		return error_set(e, ENOMEM, "out of memory");
	*conn = steal_ptr(&c);
	return 0;
}

/* "10.0.0.5:8445", "[fd00::5]:8445" */
static int look_up(const char *at, struct addrinfo **list, struct error *e)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	const char *colon = strrchr(at, ':');
	bool brackets = colon && at[0] == '[' && colon > at + 1 && colon[-1] == ']';
	if (!colon)
		return error_set(e, EINVAL, "\"%s\" is no address and port", at);
	cleanup_free char *host = brackets ? strndup(at + 1, (size_t)(colon - at) - 2)
					   : strndup(at, (size_t)(colon - at));
	if (!host)
		return error_set(e, ENOMEM, "out of memory");
	int code = getaddrinfo(host, colon + 1, &hints, list);
	return code == 0 ? 0 : error_set(e, EINVAL, "\"%s\": %s", at, gai_strerror(code));
}

static int connect_within(struct move_conn *c, const struct addrinfo *to, int64_t end,
			  struct error *e)
{
	int why = 0;
	socklen_t len = sizeof(why);
	if (connect(c->fd, to->ai_addr, to->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return error_errno(e, "cannot connect");
	int r = wait_for(c, POLLOUT, end, e);
	if (r < 0)
		return r;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &len) < 0)
		why = errno;
	return why ? error_set(e, why, "%s", strerror(why)) : 0;
}

int move_connect(struct move_tls *tls, const char *at, const char *node, int timeout_ms,
		 struct move_conn **conn, struct error *e)
{
	cleanup(move_conn_freep) struct move_conn *c = NULL;
	cleanup(freeaddrinfop) struct addrinfo *to = NULL;
	char name[NODE_NAME_MOST + 1];
	int64_t end = until(timeout_ms);
	int r = look_up(at, &to, e);
	if (r < 0)
		return r;
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(e, "cannot make a socket");
	r = new_conn(fd, node, &c, e);
	if (r == 0)
		r = connect_within(c, to, end, e);
	if (r == 0)
		r = shake_hands(c, tls, false, end, e);
	if (r == 0)
		r = take_name(c, name, e);
	if (r == 0 && strcmp(name, node) != 0)
		r = error_set(e, EACCES, "node %s answers there", name);
	if (r < 0)
		return error_wrap(e, r, "node %s at %s cannot be reached", node, at);
	*conn = steal_ptr(&c);
	return 0;
}

int move_conn_plain(int fd, const char *peer, struct move_conn **conn, struct error *e)
{
	return new_conn(fd, peer, conn, e);
}

const char *move_conn_peer(const struct move_conn *conn)
{
	return conn->peer;
}

void move_conn_hang_up(struct move_conn *conn)
{
	atomic_store(&conn->hung_up, true);
	shutdown(conn->fd, SHUT_RDWR);
}

void *move_conn_free(struct move_conn *conn)
{
	if (!conn)
		return NULL;
	if (conn->ssl && !conn->broken && !atomic_load(&conn->hung_up) &&
	    SSL_is_init_finished(conn->ssl))
		SSL_shutdown(conn->ssl); /* says so, and does not wait for an answer */
	SSL_free(conn->ssl);
	ERR_clear_error();
	close(conn->fd);
	free(conn->peer);
	free(conn);
	return NULL;
}
