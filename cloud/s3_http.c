/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/s3_http.h"

#include "base/cleanup.h"
#include "io/curl_perform.h"
#include "io/http_transfer.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 32, TEXT_MOST = 64 * 1024 };
/* libcurl's own copy of what it sends; the largest it takes needs the fewest rounds of poll() and
 * send(). It exists only while a body is sent. */
#define UPLOAD_SMALL  ((long)RETRY_SMALL)
#define UPLOAD_BUFFER (2 * 1024 * 1024L)

struct s3_http {
	pthread_mutex_t lock;
	CURL *idle[KEPT]; /* the last used is taken first: its connection is the least likely stale
			   */
	size_t count;
	char *ca;
};

/* One exchange under way. */
struct flow {
	struct s3_exchange *x;
	CURL *easy;
	size_t sent;
	bool begun; /* the answer's body has */
	bool refused;
	bool silent;      /* for too long */
	int64_t moved;    /* bytes, either way */
	mono_us heard_at; /* when that was last another number */
};

int s3_http_new(const char *ca, struct s3_http **http, struct error *e)
{
	int r = http_transfer_global_init(e);
	if (r < 0)
		return r;
	struct s3_http *h = calloc(1, sizeof(*h));
	if (!h || (ca && !(h->ca = strdup(ca)))) {
		free(h);
		return error_set(e, ENOMEM, "out of memory");
	}
	pthread_mutex_init(&h->lock, NULL);
	*http = h;
	return 0;
}

void *s3_http_free(struct s3_http *h)
{
	if (!h)
		return NULL;
	for (size_t i = 0; i < h->count; i++)
		curl_easy_cleanup(h->idle[i]);
	pthread_mutex_destroy(&h->lock);
	free(h->ca);
	free(h);
	return NULL;
}

static CURL *take_handle(struct s3_http *h)
{
	pthread_mutex_lock(&h->lock);
	CURL *easy = h->count ? h->idle[--h->count] : NULL;
	pthread_mutex_unlock(&h->lock);
	return easy ? easy : curl_easy_init();
}

static void give_handle(struct s3_http *h, CURL *easy)
{
	curl_easy_reset(easy); /* keeps connections and TLS sessions */
	pthread_mutex_lock(&h->lock);
	if (h->count < KEPT) {
		h->idle[h->count++] = easy;
		easy = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	curl_easy_cleanup(easy);
}

/* What has become of one connection without a word is likely to have become of the others: each
 * would cost somebody the same wait. */
static void drop_kept(struct s3_http *h)
{
	CURL *idle[KEPT];
	pthread_mutex_lock(&h->lock);
	size_t count = h->count;
	memcpy(idle, h->idle, count * sizeof(*idle));
	h->count = 0;
	pthread_mutex_unlock(&h->lock);
	for (size_t i = 0; i < count; i++)
		curl_easy_cleanup(idle[i]);
}

static size_t send_data(char *to, size_t size, size_t count, void *arg)
{
	struct flow *f = arg;
	size_t left = f->x->body_len - f->sent;
	size_t len = size * count < left ? size * count : left;
	memcpy(to, f->x->body + f->sent, len);
	f->sent += len;
	return len;
}

static int seek_data(void *arg, curl_off_t offset, int origin)
{
	struct flow *f = arg;
	if (origin != SEEK_SET || offset < 0 || (size_t)offset > f->x->body_len)
		return CURL_SEEKFUNC_FAIL;
	f->x->resent |= (size_t)offset < f->sent;
	f->sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static uint64_t announced_length(CURL *easy)
{
	curl_off_t length = -1;
	curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	return length < 0 ? UINT64_MAX : (uint64_t)length;
}

static size_t take_data(char *data, size_t size, size_t count, void *arg)
{
	struct flow *f = arg;
	struct s3_exchange *x = f->x;
	size_t len = size * count;
	long status = 0;
	if (!f->begun)
		x->length = announced_length(f->easy);
	f->begun = true;
	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status < 300 && x->on_data) {
		f->refused = x->on_data(data, len, x->arg) != 0;
		return f->refused ? 0 : len;
	}
	size_t room = x->text.cap - x->text.len;
	if (buf_append(&x->text, data, len < room ? len : room) < 0)
		return 0;
	return len;
}

static size_t take_header(char *line, size_t size, size_t count, void *arg)
{
	static const struct {
		const char *name;
		size_t offset, size;
	} known[] = {
#define HEADER(n, f) { n, offsetof(struct s3_headers, f), sizeof(((struct s3_headers *)0)->f) }
		HEADER("etag:", etag),
		HEADER("date:", date),
		HEADER("last-modified:", last_modified),
		HEADER("content-range:", content_range),
		HEADER("retry-after:", retry_after),
		HEADER("x-amz-bucket-region:", region),
		HEADER("x-amz-checksum-sha256:", sha256),
		HEADER("x-amz-checksum-crc32:", crc32),
	};
	struct flow *f = arg;
	size_t len = size * count;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		size_t skip = strlen(known[i].name);
		if (len <= skip || strncasecmp(line, known[i].name, skip) != 0)
			continue;
		while (skip < len && line[skip] == ' ')
			skip++;
		size_t end = len;
		while (end > skip && strchr(" \r\n", line[end - 1]))
			end--;
		if (end - skip < known[i].size) {
			char *to = (char *)&f->x->got + known[i].offset;
			memcpy(to, line + skip, end - skip);
			to[end - skip] = '\0';
		}
	}
	return len;
}

/* Silence, not slowness: a large part over a thin line may take long. libcurl's own measure
 * (CURLOPT_LOW_SPEED_TIME) begins only when the speed of the last five seconds has come down. */
static int watch(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	struct flow *f = arg;
	long request = 0, answer = 0;
	(void)down_all, (void)up_all;
	curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(f->easy, CURLINFO_HEADER_SIZE, &answer);
	int64_t moved = down + up + request + answer;
	mono_us now = clock_mono();
	if (moved != f->moved || !request) { /* not connected: CURLOPT_CONNECTTIMEOUT_MS */
		f->moved = moved;
		f->heard_at = now;
	}
	f->silent = now - f->heard_at >= f->x->patience.silence_ms * (mono_us)1000;
	return f->silent;
}

/* Where nothing arrives any more TCP would go on for a quarter of an hour. */
static int limit_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	const struct flow *f = arg;
	unsigned ms = (unsigned)f->x->patience.unacknowledged_ms;
	(void)purpose;
	if (ms)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return CURL_SOCKOPT_OK;
}

/* A request that was given up must not arrive after the one that took its place, which the kernel
 * would go on trying for minutes: with a linger of 0 it drops what has not arrived. */
static int close_socket(void *arg, curl_socket_t fd)
{
	static const struct linger drop = { .l_onoff = 1 };
	int left = 0;
	(void)arg;
	if (ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &drop, sizeof(drop));
	return close(fd);
}

/* The first failure of several settings. */
#define SET(c, easy, option, value) ((c) = (c) ? (c) : curl_easy_setopt((easy), (option), (value)))

static CURLcode set_method(CURL *easy, struct flow *f)
{
	const struct s3_exchange *x = f->x;
	CURLcode c = CURLE_OK;
	if (x->body) {
		SET(c, easy, CURLOPT_UPLOAD, 1L);
		SET(c, easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body_len);
		SET(c, easy, CURLOPT_READFUNCTION, send_data);
		SET(c, easy, CURLOPT_READDATA, (void *)f);
		SET(c, easy, CURLOPT_SEEKFUNCTION, seek_data);
		SET(c, easy, CURLOPT_SEEKDATA, (void *)f);
		SET(c, easy, CURLOPT_UPLOAD_BUFFERSIZE,
		    x->body_len > UPLOAD_SMALL ? UPLOAD_BUFFER : UPLOAD_SMALL);
	} else if (strcmp(x->method, "HEAD") == 0) {
		SET(c, easy, CURLOPT_NOBODY, 1L);
	}
	SET(c, easy, CURLOPT_CUSTOMREQUEST, x->method);
	return c;
}

static CURLcode set_limits(CURL *easy, struct flow *f)
{
	const struct retry_patience *p = &f->x->patience;
	CURLcode c = CURLE_OK;
	SET(c, easy, CURLOPT_CONNECTTIMEOUT_MS, (long)p->connect_ms);
	SET(c, easy, CURLOPT_NOPROGRESS, 0L);
	SET(c, easy, CURLOPT_XFERINFOFUNCTION, watch);
	SET(c, easy, CURLOPT_XFERINFODATA, (void *)f);
	SET(c, easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(c, easy, CURLOPT_SOCKOPTFUNCTION, limit_socket);
	SET(c, easy, CURLOPT_SOCKOPTDATA, (void *)f);
	SET(c, easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	return c;
}

/* A proxy of the environment (https_proxy, no_proxy) is used: where machines reach the outside by
 * one only, they reach object storage so. */
static CURLcode set_all(CURL *easy, struct flow *f, const struct s3_http *h)
{
	struct s3_exchange *x = f->x;
	CURLcode c = CURLE_OK;
	SET(c, easy, CURLOPT_URL, x->url);
	SET(c, easy, CURLOPT_PATH_AS_IS, 1L); /* what was signed is what is sent */
	SET(c, easy, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(c, easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(c, easy, CURLOPT_NOSIGNAL, 1L);
	SET(c, easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET(c, easy, CURLOPT_BUFFERSIZE, 256 * 1024L);
	SET(c, easy, CURLOPT_USERAGENT, "elsa/" ELSA_VERSION);
	SET(c, easy, CURLOPT_HTTPHEADER, x->headers);
	SET(c, easy, CURLOPT_ERRORBUFFER, x->why);
	SET(c, easy, CURLOPT_WRITEFUNCTION, take_data);
	SET(c, easy, CURLOPT_WRITEDATA, (void *)f);
	SET(c, easy, CURLOPT_HEADERFUNCTION, take_header);
	SET(c, easy, CURLOPT_HEADERDATA, (void *)f);
	SET(c, easy, CURLOPT_FRESH_CONNECT, x->new_connection ? 1L : 0L);
	if (h->ca) {
		SET(c, easy, CURLOPT_CAINFO, h->ca);
		SET(c, easy, CURLOPT_CAPATH, NULL);
	}
	if (c == CURLE_OK)
		c = set_limits(easy, f);
	return c ? c : set_method(easy, f);
}

static enum retry_transfer transfer_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return RETRY_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return RETRY_NO_CONTACT;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_ABORTED_BY_CALLBACK:
		return RETRY_IMPOSSIBLE;
	default:
		return RETRY_LOST;
	}
}

static void finish(struct flow *f, CURLcode code)
{
	struct s3_exchange *x = f->x;
	long status = 0;
	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	x->status = (int)status;
	x->length = announced_length(f->easy);
	bool silent = f->silent && code == CURLE_ABORTED_BY_CALLBACK;
	x->transfer = silent ? RETRY_LOST : transfer_of(code);
	x->timed_out = silent || code == CURLE_OPERATION_TIMEDOUT;
	/* A server that refuses answers before it has taken the whole body, and closes. */
	if (code == CURLE_SEND_ERROR && status >= 300)
		x->transfer = RETRY_ANSWERED;
	if (silent)
		snprintf(x->why, sizeof(x->why), "no answer for %d ms", x->patience.silence_ms);
	if (code != CURLE_OK && !x->why[0])
		snprintf(x->why, sizeof(x->why), "%s",
			 f->refused ? "the answer is not as it should be"
				    : curl_easy_strerror(code));
}

int s3_http_exchange(struct s3_http *h, struct s3_exchange *x, struct error *e)
{
	struct flow f = { .x = x, .easy = take_handle(h), .heard_at = clock_mono() };
	if (!f.easy)
		return error_set(e, ENOMEM, "out of memory");
	x->why[0] = '\0';
	x->resent = false;
	x->got = (struct s3_headers) { 0 };
	buf_reset(&x->text);
	x->text.cap = TEXT_MOST;
	CURLcode code = set_all(f.easy, &f, h);
	if (code == CURLE_OK)
		code = curl_perform(f.easy);
	finish(&f, code);
	if (x->transfer == RETRY_LOST && !f.refused)
		drop_kept(h);
	if (code == CURLE_OUT_OF_MEMORY) {
		curl_easy_cleanup(f.easy);
		return error_set(e, ENOMEM, "out of memory");
	}
	give_handle(h, f.easy);
	return 0;
}
