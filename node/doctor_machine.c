/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doctor.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/cgroup.h"
#include "node/net.h"
#include "node/seccomp.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Below it a system call or an overlay option that is used is missing. */
#define KERNEL_MIN_MAJOR   5
#define KERNEL_MIN_MINOR   15
#define PIPE_SIZE_FOR_LAZY (4 << 20)

static void check_kernel(struct doctor *d)
{
	struct utsname u;
	int major = 0;
	int minor = 0;
	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	bool ok = major > KERNEL_MIN_MAJOR ||
		  (major == KERNEL_MIN_MAJOR && minor >= KERNEL_MIN_MINOR);
	struct doctor_check *c = doctor_add(d, "kernel", DOCTOR_REQUIRED, ok, "%s %s on %s",
					    u.sysname, u.release, u.machine);
	doctor_remedy(c, "run Linux %d.%d or newer (Debian 12 has 6.1)", KERNEL_MIN_MAJOR,
		      KERNEL_MIN_MINOR);
	ok = access("/proc/self/ns/time", F_OK) == 0;
	c = doctor_add(
		d, "time namespace", DOCTOR_REQUIRED, ok, "%s",
		ok ? "the clocks of a session go on where they stopped"
		   : "this kernel has no time namespaces: clocks would jump in a woken session");
	doctor_remedy(c, "use a kernel with CONFIG_TIME_NS (all of Debian's and Ubuntu's have it)");
}

static void check_userfaultfd(struct doctor *d)
{
	cleanup_fd int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	int code = errno;
	struct doctor_check *c =
		doctor_add(d, "userfaultfd", DOCTOR_ADVISED, fd >= 0,
			   fd >= 0 ? "sessions can be woken before all their memory is there"
				   : "userfaultfd cannot be used (%s): a session wakes when all "
				     "its memory is there",
			   strerror(code));
	doctor_remedy(c, "use a kernel with CONFIG_USERFAULTFD");
}

static void check_seccomp(struct doctor *d)
{
	struct error e = ERROR_INIT;
	struct seccomp_program p;
	bool there = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
	int r = there ? seccomp_compile(&p, &e)
		      : error_set(&e, ENOSYS, "this kernel has no seccomp filters");
	if (r == 0)
		seccomp_program_deinit(&p);
	error_remedy(&e, r, "use a kernel with CONFIG_SECCOMP_FILTER");
	doctor_add_result(d, "seccomp", DOCTOR_REQUIRED, r, &e, "filters can be loaded");
}

/* --- rights ---------------------------------------------------------------------------- */

static void check_capabilities(struct doctor *d)
{
	static const unsigned needed[] = { CAP_SYS_ADMIN,       CAP_NET_ADMIN,  CAP_SYS_PTRACE,
					   CAP_SETUID,          CAP_SETGID,     CAP_SETPCAP,
					   CAP_MKNOD,           CAP_CHOWN,      CAP_FOWNER,
					   CAP_FSETID,          CAP_KILL,       CAP_DAC_OVERRIDE,
					   CAP_DAC_READ_SEARCH, CAP_SYS_CHROOT, CAP_NET_RAW };
	cleanup_buf struct buf missing = BUF_INIT(512);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!capng_have_capability(CAPNG_EFFECTIVE, needed[i]))
			buf_printf(&missing, " %s", capng_capability_to_name(needed[i]));
	bool ok = missing.len == 0;
	struct doctor_check *c = doctor_add(d, "capabilities", DOCTOR_REQUIRED, ok, "%s%s",
					    ok ? "root has those that are needed" : "root lacks",
					    buf_text(&missing));
	doctor_remedy(c, "give them back: in a container run it privileged, in a systemd unit "
			 "remove CapabilityBoundingSet=");
	ok = capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE);
	doctor_add(
		d, "sys_resource", DOCTOR_ADVISED, true, "%s",
		ok ? "root has CAP_SYS_RESOURCE"
		   : "root has no CAP_SYS_RESOURCE: CRIU is run with each session's own real uid");
}

/* --- cgroups ----------------------------------------------------------------------------- */

static const char *missing_controllers(const struct cgroup_mounts *m, struct buf *to)
{
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
		if (!m->paths[i])
			buf_printf(to, " %s", cgroup_controller_names[i]);
	return buf_text(to);
}

static void check_cgroups(struct doctor *d)
{
	struct error e = ERROR_INIT;
	struct cgroup_mounts m;
	cleanup_buf struct buf missing = BUF_INIT(256);
	int r = cgroup_find(&m, &e);
	if (r < 0) {
		doctor_add_result(d, "cgroups", DOCTOR_REQUIRED, r, &e, "");
		return;
	}
	missing_controllers(&m, &missing);
	doctor_add(d, "cgroups", DOCTOR_REQUIRED, true, "version %d at %s", m.version,
		   m.paths[CGROUP_FREEZER]);
	bool ok = missing.len == 0;
	struct doctor_check *c = doctor_add(d, "limits", DOCTOR_ADVISED, ok,
					    ok ? "memory, processors and processes can be limited%s"
					       : "there is no cgroup controller for:%s",
					    buf_text(&missing));
	doctor_remedy(c, "enable it (kernel command line cgroup_enable=memory; version 2: "
			 "cgroup.subtree_control), or set the limits in [session] to 0");
	cgroup_mounts_deinit(&m);
}

/* --- programs ------------------------------------------------------------------------------ */

static bool in_path(const char *name, char *found, size_t size)
{
	const char *path = getenv("PATH");
	if (strchr(name, '/')) {
		snprintf(found, size, "%s", name);
		return access(name, X_OK) == 0;
	}
	for (const char *p = path ? path : ""; *p; p += *p == ':') {
		size_t len = strcspn(p, ":");
		snprintf(found, size, "%.*s/%s", (int)len, p, name);
		if (access(found, X_OK) == 0)
			return true;
		p += len;
	}
	return false;
}

static void check_program(struct doctor *d, const char *name, const char *package, const char *why)
{
	char found[512];
	bool ok = in_path(name, found, sizeof(found));
	struct doctor_check *c = doctor_add(d, name, DOCTOR_REQUIRED, ok,
					    ok ? "%s" : "%s: not found", ok ? found : why);
	doctor_remedy(c, "apt-get install %s", package);
}

static void check_programs(struct doctor *d)
{
	check_program(d, "ip", "iproute2", "gives the node its address in the sessions' network");
	check_program(d, "nft", "nftables", "filters the sessions' packets");
	check_program(d, "tar", "tar", "packs the sessions' layers");
}

/* --- settings ------------------------------------------------------------------------------- */

static long read_setting(const char *path)
{
	cleanup_buf struct buf text = BUF_INIT(256);
	return fs_read(path, &text, NULL) < 0 ? -1 : strtol(buf_text(&text), NULL, 10);
}

static void check_settings(struct doctor *d)
{
	long pipe_size = read_setting("/proc/sys/fs/pipe-max-size");
	bool ok = pipe_size >= PIPE_SIZE_FOR_LAZY ||
		  capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE);
	struct doctor_check *c = doctor_add(
		d, "pipe size", DOCTOR_ADVISED, ok, "fs.pipe-max-size is %ld%s", pipe_size,
		ok ? ""
		   : ": too small to move a running session's memory without CAP_SYS_RESOURCE");
	doctor_remedy(c, "sysctl -w fs.pipe-max-size=%d", PIPE_SIZE_FOR_LAZY);
	bool needed = net_needs_forwarding(d->config);
	long forwarding = read_setting("/proc/sys/net/ipv4/ip_forward");
	doctor_add(d, "ip forwarding", DOCTOR_ADVISED, true, "%s",
		   !needed           ? "not needed: sessions reach this node only"
		   : forwarding == 1 ? "on"
				     : "off: elsa-node turns it on when it starts");
}

void doctor_check_machine(struct doctor *d)
{
	check_kernel(d);
	check_userfaultfd(d);
	check_seccomp(d);
	check_capabilities(d);
	check_cgroups(d);
	check_programs(d);
	check_settings(d);
}
