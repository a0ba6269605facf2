/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What only clang-tidy sees of them is for their callers. */
#undef error_set
#undef error_errno
#undef error_fault
#undef error_wrap
#undef error_remedy

static const struct {
	const char *name;
	int http;
	int exit;
	int code;
} faults[FAULT_COUNT] = {
	[FAULT_NONE] = { "none", 200, 0, 0 },
	[FAULT_INTERNAL] = { "internal", 500, 1, EIO },
	[FAULT_BAD_INPUT] = { "bad-input", 400, 2, EINVAL },
	[FAULT_NOT_FOUND] = { "not-found", 404, 3, ENOENT },
	[FAULT_CONFLICT] = { "conflict", 409, 4, EBUSY },
	[FAULT_DENIED] = { "denied", 403, 5, EACCES },
	[FAULT_REFUSED] = { "refused", 422, 6, EOPNOTSUPP },
	[FAULT_UNAVAILABLE] = { "unavailable", 503, 7, EHOSTDOWN },
	[FAULT_TIMEOUT] = { "timeout", 504, 8, ETIMEDOUT },
	[FAULT_FULL] = { "full", 507, 9, ENOSPC },
	[FAULT_CORRUPT] = { "corrupt", 502, 10, EBADMSG },
};

const char *fault_name(enum fault fault)
{
	return (unsigned)fault < FAULT_COUNT ? faults[fault].name : "internal";
}

enum fault fault_from_name(const char *name)
{
	for (int i = 0; name && i < FAULT_COUNT; i++)
		if (strcmp(faults[i].name, name) == 0)
			return (enum fault)i;
	return FAULT_INTERNAL;
}

int fault_http_status(enum fault fault)
{
	return faults[(unsigned)fault < FAULT_COUNT ? fault : FAULT_INTERNAL].http;
}

enum fault fault_from_http_status(int status)
{
	if (status >= 200 && status < 400)
		return FAULT_NONE;
	if (status == 401)
		return FAULT_DENIED;
	if (status == 429)
		return FAULT_UNAVAILABLE;
	for (int i = 0; i < FAULT_COUNT; i++)
		if (faults[i].http == status)
			return (enum fault)i;
	return status >= 500 ? FAULT_UNAVAILABLE : FAULT_BAD_INPUT;
}

int fault_exit_code(enum fault fault)
{
	return faults[(unsigned)fault < FAULT_COUNT ? fault : FAULT_INTERNAL].exit;
}

int fault_errno(enum fault fault)
{
	return faults[(unsigned)fault < FAULT_COUNT ? fault : FAULT_INTERNAL].code;
}

enum fault fault_from_errno(int code)
{
	switch (code) {
	case 0:
		return FAULT_NONE;
	case EINVAL:
	case ENAMETOOLONG:
	case ERANGE:
	case E2BIG:
		return FAULT_BAD_INPUT;
	case ENOENT:
	case ESRCH:
		return FAULT_NOT_FOUND;
	case EBUSY:
	case EEXIST:
	case EALREADY:
		return FAULT_CONFLICT;
	case EACCES:
	case EPERM:
	case ENOKEY:
	case EKEYREJECTED:
		return FAULT_DENIED;
	case EOPNOTSUPP:
		return FAULT_REFUSED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EPIPE:
	case EAGAIN:
		return FAULT_UNAVAILABLE;
	case ETIMEDOUT:
		return FAULT_TIMEOUT;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return FAULT_FULL;
	case EBADMSG:
		return FAULT_CORRUPT;
	default:
		return FAULT_INTERNAL;
	}
}

/* Cutting a long message short is fine; an error must never fail. */
static void __attribute__((format(printf, 3, 0))) format_text(char *to, size_t size,
							      const char *format, va_list args)
{
	if (vsnprintf(to, size, format, args) < 0)
		to[0] = '\0';
}

int error_set(struct error *e, int code, const char *format, ...)
{
	if (e) {
		va_list args;
		va_start(args, format);
		*e = (struct error) { .fault = fault_from_errno(code) };
		format_text(e->text, sizeof(e->text), format, args);
		va_end(args);
	}
	return -code;
}

int error_errno(struct error *e, const char *format, ...)
{
	int code = errno ? errno : EIO;
	if (e) {
		va_list args;
		va_start(args, format);
		*e = (struct error) { .fault = fault_from_errno(code) };
		format_text(e->text, sizeof(e->text), format, args);
		va_end(args);
		size_t used = strlen(e->text);
		snprintf(e->text + used, sizeof(e->text) - used, ": %s", strerror(code));
	}
	return -code;
}

int error_fault(struct error *e, enum fault fault, const char *format, ...)
{
	if (e) {
		va_list args;
		va_start(args, format);
		*e = (struct error) { .fault = fault };
		format_text(e->text, sizeof(e->text), format, args);
		va_end(args);
	}
	return -fault_errno(fault);
}

int error_wrap(struct error *e, int r, const char *format, ...)
{
	if (!e)
		return r;
	char inner[sizeof(e->text)];
	memcpy(inner, e->text, sizeof(inner));
	va_list args;
	va_start(args, format);
	format_text(e->text, sizeof(e->text), format, args);
	va_end(args);
	size_t used = strlen(e->text);
	snprintf(e->text + used, sizeof(e->text) - used, ": %s", inner);
	return r;
}

int error_remedy(struct error *e, int r, const char *format, ...)
{
	if (!e || e->remedy[0])
		return r;
	va_list args;
	va_start(args, format);
	format_text(e->remedy, sizeof(e->remedy), format, args);
	va_end(args);
	return r;
}

void error_clear(struct error *e)
{
	if (e)
		*e = ERROR_INIT;
}
