/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CRIU_H
#define ELSA_NODE_CRIU_H

/*
 * CRIU as a child process, with everything a Jupyter session holds. Blocking,
 * for worker threads.
 */

#include "base/error.h"
#include "node/sandbox.h"

#include <stdbool.h>
#include <sys/types.h>

struct criu_options {
	const char *program;
	int timeout_ms;
	const char *images;  /* directory of the images */
	const char *work;    /* directory for logs and pid files, not part of the checkpoint */
	volatile pid_t *pid_out;
};

/* What this CRIU on this kernel can do; found once, by asking it. */
struct criu_features {
	char version[32];
	bool mem_dirty_track;
	bool lazy_pages;
	bool needs_real_ids; /* no CAP_SYS_RESOURCE: run it with the session's real uid (docs/criu.md) */
};
int criu_probe(const char *program, struct criu_features *to, struct error *e);

/* The sandbox is frozen and held. Afterwards its processes are as before: frozen. A refusal is
 * FAULT_REFUSED with CRIU's own reason and ours in *e; log_tail (allocated, may be NULL) has the last
 * lines of its log. */
int criu_dump(struct sandbox *sb, pid_t init, const struct criu_features *features,
	const struct criu_options *options, char **log_tail, struct error *e);

/* The sandbox is prepared, held and mounted. The restored processes are stopped or frozen until
 * sandbox_thaw(), already in the session's cgroups. */
int criu_restore(struct sandbox *sb, const struct criu_features *features,
	const struct criu_options *options, pid_t *init, char **log_tail, struct error *e);

/* CRIU's log to the reason a person can use: pure text in, text out (allocated), unit-tested with
 * recorded logs. NULL when nothing is recognized. */
char *criu_explain(const char *log);

#endif
