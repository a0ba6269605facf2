/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/s3_call.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/s3_digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { URL_MOST = 16 * 1024, RETRY_AFTER_MOST_MS = 60000, NAP_MS = 50 };

void s3_call_query(struct s3_call *c, const char *name, const char *value)
{
	c->query[c->query_count++] = (struct sigv4_pair) { name, value };
}

void s3_call_header(struct s3_call *c, const char *name, const char *value)
{
	c->headers[c->header_count++] = (struct sigv4_pair) { name, value };
}

void s3_call_deinit(struct s3_call *c)
{
	buf_deinit(&c->x.text);
}

wall_ms s3_date(const char *text)
{
	time_t t = curl_getdate(text, NULL);
	return t < 0 ? 0 : (wall_ms)t * 1000;
}

/* The path of the key below the server, as it is before encoding. */
static char *path_of(const struct s3 *s, const struct s3_call *c)
{
	if (c->key)
		return str_printf("%s/%s%s", s->place.base, s->url.prefix, c->key);
	return strdup(*s->place.base ? s->place.base : "/");
}

/* A request under construction. */
struct making {
	struct sigv4_request request;
	struct sigv4_pair headers[S3_PAIRS + 8];
	char timestamp[SIGV4_TIMESTAMP_SIZE];
	struct buf url, authorization;
};

static void add(struct making *m, const char *name, const char *value)
{
	m->headers[m->request.header_count++] = (struct sigv4_pair) { name, value };
}

static void add_headers(struct making *m, const struct s3 *s, const struct s3_call *c,
			const struct s3_digest *d, const struct credentials_value *who)
{
	bool google = s->url.kind == S3_GOOGLE;
	add(m, "host", s->place.host);
	for (size_t i = 0; i < c->header_count; i++)
		add(m, c->headers[i].name, c->headers[i].value);
	if (c->body)
		add(m, d->name, d->value);
	if (who->bearer)
		return;
	add(m, google ? "x-goog-content-sha256" : "x-amz-content-sha256", m->request.payload_hash);
	add(m, google ? "x-goog-date" : "x-amz-date", m->timestamp);
	if (who->session_token)
		add(m, "x-amz-security-token", who->session_token);
}

static int authorize(struct making *m, const struct s3 *s, const struct credentials_value *who)
{
	bool google = s->url.kind == S3_GOOGLE;
	struct sigv4_key key = { .dialect = google ? &sigv4_google : &sigv4_aws,
				 .access_key = who->access_key,
				 .secret = who->secret,
				 .region = s->url.region,
				 .service = google ? "storage" : "s3" };
	if (who->bearer)
		return buf_printf(&m->authorization, "Bearer %s", who->bearer);
	return sigv4_authorization(&m->authorization, &m->request, &key, m->timestamp);
}

static int make_url(struct making *m, const struct s3 *s)
{
	int r = buf_printf(&m->url, "%s://%s", s->place.scheme, s->place.host);
	if (r == 0)
		r = sigv4_encode(&m->url, m->request.path, true);
	if (r == 0 && m->request.query_count)
		r = buf_append(&m->url, "?", 1);
	return r < 0 ? r : sigv4_query(&m->url, m->request.query, m->request.query_count);
}

static int append_line(struct curl_slist **list, const char *name, const char *value)
{
	/* "Name;" is libcurl's way to write a header without a value. */
	cleanup_free char *line = str_printf("%s%s%s", name, *value ? ": " : ";", value);
	struct curl_slist *longer = line ? curl_slist_append(*list, line) : NULL;
	if (!longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static int make_lines(const struct making *m, struct curl_slist **list)
{
	int r = append_line(list, "Authorization", buf_text(&m->authorization));
	for (size_t i = 0; i < m->request.header_count && r == 0; i++)
		r = append_line(list, m->headers[i].name, m->headers[i].value);
	/* libcurl would wait a second for leave to send a body. An empty value takes a header out.
	 */
	struct curl_slist *longer = r == 0 ? curl_slist_append(*list, "Expect:") : NULL;
	if (!longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static int send_once(struct s3 *s, struct s3_call *c, const struct s3_digest *d,
		     const struct credentials_value *who, struct error *e)
{
	struct making m = { .url = BUF_INIT(URL_MOST), .authorization = BUF_INIT(URL_MOST) };
	cleanup_free char *path = path_of(s, c);
	m.request =
		(struct sigv4_request) { .method = c->method,
					 .path = path,
					 .query = c->query,
					 .query_count = c->query_count,
					 .headers = m.headers,
					 .payload_hash = c->body ? d->payload : SIGV4_EMPTY_HASH };
	sigv4_timestamp(clock_wall() + c->clock_ahead_ms, m.timestamp);
	add_headers(&m, s, c, d, who);
	c->x.headers = NULL;
	c->x.new_connection |= c->once && !c->body_len;
	c->x.method = c->method;
	c->x.body = c->body;
	c->x.body_len = c->body_len;
	c->x.on_data = c->on_data;
	c->x.arg = c->arg;
	c->x.patience = retry_patience(c->tries, c->body_len, s->url.timeout_ms);
	int r = path ? authorize(&m, s, who) : -ENOMEM;
	if (r == 0)
		r = make_url(&m, s);
	if (r == 0)
		r = make_lines(&m, &c->x.headers);
	c->x.url = buf_text(&m.url);
	if (r < 0)
		error_set(e, -r, "a request cannot be built");
	else
		r = s3_http_exchange(s->http, &c->x, e);
	curl_slist_free_all(c->x.headers);
	c->x.headers = NULL;
	c->x.url = NULL;
	buf_deinit(&m.url);
	buf_deinit(&m.authorization);
	return r;
}

/* Reads the error in the answer's body. */
static void read_answer(struct s3_call *c)
{
	c->answer = (struct s3_answer) { 0 };
	c->status = c->x.transfer == RETRY_ANSWERED ? c->x.status : 0;
	if (c->status == 0 || c->status / 100 == 2)
		return;
	if (s3_xml_read(buf_text(&c->x.text), c->x.text.len, &c->answer) < 0)
		c->answer.code[0] = '\0';
}

/* A digest of the body that came back with the answer must be ours. */
static void check_answer(struct s3_call *c, const struct s3_digest *d)
{
	const char *echo = d->crc ? c->x.got.crc32 : c->x.got.sha256;
	if (c->body && c->status / 100 == 2 && *echo && strcmp(echo, d->value) != 0) {
		snprintf(c->answer.code, sizeof(c->answer.code), "BadDigest");
		snprintf(c->answer.message, sizeof(c->answer.message),
			 "what was stored has another digest");
		c->status = 400;
	}
}

static uint32_t chance(void)
{
	uint32_t n = 0;
	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != sizeof(n))
		n = (uint32_t)clock_mono();
	return n;
}

static void wait_ms(const struct s3_call *c, int ms)
{
	for (; ms > 0 && !(c->stop && atomic_load(c->stop)); ms -= NAP_MS) {
		int nap = ms < NAP_MS ? ms : NAP_MS;
		struct timespec t = { .tv_nsec = nap * 1000000L };
		nanosleep(&t, NULL);
	}
}

static int retry_after_ms(const char *text)
{
	long seconds = strtol(text, NULL, 10);
	if (seconds <= 0)
		return 0;
	return seconds > RETRY_AFTER_MOST_MS / 1000 ? RETRY_AFTER_MOST_MS : (int)seconds * 1000;
}

struct progress {
	mono_us began;
	bool refreshed, adjusted;
};

static struct retry_verdict judge(const struct s3 *s, const struct s3_call *c,
				  const struct progress *p)
{
	struct retry_limits limits = retry_default;
	limits.tries = s->url.tries;
	struct retry_try t = { .count = c->tries,
			       .transfer = c->x.transfer,
			       .status = c->status,
			       .code = c->answer.code,
			       .retry_after_ms = retry_after_ms(c->x.got.retry_after),
			       .elapsed_ms = (clock_mono() - p->began) / 1000,
			       .random = chance(),
			       .refreshed = p->refreshed,
			       .adjusted = p->adjusted };
	return retry_decide(&limits, &t);
}

/* A HEAD's answer has no body that could say RequestTimeTooSkewed, and another's may be garbled:
 * its Date does. */
static bool skewed(const struct s3_call *c, const struct progress *p)
{
	wall_ms theirs = c->status == 403 ? s3_date(c->x.got.date) : 0;
	int64_t off = theirs - clock_wall() - c->clock_ahead_ms;
	return theirs && !p->adjusted && (off > 600000 || off < -600000);
}

/* Whether there is to be another try, once that has been prepared and waited for. */
static bool prepare_again(struct s3 *s, struct s3_call *c, struct progress *p)
{
	struct retry_verdict v = judge(s, c, p);
	if (skewed(c, p))
		v = (struct retry_verdict) { .again = true, .adjust = true };
	wall_ms theirs = v.adjust ? s3_date(c->x.got.date) : 0;
	if (!v.again || (v.adjust && !theirs) || (c->stop && atomic_load(c->stop)))
		return false;
	if (v.adjust)
		atomic_store(&s->clock_ahead_ms, theirs - clock_wall());
	p->adjusted |= v.adjust;
	p->refreshed |= v.refresh;
	c->unsure |= c->x.transfer == RETRY_LOST || c->status >= 500;
	c->x.new_connection = v.new_connection;
	wait_ms(c, v.wait_ms);
	return true;
}

int s3_call(struct s3 *s, struct s3_call *c, struct error *e)
{
	struct progress p = { .began = clock_mono() };
	struct s3_digest d = { 0 };
	int r = c->body ? s3_digest_make(c->body, c->body_len, s->url.kind == S3_GOOGLE, &d) : 0;
	if (r < 0)
		error_set(e, -r, "what is to be stored cannot be hashed");
	struct credentials_value who = { 0 }, old = { 0 };
	while (r == 0) {
		r = credentials_get(s->credentials, p.refreshed ? &old : NULL, &who, e);
		if (r < 0)
			break;
		if (c->before)
			c->before(c);
		c->tries++;
		c->clock_ahead_ms = atomic_load(&s->clock_ahead_ms);
		r = send_once(s, c, &d, &who, e);
		credentials_value_deinit(&old);
		old = who;
		who = (struct credentials_value) { 0 };
		if (r < 0)
			break;
		c->unsure |= c->x.resent;
		read_answer(c);
		check_answer(c, &d);
		if (c->status / 100 == 2)
			break;
		if (!prepare_again(s, c, &p))
			r = s3_call_fail(s, c, e);
	}
	credentials_value_deinit(&old);
	return r;
}

/* Whether there is a bucket behind all this. */
static int check_bucket(struct s3 *s, struct error *e)
{
	struct s3_call c = { .doing = "look into the bucket",
			     .action = "s3:ListBucket",
			     .method = "GET" };
	struct s3_answer answer = { 0 };
	s3_call_query(&c, "list-type", "2");
	s3_call_query(&c, "max-keys", "1");
	s3_call_query(&c, "prefix", s->url.prefix);
	int r = s3_call(s, &c, e);
	/* Who may not list may still read and write what he knows the name of. */
	if (c.status == 403 && strcmp(c.answer.code, "AccessDenied") == 0)
		r = 0;
	else if (r == 0 && (s3_xml_read(buf_text(&c.x.text), c.x.text.len, &answer) < 0 ||
			    strcmp(answer.root, "ListBucketResult") != 0))
		r = error_set(e, EBADMSG, "%s does not answer as an S3 server does", s->place.host);
	s3_call_deinit(&c);
	return r == -EBADMSG ? error_remedy(e, r, "check the endpoint of store.url") : r;
}

int s3_call_missing(struct s3 *s, const struct s3_call *c, int r, struct error *e)
{
	struct error other = ERROR_INIT;
	if (r != -ENOENT || strcmp(c->answer.code, "NoSuchKey") == 0)
		return r;
	int bucket = check_bucket(s, &other);
	if (bucket == 0)
		return r;
	if (e)
		*e = other;
	return bucket;
}
