/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_AREA_H
#define ELSA_NODE_DOZE_AREA_H

/*
 * Where the memory of dozing sessions goes ([doze] in the configuration): a swap
 * area that elsa-node makes when the first session is to doze, or the machine's
 * own. What was made, or was about to be, is noted in RUN_DIR/doze.json first, so
 * that a killed elsa-node finds it again and goes on; `elsa-node teardown` removes
 * it. A reboot leaves nothing of it: of a file only bytes whose key is gone.
 *
 * Blocking, for worker threads and programs without a loop, unless said otherwise;
 * thread-safe.
 */

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct node;

/* 0 when it is there; made now if it is not. */
int doze_area_make(struct node *node, struct error *e);
/* Whether it could be, as far as that is seen without making anything; with the remedy. */
int doze_area_check(const struct config *config, struct error *e);
/* At the start of the program: what an earlier configuration has made goes, unless there is more
 * in it than is soon taken back. `dozing`: or anything at all, for some session dozes. */
void doze_area_tidy(struct node *node, bool dozing);
/* What was made is taken away; what is in it goes back into memory first. */
int doze_area_remove(const struct config *config, struct error *e);

struct doze_area {
	int64_t room_bytes;   /* what more can be paged out */
	int64_t out_bytes;    /* what is, of whomever */
	int64_t stored_bytes; /* memory that this takes all the same: zram's; 0 */
};
/* Never long. One that is still to be made has its whole size as room. */
void doze_area_look(const struct node *node, struct doze_area *to);

/* --- for node/doze_*.c and their tests --- */

struct doze_record {
	char *boot_id;
	char *kind;         /* "zram", "file" */
	char *name;         /* "zram1"; of a file, the device mapper's */
	int64_t size_bytes; /* that it was made with */
	bool added;         /* zram: the device is ours, too */
};

/* Notes `record` as what is about to be made. */
typedef int doze_note(const struct config *config, const struct doze_record *record,
		      struct error *e);

/* Each makes a block device of `record->size_bytes`, noted first, and gives its path; a record with
 * a name is one that was begun. Closing one that is not there is fine. */
int doze_zram_open(const struct config *config, struct doze_record *record, doze_note *note,
		   char **path, struct error *e);
int doze_zram_close(const struct doze_record *record, struct error *e);
int doze_zram_check(struct error *e);
int64_t doze_zram_stored(const char *name);
char *doze_zram_path(const char *name);

int doze_file_open(const struct config *config, struct doze_record *record, doze_note *note,
		   char **path, struct error *e);
int doze_file_close(const struct config *config, const struct doze_record *record, struct error *e);
int doze_file_check(struct error *e);
char *doze_file_path(const char *name);

/* One line of /proc/swaps. */
struct doze_swap {
	char path[256]; /* as the kernel writes it: of the root of whoever made it */
	int64_t size_bytes, used_bytes;
};
/* The next line of `text`, which is moved behind it; false at the end. What is no such line is
 * passed over. */
bool doze_swap_next(const char **text, struct doze_swap *to);

#endif
