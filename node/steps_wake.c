/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps_wake.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/activator_record.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/cpu.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int wake_check(struct effect *ef, const char *cpu, const char *criu, struct error *e)
{
	const struct node *node = ef->node;
	cleanup_free char *missing = cpu_missing(cpu, node->cpu);
	if (missing) {
		int r = error_fault(e, FAULT_REFUSED,
				    "this node's processor lacks what the session was using: %s",
				    missing);
		return error_remedy(e, r,
				    "Restore it on a node with such a processor, or start afresh.");
	}
	if (!criu_version_reads(node->criu.version, criu)) {
		int r = error_fault(
			e, FAULT_REFUSED,
			"this node's version of CRIU, %s, does not read what %s has written",
			node->criu.version, criu);
		return error_remedy(e, r, "Install CRIU %s or newer on this node.", criu);
	}
	return 0;
}

bool wake_raise_limit(struct effect *ef, int64_t bytes)
{
	struct session_limits *limits = &ef->request.session.limits;
	if (limits->memory_bytes <= 0 || bytes <= limits->memory_bytes)
		return false;
	pthread_mutex_lock(&ef->node->lock);
	limits->memory_bytes = bytes;
	effect_journal(ef)->session.limits = *limits;
	pthread_mutex_unlock(&ef->node->lock);
	return true;
}

/* It may have been given more (node/rescue.h) since its limit was put on record: with less than it
 * holds it would be ended while it wakes. */
static void keep_limit(struct effect *ef)
{
	pthread_mutex_lock(&ef->node->lock);
	int64_t held = ef->result.memory_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	if (held > ef->request.session.limits.memory_bytes)
		wake_raise_limit(ef, held + held / 4);
}

int wake_prepare(struct effect *ef, struct error *e)
{
	keep_limit(ef);
	int r = steps_clear(ef, e);
	return r < 0 ? r : sandbox_prepare(&ef->sandbox, true, e);
}

/* Making some sixty small files takes a disk's file system a tenth of a wake. What is larger, with
 * deleted files or what was in /dev/shm, is not for memory that nobody has reckoned with. */
static const char *place_for_images(struct effect *ef, uint64_t bytes)
{
	enum { SMALL = 64 << 20 };
	return bytes <= SMALL ? ef->images_near : ef->images;
}

int wake_make_images_dir(struct effect *ef, uint64_t bytes, char **criu, struct error *e)
{
	ef->laid_out = place_for_images(ef, bytes);
	*criu = fs_join(ef->laid_out, "criu");
	if (!*criu)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_mkdirs(ef->laid_out, 0700, e);
	return r < 0 ? r : fs_mkdirs(*criu, 0700, e);
}

/* CRIU, or what it restores, may wait for pages that will not come. */
static bool is_vain(void *arg)
{
	struct effect *ef = arg;
	pthread_mutex_lock(&ef->node->lock);
	bool vain = ef->session->source_gone;
	pthread_mutex_unlock(&ef->node->lock);
	return vain;
}

static void restore_options(struct effect *ef, const char *images, bool lazy,
			    struct criu_options *to)
{
	effect_criu_options(ef, to);
	to->images = images;
	to->lazy = lazy;
	to->is_vain = is_vain;
	to->arg = ef;
}

/* For images that are small and memory that comes later, as is likely. */
int wake_load(struct effect *ef, struct error *e)
{
	struct criu_options options;
	cleanup_free char *images = fs_join(ef->images_near, "criu");
	if (!images)
		return error_set(e, ENOMEM, "out of memory");
	restore_options(ef, images, arrival_is_possible(ef->node), &options);
	return criu_load_restore(&ef->sandbox, &options, &ef->loaded, e);
}

int wake_restore(struct effect *ef, struct error *e)
{
	struct criu_options options;
	pid_t init;
	cleanup_free char *images = fs_join(ef->laid_out, "criu");
	if (!images)
		return error_set(e, ENOMEM, "out of memory");
	restore_options(ef, images, ef->session->arrival, &options);
	int r = criu_restore(&ef->sandbox, &options, &init, &ef->log_tail, e);
	if (r == 0)
		r = effect_set_processes(ef, init, e);
	return r;
}

/* CRIU first, or what it is about to fork would come after the kill. */
int wake_kill_restored(struct effect *ef, struct error *e)
{
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	return r < 0 ? r : steps_kill(ef, e);
}

int wake_stop_listening(struct effect *ef, struct error *e)
{
	(void)e;
	arrival_drop(ef->node, ef->session);
	return 0;
}

/* Packets first: what a process sends while they are held is lost, and TCP takes its time to
 * notice. */
int wake_release(struct effect *ef, struct error *e)
{
	int r = asleep_must_give(ef) ? sandbox_hold(&ef->sandbox, e) : 0;
	if (r < 0)
		return r;
	asleep_give_packets(ef, ef->sandbox.keep);
	return sandbox_release(&ef->sandbox, e);
}

/* The record goes, but what was missing in it is asked for the next time. */
static void keep_wanted(struct effect *ef)
{
	cleanup_free char *record = asleep_record_dir(ef->node, ef->session->id);
	cleanup_buf struct buf lines = BUF_INIT(64 << 10);
	if (record)
		record_wanted(record, &lines);
	if (lines.len == 0)
		return;
	free(ef->session->wanted);
	ef->session->wanted = buf_steal(&lines);
}

int wake_tidy(struct effect *ef, struct error *e)
{
	keep_wanted(ef);
	cleanup_free char *answer = node_path(ef->node, "asleep", ef->session->id, "");
	unlink(ef->links); /* CRIU has taken them out of the home */
	int r = steps_drop_images(ef, e);
	if (r == 0 && answer)
		r = fs_remove_tree(answer, e);
	return r < 0 ? r : fs_remove_tree(ef->work, e);
}
