/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_ERROR_H
#define ELSA_BASE_ERROR_H

/*
 * Errors that travel.
 *
 * A function that can fail returns 0 or a negative errno and, if it was given
 * a struct error, says there what happened in words a person can act on.
 * Libraries only fill it in; the edges (the daemons' mains, the API, the
 * command line) print, log or send it. A positive return value belongs to the
 * one function that documents it and must not travel up.
 *
 * `struct error` is plain memory owned by the caller; nothing to free. Every
 * function takes a NULL error and then says nothing. Thread-safe.
 */

#include <stdbool.h>
#include <stddef.h>

/* What kind of failure, for exit codes, HTTP statuses and retries. */
enum fault {
	FAULT_NONE = 0,
	FAULT_INTERNAL,    /* a bug or a broken machine */
	FAULT_BAD_INPUT,   /* the caller must change what it asks */
	FAULT_NOT_FOUND,   /* no such session, checkpoint, ... */
	FAULT_CONFLICT,    /* not in this state, or somebody else does it already */
	FAULT_DENIED,      /* no or wrong credentials */
	FAULT_REFUSED,     /* the session cannot be checkpointed or restored as it is */
	FAULT_UNAVAILABLE, /* something we depend on is down: try again later */
	FAULT_TIMEOUT,     /* ... or too slow */
	FAULT_FULL,        /* out of disk, memory, addresses */
	FAULT_CORRUPT,     /* stored data is not what was written */
	FAULT_COUNT
};

struct error {
	enum fault fault;
	char text[1024];  /* what happened, outermost context first */
	char remedy[512]; /* what to do about it; may be empty */
};

#define ERROR_INIT ((struct error) { .fault = FAULT_NONE })

/* Fills *e and returns -code; `code` is a positive errno. The fault is derived from it. */
int error_set(struct error *e, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As error_set, with ": " and the text of errno added; returns -errno (-EIO if errno is 0). */
int error_errno(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, with the fault said outright; returns error_fault_errno(fault) negated. */
int error_fault(struct error *e, enum fault fault, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that is there; for the layers above. Returns r. */
int error_wrap(struct error *e, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Says what to do about it, unless a deeper layer already did. Returns r. */
int error_remedy(struct error *e, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void error_clear(struct error *e);

const char *fault_name(enum fault fault);     /* "not-found"; never NULL */
enum fault fault_from_name(const char *name); /* FAULT_INTERNAL if unknown */
int fault_http_status(enum fault fault);      /* 404; 200 for FAULT_NONE */
enum fault fault_from_http_status(int status);
int fault_exit_code(enum fault fault); /* 0 for FAULT_NONE; see docs/cli.md */
int fault_errno(enum fault fault);     /* a positive errno */
enum fault fault_from_errno(int code); /* `code` positive */

#ifdef __clang_analyzer__
/* It sees one file at a time, and would follow paths on which a failure returns 0. */
static inline int error_is_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define error_set(...)   error_is_negative(error_set(__VA_ARGS__))
#define error_errno(...) error_is_negative(error_errno(__VA_ARGS__))
#define error_fault(...) error_is_negative(error_fault(__VA_ARGS__))

#define error_wrap(e, r, ...)   ((void)error_wrap(e, r, __VA_ARGS__), (r))
#define error_remedy(e, r, ...) ((void)error_remedy(e, r, __VA_ARGS__), (r))
#endif

#endif
