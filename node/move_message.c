/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, whole or not at all, over a move connection. */
#include "node/move_conn_private.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

enum {
	PROGRESS_MS = 15000, /* one that has begun goes on within so long */
	RECORD = 16384,      /* of TLS */
};

/* A message of which a part is missing is none any more, nor is anything after it. */
static int broken_off(struct move_conn *c, int r, struct error *e)
{
	c->broken = true;
	return r == -ETIMEDOUT ? error_set(e, ECONNRESET, "node %s has fallen silent", c->peer) : r;
}

static int write_all(struct move_conn *c, const void *from, size_t len, struct error *e)
{
	const unsigned char *p = from;
	for (size_t done; len > 0; p += done, len -= done) {
		int r = move_conn_write(c, p, len, &done, PROGRESS_MS, e);
		if (r < 0)
			return broken_off(c, r, e);
	}
	return 0;
}

/* The header goes with the beginning of the body, in one record and one packet. */
int move_send(struct move_conn *conn, enum move_type type, const void *body, size_t len,
	      struct error *e)
{
	unsigned char first[RECORD];
	const struct move_header h = { (uint8_t)type, (uint32_t)len };
	size_t with = len < RECORD - MOVE_HEADER_BYTES ? len : RECORD - MOVE_HEADER_BYTES;
	if (conn->broken)
		return move_conn_ended(conn, e);
	if (len > MOVE_BODY_MOST)
		return error_set(e, EINVAL, "too much for one message");
	move_header_write(&h, first);
	if (with)
		memcpy(first + MOVE_HEADER_BYTES, body, with);
	int r = write_all(conn, first, MOVE_HEADER_BYTES + with, e);
	return r < 0 || with == len ? r : write_all(conn, (const char *)body + with, len - with, e);
}

int move_send_text(struct move_conn *conn, enum move_type type, const struct wire_struct *what,
		   const void *of, struct error *e)
{
	cleanup_json json_t *json = wire_encode(what, of);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return move_send(conn, type, text, strlen(text), e);
}

int move_send_error(struct move_conn *conn, const struct error *why)
{
	struct error copy = *why;
	const struct move_failure failure = {
		.fault = (char *)(uintptr_t)fault_name(why->fault),
		.text = copy.text,
		.remedy = copy.remedy[0] ? copy.remedy : NULL,
	};
	return move_send_text(conn, MOVE_ERROR, &wire_move_failure, &failure, NULL);
}

static int read_all(struct move_conn *c, void *to, size_t len, struct error *e)
{
	unsigned char *p = to;
	for (size_t got; len > 0; p += got, len -= got) {
		int r = move_conn_read(c, p, len, &got, PROGRESS_MS, e);
		if (r < 0)
			return broken_off(c, r, e);
	}
	return 0;
}

static int read_body(struct move_conn *c, struct buf *body, size_t len, struct error *e)
{
	void *at;
	int r = len ? buf_extend(body, len, &at) : 0;
	if (r < 0)
		return broken_off(c, error_set(e, -r, "node %s sends too much at once", c->peer),
				  e);
	return len ? read_all(c, at, len, e) : 0;
}

int move_recv(struct move_conn *conn, enum move_type *type, struct buf *body, int timeout_ms,
	      struct error *e)
{
	unsigned char bytes[MOVE_HEADER_BYTES];
	struct move_header h;
	size_t got;
	buf_reset(body);
	if (conn->broken)
		return move_conn_ended(conn, e);
	int r = move_conn_read(conn, bytes, sizeof(bytes), &got, timeout_ms, e);
	if (r < 0)
		return r;
	r = read_all(conn, bytes + got, sizeof(bytes) - got, e);
	if (r == 0)
		r = move_header_read(bytes, &h, e);
	if (r < 0 && r != -EPROTONOSUPPORT)
		return broken_off(conn, r, e);
	/* One of another version is taken in, too: it can be answered. */
	*type = (enum move_type)h.type;
	int whole = read_body(conn, body, h.len, e);
	return whole < 0 ? whole : r;
}

int move_failure_read(const struct move_conn *c, const struct buf *body, struct error *e)
{
	struct move_failure f;
	struct error bad = ERROR_INIT;
	if (wire_decode_text(&wire_move_failure, buf_text(body), body->len, &f, &bad) < 0)
		return error_set(e, EBADMSG, "node %s: %s", c->peer, bad.text);
	enum fault fault = fault_from_name(f.fault);
	int r = error_fault(e, fault == FAULT_NONE ? FAULT_INTERNAL : fault, "node %s: %s", c->peer,
			    f.text);
	if (f.remedy)
		error_remedy(e, r, "%s", f.remedy);
	wire_free(&wire_move_failure, &f);
	return r;
}

int move_ask(struct move_conn *conn, enum move_type type, const void *body, size_t len,
	     enum move_type want, struct buf *answer, int timeout_ms, struct error *e)
{
	enum move_type got;
	int r = move_send(conn, type, body, len, e);
	if (r == 0)
		r = move_recv(conn, &got, answer, timeout_ms, e);
	/* The answer would be taken for that to the next question. */
	if (r == -ETIMEDOUT)
		conn->broken = true;
	if (r < 0)
		return r;
	if (got == MOVE_ERROR)
		return move_failure_read(conn, answer, e);
	if (got == want)
		return 0;
	conn->broken = true;
	return error_set(e, EBADMSG, "node %s answers something else than was asked", conn->peer);
}
