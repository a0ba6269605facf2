/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ROOTFS_H
#define ELSA_NODE_ROOTFS_H

/*
 * The writable layer over a session's image: what must be there before its
 * first process, and what must not be seen from inside.
 *
 * Everything here is written into `upper` from outside, before the overlay is
 * mounted, and left alone when it is there already: a restored layer comes
 * with its files, and CRIU checks those that are open.
 */

#include "node/sandbox.h"

/* Paths inside. The init program must live inside, since CRIU looks up the executable of every
 * process in the session's own mounts; so must the log, as everything that is open. */
#define ROOTFS_OWN  "/.elsa"
#define ROOTFS_INIT ROOTFS_OWN "/init"
#define ROOTFS_LOG  ROOTFS_OWN "/log"

int rootfs_prepare(const struct sandbox *sb, struct error *e);

/* The overlay at sb->root. No-op when it is there. */
int rootfs_mount(const struct sandbox *sb, struct error *e);
int rootfs_unmount(const struct sandbox *sb, struct error *e);

/* Is something mounted exactly at `path`? */
bool rootfs_is_mount(const char *path);

/* A host or account name made of `text`, which may be anything; pure. */
#define ROOTFS_NAME_SIZE 33
void rootfs_plain_name(const char *text, char to[ROOTFS_NAME_SIZE]);

/* The lines of /etc/passwd or /etc/group with the account added where its number is missing;
 * pure. Allocated; NULL: nothing to add. -ENOMEM or 0. */
int rootfs_add_account(const char *passwd, const char *name, const struct session_spec *spec,
		       char **to);
int rootfs_add_group(const char *group, const char *name, int64_t gid, char **to);

#endif
