/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CRIU_H
#define ELSA_NODE_CRIU_H

/*
 * CRIU as a child process, with everything a Jupyter session holds. Blocking,
 * for worker threads. docs/criu.md says what was learnt about driving it.
 */

#include "base/error.h"
#include "node/sandbox.h"

#include <stdbool.h>
#include <sys/types.h>

/* What this CRIU on this kernel can do; found once, by asking it. */
struct criu_features {
	char version[32];
	bool mem_dirty_track;
	bool lazy_pages;     /* userfaultfd tells of forks, moved and unmapped memory */
	bool pagemap_scan;   /* it asks the kernel for pages in a way that node/unseen.h knows */
	bool needs_real_ids; /* no CAP_SYS_RESOURCE: run it with the session's real uid
				(docs/criu.md) */
};
int criu_probe(const char *program, struct criu_features *to, struct error *e);

/* Whether images of `wrote` can be read by CRIU `ours`: it reads its own and older ones. Versions
 * that cannot be read as numbers are let through. */
bool criu_version_reads(const char *ours, const char *wrote);

struct criu_options {
	const char *program;
	const struct criu_features *features;
	int timeout_ms;
	bool lazy; /* of a restore: memory that can be lazy is left to who listens in `work`
		    * (node/pages.h). Of a dump: the images only say where it is, and it is read
		    * from the processes (node/depart_memory.h) */
	const char *images; /* directory of the images; must exist */
	const char *work;   /* directory for logs and the like, not part of the checkpoint; made */
	int page_socket; /* of a dump: memory goes there (node/page_sink.h) instead of into images;
			  * criu_dump() closes it in any case, at the latest when the images are
			  * complete. 0: none. Of a lazy dump CRIU would answer for memory there
			  * until the other end is closed: that is to be done before it is let go of
			  */
	const char *unseen; /* of a dump that criu_stays_frozen(): a file that says which memory it
			     * is not to see (node/unseen.h). NULL: it sees all */
	/* When timeout_ms of a dump are over, before CRIU is killed as long after that, which the
	 * processes may not survive: makes whoever takes the memory fail. May be NULL. */
	void (*give_up)(void *arg);
	/* Of a restore, asked now and then: nothing will come of it, CRIU is killed. May be NULL.
	 */
	bool (*is_vain)(void *arg);
	void *arg;
	/* One that was loaded for this: see criu_load_dump(). Taken over. May be NULL, or point to
	 * NULL. */
	struct criu_run **loaded;
};

/*
 * To be loaded takes CRIU as long as much of its work does, and the session stands still meanwhile.
 * One that is loaded before waits, without having looked at the session or at any file that has to
 * do with it. criu_dump() and criu_restore() take it if it was loaded for the same options (it need
 * not be: images may come later), and end it if not. A dump must be one with `unseen`. *loaded is
 * NULL where it cannot be known yet what it is to be loaded for; also on failure.
 */
struct criu_run;
int criu_load_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
		   struct criu_run **loaded, struct error *e);
int criu_load_restore(struct sandbox *sb, const struct criu_options *options,
		      struct criu_run **loaded, struct error *e);
void *criu_unload(struct criu_run *loaded); /* ends it, waits for that; returns NULL */

/*
 * A dump in two parts. The sandbox is frozen, its packets are held. criu_dump() returns when the
 * images are complete, with CRIU still holding the processes; the sandbox is frozen again by then,
 * so that they do not run on whatever becomes of CRIU or of us. Then either
 *
 * - criu_dump_keep(): the checkpoint is good, the processes are about to be killed. What CRIU has
 * put into the session's file systems (links to files that were deleted while open) stays there for
 *   the restore. Or
 * - criu_dump_abandon(): the processes are as before, frozen, and nothing is left of CRIU.
 *
 * Each frees the dump and returns NULL. A refusal is FAULT_REFUSED with CRIU's own reason and ours
 * in *e, and the processes are whole, frozen or not: thaw them; log_tail (allocated, may be NULL)
 * has the last lines of its log.
 */
int criu_dump(struct sandbox *sb, pid_t init, const struct criu_options *options,
	      struct criu_run **dump, char **log_tail, struct error *e);
void *criu_dump_keep(struct criu_run *dump);
void *criu_dump_abandon(struct criu_run *dump);

/* Whether no process of a frozen sandbox runs until CRIU has all of them in its hands. */
int criu_stays_frozen(const struct sandbox *sb, bool *frozen, struct error *e);

/* The sandbox is prepared, held and mounted. The restored processes are frozen until
 * sandbox_thaw(), already in the session's cgroups; not one instruction of theirs has run. */
int criu_restore(struct sandbox *sb, const struct criu_options *options, pid_t *init,
		 char **log_tail, struct error *e);

/* After a kill of this program: ends what a CRIU of then with this work directory still does. A
 * dump is abandoned in CRIU's own way (with images not yet complete it is waited for, up to
 * timeout_ms); a restore is killed. The sandbox's processes are frozen, or dead by the next
 * sandbox_kill(). */
int criu_end_orphans(const char *work, int timeout_ms, struct error *e);

/* The same behind the commit of a dump, as criu_dump_keep(). */
void criu_kill_orphans(const char *work);
/* Whether a CRIU of an earlier life of this program works in that directory. */
bool criu_has_orphans(const char *work);

/* CRIU's log to the reason a person can use: pure text in, text out (allocated), unit-tested with
 * recorded logs. NULL when nothing is recognized. */
char *criu_explain(const char *log);

/* The line of the log that says what went wrong first, without CRIU's marks; allocated, or NULL. */
char *criu_first_error(const char *log);

/* The last `lines` lines; points into `log`. */
const char *criu_log_tail(const char *log, int lines);

#endif
