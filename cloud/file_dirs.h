/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_FILE_DIRS_H
#define ELSA_CLOUD_FILE_DIRS_H

/*
 * The directories of a file store in which names are being made, kept open. A
 * name is durable once its directory has been fsynced, and that directory's own
 * name, and so on up: what a directory here owes to those above was done when
 * it was opened, so that a new name costs one fsync.
 *
 * Being open is what makes this safe against removal by anybody: a name cannot
 * be made in a directory that has been removed (ENOENT), whatever has got its
 * path since. For cloud/file*.c; thread-safe.
 */

#include <stdbool.h>

struct file_dirs;
struct file_dir;

/* Opens the root. All return 0, or -1 with errno. */
int file_dirs_new(const char *root, struct file_dirs **dirs);
void *file_dirs_free(struct file_dirs *dirs); /* nobody may be within; returns NULL */

int file_dirs_root(const struct file_dirs *dirs); /* its descriptor */

/* Whether the root's path still leads to it: ENODEV when it does not, because a file system was
 * mounted there, or unmounted, or the directory is gone. */
int file_dirs_check(const struct file_dirs *dirs);

/* `path` is below the root ("" is the root); it is made where it is missing, and its name is
 * durable. ENOENT, ESTALE: somebody has just removed it; enter again. */
int file_dirs_enter(struct file_dirs *dirs, const char *path, struct file_dir **dir);
int file_dir_fd(const struct file_dir *dir);
/* gone: it turned out to have been removed. NULL is fine. */
void file_dirs_leave(struct file_dirs *dirs, struct file_dir *dir, bool gone);

#endif
