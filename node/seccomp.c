/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/seccomp.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct denied {
	const char *name;
	int code;
};

/* ENOSYS where libraries try the call, find that this kernel lacks it and do without. */
static const struct denied denied[] = {
	/* io_uring cannot be dumped; a ring that was never made does not matter. */
	{ "io_uring_setup", ENOSYS },
	{ "io_uring_enter", ENOSYS },
	{ "io_uring_register", ENOSYS },
	/* Its flags lie in memory, out of a filter's sight: the C library falls back to clone(). */
	{ "clone3", ENOSYS },
	/* Kernel objects that CRIU does not know. */
	{ "memfd_secret", ENOSYS },
	{ "userfaultfd", ENOSYS },
	{ "fanotify_init", ENOSYS },
	{ "landlock_create_ruleset", ENOSYS },
	{ "perf_event_open", EPERM },
	{ "bpf", EPERM },
	{ "add_key", EPERM },
	{ "keyctl", EPERM },
	{ "request_key", EPERM },
	/* Mounts and namespaces. */
	{ "mount", EPERM },
	{ "umount2", EPERM },
	{ "pivot_root", EPERM },
	{ "chroot", EPERM },
	{ "unshare", EPERM },
	{ "setns", EPERM },
	{ "fsopen", EPERM },
	{ "fsconfig", EPERM },
	{ "fsmount", EPERM },
	{ "fspick", EPERM },
	{ "open_tree", EPERM },
	{ "move_mount", EPERM },
	{ "mount_setattr", EPERM },
	{ "open_by_handle_at", EPERM },
	/* The machine. */
	{ "acct", EPERM },
	{ "kexec_load", EPERM },
	{ "kexec_file_load", EPERM },
	{ "init_module", EPERM },
	{ "finit_module", EPERM },
	{ "delete_module", EPERM },
	{ "iopl", EPERM },
	{ "ioperm", EPERM },
	{ "reboot", EPERM },
	{ "swapon", EPERM },
	{ "swapoff", EPERM },
	{ "quotactl", EPERM },
	{ "quotactl_fd", EPERM },
	{ "sethostname", EPERM },
	{ "setdomainname", EPERM },
	{ "settimeofday", EPERM },
	{ "clock_settime", EPERM },
	{ "syslog", EPERM },
	{ "vhangup", EPERM },
	{ "lookup_dcookie", EPERM },
	{ "uselib", EPERM },
};

static const unsigned long new_namespaces[] = { CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
						CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
						CLONE_NEWNET };

static int add_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
		int number = seccomp_syscall_resolve_name(denied[i].name);
		/* Unknown to this library: then a kernel that has it is newer than what we run on.
		 */
		if (number == __NR_SCMP_ERROR)
			continue;
		int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)denied[i].code), number,
					 0);
		if (r < 0 && r != -EDOM)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(new_namespaces); i++) {
		unsigned long flag = new_namespaces[i];
		int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
					 SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag));
		if (r < 0)
			return r;
	}
	return 0;
}

/* libseccomp before 2.6 writes programs to files only. */
static int export(scmp_filter_ctx filter, struct seccomp_program *to)
{
	cleanup_fd int fd = memfd_create("elsa-seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = seccomp_export_bpf(filter, fd);
	struct stat st;
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	cleanup_free struct sock_filter *code = malloc((size_t)st.st_size);
	if (!code)
		return -ENOMEM;
	if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	to->prog.len = (unsigned short)((size_t)st.st_size / sizeof(*code));
	to->prog.filter = steal_ptr(&code);
	return 0;
}

int seccomp_compile(struct seccomp_program *to, struct error *e)
{
	*to = (struct seccomp_program) { 0 };
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	if (!filter)
		return error_set(e, ENOMEM, "out of memory");
	/* Programs for another architecture (32 bit) would pass by the rules. */
	int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_rules(filter);
	if (r == 0)
		r = export(filter, to);
	seccomp_release(filter);
	return r < 0 ? error_set(e, -r, "cannot compile the seccomp filter: %s", strerror(-r)) : 0;
}

void seccomp_program_deinit(struct seccomp_program *p)
{
	free(p->prog.filter);
	*p = (struct seccomp_program) { 0 };
}

int seccomp_apply(const struct seccomp_program *p)
{
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p->prog) < 0 ? -errno : 0;
}
