/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_CLEANUP_H
#define ELSA_BASE_CLEANUP_H

/*
 * Scope-bound ownership. A variable with a `cleanup_*` attribute starts out
 * empty (NULL or -1), is released when its scope ends, and gives its value
 * away with steal_ptr() or steal_fd().
 *
 *	cleanup_fd int fd = open(...);
 *	...
 *	return steal_fd(&fd);
 */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(f)   __attribute__((cleanup(f)))
#define cleanup_free cleanup(cleanup_free_ptr)
#define cleanup_fd   cleanup(cleanup_close_fd)
#define cleanup_file cleanup(cleanup_close_file)
#define cleanup_dir  cleanup(cleanup_close_dir)

static inline void cleanup_free_ptr(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Defines cleanup_NAME's function for a type whose free function takes a pointer and returns void
 * or NULL: DEFINE_CLEANUP(struct job *, job_free) gives cleanup(job_freep). */
#define DEFINE_CLEANUP(type, function)                                                             \
	static inline void function##p(type *p) /* NOLINT(bugprone-macro-parentheses) */           \
	{                                                                                          \
		if (*p)                                                                            \
			function(*p);                                                              \
	}

static inline void *steal_pointer(void *p)
{
	void *value = *(void **)p;
	*(void **)p = NULL;
	return value;
}
#define steal_ptr(p) ((__typeof__(*(p)))steal_pointer(p))

static inline int steal_fd(int *fd)
{
	int value = *fd;
	*fd = -1;
	return value;
}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
