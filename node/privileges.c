/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

int privileges_drop(uid_t uid, gid_t gid, const struct seccomp_program *filter, const char **what)
{
	*what = "drop the capabilities";
	errno = 0;
	capng_clear(CAPNG_SELECT_ALL);
	int r = capng_change_id((int)uid, (int)gid,
				CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	if (r < 0)
		return errno ? -errno : -EPERM;
	*what = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	*what = "load the seccomp filter";
	return seccomp_apply(filter);
}
