/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/tar.h"

#include "base/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

enum { BLOCK = 64 << 10 };

struct tar {
	struct archive *archive;
	struct archive_entry *entry;
};

static int fail(struct tar *t, const char *doing, struct error *e)
{
	int code = archive_errno(t->archive);
	const char *why = archive_error_string(t->archive);
	/* libarchive has numbers of its own for what is wrong with the archive. */
	return error_set(e, code > 0 ? code : EBADMSG, "cannot %s the archive: %s", doing,
			 why ? why : "it is not one");
}

static int fail_read(struct tar *t, struct error *e)
{
	const char *why = archive_error_string(t->archive);
	if (archive_errno(t->archive) == EIO)
		return fail(t, "read", e);
	return error_set(e, EBADMSG, "cannot read the archive: %s", why ? why : "it is not one");
}

int tar_write_open(int fd, struct tar **tar, struct error *e)
{
	struct tar *t = calloc(1, sizeof(*t));
	if (t)
		t->archive = archive_write_new();
	if (t)
		t->entry = archive_entry_new();
	if (!t || !t->archive || !t->entry) {
		tar_free(t);
		return error_set(e, ENOMEM, "out of memory");
	}
	if (archive_write_set_format_pax_restricted(t->archive) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(t->archive, BLOCK) != ARCHIVE_OK ||
	    archive_write_open_fd(t->archive, fd) != ARCHIVE_OK) {
		int r = fail(t, "write", e);
		tar_free(t);
		return r;
	}
	*tar = t;
	return 0;
}

int tar_read_open(int fd, struct tar **tar, struct error *e)
{
	struct tar *t = calloc(1, sizeof(*t));
	if (t)
		t->archive = archive_read_new();
	if (!t || !t->archive) {
		tar_free(t);
		return error_set(e, ENOMEM, "out of memory");
	}
	if (archive_read_support_format_tar(t->archive) != ARCHIVE_OK ||
	    archive_read_open_fd(t->archive, fd, BLOCK) != ARCHIVE_OK) {
		int r = fail_read(t, e);
		tar_free(t);
		return r;
	}
	*tar = t;
	return 0;
}

void *tar_free(struct tar *t)
{
	if (!t)
		return NULL;
	/* A reader's entries are the archive's own. */
	if (t->entry)
		archive_entry_free(t->entry);
	if (t->archive)
		archive_free(t->archive);
	free(t);
	return NULL;
}

int tar_write_end(struct tar *t, struct error *e)
{
	return archive_write_close(t->archive) == ARCHIVE_OK ? 0 : fail(t, "write", e);
}

int tar_entry(struct tar *t, const char *name, uint64_t size, struct error *e)
{
	archive_entry_clear(t->entry);
	archive_entry_set_pathname(t->entry, name);
	archive_entry_set_size(t->entry, (la_int64_t)size);
	archive_entry_set_filetype(t->entry, AE_IFREG);
	archive_entry_set_perm(t->entry, 0600);
	return archive_write_header(t->archive, t->entry) == ARCHIVE_OK ? 0 : fail(t, "write", e);
}

int tar_write(struct tar *t, const void *data, size_t len, struct error *e)
{
	la_ssize_t n = archive_write_data(t->archive, data, len);
	return n == (la_ssize_t)len ? 0 : fail(t, "write", e);
}

int tar_next(struct tar *t, const char **name, uint64_t *size, struct error *e)
{
	struct archive_entry *entry;
	int r = archive_read_next_header(t->archive, &entry);
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK)
		return fail_read(t, e);
	*name = archive_entry_pathname(entry);
	if (!*name || archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
	    !archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0)
		return error_set(e, EBADMSG, "the archive holds what is not a file");
	*size = (uint64_t)archive_entry_size(entry);
	return 1;
}

int tar_read(struct tar *t, void *to, size_t len, struct error *e)
{
	for (size_t done = 0; done < len;) {
		la_ssize_t n = archive_read_data(t->archive, (char *)to + done, len - done);
		if (n < 0)
			return fail_read(t, e);
		if (n == 0)
			return error_set(e, EBADMSG, "the archive ends early");
		done += (size_t)n;
	}
	return 0;
}
