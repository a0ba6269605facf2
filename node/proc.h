/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PROC_H
#define ELSA_NODE_PROC_H

/*
 * Processes by identity. A pid alone names nothing: it is used again after its
 * process is gone. A pid with its start time, on one boot of the machine, does.
 * Thread-safe.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BOOT_ID_SIZE 40

/* The kernel's id of this boot. 0 or negative. */
int proc_boot_id(char to[BOOT_ID_SIZE], struct error *e);

/* Start time in clock ticks since boot: field 22 of /proc/PID/stat. -ESRCH when there is none. */
int proc_start_time(pid_t pid, uint64_t *ticks);
int proc_parse_stat(const char *text, char *state,
		    uint64_t *ticks); /* 0 or -EINVAL; for the above */

/* It exists, is the one that was meant, and is no zombie. */
bool proc_is(pid_t pid, uint64_t ticks);

/* A pidfd of just that process, close-on-exec; -ESRCH when it is gone or another one by now. */
int proc_open(pid_t pid, uint64_t ticks);

/* Calls `each` for every process that has these two arguments one after the other on its command
 * line. Nonzero from `each` stops and is returned. */
int proc_each_with_args(const char *first, const char *second, int (*each)(pid_t pid, void *arg),
			void *arg);

#endif
