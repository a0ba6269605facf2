/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_HEAD_H
#define ELSA_NODE_ACTIVATOR_HEAD_H

/*
 * The head of an HTTP/1 request, read as its bytes come (llhttp, strict). The
 * bytes are the caller's and may move between two calls: places in them are kept
 * as offsets. Pure.
 */

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HEAD_MOST = 64 << 10,
	HEAD_FIELDS_MOST = 96,
};

/* A piece of the caller's bytes; not NUL-terminated. */
struct text {
	const char *at; /* NULL: not there */
	size_t len;
};

struct head_span {
	uint32_t at, len;
};

struct request_head {
	llhttp_t parser;
	const char *data; /* while the parser runs */
	uint32_t fed;
	uint32_t len; /* of the head, once it is complete */
	struct head_span target;
	struct head_span names[HEAD_FIELDS_MOST], values[HEAD_FIELDS_MOST];
	unsigned fields;
	bool complete;
};

void request_head_init(struct request_head *head);

/* `data` begins with the head's first byte and is all that has come so far, or the first of it: 1
 * when the head is complete, 0 when more is needed, -EBADMSG when this is no HTTP, or a head with
 * too many fields or larger than HEAD_MOST. */
int request_head_read(struct request_head *head, const char *data, size_t len);

/* Of a complete head; `data` as it is now. */
const char *request_head_method(const struct request_head *head);
struct text request_head_target(const struct request_head *head, const char *data);
/* The nth field of that name, whatever its case, from 0. */
struct text request_head_field(const struct request_head *head, const char *data, const char *name,
			       unsigned nth);
/* May something follow the head that belongs to the request? */
bool request_head_has_body(const struct request_head *head);
bool request_head_upgrades(const struct request_head *head);
bool request_head_keeps_alive(const struct request_head *head);

bool text_is(struct text text, const char *word);        /* same letters */
bool text_is_nocase(struct text text, const char *word); /* whatever their case */
bool text_contains(struct text text, const char *word);

#endif
