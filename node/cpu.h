/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CPU_H
#define ELSA_NODE_CPU_H

/*
 * What a processor can do, as far as programs can have noticed. A session that
 * found a feature at its start goes on using it after a restore: on a processor
 * without it that is SIGILL, minutes later, in somebody's cell. So a checkpoint
 * carries the list, and a node that lacks any of it refuses.
 *
 * The form: "x86_64 xsave=2440 aes avx avx2 ...", sorted; the first word is the
 * machine, "xsave=" the size of the register area that the kernel saves.
 * Thread-safe; strings are the caller's to free.
 */

#include "base/error.h"

/* From the text of /proc/cpuinfo; xsave_bytes 0: not known. NULL when out of memory. */
char *cpu_features_of(const char *machine, const char *cpuinfo, unsigned xsave_bytes);

/* Of the processor we run on. 0 or negative. */
int cpu_features(char **features, struct error *e);

/* "model name" of the processor for people; allocated, or NULL. */
char *cpu_model(void);

/* What of `needed` is not in `have`, as a list for people, "avx512f, amx_tile"; NULL when nothing.
 * An empty or NULL `needed` needs nothing. policies/features.h compares. */
char *cpu_missing(const char *needed, const char *have);

#endif
