/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_FS_H
#define ELSA_BASE_FS_H

/*
 * Files: whole reads with a cap, durable replacement, trees. Paths are
 * borrowed. All return 0 or a negative errno with *e filled in. Thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Appends the whole file to `to`; -ENOBUFS when it is larger than to->cap. */
int fs_read(const char *path, struct buf *to, struct error *e);

/* Replaces `path` so that after a crash at any moment it is either the old or the new content,
 * whole: temporary file beside it, fsync, rename, fsync of the directory. */
int fs_replace(const char *path, const void *data, size_t len, mode_t mode, struct error *e);

/* The same against a kill of this program, not against a power cut: nothing is waited for. */
int fs_replace_soon(const char *path, const void *data, size_t len, mode_t mode, struct error *e);

/* All of it, whatever write(2) makes of it; -1 and errno. */
int fs_write_all(int fd, const char *data, size_t len);

/* Up to `len` bytes, fewer only at the end; -1 and errno. */
ssize_t fs_read_up_to(int fd, void *to, size_t len);

/* Plain write to an existing file (/proc, /sys, cgroups): one write(2), no creation. */
int fs_write(const char *path, const char *text, struct error *e);

/* mkdir -p; the last component gets `mode`, parents 0755. An existing directory is fine. */
int fs_mkdirs(const char *path, mode_t mode, struct error *e);

int fs_sync_dir(const char *path, struct error *e);

/* rm -rf, not following symbolic links and not crossing into other mounts. A missing path is fine.
 */
int fs_remove_tree(const char *path, struct error *e);

/* Bytes in use below `path` (st_blocks), mounts not crossed. */
int fs_tree_bytes(const char *path, uint64_t *bytes, struct error *e);

/* "a/b" into a new string the caller frees; NULL when out of memory. */
char *fs_join(const char *a, const char *b);

/* Formatted path or string, allocated; NULL when out of memory. */
char *str_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
