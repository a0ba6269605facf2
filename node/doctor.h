/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOCTOR_H
#define ELSA_NODE_DOCTOR_H

/*
 * What a machine lacks for sessions to be checkpointed on it, in plain words,
 * each with its remedy. Most of it is found by doing it: an overlay is mounted,
 * a namespace with a link made, and a small session with sockets is put to
 * sleep and woken again. Nothing of that stays, and sessions that run are not
 * touched.
 *
 * For the main thread of a program that ends afterwards: the process is moved
 * into namespaces of its own.
 */

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdio.h>

/* 0 when sessions can be checkpointed here; else negative, FAULT_REFUSED, with what is missing. */
int doctor_run(const struct config *config, bool json, FILE *out, struct error *e);

/* The rest is for node/doctor*.c and their test. */

enum doctor_level {
	DOCTOR_REQUIRED, /* without it there are no checkpoints */
	DOCTOR_ADVISED,  /* without it something is slower, or a feature is missing */
};

struct doctor_check {
	const char *name; /* static */
	enum doctor_level level;
	bool ok;
	char text[512];   /* what was found */
	char remedy[512]; /* empty when ok */
};

#define DOCTOR_CHECKS_MAX 40

struct doctor {
	const struct config *config;
	struct doctor_check checks[DOCTOR_CHECKS_MAX];
	size_t count;
};

/* Adds a finding and gives it for its remedy to be set; never NULL. */
struct doctor_check *doctor_add(struct doctor *d, const char *name, enum doctor_level level,
				bool ok, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void doctor_remedy(struct doctor_check *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A finding from the outcome of a function; `good` is the text for success. */
void doctor_add_result(struct doctor *d, const char *name, enum doctor_level level, int r,
		       const struct error *e, const char *good);

bool doctor_ok(const struct doctor *d); /* nothing that is required is missing */
void doctor_print(const struct doctor *d, FILE *out);
int doctor_print_json(const struct doctor *d, FILE *out);

/* Why a CRIU of this version cannot work on this kernel ("6.18.4-amd64"), or NULL; pure. */
const char *doctor_criu_problem(const char *criu, const char *kernel);

void doctor_check_machine(struct doctor *d);  /* kernel, rights, cgroups, programs, settings */
void doctor_check_doze(struct doctor *d);     /* where the memory of dozing sessions would go */
void doctor_check_identity(struct doctor *d); /* of a node that joins elsad on another host */
void doctor_check_sessions(struct doctor *d); /* image, disk */
void doctor_check_trial(struct doctor *d);    /* sandbox, network, CRIU, by trying */
/* Of the trial, in its network namespace: what it takes to sleep unseen. */
void doctor_check_asleep(struct doctor *d);

#endif
