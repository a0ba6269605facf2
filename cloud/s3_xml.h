/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_XML_H
#define ELSA_CLOUD_S3_XML_H

/*
 * The XML answers of S3 and of Google's XML API, read while they arrive:
 * listings (ListObjectsV2) and errors. No I/O. What comes from outside is
 * bounded: a text longer than S3_TEXT_MAX, elements nested deeper than
 * S3_DEPTH_MAX or a document type declaration end the reading with -EBADMSG.
 * One thread per parser.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_TEXT_MAX  4096
#define S3_DEPTH_MAX 16

struct s3_entry {
	const char *key; /* valid during the call */
	uint64_t size;
	wall_ms modified_at;
};

struct s3_answer {
	char root[64];                           /* name of the outermost element */
	char code[64], message[512], region[64]; /* of an <Error> */
	bool truncated;                          /* the listing goes on ... */
	char token[2048];                        /* ... from here */
};

struct s3_xml;

/* `each` gets the entries of a listing; nonzero stops and is returned by feed. NULL: not wanted.
 * NULL when out of memory. */
struct s3_xml *s3_xml_new(int (*each)(const struct s3_entry *entry, void *arg), void *arg);
int s3_xml_feed(struct s3_xml *x, const char *data, size_t len);
int s3_xml_end(struct s3_xml *x); /* -EBADMSG when it is not a whole document */
const struct s3_answer *s3_xml_answer(const struct s3_xml *x);
void *s3_xml_free(struct s3_xml *x); /* returns NULL */

/* A whole answer at once; 0 or -EBADMSG, -ENOMEM. */
int s3_xml_read(const char *data, size_t len, struct s3_answer *answer);

#endif
