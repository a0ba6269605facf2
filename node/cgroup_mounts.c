/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/cgroup.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const cgroup_controller_names[CGROUP_CONTROLLER_COUNT] = {
	[CGROUP_MEMORY] = "memory", [CGROUP_CPU] = "cpu",         [CGROUP_CPUACCT] = "cpuacct",
	[CGROUP_PIDS] = "pids",     [CGROUP_FREEZER] = "freezer",
};

/* Fields of a line of mountinfo (proc_pid_mountinfo(5)) that matter here; pointers into it. */
struct mount_line {
	char *path;
	char *type;
	char *options;
};

/* "36 35 98:0 /root /path rw,noatime master:1 - type source options"; cuts `line` up. */
static bool parse_line(char *line, struct mount_line *to)
{
	char *rest = strstr(line, " - ");
	if (!rest)
		return false;
	*rest = '\0';
	char *save = NULL;
	char *field = strtok_r(line, " ", &save);
	for (int i = 0; field && i < 4; i++)
		field = strtok_r(NULL, " ", &save);
	to->path = field;
	to->type = strtok_r(rest + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	to->options = strtok_r(NULL, " ", &save);
	return to->path && to->type && to->options;
}

static bool has_option(const char *options, const char *name)
{
	size_t len = strlen(name);
	for (const char *p = options; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return false;
}

/* The same hierarchy can be mounted in several places: the first one stays. */
static int remember_v1(struct cgroup_mounts *to, const struct mount_line *line)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		if (to->paths[i] || !has_option(line->options, cgroup_controller_names[i]))
			continue;
		to->paths[i] = strdup(line->path);
		if (!to->paths[i])
			return -ENOMEM;
	}
	return 0;
}

static int remember_v2(struct cgroup_mounts *to, const char *path)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		to->paths[i] = strdup(path);
		if (!to->paths[i])
			return -ENOMEM;
	}
	return 0;
}

int cgroup_parse_mounts(const char *mountinfo, struct cgroup_mounts *to)
{
	*to = (struct cgroup_mounts) { 0 };
	cleanup_free char *text = strdup(mountinfo);
	if (!text)
		return -ENOMEM;
	const char *unified = NULL;
	char *save = NULL;
	int r = 0;
	for (char *l = strtok_r(text, "\n", &save); l && r == 0; l = strtok_r(NULL, "\n", &save)) {
		struct mount_line line;
		if (!parse_line(l, &line))
			continue;
		if (strcmp(line.type, "cgroup") == 0)
			r = remember_v1(to, &line);
		else if (strcmp(line.type, "cgroup2") == 0 && !unified)
			unified = line.path;
	}
	/* Hybrid: version 2 is there but has no controllers. Who has the freezer decides. */
	if (to->paths[CGROUP_FREEZER]) {
		to->version = 1;
	} else if (unified && r == 0) {
		cgroup_mounts_deinit(to);
		to->version = 2;
		r = remember_v2(to, unified);
	}
	if (r < 0)
		cgroup_mounts_deinit(to);
	return r;
}

void cgroup_mounts_deinit(struct cgroup_mounts *m)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
		free(m->paths[i]);
	*m = (struct cgroup_mounts) { 0 };
}

/* cpuacct and the freezer are part of version 2 itself. */
static bool is_listed_v2(enum cgroup_controller c)
{
	return c == CGROUP_MEMORY || c == CGROUP_CPU || c == CGROUP_PIDS;
}

static int drop_missing_v2(struct cgroup_mounts *m, struct error *e)
{
	cleanup_free char *path = fs_join(m->paths[CGROUP_FREEZER], "cgroup.controllers");
	cleanup_buf struct buf names = BUF_INIT(4096);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, &names, e);
	if (r < 0)
		return r;
	for (char *p = names.data; p && *p; p++)
		*p = *p == ' ' || *p == '\n' ? ',' : *p;
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		if (!is_listed_v2((enum cgroup_controller)i) ||
		    has_option(buf_text(&names), cgroup_controller_names[i]))
			continue;
		free(m->paths[i]);
		m->paths[i] = NULL;
	}
	return 0;
}

int cgroup_find(struct cgroup_mounts *to, struct error *e)
{
	*to = (struct cgroup_mounts) { 0 };
	cleanup_buf struct buf mountinfo = BUF_INIT((size_t)16 << 20);
	int r = fs_read("/proc/self/mountinfo", &mountinfo, e);
	if (r < 0)
		return r;
	r = cgroup_parse_mounts(buf_text(&mountinfo), to);
	if (r < 0)
		return error_set(e, -r, "out of memory");
	if (to->version == 0) {
		r = error_fault(e, FAULT_REFUSED,
				"no cgroup file system with a freezer is mounted");
		return error_remedy(e, r,
				    "mount cgroup2 at /sys/fs/cgroup, or version 1 with the "
				    "memory, cpu, cpuacct, pids and freezer controllers below it");
	}
	r = to->version == 2 ? drop_missing_v2(to, e) : 0;
	if (r < 0)
		cgroup_mounts_deinit(to);
	return r;
}
