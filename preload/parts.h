/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_PRELOAD_PARTS_H
#define ELSA_PRELOAD_PARTS_H

/* Between the parts of elsa-criu.so. */

/* CRIU calls it in place of the C library's. */
#define INTERPOSED __attribute__((visibility("default")))

/* `path`: see CRIU_UNSEEN. */
void memory_begin(const char *path);
void script_begin(void);
int script_tell(const char *line); /* to elsa-node */
/* ... and waits for its word: 0 for a "yes". */
int script_ask(const char *question);

#endif
