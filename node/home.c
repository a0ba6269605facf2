/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/home.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_parents(const char *home, struct error *e)
{
	cleanup_free char *parent = strdup(home);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	if (!slash)
		return error_set(e, ENOMEM, "out of memory");
	*slash = '\0';
	return *parent ? fs_mkdirs(parent, 0755, e) : 0;
}

/* Under another name until it belongs to its user: a home that is root's, left by a crash, would
 * keep its user out for good. */
int home_make(const struct session_spec *spec, struct error *e)
{
	if (access(spec->home, F_OK) == 0)
		return 0;
	cleanup_free char *tmp = str_printf("%s.%s", spec->home, spec->id);
	int r = tmp ? make_parents(spec->home, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return error_wrap(e, r, "cannot make the home directory %s", spec->home);
	if ((mkdir(tmp, 0700) < 0 && errno != EEXIST) || chmod(tmp, 0700) < 0 ||
	    chown(tmp, (uid_t)spec->uid, (gid_t)spec->gid) < 0)
		return error_errno(e, "cannot make the home directory %s", tmp);
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, spec->home, RENAME_NOREPLACE) < 0 && errno != EEXIST)
		return error_errno(e, "cannot make the home directory %s", spec->home);
	rmdir(tmp); /* of two that made it at once, the second's */
	return 0;
}
