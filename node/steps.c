/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include "base/fs.h"
#include "io/job.h"

#include <errno.h>

int steps_kill(struct effect *ef, struct error *e)
{
	int r = sandbox_kill(&ef->sandbox, e);
	return r < 0 ? r : effect_set_processes(ef, 0, e);
}

int steps_teardown(struct effect *ef, struct error *e)
{
	session_keep_log(ef->node, &ef->sandbox);
	return sandbox_teardown(&ef->sandbox, true, e);
}

int steps_clear(struct effect *ef, struct error *e)
{
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	if (r == 0)
		r = steps_kill(ef, e);
	if (r == 0)
		r = steps_teardown(ef, e);
	if (r == 0)
		r = fs_remove_tree(ef->work, e);
	return r;
}

int steps_mount(struct effect *ef, struct error *e)
{
	return sandbox_mount(&ef->sandbox, e);
}

int steps_unmount(struct effect *ef, struct error *e)
{
	return sandbox_unmount(&ef->sandbox, e);
}

int steps_check_idle(struct effect *ef, struct error *e)
{
	if (!session_alive(ef->node, ef->session))
		return 0;
	return error_set(e, EBUSY, "session %s runs already (generation %lld)", ef->session->id,
			 (long long)effect_journal(ef)->generation);
}

/* Left out: what names inodes of the file systems where the layer was made. An overlay with an
 * index is not mounted over that elsewhere. */
static const char *const tar_keeps[] = {
	"--xattrs",
	"--xattrs-include=*",
	"--xattrs-exclude=trusted.overlay.origin",
	"--xattrs-exclude=trusted.overlay.impure",
	"--xattrs-exclude=trusted.overlay.nlink",
	"--xattrs-exclude=trusted.overlay.upper",
	"--xattrs-exclude=trusted.overlay.uuid",
	"--acls",
	"--numeric-owner",
	"--sparse",
};
enum { TAR_KEEPS = sizeof(tar_keeps) / sizeof(tar_keeps[0]) };

static int run_tar(const char *mode, const char *upper, const char *file, int timeout_ms,
		   struct error *e)
{
	const char *argv[TAR_KEEPS + 8] = { "tar", mode, file, "-C", upper };
	size_t n = 5;
	for (size_t i = 0; i < TAR_KEEPS; i++)
		argv[n++] = tar_keeps[i];
	argv[n++] = ".";
	return job_check(&JOB_OPTIONS(.argv = argv, .timeout_ms = timeout_ms), e);
}

int layers_save(const char *upper, const char *file, int timeout_ms, struct error *e)
{
	int r = run_tar("-cf", upper, file, timeout_ms, e);
	return error_wrap(e, r, "cannot save the session's own layer of files");
}

int layers_load(const char *upper, const char *file, int timeout_ms, struct error *e)
{
	int r = run_tar("-xpf", upper, file, timeout_ms, e);
	return error_wrap(e, r, "cannot bring back the session's own layer of files");
}
