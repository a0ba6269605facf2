/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_PRELOAD_TAR_H
#define ELSA_PRELOAD_TAR_H

/*
 * Archives of directories that are empty, as most of a session's tmpfs are: for those no program
 * is started. Such an archive is a header of "./" (POSIX.1-1988, ustar) and two blocks of zeros, as
 * any tar reads and writes it. Both return 0, or -1 when this is for tar itself, with nothing
 * written, read or changed.
 */

/* The open directory `from` into the file `to`. */
int tar_pack_empty(int from, int to);
/* From the file's place on; owner, mode and time of the directory become as they were. */
int tar_unpack_empty(int from, const char *to);

#endif
