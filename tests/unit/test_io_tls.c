/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/job.h"
#include "io/x509.h"
#include "tests/unit/http_world.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>

/* openssl's own little web server; *port and the way to end it. */
struct tls_server {
	pid_t pid;
	FILE *said;
	int port;
};

static int make_certificate(struct world *w, const char *name)
{
	cleanup_free char *key = str_printf("%s/%s.key", w->dir, name);
	cleanup_free char *certificate = str_printf("%s/%s.pem", w->dir, name);
	struct job_options o =
		JOB_OPTIONS(.argv = (const char *const[]) {
				    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
				    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
				    "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
				    "-keyout", key, "-out", certificate, NULL });
	return job_check(&o, NULL);
}

static void serve_tls(struct world *w, struct tls_server *s)
{
	cleanup_free char *key = str_printf("%s/server.key", w->dir);
	cleanup_free char *certificate = str_printf("%s/server.pem", w->dir);
	int ends[2];
	char line[256];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	s->pid = fork();
	if (s->pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		execlp("openssl", "openssl", "s_server", "-www", "-accept", "127.0.0.1:0", "-key",
		       key, "-cert", certificate, NULL);
		_exit(127);
	}
	close(ends[1]);
	s->said = fdopen(ends[0], "r");
	while (s->said && fgets(line, sizeof(line), s->said))
		if (sscanf(line, "ACCEPT 127.0.0.1:%d", &s->port) == 1)
			return;
	fail_msg("openssl s_server does not start");
}

static void get_tls(struct world *w, const struct tls_server *s, const char *trusted,
		    struct answer *a)
{
	cleanup_free char *file = str_printf("%s/%s", w->dir, trusted);
	snprintf(w->url, sizeof(w->url), "https://127.0.0.1:%d", s->port);
	call(w, (struct http_request) { .ca_file = file }, "/", a);
}

static void test_trust(void **state)
{
	struct world *w = *state;
	struct tls_server s = { 0 };
	if (make_certificate(w, "server") < 0)
		skip(); /* no openssl */
	assert_int_equal(make_certificate(w, "other"), 0);
	serve_tls(w, &s);
	cleanup_answer struct answer ours, other, missing, system;
	get_tls(w, &s, "server.pem", &ours);
	get_tls(w, &s, "other.pem", &other);
	get_tls(w, &s, "missing.pem", &missing);
	call(w, (struct http_request) { 0 }, "/", &system);
	assert_string_equal(ours.error.text, "");
	assert_int_equal(ours.status, 200);
	assert_int_equal(other.error.fault, FAULT_DENIED);
	assert_int_equal(missing.error.fault, FAULT_BAD_INPUT);
	assert_int_equal(system.error.fault, FAULT_DENIED);
	kill(s.pid, SIGKILL);
	waitpid(s.pid, NULL, 0);
	fclose(s.said);
}

/* --- our own server, with certificates of our own -------------------------- */

enum { HOUR = 3600 * 1000 };

struct tls_world {
	struct world *w;
	struct http_server *server;
	char cert[96], key[96], ca[96];
	int reports;
	char report[1024]; /* the last */
	char admitted[64]; /* the only one, when set */
	char serial[64];   /* of the last who asked */
};

static char *file_of(struct world *w, const char *name, const char *ext)
{
	return str_printf("%s/%s.%s", w->dir, name, ext);
}

static void write_file(const char *path, const char *text)
{
	assert_int_equal(fs_replace(path, text, strlen(text), 0600, NULL), 0);
}

static void make_ca(struct world *w, const char *name)
{
	cleanup_free char *key = file_of(w, name, "key");
	cleanup_free char *cert = file_of(w, name, "pem");
	cleanup_free char *pem = NULL;
	const struct x509_terms terms = { .name = name,
					  .from = clock_wall() - HOUR,
					  .until = clock_wall() + 24 * HOUR };
	assert_int_equal(x509_make_key(key, NULL), 0);
	assert_int_equal(x509_make_ca(key, &terms, &pem, NULL), 0);
	write_file(cert, pem);
}

/* NAME.key and NAME.pem, by the authority `ca`, whose certificate comes behind. */
static void make_leaf(struct world *w, const char *ca, const char *name, int64_t from,
		      int64_t until)
{
	cleanup_free char *key = file_of(w, name, "key");
	cleanup_free char *cert = file_of(w, name, "pem");
	cleanup_free char *ca_key = file_of(w, ca, "key");
	cleanup_free char *ca_cert = file_of(w, ca, "pem");
	cleanup_free char *csr = NULL;
	cleanup_free char *pem = NULL;
	cleanup_buf struct buf authority = BUF_INIT(1 << 16);
	const struct x509_terms terms = { .name = name,
					  .host = name,
					  .from = clock_wall() + from,
					  .until = clock_wall() + until };
	struct error e = ERROR_INIT;
	assert_int_equal(fs_read(ca_cert, &authority, NULL), 0);
	assert_int_equal(x509_make_key(key, NULL), 0);
	assert_int_equal(x509_make_csr(key, "whatever", &csr, NULL), 0);
	if (x509_sign(csr, buf_text(&authority), ca_key, &terms, &pem, &e) < 0)
		fail_msg("%s", e.text);
	cleanup_free char *chain = str_printf("%s%s", pem, buf_text(&authority));
	write_file(cert, chain);
}

static void on_report(const char *what, void *arg)
{
	struct tls_world *t = arg;
	t->reports++;
	snprintf(t->report, sizeof(t->report), "%s", what);
}

static int on_admit(const struct http_peer *peer, void *arg, struct error *e)
{
	struct tls_world *t = arg;
	if (!t->admitted[0] || strcmp(peer->name, t->admitted) == 0)
		return 0;
	return error_set(e, EACCES, "%s is none of us", peer->name);
}

static void handle_me(struct http_exchange *x, void *arg)
{
	struct tls_world *t = arg;
	const char *name = http_exchange_peer_name(x);
	const char *serial = http_exchange_peer_serial(x);
	snprintf(t->serial, sizeof(t->serial), "%s", serial ? serial : "");
	reply_string(x, name ? name : "nobody");
}

static void handle_hold_tls(struct http_exchange *x, void *arg)
{
	handle_hold(x, ((struct tls_world *)arg)->w);
}

static void handle_stream_tls(struct http_exchange *x, void *arg)
{
	handle_stream(x, ((struct tls_world *)arg)->w);
}

static const struct http_route tls_routes[] = {
	{ "GET", "/me", handle_me },
	{ "GET", "/open", handle_me, .open = true },
	{ "POST", "/echo", handle_echo },
	{ "GET", "/big", handle_big },
	{ "GET", "/hold", handle_hold_tls },
	{ "GET", "/stream", handle_stream_tls },
	{ 0 },
};

static void tls_serve(struct tls_world *t, int idle_ms)
{
	struct world *w = t->w;
	struct error e = ERROR_INIT;
	const struct http_tls tls = { .cert_file = t->cert,
				      .key_file = t->key,
				      .ca_file = t->ca,
				      .report = on_report,
				      .report_arg = t };
	const struct http_server_options o = { .routes = tls_routes,
					       .arg = t,
					       .tls = &tls,
					       .idle_ms = idle_ms,
					       .max_body = 16 << 20,
					       .admit = on_admit };
	t->server = http_server_free(t->server);
	if (http_server_new(w->base, "127.0.0.1:0", &o, &t->server, &e) < 0)
		fail_msg("%s", e.text);
	snprintf(w->url, sizeof(w->url), "https://controller.elsa:%d", http_server_port(t->server));
}

static int tls_setup(void **state)
{
	struct world *w;
	struct tls_world *t = calloc(1, sizeof(*t));
	if (world_setup((void **)&w) < 0)
		return -1;
	t->w = w;
	make_ca(w, "ca");
	make_leaf(w, "ca", "controller.elsa", -HOUR, 24 * HOUR);
	make_leaf(w, "ca", "n1", -HOUR, 24 * HOUR);
	snprintf(t->cert, sizeof(t->cert), "%s/controller.elsa.pem", w->dir);
	snprintf(t->key, sizeof(t->key), "%s/controller.elsa.key", w->dir);
	snprintf(t->ca, sizeof(t->ca), "%s/ca.pem", w->dir);
	tls_serve(t, 0);
	*state = t;
	return 0;
}

static int tls_teardown(void **state)
{
	struct tls_world *t = *state;
	void *w = t->w;
	t->w->client = http_client_free(t->w->client);
	http_server_free(t->server);
	free(t);
	return world_teardown(&w);
}

#define tls_test(f) cmocka_unit_test_setup_teardown(f, tls_setup, tls_teardown)

/* Asks with the certificate `as`, or none, of a server whose name is in w->url. */
static void ask(struct tls_world *t, const char *as, struct http_request request, const char *path,
		struct answer *a)
{
	struct world *w = t->w;
	cleanup_free char *cert = as ? file_of(w, as, "pem") : NULL;
	cleanup_free char *key = as ? file_of(w, as, "key") : NULL;
	char where[32];
	snprintf(where, sizeof(where), "127.0.0.1:%d", http_server_port(t->server));
	request.cert_file = cert;
	request.key_file = key;
	request.connect_to = where;
	if (!request.ca_sha256)
		request.ca_file = t->ca;
	call(w, request, path, a);
}

static void assert_me(struct tls_world *t, const char *as, const char *who)
{
	cleanup_answer struct answer a;
	ask(t, as, (struct http_request) { 0 }, "/me", &a);
	assert_string_equal(a.error.text, "");
	assert_int_equal(a.status, 200);
	assert_string_equal(buf_text(&a.body), who);
}

static void test_certificate(void **state)
{
	struct tls_world *t = *state;
	cleanup_buf struct buf pem = BUF_INIT(1 << 16);
	cleanup_free char *cert = file_of(t->w, "n1", "pem");
	struct x509_facts facts;
	assert_me(t, "n1", "n1");
	assert_int_equal(fs_read(cert, &pem, NULL), 0);
	assert_int_equal(x509_facts(buf_text(&pem), &facts, NULL), 0);
	assert_string_equal(t->serial, facts.serial);
	assert_int_equal(t->reports, 0);
}

static void test_keep_alive(void **state)
{
	struct tls_world *t = *state;
	assert_me(t, "n1", "n1");
	int descriptors = count_descriptors();
	for (int i = 0; i < 10; i++)
		assert_me(t, "n1", "n1");
	assert_int_equal(count_descriptors(), descriptors);
}

static void test_no_certificate(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer closed, open, missing, wrong;
	ask(t, NULL, (struct http_request) { 0 }, "/me", &closed);
	assert_int_equal(closed.status, 403);
	assert_non_null(strstr(buf_text(&closed.body), "a certificate of this cluster is needed"));
	ask(t, NULL, (struct http_request) { 0 }, "/open", &open);
	assert_int_equal(open.status, 200);
	assert_string_equal(buf_text(&open.body), "nobody");
	/* Strangers do not learn what there is. */
	ask(t, NULL, (struct http_request) { 0 }, "/missing", &missing);
	assert_int_equal(missing.status, 403);
	ask(t, NULL, (struct http_request) { .method = "DELETE" }, "/open", &wrong);
	assert_int_equal(wrong.status, 403);
}

static void assert_refused(struct tls_world *t, const char *as, const char *why)
{
	cleanup_answer struct answer a;
	t->reports = 0;
	ask(t, as, (struct http_request) { 0 }, "/open", &a);
	assert_int_equal(a.status, 0);
	run_until(t->w, t->reports);
	if (!strstr(t->report, why))
		fail_msg("%s", t->report);
}

static void test_bad_certificates(void **state)
{
	struct tls_world *t = *state;
	make_ca(t->w, "other");
	make_leaf(t->w, "other", "n2", -HOUR, HOUR);
	make_leaf(t->w, "ca", "late", -2 * HOUR, -HOUR);
	make_leaf(t->w, "ca", "early", HOUR, 2 * HOUR);
	assert_refused(t, "n2", "127.0.0.1 was refused: ");
	assert_refused(t, "late", "\"late\" of 127.0.0.1 was refused: certificate has expired");
	assert_refused(t, "early", "not yet valid");
	assert_me(t, "n1", "n1");
}

/* It said nothing wrong when it came: which it must while it is good, be the machine busy or not.
 */
static void test_expires_on_the_way(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer a = { 0 };
	for (int64_t ms = 2000; a.status != 200; ms *= 2) {
		assert_true(ms < 60000);
		buf_deinit(&a.body);
		make_leaf(t->w, "ca", "brief", -HOUR, ms);
		ask(t, "brief", (struct http_request) { 0 }, "/me", &a);
	}
	assert_string_equal(buf_text(&a.body), "brief");
	mono_us end = clock_mono() + 60 * 1000000LL;
	while (a.status == 200 && clock_mono() < end) {
		usleep(20000);
		buf_deinit(&a.body);
		ask(t, "brief", (struct http_request) { 0 }, "/me", &a);
	}
	assert_int_equal(a.status, 403);
	assert_non_null(strstr(buf_text(&a.body), "has expired"));
}

static void test_reports_are_few(void **state)
{
	struct tls_world *t = *state;
	make_leaf(t->w, "ca", "late", -2 * HOUR, -HOUR);
	mono_us begun = clock_mono();
	for (int i = 0; i < 20; i++) {
		cleanup_answer struct answer a;
		ask(t, "late", (struct http_request) { 0 }, "/open", &a);
		assert_int_equal(a.status, 0);
	}
	/* of each minute that it took */
	assert_in_range(t->reports, 1, 5 + 5 * ((clock_mono() - begun) / 60000000));
}

static void test_admit(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer a, open;
	snprintf(t->admitted, sizeof(t->admitted), "controller.elsa");
	ask(t, "n1", (struct http_request) { 0 }, "/me", &a);
	assert_int_equal(a.status, 403);
	assert_non_null(strstr(buf_text(&a.body), "n1 is none of us"));
	ask(t, "n1", (struct http_request) { 0 }, "/open", &open);
	assert_int_equal(open.status, 200);
	assert_string_equal(buf_text(&open.body), "nobody");
	assert_me(t, "controller.elsa", "controller.elsa");
}

static void test_wrong_host(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer a;
	snprintf(t->w->url, sizeof(t->w->url), "https://n2.node.elsa");
	ask(t, "n1", (struct http_request) { 0 }, "/me", &a);
	assert_int_equal(a.error.fault, FAULT_DENIED);
}

static void digest_of(struct world *w, const char *name, char to[X509_DIGEST_SIZE])
{
	cleanup_buf struct buf pem = BUF_INIT(1 << 16);
	cleanup_free char *cert = file_of(w, name, "pem");
	struct x509_facts facts;
	assert_int_equal(fs_read(cert, &pem, NULL), 0);
	assert_int_equal(x509_facts(buf_text(&pem), &facts, NULL), 0);
	snprintf(to, X509_DIGEST_SIZE, "%s", facts.digest);
}

static void test_pinned(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer right, wrong, leaf, host;
	char pin[X509_DIGEST_SIZE];
	make_ca(t->w, "other");
	digest_of(t->w, "ca", pin);
	ask(t, NULL, (struct http_request) { .ca_sha256 = pin }, "/open", &right);
	assert_string_equal(right.error.text, "");
	assert_int_equal(right.status, 200);
	digest_of(t->w, "other", pin);
	ask(t, NULL, (struct http_request) { .ca_sha256 = pin }, "/open", &wrong);
	assert_int_equal(wrong.error.fault, FAULT_DENIED);
	/* Who has any certificate at all cannot pass for the authority. */
	digest_of(t->w, "n1", pin);
	ask(t, NULL, (struct http_request) { .ca_sha256 = pin }, "/open", &leaf);
	assert_int_equal(leaf.error.fault, FAULT_DENIED);
	digest_of(t->w, "ca", pin);
	snprintf(t->w->url, sizeof(t->w->url), "https://n2.node.elsa");
	ask(t, NULL, (struct http_request) { .ca_sha256 = pin }, "/open", &host);
	assert_int_equal(host.error.fault, FAULT_DENIED);
}

/* One authority's certificate shown behind the leaf of another. */
static void test_pin_and_chain_differ(void **state)
{
	struct tls_world *t = *state;
	cleanup_answer struct answer a;
	char pin[X509_DIGEST_SIZE];
	cleanup_buf struct buf leaf = BUF_INIT(1 << 16);
	cleanup_buf struct buf ca = BUF_INIT(1 << 16);
	digest_of(t->w, "ca", pin);
	assert_int_equal(fs_read(t->ca, &ca, NULL), 0);
	make_ca(t->w, "other");
	make_leaf(t->w, "other", "controller.elsa", -HOUR, HOUR);
	assert_int_equal(fs_read(t->cert, &leaf, NULL), 0);
	cleanup_free char *both = str_printf("%s%s", buf_text(&leaf), buf_text(&ca));
	write_file(t->cert, both);
	ask(t, NULL, (struct http_request) { .ca_sha256 = pin }, "/open", &a);
	assert_int_equal(a.error.fault, FAULT_DENIED);
}

static void test_renewed(void **state)
{
	struct tls_world *t = *state;
	assert_me(t, "n1", "n1");
	char before[64];
	snprintf(before, sizeof(before), "%s", t->serial);
	/* Ours: kept connections are of the old one, and used no more. */
	make_leaf(t->w, "ca", "n1", -HOUR, HOUR);
	assert_me(t, "n1", "n1");
	assert_string_not_equal(before, t->serial);
	/* The server's: a client that trusts only its new authority gets on. */
	make_ca(t->w, "ca");
	make_leaf(t->w, "ca", "controller.elsa", -HOUR, HOUR);
	make_leaf(t->w, "ca", "n3", -HOUR, HOUR);
	assert_me(t, "n3", "n3");
	assert_int_equal(t->reports, 0);
	/* Half of it replaced: the old one stays. */
	write_file(t->key, "none");
	make_leaf(t->w, "ca", "n4", -HOUR, HOUR);
	assert_me(t, "n4", "n4");
	assert_int_equal(t->reports, 1);
	assert_non_null(strstr(t->report, "the old certificate stays in use"));
}

static void test_large_bodies(void **state)
{
	struct tls_world *t = *state;
	enum { SIZE = 8 << 20 };
	cleanup_answer struct answer up, down;
	cleanup_free char *body = malloc(SIZE);
	memset(body, 'x', SIZE);
	ask(t, "n1", (struct http_request) { .method = "POST", .body = body, .body_len = SIZE },
	    "/echo", &up);
	assert_int_equal(up.status, 201);
	assert_int_equal(up.body.len, SIZE);
	ask(t, "n1", (struct http_request) { 0 }, "/big?size=8388608", &down);
	assert_int_equal(down.body.len, SIZE);
}

static void hold_and_leave(struct tls_world *t, const char *path)
{
	struct world *w = t->w;
	cleanup_free char *cert = file_of(w, "n1", "pem");
	cleanup_free char *key = file_of(w, "n1", "key");
	cleanup_free char *url = str_printf("%s%s", w->url, path);
	char where[32];
	struct http_call *under_way;
	snprintf(where, sizeof(where), "127.0.0.1:%d", http_server_port(t->server));
	const struct http_request request = { .url = url,
					      .ca_file = t->ca,
					      .cert_file = cert,
					      .key_file = key,
					      .connect_to = where };
	w->closed = 0;
	assert_int_equal(http_client_call(w->client, &request, NULL, NULL, &under_way, NULL), 0);
	run_until(w, w->held);
	http_call_cancel(under_way);
	run_until(w, w->closed);
	assert_null(w->held);
}

static void test_callers_that_leave(void **state)
{
	struct tls_world *t = *state;
	hold_and_leave(t, "/hold");
	hold_and_leave(t, "/stream");
	assert_me(t, "n1", "n1");
}

/* --- clients that are none ------------------------------------------------ */

static int connect_raw(struct tls_world *t)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)http_server_port(t->server)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static size_t client_hello(char *to, size_t size)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	BIO *out = BIO_new(BIO_s_mem());
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	assert_int_equal(SSL_connect(ssl), -1);
	int len = BIO_read(out, to, (int)size);
	assert_in_range(len, 100, size);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return (size_t)len;
}

static void test_cut_in_the_handshake(void **state)
{
	struct tls_world *t = *state;
	char hello[4096];
	size_t len = client_hello(hello, sizeof(hello));
	for (size_t part = 0; part <= len; part += part < 16 ? 1 : 61) {
		cleanup_buf struct buf said = BUF_INIT(1 << 20);
		cleanup_fd int fd = connect_raw(t);
		raw_send(t->w, fd, hello, part);
		shutdown(fd, SHUT_WR);
		raw_receive(t->w, fd, NULL, &said);
	}
	assert_me(t, "n1", "n1");
}

static void test_slow_handshake(void **state)
{
	struct tls_world *t = *state;
	char hello[4096];
	client_hello(hello, sizeof(hello));
	tls_serve(t, 100);
	cleanup_fd int silent = connect_raw(t);
	cleanup_fd int begun = connect_raw(t);
	cleanup_buf struct buf said = BUF_INIT(1 << 20);
	raw_send(t->w, begun, hello, 40);
	raw_receive(t->w, silent, NULL, &said); /* until it hangs up */
	raw_receive(t->w, begun, NULL, &said);
	assert_int_equal(said.len, 0);
	/* Who is quick enough for it gets on. */
	cleanup_answer struct answer a = { 0 };
	mono_us end = clock_mono() + WAIT_S * 1000000LL;
	while (a.status != 200 && clock_mono() < end) {
		buf_deinit(&a.body);
		ask(t, "n1", (struct http_request) { 0 }, "/me", &a);
	}
	assert_string_equal(buf_text(&a.body), "n1");
}

static void test_no_tls(void **state)
{
	struct tls_world *t = *state;
	cleanup_buf struct buf said = BUF_INIT(1 << 20);
	cleanup_fd int fd = connect_raw(t);
	static const char plain[] = "GET /open HTTP/1.1\r\nHost: x\r\n\r\n";
	raw_send(t->w, fd, plain, strlen(plain));
	raw_receive(t->w, fd, NULL, &said);
	assert_null(strstr(buf_text(&said), "nobody"));
	assert_me(t, "n1", "n1");
}

static void test_bad_files(void **state)
{
	struct tls_world *t = *state;
	struct http_server *server = NULL;
	struct error e = ERROR_INIT;
	const struct http_tls tls = { .cert_file = t->key, .key_file = t->key, .ca_file = t->ca };
	const struct http_server_options o = { .routes = tls_routes, .tls = &tls };
	assert_int_equal(http_server_new(t->w->base, "127.0.0.1:0", &o, &server, &e), -EINVAL);
	assert_non_null(strstr(e.text, t->key));
	cleanup_free char *none = file_of(t->w, "none", "pem");
	const struct http_request request = { .url = "https://x",
					      .cert_file = none,
					      .key_file = t->key };
	assert_true(http_client_call(t->w->client, &request, NULL, NULL, NULL, &e) < 0);
	assert_non_null(strstr(e.text, none));
}

/* --- without a loop ------------------------------------------------------- */

struct blocking {
	struct http_request request;
	int r, status;
	char *body;
	struct error error;
	bool done;
};

static void *call_in_thread(void *arg)
{
	struct blocking *b = arg;
	b->r = http_call_blocking(&b->request, &b->status, &b->body, &b->error);
	__atomic_store_n(&b->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void test_blocking(void **state)
{
	struct tls_world *t = *state;
	cleanup_free char *cert = file_of(t->w, "n1", "pem");
	cleanup_free char *key = file_of(t->w, "n1", "key");
	char where[32];
	snprintf(where, sizeof(where), "127.0.0.1:%d", http_server_port(t->server));
	struct blocking b = { .request = { .url = "https://controller.elsa/me",
					   .ca_file = t->ca,
					   .cert_file = cert,
					   .key_file = key,
					   .connect_to = where } };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &b), 0);
	run_until(t->w, __atomic_load_n(&b.done, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
	assert_string_equal(b.error.text, "");
	assert_int_equal(b.status, 200);
	assert_string_equal(b.body, "n1");
	free(b.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_trust),
		tls_test(test_certificate),
		tls_test(test_keep_alive),
		tls_test(test_no_certificate),
		tls_test(test_bad_certificates),
		tls_test(test_expires_on_the_way),
		tls_test(test_reports_are_few),
		tls_test(test_admit),
		tls_test(test_wrong_host),
		tls_test(test_pinned),
		tls_test(test_pin_and_chain_differ),
		tls_test(test_renewed),
		tls_test(test_large_bodies),
		tls_test(test_callers_that_leave),
		tls_test(test_cut_in_the_handshake),
		tls_test(test_slow_handshake),
		tls_test(test_no_tls),
		tls_test(test_bad_files),
		tls_test(test_blocking),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
