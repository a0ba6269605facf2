/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/s3_xml.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(struct s3_xml *, s3_xml_free)

struct s3_xml {
	XML_Parser parser;
	int (*each)(const struct s3_entry *entry, void *arg);
	void *arg;
	int result; /* nonzero: reading has stopped */
	unsigned depth;
	struct buf text;
	struct s3_answer answer;
	bool in_entry, has_key, has_size;
	char key[S3_TEXT_MAX + 1];
	struct s3_entry entry;
};

static void stop(struct s3_xml *x, int result)
{
	if (x->result == 0)
		x->result = result;
	XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL on_start(void *data, const XML_Char *name, const XML_Char **attributes)
{
	struct s3_xml *x = data;
	(void)attributes;
	if (++x->depth > S3_DEPTH_MAX) {
		stop(x, -EBADMSG);
		return;
	}
	if (x->depth == 1)
		snprintf(x->answer.root, sizeof(x->answer.root), "%s", name);
	if (x->depth == 2 && strcmp(name, "Contents") == 0) {
		x->in_entry = true;
		x->has_key = x->has_size = false;
		x->entry = (struct s3_entry) { 0 };
	}
	buf_reset(&x->text);
}

static void XMLCALL on_text(void *data, const XML_Char *text, int len)
{
	struct s3_xml *x = data;
	if (buf_append(&x->text, text, (size_t)len) < 0)
		stop(x, -EBADMSG);
}

static void XMLCALL on_doctype(void *data, const XML_Char *name, const XML_Char *system,
			       const XML_Char *public, int has_internal)
{
	(void)name;
	(void)system;
	(void)public;
	(void)has_internal;
	stop(data, -EBADMSG);
}

static bool parse_size(const char *text, uint64_t *size)
{
	*size = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || *size > (UINT64_MAX - 9) / 10)
			return false;
		*size = *size * 10 + (uint64_t)(*text - '0');
	}
	return true;
}

/* A field of one <Contents>. */
static void entry_field(struct s3_xml *x, const char *name, const char *text)
{
	if (strcmp(name, "Key") == 0) {
		snprintf(x->key, sizeof(x->key), "%s", text);
		x->has_key = true;
	} else if (strcmp(name, "Size") == 0) {
		x->has_size = parse_size(text, &x->entry.size);
		if (!x->has_size)
			stop(x, -EBADMSG);
	} else if (strcmp(name, "LastModified") == 0) {
		if (clock_parse(text, &x->entry.modified_at) < 0)
			stop(x, -EBADMSG);
	}
}

static void entry_end(struct s3_xml *x)
{
	x->in_entry = false;
	if (!x->has_key || !x->has_size) {
		stop(x, -EBADMSG);
		return;
	}
	x->entry.key = x->key;
	int r = x->each ? x->each(&x->entry, x->arg) : 0;
	if (r)
		stop(x, r);
}

/* A cut token would be a wrong one. */
static void whole_field(struct s3_xml *x, char *to, size_t size, const char *text)
{
	if (strlen(text) >= size)
		stop(x, -EBADMSG);
	else
		memcpy(to, text, strlen(text) + 1);
}

static void top_field(struct s3_xml *x, const char *name, const char *text)
{
	struct s3_answer *a = &x->answer;
	if (strcmp(name, "Code") == 0)
		snprintf(a->code, sizeof(a->code), "%s", text);
	else if (strcmp(name, "Message") == 0)
		snprintf(a->message, sizeof(a->message), "%s", text);
	else if (strcmp(name, "Region") == 0)
		snprintf(a->region, sizeof(a->region), "%s", text);
	else if (strcmp(name, "NextContinuationToken") == 0)
		whole_field(x, a->token, sizeof(a->token), text);
	else if (strcmp(name, "IsTruncated") == 0)
		a->truncated = strcmp(text, "true") == 0;
}

static void XMLCALL on_end(void *data, const XML_Char *name)
{
	struct s3_xml *x = data;
	if (x->result)
		return;
	if (x->depth == 3 && x->in_entry)
		entry_field(x, name, buf_text(&x->text));
	else if (x->depth == 2 && x->in_entry)
		entry_end(x);
	else if (x->depth == 2)
		top_field(x, name, buf_text(&x->text));
	x->depth--;
	buf_reset(&x->text);
}

struct s3_xml *s3_xml_new(int (*each)(const struct s3_entry *entry, void *arg), void *arg)
{
	struct s3_xml *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->parser = XML_ParserCreate("UTF-8");
	if (!x->parser) {
		free(x);
		return NULL;
	}
	x->each = each;
	x->arg = arg;
	x->text = BUF_INIT(S3_TEXT_MAX);
	XML_SetUserData(x->parser, x);
	XML_SetElementHandler(x->parser, on_start, on_end);
	XML_SetCharacterDataHandler(x->parser, on_text);
	XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
	return x;
}

static int feed(struct s3_xml *x, const char *data, size_t len, bool last)
{
	while (x->result == 0) {
		int n = len > (1 << 20) ? 1 << 20 : (int)len;
		if (XML_Parse(x->parser, data, n, last && (size_t)n == len) != XML_STATUS_OK &&
		    x->result == 0)
			x->result = -EBADMSG;
		data += n;
		len -= (size_t)n;
		if (len == 0)
			break;
	}
	return x->result;
}

int s3_xml_feed(struct s3_xml *x, const char *data, size_t len)
{
	return feed(x, data, len, false);
}

int s3_xml_end(struct s3_xml *x)
{
	return feed(x, "", 0, true);
}

const struct s3_answer *s3_xml_answer(const struct s3_xml *x)
{
	return &x->answer;
}

void *s3_xml_free(struct s3_xml *x)
{
	if (!x)
		return NULL;
	XML_ParserFree(x->parser);
	buf_deinit(&x->text);
	free(x);
	return NULL;
}

int s3_xml_read(const char *data, size_t len, struct s3_answer *answer)
{
	cleanup(s3_xml_freep) struct s3_xml *x = s3_xml_new(NULL, NULL);
	if (!x)
		return -ENOMEM;
	int r = s3_xml_feed(x, data, len);
	if (r == 0)
		r = s3_xml_end(x);
	*answer = *s3_xml_answer(x);
	return r;
}
