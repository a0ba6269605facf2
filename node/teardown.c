/* SPDX-License-Identifier: Apache-2.0 */
#include "node/teardown.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "node/doze_area.h"
#include "node/journal.h"
#include "node/lease_private.h"
#include "node/node.h"
#include "node/sandbox.h"
#include "node/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { LOCK_TRIES = 100 };

struct ids {
	char (*items)[ID_SIZE];
	size_t count;
};

static int note(const char *id, void *arg)
{
	struct ids *ids = arg;
	void *more = realloc(ids->items, (ids->count + 1) * sizeof(*ids->items));
	if (!more)
		return -ENOMEM;
	ids->items = more;
	snprintf(ids->items[ids->count++], ID_SIZE, "%s", id);
	return 0;
}

static int64_t processes_of(struct sandbox *sb)
{
	struct sandbox_usage usage = { 0 };
	return sandbox_usage(sb, &usage, NULL) < 0 ? 0 : usage.processes;
}

static int remove_session(struct node *node, char *id, bool all, struct error *e)
{
	struct session_spec spec = session_spec_of(id);
	struct sandbox sb;
	cleanup_free char *work = node_path(node, "criu", id, "");
	int r = sandbox_init(&sb, node->config, &spec, e);
	if (r < 0)
		return r;
	if (!all && processes_of(&sb) > 0)
		r = error_set(e, EBUSY, "session %s runs", id);
	if (r == 0 && work)
		criu_kill_orphans(work);
	if (r == 0)
		r = sandbox_kill(&sb, e);
	if (r == 0)
		r = sandbox_teardown(&sb, true, e);
	if (r == 0)
		r = journal_remove(node, id, e);
	sandbox_deinit(&sb);
	return error_remedy(e, r,
			    "Stop or hibernate the sessions first, or end them all with --all.");
}

static int remove_dirs(const struct node *node, struct error *e)
{
	static const char *const names[] = { "journal", "criu",     "images", "sessions",
					     "pages",   "identity", "asleep" };
	static const char *const noted[] = { "journal", "held" };
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(noted); i++) {
		cleanup_free char *path = fs_join(node->config->node.run_dir, noted[i]);
		r = path ? fs_remove_tree(path, e) : error_set(e, ENOMEM, "out of memory");
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		cleanup_free char *path = fs_join(node->config->node.state_dir, names[i]);
		r = path ? fs_remove_tree(path, e) : error_set(e, ENOMEM, "out of memory");
	}
	return r;
}

int teardown_run(const struct config *config, bool all, struct error *e)
{
	struct node node = { .config = config };
	struct ids ids = { 0 };
	int r = teardown_lock(config, e);
	if (r == 0)
		r = proc_boot_id(node.boot_id, e);
	/* What a guard has frozen together cannot be ended; one by one it can. */
	if (r == 0 && lease_is_frozen_together(&node))
		lease_hold_all(&node);
	if (r == 0)
		lease_dismiss_guard(&node);
	if (r == 0)
		r = sandbox_each(config, note, &ids, e);
	for (size_t i = 0; r == 0 && i < ids.count; i++)
		r = remove_session(&node, ids.items[i], all, e);
	free(ids.items);
	if (r == 0)
		r = doze_area_remove(config, e);
	if (r == 0)
		r = remove_dirs(&node, e);
	return r < 0 ? r : sandbox_host_teardown(config, e);
}

int teardown_lock(const struct config *config, struct error *e)
{
	cleanup_free char *path = fs_join(config->node.state_dir, "node.lock");
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_mkdirs(config->node.state_dir, 0755, e);
	if (r < 0)
		return r;
	/* Kept open, and so locked, for as long as the process lives. */
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(e, "cannot open %s", path);
	/* One that was killed a moment ago may still be held by its keeper (node/pages_keeper.h).
	 */
	for (int i = 0; i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
		usleep(10000);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return error_set(e, EBUSY, "another elsa-node uses %s", config->node.state_dir);
	}
	return 0;
}
