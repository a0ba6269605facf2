/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/criu_run.h"

#include "base/cleanup.h"
#include "io/job.h"

#include <cap-ng.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool criu_version_reads(const char *ours, const char *wrote)
{
	int a[2], b[2];
	if (!ours || !wrote || sscanf(ours, "%d.%d", &a[0], &a[1]) != 2 ||
	    sscanf(wrote, "%d.%d", &b[0], &b[1]) != 2)
		return true;
	return a[0] != b[0] ? a[0] > b[0] : a[1] >= b[1];
}

static int read_version(const char *program, struct criu_features *to, struct error *e)
{
	const char *argv[] = { program, "--version", NULL };
	cleanup(job_result_deinit) struct job_result result;
	int r = job_run(&JOB_OPTIONS(.argv = argv), &result, e);
	if (r < 0)
		return error_remedy(e, r, "Install CRIU 4.1 or newer (see 'elsa doctor').");
	const char *at = strstr(buf_text(&result.out), "Version: ");
	if (!at || sscanf(at, "Version: %31s", to->version) != 1)
		return error_fault(e, FAULT_INTERNAL, "%s --version does not say its version",
				   program);
	return 0;
}

static bool has_feature(const char *program, const char *feature)
{
	const char *argv[] = { program, "check", "--feature", feature, NULL };
	return job_check(&JOB_OPTIONS(.argv = argv), NULL) == 0;
}

int criu_ensure_cache(const char *program, struct error *e)
{
	const char *argv[] = { program, "check", NULL };
	if (access("/run/criu.kdat", F_OK) == 0)
		return 0;
	/* What it thinks of the kernel is for the doctor to tell. */
	cleanup(job_result_deinit) struct job_result result;
	return job_run(&JOB_OPTIONS(.argv = argv), &result, e);
}

int criu_probe(const char *program, struct criu_features *to, struct error *e)
{
	*to = (struct criu_features) { 0 };
	int r = read_version(program, to, e);
	if (r < 0)
		return r;
	r = criu_ensure_cache(program, e);
	if (r < 0)
		return r;
	to->mem_dirty_track = has_feature(program, "mem_dirty_track");
	to->lazy_pages = has_feature(program, "uffd-noncoop");
	to->pagemap_scan = has_feature(program, "pagemap_scan");
	to->needs_real_ids = !capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE);
	return 0;
}
