/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_UNIT_PAGES_KIT_H
#define ELSA_TESTS_UNIT_PAGES_KIT_H

/*
 * The page service over a session of pages_world.h, with real userfaultfds of real
 * processes and a real elsa-init with the vault: in this program, or in one of its
 * own that can be killed. One session at a time, from set_up to tear_down.
 */
#include "tests/unit/pages_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>

extern struct world {
	char dir[64]; /* CRIU's work directory, and the service's */
	struct control *control;
	pid_t init;
	int init_orders;
	pid_t process[PROCESSES];
	int orders[PROCESSES];
	struct pages *pages;
	_Atomic int arrived;
	int sources; /* made here */
	uint32_t likely[3];
	size_t likely_count;
} w;

/* cmocka's. */
int set_up(void **state);
int tear_down(void **state);

/* Orders for a process (see obey()) and its answers. */
void ask(size_t process, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is_answered(size_t process, int timeout_ms);
void expect(size_t process, const char *answer);
void do_it(size_t process, const char *line);

/* What CRIU does. */
int connect_as_criu(void);
void restore_processes(void);

/* The service in this program. */
struct pages_options options(void);
void listen_only(void);
void settle(void);
void wake_up(void);
/* ... whose reads do not return until the test lets them. */
void wake_up_hanging(void);
void wait_hanging(int reads);
/* False when there is nothing left to do. */
bool resume(void);
void wait_all_in(void);
void wait_stalled(const char *text);
/* When nobody serves them any more, all they touch would be zeros if it were not there. */
void let_go_and_check(void);

/* How much the vault holds; not while the service looks into it. */
int in_vault(void);

/* The service in a program of its own, which tells what has happened: "listening", "serving",
 * "complete", "arrived". Other modes than "serve" and "resume" are for the test's main. */
struct service {
	pid_t pid;
	int told;
};
struct service start_service(const char *mode);
struct service serve_and_restore(void);
void kill_service(struct service *s);
const char *hear(const struct service *s, int timeout_ms); /* or "" */

void end_process(pid_t pid);
void must(int r, const struct error *e);

/* The program: a process of the session, the service, or `run`. */
int pages_main(int argc, char **argv, int (*run)(void));

#endif
