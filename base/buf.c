/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int reserve(struct buf *b, size_t more)
{
	if (more > b->cap - b->len)
		return -ENOBUFS;
	size_t need = b->len + more + 1;
	if (need <= b->size)
		return 0;
	size_t size = b->size ? b->size : 64;
	while (size < need)
		size *= 2;
	char *data = realloc(b->data, size);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->size = size;
	return 0;
}

int buf_extend(struct buf *b, size_t len, void **at)
{
	int r = reserve(b, len);
	if (r < 0)
		return r;
	*at = b->data + b->len;
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
	void *at;
	int r = buf_extend(b, len, &at);
	if (r == 0 && len)
		memcpy(at, data, len);
	return r;
}

int buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return -EINVAL;
	int r = reserve(b, (size_t)len);
	if (r < 0)
		return r;
	va_start(args, format);
	vsnprintf(b->data + b->len, (size_t)len + 1, format, args);
	va_end(args);
	b->len += (size_t)len;
	return 0;
}

const char *buf_text(const struct buf *b)
{
	return b->data ? b->data : "";
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = '\0';
}

char *buf_steal(struct buf *b)
{
	char *data = b->data ? b->data : strdup("");
	*b = BUF_INIT(b->cap);
	return data;
}

void buf_deinit(struct buf *b)
{
	free(b->data);
	*b = BUF_INIT(b->cap);
}
