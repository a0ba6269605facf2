/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_page.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

enum { PAGE_MOST = 16 << 10 };

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
		{ 200, "OK" },        { 204, "No Content" },          { 403, "Forbidden" },
		{ 404, "Not Found" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

int page_write(const struct page *page, struct evbuffer *to)
{
	/* Nothing here is for caches, for other origins' scripts, or for frames. */
	if (evbuffer_add_printf(to,
				"HTTP/1.1 %d %s\r\n"
				"Content-Type: %s\r\n"
				"Content-Length: %zu\r\n"
				"Cache-Control: no-store\r\n"
				"X-Content-Type-Options: nosniff\r\n"
				"Content-Security-Policy: default-src 'none'; style-src "
				"'unsafe-inline'; frame-ancestors 'none'\r\n",
				page->status, reason_of(page->status), page->type,
				page->body_len) < 0)
		return -ENOMEM;
	if (page->retry_after_s &&
	    evbuffer_add_printf(to, "Retry-After: %d\r\n", page->retry_after_s) < 0)
		return -ENOMEM;
	if (evbuffer_add_printf(to, "Connection: %s\r\n\r\n",
				page->close ? "close" : "keep-alive") < 0)
		return -ENOMEM;
	return page->bare || evbuffer_add(to, page->body, page->body_len) == 0 ? 0 : -ENOMEM;
}

static int append_escaped(struct buf *to, const char *text)
{
	int r = 0;
	for (; *text && r == 0; text++) {
		const char *entity = *text == '<'   ? "&lt;"
				     : *text == '>' ? "&gt;"
				     : *text == '&' ? "&amp;"
				     : *text == '"' ? "&quot;"
						    : NULL;
		r = entity ? buf_append(to, entity, strlen(entity)) : buf_append(to, text, 1);
	}
	return r;
}

static int html_body(const char *why, int retry_after_s, struct buf *to)
{
	int r = buf_printf(to,
			   "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
			   "<meta http-equiv=\"refresh\" content=\"%d\">"
			   "<title>Session asleep</title>"
			   "<style>body{font-family:sans-serif;max-width:36em;margin:4em auto;"
			   "padding:0 1em}</style></head>\n<body><h1>Your session is asleep</h1>\n"
			   "<p>",
			   retry_after_s);
	if (r == 0)
		r = append_escaped(to, why);
	return r < 0 ? r
		     : buf_printf(to,
				  "</p>\n<p>Nothing of it is lost. This page tries again in %d "
				  "seconds.</p></body></html>\n",
				  retry_after_s);
}

static int json_body(const char *message, struct buf *to)
{
	json_t *body = json_pack("{s:s, s:n}", "message", message, "reason");
	cleanup_free char *text = body ? json_dumps(body, 0) : NULL;
	json_decref(body);
	return text ? buf_append(to, text, strlen(text)) : -ENOMEM;
}

int page_unwoken(const char *why, int retry_after_s, bool html, bool bare, struct evbuffer *to)
{
	cleanup_buf struct buf body = BUF_INIT(PAGE_MOST);
	int r = html ? html_body(why, retry_after_s, &body) : json_body(why, &body);
	if (r < 0)
		return r;
	return page_write(
		&(struct page) { .status = 503,
				 .type = html ? "text/html; charset=utf-8" : "application/json",
				 .body = buf_text(&body),
				 .body_len = body.len,
				 .retry_after_s = retry_after_s,
				 .bare = bare,
				 .close = true },
		to);
}

static int write_fixed(int status, const char *body, bool bare, bool close, struct evbuffer *to)
{
	return page_write(&(struct page) { .status = status,
					   .type = "application/json",
					   .body = body,
					   .body_len = strlen(body),
					   .bare = bare,
					   .close = close },
			  to);
}

int page_forbidden(bool bare, bool close, struct evbuffer *to)
{
	return write_fixed(403, "{\"message\": \"Forbidden\", \"reason\": null}", bare, close, to);
}

int page_unanswered(bool bare, struct evbuffer *to)
{
	return write_fixed(504,
			   "{\"message\": \"The session is asleep, and this is not known of it "
			   "without waking it.\", \"reason\": null}",
			   bare, true, to);
}
