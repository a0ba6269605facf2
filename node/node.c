/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/node.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/cpu.h"
#include "node/depart.h"
#include "node/doze.h"
#include "node/estimate.h"
#include "node/evacuate.h"
#include "node/hold.h"
#include "node/journal.h"
#include "node/lease.h"
#include "node/move_wire.h"
#include "node/notices.h"
#include "node/overlay.h"
#include "node/pages.h"
#include "node/session.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINGER_MS = 2000 };

char *node_path(const struct node *node, const char *what, const char *id, const char *suffix)
{
	return str_printf("%s/%s/%s%s", node->config->node.state_dir, what, id, suffix);
}

static int make_dirs(const struct node *node, struct error *e)
{
	static const char *const names[] = { "journal", "log",      "criu",  "images",
					     "links",   "sessions", "pages", "asleep" };
	cleanup_free char *noted = journal_dir(node);
	int r = fs_mkdirs(node->config->node.run_dir, 0755, e);
	if (r == 0)
		r = noted ? fs_mkdirs(noted, 0711, e) : error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		cleanup_free char *path = fs_join(node->config->node.state_dir, names[i]);
		r = path ? fs_mkdirs(path, 0711, e) : error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

/* CRIU asks for pipes of up to 4 MiB, which only CAP_SYS_RESOURCE may make against the limit; with
 * larger ones it takes fewer turns to write down a session that moves. */
static void raise_pipe_size(void)
{
	static const char path[] = "/proc/sys/fs/pipe-max-size";
	enum { WANTED = 16 << 20 };
	cleanup_buf struct buf text = BUF_INIT(64);
	struct error e = ERROR_INIT;
	if (fs_read(path, &text, &e) == 0 && strtol(buf_text(&text), NULL, 10) >= WANTED)
		return;
	if (fs_write(path, "16777216", &e) < 0)
		log_warning("pipes stay small, which slows checkpoints down: %s", e.text);
}

/* CRIU stops processes at breakpoints of the processor's, in a dump as in a restore. The first
 * event of a task's on a machine, which such a one is, makes the kernel wait for all processors to
 * have passed through the scheduler (account_event() in kernel/events/core.c), 10 ms and more. With
 * this one, which counts nothing, it is not the first. */
static int open_event(void)
{
	struct perf_event_attr nothing = { .type = PERF_TYPE_SOFTWARE,
					   .size = sizeof(nothing),
					   .config = PERF_COUNT_SW_DUMMY,
					   .disabled = 1 };
	return (int)syscall(SYS_perf_event_open, &nothing, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static int prepare_lazy(struct node *node, struct error *e)
{
	if (!node->config->node.lazy_restore)
		return 0;
	if (node->criu.lazy_pages)
		return pages_init(e);
	log_warning("sessions wake only when all of their memory is there: this kernel's "
		    "userfaultfd does not do what that needs otherwise");
	return 0;
}

/* Sessions here do without; elsad says it again, and hears why it fails. */
static void restore_overlay(struct node *node)
{
	struct error e = ERROR_INIT;
	if (overlay_restore(node->config, &node->overlay, &e) < 0)
		log_error("sessions on other hosts cannot be reached: %s", e.text);
}

int node_init(struct node *node, struct error *e)
{
	pthread_mutex_init(&node->lock, NULL);
	pthread_mutex_init(&node->store_lock, NULL);
	node->event = open_event();
	int r = proc_boot_id(node->boot_id, e);
	if (r == 0)
		r = make_dirs(node, e);
	if (r == 0)
		r = hold_init(node, e);
	if (r == 0)
		r = cpu_features(&node->cpu, e);
	if (r == 0)
		r = criu_probe(node->config->node.criu, &node->criu, e);
	if (r == 0)
		r = prepare_lazy(node, e);
	if (r == 0)
		r = sandbox_host_setup(node->config, e);
	if (r == 0)
		restore_overlay(node);
	if (r == 0)
		r = pool_new(node->base, (size_t)node->config->node.workers, &node->pool, e);
	if (r == 0)
		raise_pipe_size();
	if (r == 0)
		doze_init(node);
	return r;
}

void node_deinit(struct node *node)
{
	node->pool = pool_free(node->pool);
	session_remove_all(node);
	pages_deinit();
	/* A service that hangs in the store keeps it open, and ends with us. */
	for (int i = 0; i < LINGER_MS && pages_left(); i++)
		usleep(1000);
	node->store = pages_left() ? NULL : store_close(node->store);
	cleanup_close_fd(&node->event);
	node->event = -1;
	wire_free(&wire_overlay_state, &node->overlay);
	doze_deinit(node);
	free(node->cpu);
	node->cpu = NULL;
}

static int open_store(struct node *node, struct error *e)
{
	const struct config *c = node->config;
	const struct store_options options = {
		.url = c->store.url,
		.key_command = (const char *const *)c->store.key_command,
		.key_env = c->store.key_env,
		.key_file = c->store.key_file,
		.old_key_files = (const char *const *)c->store.old_key_files,
		.cache_dir = c->store.cache,
		.cache_bytes = (uint64_t)c->store.cache_bytes,
	};
	return store_open(&options, &node->store, e);
}

int node_store(struct node *node, struct store **store, struct error *e)
{
	int r = 0;
	pthread_mutex_lock(&node->store_lock);
	if (!node->store)
		r = open_store(node, e);
	*store = node->store;
	pthread_mutex_unlock(&node->store_lock);
	return error_wrap(e, r, "cannot open the store %s", node->config->store.url);
}

/* A number of kilobytes in /proc/meminfo, in bytes. */
static int64_t meminfo(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	return at ? strtoll(at + strlen(name), NULL, 10) * 1024 : 0;
}

char *node_name(const struct node *node)
{
	char name[256] = "node";
	if (node->config->node.name[0])
		return strdup(node->config->node.name);
	gethostname(name, sizeof(name) - 1);
	return strdup(name);
}

/* Its address for other hosts: the one that is configured, or that its API is at. */
static char *underlay(const struct config *config)
{
	const char *listen = config->node.listen;
	if (*config->node.address)
		return strdup(config->node.address);
	/* Listening everywhere it is what elsad saw of it. */
	if (!*listen || *listen == '[' || strncmp(listen, "0.0.0.0:", 8) == 0)
		return NULL;
	return strndup(listen, strcspn(listen, ":"));
}

static int64_t at_most(int64_t bytes, int64_t most)
{
	return most > 0 && most < bytes ? most : bytes;
}

int node_memory(const struct node *node, int64_t *total, int64_t *available, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(64 << 10);
	int64_t most = node->config->node.memory_bytes;
	int r = fs_read("/proc/meminfo", &text, e);
	if (r < 0)
		return r;
	*total = at_most(meminfo(buf_text(&text), "MemTotal:"), most);
	*available = at_most(meminfo(buf_text(&text), "MemAvailable:"), most);
	return 0;
}

int node_info(const struct node *node, struct node_info *info, struct error *e)
{
	int64_t total, available;
	int r = node_memory(node, &total, &available, e);
	if (r < 0)
		return r;
	*info = (struct node_info) {
		.name = node_name(node),
		.version = strdup(ELSA_VERSION),
		.boot_id = strdup(node->boot_id),
		.criu = strdup(node->criu.version),
		.cpu = cpu_model(),
		.features = strdup(node->cpu),
		.underlay = underlay(node->config),
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.memory_bytes = total,
		.memory_available_bytes = available,
		.evacuating = evacuate_under_way(node),
		.upload_bytes_per_s = estimate_upload(node),
		.lease_left_ms = lease_left_ms(node),
		.move_port = depart_port(node),
		.move_version = MOVE_VERSION,
	};
	if (!info->name || !info->version || !info->boot_id || !info->criu || !info->features)
		r = error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = notices_fill(node, info, e);
	if (r == 0)
		r = doze_fill(node, info, e);
	if (r < 0)
		wire_free(&wire_node_info, info);
	return r;
}
