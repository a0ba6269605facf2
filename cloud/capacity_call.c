/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/capacity_call.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/s3_call.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
	ANSWER_MOST = 16 << 20,
	TEXT_MOST = 64 << 10,
	CONNECT_MS = 10000,
	SILENCE_MS = 15000, /* making machines takes some time, and is not asked for twice */
	NAP_MS = 50,
	RETRY_AFTER_MOST_MS = 20000,
	HEADERS = 6
};

/* elsad waits for machines for minutes anyhow, and asks again by itself. */
static const struct retry_limits limits = {
	.tries = 5, .total_ms = 40000, .base_ms = 250, .most_ms = 8000
};

int cloud_api_open(struct cloud_api *api, const char *url, enum credentials_cloud cloud,
		   struct error *e)
{
	const struct credentials_options who = { .cloud = cloud,
						 .service = cloud == CREDENTIALS_AMAZON
								    ? "Amazon EC2"
								    : "Google Compute Engine",
						 .program = "elsad" };
	const char *host = strstr(url, "://");
	if (!host)
		return error_set(e, EINVAL, "capacity.endpoint: \"%s\" is no URL", url);
	host += 3;
	size_t len = strcspn(host, "/");
	size_t end = strlen(url);
	while (end > (size_t)(host - url) + len && url[end - 1] == '/')
		end--;
	api->url = strndup(url, end);
	api->host = strndup(host, len);
	api->path_at = (size_t)(host - url) + len;
	if (!api->url || !api->host)
		return error_set(e, ENOMEM, "out of memory");
	int r = s3_http_new(NULL, &api->http, e);
	return r < 0 ? r : credentials_new(&who, &api->credentials, e);
}

void cloud_api_deinit(struct cloud_api *api)
{
	s3_http_free(api->http);
	credentials_free(api->credentials);
	free(api->url);
	free(api->host);
	free(api->region);
	*api = (struct cloud_api) { 0 };
}

void cloud_call_deinit(struct cloud_call *call)
{
	buf_deinit(&call->answer);
}

/* --- one try --- */

static int hash_body(const struct cloud_call *c, char to[SIGV4_HEX_SIZE])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;
	if (!EVP_Digest(c->body ? c->body : "", c->body ? strlen(c->body) : 0, digest, &len,
			EVP_sha256(), NULL))
		return -ENOMEM;
	sigv4_hex(digest, len, to);
	return 0;
}

struct making {
	struct sigv4_pair headers[HEADERS];
	size_t count;
	char timestamp[SIGV4_TIMESTAMP_SIZE];
	char hash[SIGV4_HEX_SIZE];
	struct buf url, authorization;
	struct curl_slist *lines;
};

static void making_deinit(struct making *m)
{
	curl_slist_free_all(m->lines);
	buf_deinit(&m->url);
	buf_deinit(&m->authorization);
}

static void add(struct making *m, const char *name, const char *value)
{
	m->headers[m->count++] = (struct sigv4_pair) { name, value };
}

static int authorize(struct making *m, const struct cloud_api *api, const struct cloud_call *c,
		     const struct credentials_value *who)
{
	if (who->bearer)
		return buf_printf(&m->authorization, "Bearer %s", who->bearer);
	struct sigv4_key key = { &sigv4_aws, who->access_key, who->secret, api->region,
				 api->service };
	cleanup_free char *path = str_printf("%s%s", api->url + api->path_at, c->path);
	if (!path)
		return -ENOMEM;
	struct sigv4_request request = { .method = c->method,
					 .path = *path ? path : "/",
					 .query = c->query,
					 .query_count = c->query_count,
					 .headers = m->headers,
					 .header_count = m->count,
					 .payload_hash = m->hash };
	return sigv4_authorization(&m->authorization, &request, &key, m->timestamp);
}

static int make_url(struct making *m, const struct cloud_api *api, const struct cloud_call *c)
{
	int r = buf_printf(&m->url, "%s", api->url);
	if (r == 0)
		r = sigv4_encode(&m->url, *c->path ? c->path : "/", true);
	if (r == 0 && c->query_count)
		r = buf_append(&m->url, "?", 1);
	return r < 0 ? r : sigv4_query(&m->url, c->query, c->query_count);
}

static int append_line(struct making *m, const char *name, const char *value)
{
	cleanup_free char *line = str_printf("%s:%s%s", name, *value ? " " : "", value);
	struct curl_slist *longer = line ? curl_slist_append(m->lines, line) : NULL;
	if (!longer)
		return -ENOMEM;
	m->lines = longer;
	return 0;
}

static int make(struct making *m, const struct cloud_api *api, const struct cloud_call *c,
		const struct credentials_value *who)
{
	sigv4_timestamp(clock_wall() + api->clock_ahead_ms, m->timestamp);
	add(m, "host", api->host);
	if (c->body)
		add(m, "content-type", c->content_type);
	if (!who->bearer)
		add(m, "x-amz-date", m->timestamp);
	if (who->session_token)
		add(m, "x-amz-security-token", who->session_token);
	int r = hash_body(c, m->hash);
	if (r == 0)
		r = authorize(m, api, c, who);
	if (r == 0)
		r = make_url(m, api, c);
	if (r == 0)
		r = append_line(m, "Authorization", buf_text(&m->authorization));
	for (size_t i = 0; i < m->count && r == 0; i++)
		r = append_line(m, m->headers[i].name, m->headers[i].value);
	/* libcurl would wait for leave to send a long body. */
	return r < 0 ? r : append_line(m, "Expect", "");
}

static int keep(const char *data, size_t len, void *arg)
{
	return buf_append(arg, data, len);
}

static int try_once(struct cloud_api *api, struct cloud_call *c, struct s3_exchange *x,
		    const struct credentials_value *who, struct error *e)
{
	struct making m = { .url = BUF_INIT(TEXT_MOST), .authorization = BUF_INIT(TEXT_MOST) };
	int r = make(&m, api, c, who);
	buf_deinit(&c->answer);
	c->answer = BUF_INIT(ANSWER_MOST);
	x->method = c->method;
	x->url = buf_text(&m.url);
	x->headers = m.lines;
	/* A POST without a body still says that it has none. */
	x->body = c->body ? c->body : strcmp(c->method, "POST") == 0 ? "" : NULL;
	x->body_len = c->body ? strlen(c->body) : 0;
	x->on_data = keep;
	x->arg = &c->answer;
	x->new_connection |= c->once;
	x->patience =
		(struct retry_patience) { .connect_ms = CONNECT_MS, .silence_ms = SILENCE_MS };
	if (r < 0)
		error_set(e, -r, "a request cannot be built");
	else
		r = s3_http_exchange(api->http, x, e);
	making_deinit(&m);
	return r;
}

/* --- what became of it --- */

static void read_answer(const struct cloud_api *api, struct cloud_call *c,
			const struct s3_exchange *x)
{
	c->refusal = (struct cloud_refusal) { 0 };
	c->status = x->transfer == RETRY_ANSWERED ? x->status : 0;
	if (c->status && c->status / 100 != 2)
		api->read_refusal(buf_text(&x->text), x->text.len, &c->refusal);
}

static bool matches(const struct cloud_meaning *m, const struct cloud_refusal *r)
{
	size_t len = strlen(m->code);
	bool begins = m->code[len - 1] == '*';
	if (begins ? strncmp(r->code, m->code, len - 1) != 0 : strcmp(r->code, m->code) != 0)
		return false;
	return !m->word || strcasestr(r->message, m->word);
}

static const struct cloud_meaning *meaning_of(const struct cloud_api *api,
					      const struct cloud_refusal *r)
{
	for (const struct cloud_meaning *m = api->meanings; m->code; m++)
		if (matches(m, r))
			return m;
	return NULL;
}

static void fill_in(struct buf *to, const char *text, const struct cloud_call *c)
{
	for (; *text; text++) {
		if (strncmp(text, "{a}", 3) == 0 || strncmp(text, "{p}", 3) == 0) {
			buf_printf(to, "%s", text[1] == 'a' ? c->action : c->pool);
			text += 2;
		} else {
			buf_append(to, text, 1);
		}
	}
}

/* A refusal in an answer that is else good is about this pool. */
static enum fault fault_of(int status)
{
	if (status / 100 == 2)
		return FAULT_FULL;
	return status >= 500 || status == 429 ? FAULT_UNAVAILABLE : fault_from_http_status(status);
}

int cloud_refuse(const struct cloud_api *api, const struct cloud_call *call,
		 const struct cloud_refusal *refusal, struct error *e)
{
	const struct cloud_meaning *m = meaning_of(api, refusal);
	cleanup_buf struct buf text = BUF_INIT(1024);
	cleanup_buf struct buf remedy = BUF_INIT(512);
	enum fault fault = m ? m->fault : fault_of(call->status);
	fill_in(&text, m && m->text ? m->text : refusal->message, call);
	int r = error_fault(e, fault, "%s refused %s: %s%s(%s%s%d)", api->who, call->action,
			    buf_text(&text), text.len ? " " : "", refusal->code,
			    refusal->code[0] ? ", " : "", call->status);
	if (!m || !m->remedy)
		return r;
	fill_in(&remedy, m->remedy, call);
	return error_remedy(e, r, "%s", buf_text(&remedy));
}

static int fail(const struct cloud_api *api, const struct cloud_call *c,
		const struct s3_exchange *x, struct error *e)
{
	if (c->status)
		return cloud_refuse(api, c, &c->refusal, e);
	int r = error_fault(e, x->timed_out ? FAULT_TIMEOUT : FAULT_UNAVAILABLE,
			    "%s could not be asked for %s at %s: %s", api->who, c->action,
			    api->host, x->why);
	return error_remedy(e, r, "check the way to %s, and capacity.endpoint", api->host);
}

/* --- again? --- */

struct progress {
	unsigned tries;
	mono_us began;
	bool refreshed, adjusted;
};

static uint32_t chance(void)
{
	uint32_t n = 0;
	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != sizeof(n))
		n = (uint32_t)clock_mono();
	return n;
}

static bool stopped(const struct cloud_api *api)
{
	return api->stop && atomic_load(api->stop);
}

static void wait_ms(const struct cloud_api *api, int ms)
{
	for (; ms > 0 && !stopped(api); ms -= NAP_MS) {
		struct timespec t = { .tv_nsec = (ms < NAP_MS ? ms : NAP_MS) * 1000000L };
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

/* Signed with a clock that is far from the server's. */
static bool skewed(const struct cloud_api *api, const struct cloud_call *c,
		   const struct s3_exchange *x, const struct progress *p)
{
	wall_ms theirs = c->status / 100 == 4 && api->region ? s3_date(x->got.date) : 0;
	int64_t off = theirs - clock_wall() - api->clock_ahead_ms;
	return theirs && !p->adjusted && (off > 240000 || off < -240000);
}

static bool is_final(const struct cloud_api *api, const struct cloud_call *c,
		     const struct s3_exchange *x)
{
	const struct cloud_meaning *m = c->status ? meaning_of(api, &c->refusal) : NULL;
	/* "No capacity" comes with status 500, and waiting does not help. */
	if (m && m->fault == FAULT_FULL)
		return true;
	return c->once && (x->transfer == RETRY_LOST || x->resent || c->status >= 500);
}

static bool prepare_again(struct cloud_api *api, struct cloud_call *c, struct s3_exchange *x,
			  struct progress *p)
{
	struct retry_try t = { .count = p->tries,
			       .transfer = x->transfer,
			       .status = c->status,
			       .code = c->refusal.code,
			       .retry_after_ms = retry_after_ms(x->got.retry_after),
			       .elapsed_ms = (clock_mono() - p->began) / 1000,
			       .random = chance(),
			       .refreshed = p->refreshed,
			       .adjusted = p->adjusted };
	struct retry_verdict v = retry_decide(&limits, &t);
	if (skewed(api, c, x, p))
		v = (struct retry_verdict) { .again = true, .adjust = true };
	wall_ms theirs = v.adjust ? s3_date(x->got.date) : 0;
	if (!v.again || is_final(api, c, x) || (v.adjust && !theirs) || stopped(api))
		return false;
	if (v.adjust)
		api->clock_ahead_ms = theirs - clock_wall();
	p->adjusted |= v.adjust;
	p->refreshed |= v.refresh;
	x->new_connection = v.new_connection;
	wait_ms(api, v.wait_ms);
	return !stopped(api);
}

static int check_kind(const struct cloud_api *api, const struct credentials_value *who,
		      struct error *e)
{
	if (api->region || who->bearer)
		return 0;
	int r = error_set(e, EACCES, "an HMAC key opens Google's storage only");
	return error_remedy(e, r,
			    "take GS_ACCESS_KEY_ID out of elsad's environment and run it on a "
			    "machine with a service account");
}

int cloud_call(struct cloud_api *api, struct cloud_call *c, struct error *e)
{
	struct progress p = { .began = clock_mono() };
	struct s3_exchange x = { 0 };
	struct credentials_value who = { 0 }, old = { 0 };
	int r;
	for (;;) {
		r = credentials_get(api->credentials, p.refreshed ? &old : NULL, &who, e);
		if (r == 0)
			r = check_kind(api, &who, e);
		if (r < 0)
			break;
		p.tries++;
		r = try_once(api, c, &x, &who, e);
		credentials_value_deinit(&old);
		old = who;
		who = (struct credentials_value) { 0 };
		if (r < 0)
			break;
		read_answer(api, c, &x);
		if (c->status / 100 == 2)
			break;
		if (!prepare_again(api, c, &x, &p)) {
			r = fail(api, c, &x, e);
			break;
		}
	}
	credentials_value_deinit(&who);
	credentials_value_deinit(&old);
	buf_deinit(&x.text);
	return r;
}
