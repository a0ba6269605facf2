/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doctor.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "io/job.h"
#include "node/criu.h"
#include "node/net.h"
#include "node/overlay.h"
#include "node/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TRIAL_UID       65534 /* nobody */
#define CRIU_TIMEOUT_MS 60000
#define TICK_TIMEOUT_MS 10000

/* What CRIU and kernel quarrel about most: sockets and the vDSO. */
static const char program[] =
	"import os, socket, time\n"
	"s = socket.create_server(('127.0.0.1', 5555))\n"
	"a = socket.create_connection(('127.0.0.1', 5555)); b, _ = s.accept()\n"
	"u, v = socket.socketpair()\n"
	"w = socket.socket(socket.AF_UNIX); w.bind('/tmp/elsa-doctor'); w.listen()\n"
	"n = 0\n"
	"while True:\n"
	"    n += 1; a.send(b'x'); b.recv(1); u.send(b'x'); v.recv(1); time.monotonic()\n"
	"    with open('tick.new', 'w') as f: f.write(str(n))\n"
	"    os.rename('tick.new', 'tick'); time.sleep(0.01)\n";

struct trial {
	struct doctor *d;
	struct config config; /* a copy with places of its own; strings borrowed or below */
	char *top, *state_dir, *run_dir, *cgroup, *home, *images, *work;
	char id[ID_SIZE];
	char address[INET_ADDRSTRLEN];
	char *cmd[4];
	struct session_spec spec;
	struct sandbox sb;
	struct criu_features features;
	struct criu_options options;
	pid_t init;
};

/* --- CRIU against kernel ----------------------------------------------------------------- */

const char *doctor_criu_problem(const char *criu, const char *kernel)
{
	int c[2] = { 0 };
	int k[2] = { 0 };
	if (sscanf(criu, "%d.%d", &c[0], &c[1]) != 2 || sscanf(kernel, "%d.%d", &k[0], &k[1]) != 2)
		return NULL;
	bool old_criu = c[0] < 4 || (c[0] == 4 && c[1] < 2);
	bool new_kernel = k[0] > 6 || (k[0] == 6 && k[1] >= 16);
	if (!old_criu || !new_kernel)
		return NULL;
	return c[0] < 4 ? "it does not know the vDSO of Linux 6.16 and newer, and cannot start"
			: "it cannot dump sockets on Linux 6.16 and newer";
}

static void check_criu(struct trial *t)
{
	struct error e = ERROR_INIT;
	struct utsname u;
	const char *criu = t->d->config->node.criu;
	int r = criu_probe(criu, &t->features, &e);
	if (r < 0) {
		struct doctor_check *c =
			doctor_add(t->d, "criu", DOCTOR_REQUIRED, false, "%s", e.text);
		doctor_remedy(c,
			      "install CRIU 4.2 or newer, or set node.criu to where it is (Debian "
			      "13 has 4.1.1; forky has 4.2: apt-get install -t forky criu)");
		return;
	}
	uname(&u);
	const char *problem = doctor_criu_problem(t->features.version, u.release);
	struct doctor_check *c =
		doctor_add(t->d, "criu", DOCTOR_REQUIRED, !problem, "%s %s%s%s", criu,
			   t->features.version, problem ? ": " : "", problem ? problem : "");
	doctor_remedy(c,
		      "install CRIU 4.2 or newer (Debian: forky has it, apt-get install -t forky "
		      "criu)");
	doctor_add(t->d, "dirty tracking", DOCTOR_ADVISED, true, "%s",
		   t->features.mem_dirty_track ? "the kernel tells which memory has changed"
					       : "the kernel does not tell which memory has "
						 "changed: it is found by its content");
	c = doctor_add(
		t->d, "lazy restore", DOCTOR_ADVISED, t->features.lazy_pages, "%s",
		t->features.lazy_pages
			? "sessions wake before all of their memory is there"
			: "this kernel's userfaultfd does not do what it takes: sessions wake "
			  "only when all of their memory is there");
	doctor_remedy(c,
		      "a kernel with CONFIG_USERFAULTFD (see: criu check --feature uffd-noncoop)");
}

/* --- the trial's own place ------------------------------------------------------------------ */

/* The last but one of the pool; in a network namespace of the trial's own nobody else has it. */
static int choose_address(struct trial *t)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr in;
	unsigned prefix = 0;
	if (sscanf(t->config.network.pool, "%15[0-9.]/%u", text, &prefix) != 2 || prefix > 30 ||
	    inet_pton(AF_INET, text, &in) != 1)
		return -EINVAL;
	uint32_t host = (prefix ? ~0U >> prefix : ~0U) - 1;
	in.s_addr = htonl((ntohl(in.s_addr) & ~(host + 1)) | host);
	return inet_ntop(AF_INET, &in, t->address, sizeof(t->address)) ? 0 : -EINVAL;
}

static int choose_names(struct trial *t, struct error *e)
{
	id_new(t->id);
	t->top = str_printf("%s/doctor-%s", t->config.node.state_dir, t->id);
	t->state_dir = str_printf("%s/doctor-%s/state", t->config.node.state_dir, t->id);
	t->home = str_printf("%s/doctor-%s/home", t->config.node.state_dir, t->id);
	t->images = str_printf("%s/doctor-%s/images", t->config.node.state_dir, t->id);
	t->work = str_printf("%s/doctor-%s/work", t->config.node.state_dir, t->id);
	t->run_dir = str_printf("%s/doctor-%s", t->config.node.run_dir, t->id);
	t->cgroup = str_printf("%s-doctor-%s", t->config.node.cgroup, t->id);
	if (!t->top || !t->state_dir || !t->home || !t->images || !t->work || !t->run_dir ||
	    !t->cgroup)
		return error_set(e, ENOMEM, "out of memory");
	t->config.node.state_dir = t->state_dir;
	t->config.node.run_dir = t->run_dir;
	t->config.node.cgroup = t->cgroup;
	return choose_address(t) < 0 ? error_set(e, EINVAL, "network.pool is no network") : 0;
}

static void forget_names(struct trial *t)
{
	char *const owned[] = { t->top,  t->state_dir, t->home,  t->images,
				t->work, t->run_dir,   t->cgroup };
	for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
		free(owned[i]);
}

static int leave_namespaces(struct error *e)
{
	static const char *const argv[] = { "ip", "link", "set", "lo", "up", NULL };
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		int r = error_errno(e, "cannot make namespaces");
		return error_remedy(e, r, "in a container, run it privileged");
	}
	return job_check(&JOB_OPTIONS(.argv = argv), e);
}

static int make_place(struct trial *t, struct error *e)
{
	int r = choose_names(t, e);
	if (r == 0)
		r = leave_namespaces(e);
	if (r == 0)
		r = fs_mkdirs(t->home, 0700, e);
	if (r == 0)
		r = fs_mkdirs(t->images, 0700, e);
	if (r == 0 && (chmod(t->top, 0755) < 0 || chown(t->home, TRIAL_UID, TRIAL_UID) < 0))
		r = error_errno(e, "cannot set the owner of %s", t->home);
	return r;
}

static int define_session(struct trial *t, struct error *e)
{
	t->cmd[0] = (char *)"python3";
	t->cmd[1] = (char *)"-c";
	t->cmd[2] = (char *)program;
	t->spec = (struct session_spec) { .id = t->id,
					  .user = (char *)"doctor",
					  .server = (char *)"",
					  .address = t->address,
					  .port = 8888,
					  .uid = TRIAL_UID,
					  .gid = TRIAL_UID,
					  .home = t->home,
					  .home_inside = (char *)"/home/doctor",
					  .image = t->config.session.image,
					  .cmd = t->cmd };
	t->options = (struct criu_options) { .program = t->d->config->node.criu,
					     .features = &t->features,
					     .timeout_ms = CRIU_TIMEOUT_MS,
					     .images = t->images,
					     .work = t->work };
	return sandbox_init(&t->sb, &t->config, &t->spec, e);
}

/* --- steps ------------------------------------------------------------------------------------ */

static bool ticks(const struct trial *t)
{
	struct stat before = { 0 };
	struct stat now;
	cleanup_free char *path = fs_join(t->home, "tick");
	if (!path)
		return false;
	stat(path, &before);
	for (int ms = 0; ms < TICK_TIMEOUT_MS; ms += 10) {
		usleep(10000);
		if (stat(path, &now) == 0 && now.st_ino != before.st_ino)
			return true;
	}
	return false;
}

static int start(struct trial *t, struct error *e)
{
	int r = sandbox_start(&t->sb, &t->init, e);
	if (r == 0)
		r = sandbox_unmount(&t->sb, e);
	if (r == 0 && !ticks(t))
		r = error_fault(e, FAULT_TIMEOUT, "a small session starts but does nothing");
	return error_remedy(e, r, "see whether python3 works in the image");
}

static int freeze(struct trial *t, struct error *e)
{
	int r = sandbox_freeze(&t->sb, e);
	return r == 0 ? sandbox_hold(&t->sb, e) : r;
}

static int dump(struct trial *t, struct error *e)
{
	struct criu_run *dump = NULL;
	int r = freeze(t, e);
	if (r == 0)
		r = criu_dump(&t->sb, t->init, &t->options, &dump, NULL, e);
	if (r == 0)
		criu_dump_keep(dump);
	return r;
}

static int restore(struct trial *t, struct error *e)
{
	int r = sandbox_kill(&t->sb, e);
	if (r == 0)
		r = sandbox_teardown(&t->sb, false, e);
	if (r == 0)
		r = sandbox_prepare(&t->sb, true, e);
	if (r == 0)
		r = sandbox_mount(&t->sb, e);
	if (r == 0)
		r = criu_restore(&t->sb, &t->options, &t->init, NULL, e);
	if (r == 0)
		r = sandbox_release(&t->sb, e);
	if (r == 0)
		r = sandbox_thaw(&t->sb, e);
	if (r == 0 && !ticks(t))
		r = error_fault(e, FAULT_REFUSED, "a restored session does not go on");
	return r;
}

static int setup_host(struct trial *t, struct error *e)
{
	int r = sandbox_host_setup(&t->config, e);
	return error_remedy(
		e, r,
		"the kernel needs nftables with inet, fib, nat and conntrack "
		"(modules nft_fib_inet, nft_masq, nf_conntrack); see if modprobe works");
}

static int prepare(struct trial *t, struct error *e)
{
	int r = sandbox_prepare(&t->sb, false, e);
	return error_remedy(e, r, "the kernel needs network namespaces and veth");
}

static int mount_root(struct trial *t, struct error *e)
{
	return sandbox_mount(&t->sb, e);
}

static const struct {
	const char *name, *good;
	int (*run)(struct trial *t, struct error *e);
} steps[] = {
	{ "network", "the packet filter can be loaded", setup_host },
	{ "namespaces", "a session's network can be made", prepare },
	{ "overlay", "the image can be mounted with a layer over it", mount_root },
	{ "session", "a small session runs", start },
	{ "checkpoint", "CRIU has saved it, sockets included", dump },
	{ "restore", "CRIU has woken it, and it goes on", restore },
};

/* In the trial's own namespace. Needed where there are several hosts. */
static void check_vxlan(const struct trial *t)
{
	const struct config *config = t->d->config;
	bool needed = net_is_joined(config) || (config->nodes.listen && config->nodes.listen[0]);
	struct error e = ERROR_INIT;
	int r = overlay_try(&e);
	doctor_add_result(t->d, "vxlan", needed ? DOCTOR_REQUIRED : DOCTOR_ADVISED, r, &e,
			  "sessions on other hosts can be reached");
}

static void take_down(struct trial *t)
{
	struct error e = ERROR_INIT;
	int r = sandbox_kill(&t->sb, &e);
	if (r == 0)
		r = sandbox_teardown(&t->sb, true, &e);
	if (r == 0)
		r = sandbox_host_teardown(&t->config, &e);
	if (r == 0)
		r = fs_remove_tree(t->run_dir, &e);
	if (r == 0)
		r = fs_remove_tree(t->top, &e);
	if (r < 0)
		doctor_add(t->d, "leftovers", DOCTOR_ADVISED, false,
			   "not all of the trial could be "
			   "taken away: %s",
			   e.text);
	sandbox_deinit(&t->sb);
}

void doctor_check_trial(struct doctor *d)
{
	struct trial t = { .d = d, .config = *d->config };
	struct error e = ERROR_INIT;
	check_criu(&t);
	int r = make_place(&t, &e);
	if (r == 0)
		r = define_session(&t, &e);
	if (r < 0) {
		doctor_add_result(d, "trial", DOCTOR_REQUIRED, r, &e, "");
		forget_names(&t);
		return;
	}
	check_vxlan(&t);
	doctor_check_asleep(d);
	/* What builds upon a step that failed would only say so in other words. */
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++) {
		if (steps[i].run == dump && !t.features.version[0])
			break;
		error_clear(&e);
		r = steps[i].run(&t, &e);
		doctor_add_result(d, steps[i].name, DOCTOR_REQUIRED, r, &e, steps[i].good);
	}
	take_down(&t);
	forget_names(&t);
}
