/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator_record.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define WANTED "wanted"

enum { HEAD_ROOM = 4096, WANTED_SIZE = 20 << 10 };

static char *file_of(const char *dir, const char *path)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char name[33];
	SHA256((const unsigned char *)path, strlen(path), digest);
	for (size_t i = 0; i < 16; i++)
		snprintf(name + 2 * i, 3, "%02x", digest[i]);
	return fs_join(dir, name);
}

/* The first two lines, which are taken off the body. */
static int split(struct record_answer *a, const char *path)
{
	char *end;
	const char *text = buf_text(&a->body);
	const char *first = strchr(text, '\n');
	const char *second = first ? strchr(first + 1, '\n') : NULL;
	long status = strtol(text, &end, 10);
	if (!second || end[0] != ' ' || status < 200 || status > 599 ||
	    (size_t)(first - end) > sizeof(a->type) ||
	    strlen(path) != (size_t)(second - first - 1) ||
	    memcmp(path, first + 1, strlen(path)) != 0)
		return -EBADMSG;
	a->status = (int)status;
	memcpy(a->type, end + 1, (size_t)(first - end) - 1);
	a->type[first - end - 1] = '\0';
	size_t head = (size_t)(second + 1 - text);
	memmove(a->body.data, second + 1, a->body.len - head + 1);
	a->body.len -= head;
	return 0;
}

int record_read(const char *dir, const char *path, struct record_answer *answer)
{
	cleanup_free char *file = file_of(dir, path);
	*answer = (struct record_answer) { .body = BUF_INIT(RECORD_BODY_MOST + HEAD_ROOM) };
	int r = file ? fs_read(file, &answer->body, NULL) : -ENOMEM;
	if (r == 0)
		r = split(answer, path);
	if (r < 0)
		buf_deinit(&answer->body);
	return r;
}

int record_write(const char *dir, const char *path, int status, const char *type, const char *body,
		 size_t len, struct error *e)
{
	cleanup_free char *file = file_of(dir, path);
	cleanup_buf struct buf all = BUF_INIT(RECORD_BODY_MOST + HEAD_ROOM);
	int r = file ? 0 : -ENOMEM;
	if (strpbrk(path, "\r\n") || strlen(type) >= RECORD_TYPE_SIZE || strpbrk(type, "\r\n"))
		return error_set(e, EINVAL, "an answer that cannot be recorded");
	if (r == 0)
		r = buf_printf(&all, "%d %s\n%s\n", status, type, path);
	if (r == 0)
		r = buf_append(&all, body, len);
	if (r < 0)
		return error_set(e, -r, "cannot record an answer");
	return fs_replace_soon(file, buf_text(&all), all.len, 0600, e);
}

void record_wanted(const char *dir, struct buf *to)
{
	cleanup_free char *file = fs_join(dir, WANTED);
	if (!file || fs_read(file, to, NULL) < 0)
		buf_reset(to);
}

static bool is_line_of(const struct buf *lines, const char *path)
{
	size_t len = strlen(path);
	for (const char *p = buf_text(lines); (p = strstr(p, path)); p += len)
		if ((p == lines->data || p[-1] == '\n') && p[len] == '\n')
			return true;
	return false;
}

/* The newest are kept. */
void record_want(const char *dir, const char *path)
{
	cleanup_buf struct buf lines = BUF_INIT(WANTED_SIZE);
	cleanup_free char *file = fs_join(dir, WANTED);
	int count = 0;
	if (!file || !*path || strpbrk(path, "\r\n"))
		return;
	record_wanted(dir, &lines);
	if (is_line_of(&lines, path))
		return;
	const char *from = buf_text(&lines);
	for (const char *p = from; (p = strchr(p, '\n')); p++)
		count++;
	for (; count >= RECORD_WANTED_MOST; count--)
		from = strchr(from, '\n') + 1;
	cleanup_free char *all = str_printf("%s%s\n", from, path);
	if (all)
		fs_replace_soon(file, all, strlen(all), 0600, NULL);
}

void record_want_all(const char *dir, const char *lines)
{
	cleanup_free char *file = fs_join(dir, WANTED);
	if (file)
		fs_replace_soon(file, lines, strlen(lines), 0600, NULL);
}
