/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "preload/tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512 };

struct archive {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], device[2][8], prefix[155];
	char rest[12 + 2 * BLOCK];
};
_Static_assert(sizeof(struct archive) == 3 * BLOCK, "a header and two blocks");

/* Digits and a NUL fill the field. */
static bool put(char *to, size_t size, long long value)
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%0*llo", (int)size - 1, value);
	if (value < 0 || (size_t)n >= size)
		return false;
	memcpy(to, digits, size);
	return true;
}

static bool make(struct archive *a, const struct stat *st)
{
	*a = (struct archive) { .name = "./", .type = '5', .magic = "ustar", .version = "00" };
	memset(a->sum, ' ', sizeof(a->sum));
	bool fits = put(a->mode, sizeof(a->mode), st->st_mode & 07777) &&
		    put(a->uid, sizeof(a->uid), st->st_uid) &&
		    put(a->gid, sizeof(a->gid), st->st_gid) && put(a->size, sizeof(a->size), 0) &&
		    put(a->mtime, sizeof(a->mtime), st->st_mtime);
	long sum = 0;
	for (size_t i = 0; i < BLOCK; i++)
		sum += ((const unsigned char *)a)[i];
	return fits && put(a->sum, sizeof(a->sum) - 1, sum);
}

static bool is_empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int count = 0;
	if (!d)
		return false;
	while (count <= 2 && readdir(d))
		count++;
	closedir(d);
	return count == 2;
}

int tar_pack_empty(int from, int to)
{
	struct stat st;
	struct archive a;
	if (fstat(from, &st) < 0 || !S_ISDIR(st.st_mode) || !is_empty(from) || !make(&a, &st))
		return -1;
	return write(to, &a, sizeof(a)) == sizeof(a) ? 0 : -1;
}

/* What is in a field that put() has filled. */
static long long get(const char *from, size_t size)
{
	char digits[24] = "";
	memcpy(digits, from, size);
	return strtoll(digits, NULL, 8);
}

/* It is one of ours, to the last byte. */
static bool read_empty(int from, struct stat *st)
{
	char more[sizeof(struct archive) + 1];
	struct archive a, same;
	off_t at = lseek(from, 0, SEEK_CUR);
	if (at < 0 || pread(from, more, sizeof(more), at) != sizeof(a))
		return false;
	memcpy(&a, more, sizeof(a));
	*st = (struct stat) { .st_mode = (mode_t)get(a.mode, sizeof(a.mode)),
			      .st_uid = (uid_t)get(a.uid, sizeof(a.uid)),
			      .st_gid = (gid_t)get(a.gid, sizeof(a.gid)),
			      .st_mtime = (time_t)get(a.mtime, sizeof(a.mtime)) };
	return make(&same, st) && memcmp(&a, &same, sizeof(a)) == 0;
}

int tar_unpack_empty(int from, const char *to)
{
	struct stat st;
	if (!read_empty(from, &st))
		return -1;
	int dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = st.st_mtime } };
	int r = dir >= 0 && fchown(dir, st.st_uid, st.st_gid) == 0 &&
				fchmod(dir, st.st_mode) == 0 && futimens(dir, times) == 0
			? 0
			: -1;
	if (dir >= 0)
		close(dir);
	return r;
}
