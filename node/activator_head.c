/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator_head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* The parser hands on pieces of what it was fed last: one that goes on where the span ended, or the
 * first of it. */
static void extend(struct request_head *head, struct head_span *span, const char *at, size_t len)
{
	if (span->len == 0)
		span->at = (uint32_t)(at - head->data);
	span->len += (uint32_t)len;
}

static int on_target(llhttp_t *parser, const char *at, size_t len)
{
	struct request_head *head = parser->data;
	extend(head, &head->target, at, len);
	return 0;
}

static int on_name(llhttp_t *parser, const char *at, size_t len)
{
	struct request_head *head = parser->data;
	if (head->fields == HEAD_FIELDS_MOST)
		return -1;
	extend(head, &head->names[head->fields], at, len);
	return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
	struct request_head *head = parser->data;
	if (head->fields < HEAD_FIELDS_MOST)
		extend(head, &head->values[head->fields], at, len);
	return 0;
}

static int on_field_end(llhttp_t *parser)
{
	struct request_head *head = parser->data;
	head->fields++;
	return 0;
}

static int on_head_end(llhttp_t *parser)
{
	struct request_head *head = parser->data;
	/* It takes HTTP/2.0 and 0.9 as well. */
	if (parser->http_major != 1)
		return -1;
	head->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_url = on_target,
	.on_header_field = on_name,
	.on_header_value = on_value,
	.on_header_value_complete = on_field_end,
	.on_headers_complete = on_head_end,
};

void request_head_init(struct request_head *head)
{
	memset(head, 0, sizeof(*head));
	llhttp_init(&head->parser, HTTP_REQUEST, &settings);
	head->parser.data = head;
}

int request_head_read(struct request_head *head, const char *data, size_t len)
{
	size_t most = len > HEAD_MOST ? HEAD_MOST : len;
	if (head->complete)
		return 1;
	if (most > head->fed) {
		head->data = data;
		llhttp_errno_t r =
			llhttp_execute(&head->parser, data + head->fed, most - head->fed);
		head->fed = (uint32_t)most;
		if (r == HPE_PAUSED && head->complete)
			head->len = (uint32_t)(llhttp_get_error_pos(&head->parser) - data);
		else if (r != HPE_OK)
			return -EBADMSG;
	}
	if (head->complete)
		return 1;
	return head->fed == HEAD_MOST ? -EBADMSG : 0;
}

const char *request_head_method(const struct request_head *head)
{
	return llhttp_method_name((llhttp_method_t)head->parser.method);
}

static struct text text_of(const char *data, struct head_span span)
{
	return (struct text) { .at = data + span.at, .len = span.len };
}

struct text request_head_target(const struct request_head *head, const char *data)
{
	return text_of(data, head->target);
}

struct text request_head_field(const struct request_head *head, const char *data, const char *name,
			       unsigned nth)
{
	for (unsigned i = 0; i < head->fields; i++)
		if (text_is_nocase(text_of(data, head->names[i]), name) && nth-- == 0)
			return text_of(data, head->values[i]);
	return (struct text) { 0 };
}

bool request_head_has_body(const struct request_head *head)
{
	return head->parser.content_length != 0 || (head->parser.flags & F_TRANSFER_ENCODING);
}

bool request_head_upgrades(const struct request_head *head)
{
	return head->parser.upgrade != 0 || (head->parser.flags & F_UPGRADE);
}

bool request_head_keeps_alive(const struct request_head *head)
{
	return llhttp_should_keep_alive(&head->parser) != 0;
}

bool text_is(struct text text, const char *word)
{
	return text.at && text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

bool text_is_nocase(struct text text, const char *word)
{
	return text.at && text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

bool text_contains(struct text text, const char *word)
{
	return text.at && memmem(text.at, text.len, word, strlen(word));
}
