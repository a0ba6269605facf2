/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_UNIT_PAGES_WORLD_H
#define ELSA_TESTS_UNIT_PAGES_WORLD_H

/*
 * A session for the page service: processes of which every page is known, and a
 * checkpoint of them in memory. Processes are this same program, executed anew: a
 * fork of a program with threads may not have threads itself.
 *
 * A page has an id: 0 is zeros, otherwise every word of it follows from the id.
 */
#include "base/cleanup.h"
#include "node/pages.h"

#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	PAGE = STORE_PAGE,
	CHUNK = 64,  /* pages; what is moved and unmapped */
	CHUNKS = 64, /* places for chunks, of which */
	MAPPED = 40, /* ... are mapped from the start */
	PAGES = MAPPED * CHUNK,
	SPACE = CHUNKS * CHUNK,
	FRAMES = PAGES / STORE_FRAME_PAGES,
	EAGER = 3, /* this chunk has been restored before */
};
/* Free with and without sanitizers. */
#define BASE UINT64_C(0x7e9000000000)

enum { PROCESSES = 2 };
extern const int32_t pids[PROCESSES];

uint64_t original(size_t process, uint64_t page); /* its id in the checkpoint */
uint64_t random_below(uint64_t *seed, uint64_t below);

/* Shared by all programs. */
struct control {
	_Atomic int delay_us;  /* of each read */
	_Atomic int fail;      /* errno of each read; 0 */
	_Atomic int bad;       /* this frame is damaged; -1 */
	_Atomic int hang;      /* reads do not return, */
	_Atomic int hang_many; /* ... or those of more than a frame */
	_Atomic int reads, hanging;
	_Atomic int freed;
	_Atomic uint32_t frames_read;
};

/* Neither in order nor in place. */
uint32_t frame_of(size_t process, uint64_t page);
void make_checkpoint(struct control *control, struct page_source *source);

/* As CRIU's restorer makes one; -1. And hands it over. */
int make_userfaultfd(void);
void send_descriptor(int to, int fd);

/* The program of a process. Descriptor 0: orders, of which obey() has the list; 3: CRIU's socket.
 */
int session_main(size_t number);

#endif
