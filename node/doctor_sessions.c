/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doctor.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)

static const char *image_of(const struct doctor *d)
{
	return strcmp(d->config->session.image, "/") == 0 ? "" : d->config->session.image;
}

static bool image_has(const struct doctor *d, const char *program, char *found, size_t size)
{
	static const char *const dirs[] = { "",       "/usr/local/bin/",  "/usr/bin/",
					    "/bin/",  "/usr/local/sbin/", "/usr/sbin/",
					    "/sbin/", "/opt/conda/bin/" };
	for (size_t i = program[0] == '/' ? 0 : 1; i < ARRAY_SIZE(dirs); i++) {
		snprintf(found, size, "%s%s%s", image_of(d), dirs[i], program);
		if (access(found, X_OK) == 0)
			return true;
		if (program[0] == '/')
			return false;
	}
	return false;
}

/* An overlay shows one file system: what is mounted below the image is not part of it. */
static bool usr_is_elsewhere(const struct doctor *d)
{
	struct stat image;
	struct stat usr;
	cleanup_free char *path = fs_join(image_of(d), "usr");
	return path && stat(d->config->session.image, &image) == 0 && stat(path, &usr) == 0 &&
	       image.st_dev != usr.st_dev;
}

static void check_image(struct doctor *d)
{
	char found[PATH_MAX];
	const char *image = d->config->session.image;
	char **command = d->config->session.command;
	const char *program = command && command[0] ? command[0] : "jupyterhub-singleuser";
	struct stat st;
	bool ok = stat(image, &st) == 0 && S_ISDIR(st.st_mode);
	struct doctor_check *c = doctor_add(d, "image", DOCTOR_REQUIRED, ok, "%s%s", image,
					    ok ? "" : " is no directory");
	doctor_remedy(c, "set session.image to a directory with a root file system, or to \"/\"");
	if (ok && usr_is_elsewhere(d)) {
		c = doctor_add(d, "image's /usr", DOCTOR_REQUIRED, false,
			       "%s/usr is a mount of its own "
			       "and cannot be seen in sessions",
			       image_of(d));
		doctor_remedy(c, "use an image in one file system (mmdebstrap makes one)");
	}
	ok = ok && image_has(d, program, found, sizeof(found));
	c = doctor_add(d, "command", DOCTOR_REQUIRED, ok, ok ? "%s" : "%s: not found in the image",
		       ok ? found : program);
	doctor_remedy(c,
		      "install it in %s (apt-get install jupyterhub jupyter-server, or pip install "
		      "jupyterhub jupyterlab), or set session.command",
		      image);
}

static void check_disk(struct doctor *d)
{
	const char *dir = d->config->node.state_dir;
	struct error e = ERROR_INIT;
	struct statvfs fs = { 0 };
	struct sysinfo memory = { 0 };
	int r = fs_mkdirs(dir, 0755, &e);
	if (r == 0 && statvfs(dir, &fs) < 0)
		r = error_errno(&e, "cannot look at %s", dir);
	if (r < 0) {
		doctor_add_result(d, "state_dir", DOCTOR_REQUIRED, r, &e, "");
		return;
	}
	uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	sysinfo(&memory);
	uint64_t ram = (uint64_t)memory.totalram * memory.mem_unit;
	bool ok = free_bytes >= ram;
	struct doctor_check *c =
		doctor_add(d, "disk", DOCTOR_ADVISED, ok, "%.1f GiB free in %s; memory is %.1f GiB",
			   (double)free_bytes / GIB, dir, (double)ram / GIB);
	doctor_remedy(c, "have at least as much free as there is memory: checkpoints pass through "
			 "this directory");
}

void doctor_check_sessions(struct doctor *d)
{
	check_image(d);
	check_disk(d);
}
