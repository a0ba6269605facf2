/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_FEATURES_H
#define ELSA_POLICIES_FEATURES_H

/*
 * Lists of a processor's features as node/cpu.h writes them, compared. Pure
 * and thread-safe.
 */

#include <stddef.h>

/*
 * How many words of `needed` are not in `have`; NULL is the empty list. A
 * larger "xsave=" holds a smaller one, every other word must be there as it is.
 * Into `missing` (NULL: not wanted; it has at least one byte) they come as a
 * list for people, "avx512f, amx_tile"; of those that find no room, "..."
 * remains where it does.
 */
size_t features_missing(const char *needed, const char *have, char *missing, size_t size);

#endif
