/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_BAR_H
#define ELSA_CLI_BAR_H

/*
 * A line on standard error that tells how far something is; nothing where that
 * is no terminal. Not thread-safe.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

struct bar {
	const char *title;
	bool counts;   /* things, not bytes */
	mono_us begun; /* 0: at the first bar_show() */
	mono_us shown;
};

/* total 0: not known. */
void bar_show(struct bar *bar, int64_t done, int64_t total);
void bar_end(struct bar *bar); /* takes the line away */

/* The line itself, of at most 79 columns, after `us`; pure. */
#define BAR_SIZE 256
const char *bar_text(const struct bar *bar, int64_t done, int64_t total, mono_us us,
		     char to[BAR_SIZE]);

#endif
