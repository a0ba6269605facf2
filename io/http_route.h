/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_ROUTE_H
#define ELSA_IO_HTTP_ROUTE_H

/*
 * Paths and queries of requests, for io/http_server.c: text in, decoded names
 * and values out. Thread-safe.
 */

#include <stdbool.h>
#include <stddef.h>

#define HTTP_PARAMS_MAX 16

struct http_params {
	size_t count;
	struct {
		char *name;
		char *value;
	} items[HTTP_PARAMS_MAX];
};

/* Does `path`, still encoded, fit the pattern of a struct http_route? 1 and the values of its
 * {names} added to `to`; 0; or -EINVAL for a value that is badly encoded or holds a NUL, -ENOMEM.
 */
int http_route_match(const char *pattern, const char *path, struct http_params *to);

/* Adds what "a=1&b=x%20y&c" says; a name without '=' has the value "". NULL is an empty query. 0,
 * -EINVAL (badly encoded, a NUL, too many), -ENOMEM. */
int http_query_parse(const char *query, struct http_params *to);

const char *http_params_get(const struct http_params *params, const char *name); /* first; NULL */
void http_params_deinit(struct http_params *params);                             /* idempotent */

#endif
