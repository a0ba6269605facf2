/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONFIG_VALUES_H
#define ELSA_CONFIG_VALUES_H

/*
 * Durations and sizes as people write them, and the tests that an option's
 * text must pass. Pure; thread-safe.
 */

#include <stdbool.h>
#include <stdint.h>

#define VALUE_TEXT_SIZE 32

/* "250ms", "30s", "10m", "2h", "1d", "1w" to milliseconds. 0, -EINVAL or -ERANGE. */
int value_parse_duration(const char *text, int64_t *ms);
/* "512K", "100M", "4G", "1T" (powers of 1024; "4GiB" is the same) or "0" to bytes. */
int value_parse_size(const char *text, int64_t *bytes);

/* In the largest unit that gives a whole number; the parsers above read it back. Return `to`. */
const char *value_format_duration(int64_t ms, char to[VALUE_TEXT_SIZE]);
const char *value_format_size(int64_t bytes, char to[VALUE_TEXT_SIZE]);

/* A check: NULL, or what is wanted instead: "an absolute path". */
typedef const char *value_check(const char *text);

value_check value_check_path;         /* absolute, no ".." */
value_check value_check_path_or_none; /* likewise, or "" */
value_check value_check_socket;       /* ... short enough for a unix socket */
value_check value_check_program;      /* a name found in PATH, or an absolute path */
value_check value_check_home;         /* a path with {home} {user} {id} {uid} */
value_check value_check_name;         /* one part of a path, of [A-Za-z0-9._-] */
value_check value_check_host_name;    /* "" or of [A-Za-z0-9.-] */
value_check value_check_group;        /* of the Hub's: any text, but not "" */
value_check value_check_account;      /* a system account */
value_check value_check_url;          /* http:// or https:// and a host */
value_check value_check_url_or_none;
value_check value_check_https_or_none; /* https:// and a host, or "" */
value_check value_check_store_url;
value_check value_check_pool; /* IPv4 network with room for sessions */
value_check value_check_ipv4;
value_check value_check_ipv4_or_none;
value_check value_check_address;          /* IPv4 or IPv6 */
value_check value_check_listen;           /* "host:port", "[::1]:port" or "" */
value_check value_check_endpoint;         /* "IPv4:port" or "IPv4/prefix:port" */
value_check value_check_env;              /* NAME=VALUE */
value_check value_check_variable_or_none; /* NAME, or "" */
value_check value_check_quiet;
value_check value_check_poll;
value_check value_check_not_empty;

/* True if `text` is one of the words of `choices`, which are separated by one space each. */
bool value_is_choice(const char *text, const char *choices);

/* How many letters must be changed, added, dropped or swapped with their neighbour. */
unsigned value_distance(const char *a, const char *b);

#endif
