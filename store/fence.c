/* SPDX-License-Identifier: Apache-2.0 */
#include "store/fence.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "store/signed.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct signed_format fence_format = { "elsa-fence", FENCE_VERSION, "fence" };

static const char by_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

void fence_set_by(struct fence *f, const char *by)
{
	snprintf(f->by, sizeof(f->by), "%s", by);
	for (char *at = f->by; *at; at++)
		if (!strchr(by_chars, *at))
			*at = '_';
}

int fence_encode(const struct fence *f, const struct seal_key *mac_key, struct buf *to,
		 struct error *e)
{
	cleanup_buf struct buf body = BUF_INIT(FENCE_MAX_BYTES);
	int r = buf_printf(&body,
			   "{\"session\":\"%s\",\"generation\":%" PRId64
			   ",\"writer\":\"%s\",\"taken_at\":%" PRId64 ",\"by\":\"%s\"}",
			   f->session, f->generation, f->writer, f->taken_at, f->by);
	if (r < 0)
		return error_set(e, -r, "the fence cannot be written");
	return signed_encode(&fence_format, &body, mac_key, to, e);
}

static int decode_body(json_t *body, struct fence *f, struct error *e)
{
	const char *session, *writer, *by;
	json_int_t generation, taken_at;
	if (json_unpack(body, "{ss sI ss sI ss !}", "session", &session, "generation", &generation,
			"writer", &writer, "taken_at", &taken_at, "by", &by) < 0)
		return error_set(e, EBADMSG, "something is missing or not known");
	if (!id_valid(session) || !id_valid(writer) || generation < 0 || taken_at < 0 ||
	    strlen(by) >= FENCE_BY || strspn(by, by_chars) != strlen(by))
		return error_set(e, EBADMSG, "an id or number is not one");
	memcpy(f->session, session, sizeof(f->session));
	memcpy(f->writer, writer, sizeof(f->writer));
	memcpy(f->by, by, strlen(by) + 1);
	f->generation = generation;
	f->taken_at = taken_at;
	return 0;
}

int fence_decode(const char *data, size_t len, const struct seal_key *mac_key, struct fence *f,
		 struct error *e)
{
	const char *text;
	size_t text_len;
	*f = (struct fence) { 0 };
	if (len == 0 || len > FENCE_MAX_BYTES)
		return error_set(e, EBADMSG, len ? "it is too large" : "it is empty");
	int r = signed_decode(&fence_format, data, len, mac_key, &text, &text_len, e);
	if (r < 0)
		return r;
	cleanup(json_decrefp) json_t *body =
		json_loadb(text, text_len, JSON_REJECT_DUPLICATES, NULL);
	return body ? decode_body(body, f, e) : error_set(e, EBADMSG, "it is not JSON");
}

bool fence_is(const char *data, size_t len)
{
	return len > 0 && len <= FENCE_MAX_BYTES && signed_is(&fence_format, data, len);
}
