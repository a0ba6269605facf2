/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/activator.h"
#include "node/activator_record.h"
#include "node/arrival.h"
#include "node/asleep.h"
#include "node/connections.h"
#include "node/doze.h"
#include "node/hold.h"
#include "node/owed.h"
#include "node/unread.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int steps_kill(struct effect *ef, struct error *e)
{
	hold_own(ef->node, ef->session);
	doze_is_over(ef);
	int r = sandbox_kill(&ef->sandbox, e);
	if (r == 0) {
		arrival_drop(ef->node, ef->session);
		hold_forget(ef->node, ef->session);
	}
	return r < 0 ? r : effect_set_processes(ef, 0, e);
}

/* Nobody will want what another node still has of its memory. Of one that was lost here that node's
 * may be all there is; so it may be of one that elsad has stopped, here, to have that node take it
 * back. What else is to become of it there elsad says. */
static bool is_well_over(const struct effect *ef)
{
	return ef->request.kind == EFFECT_HIBERNATE || ef->request.kind == EFFECT_SLEEP;
}

int steps_teardown(struct effect *ef, struct error *e)
{
	cleanup_free char *pages = arrival_dir(ef->node, ef->session->id);
	session_keep_log(ef->node, &ef->sandbox);
	arrival_forget(ef, is_well_over(ef));
	int r = effect_journal(ef)->asleep ? asleep_route(ef, e) : 0;
	if (r == 0)
		r = sandbox_teardown(&ef->sandbox, true, e);
	return r < 0 || !pages ? r : fs_remove_tree(pages, e);
}

int steps_clear(struct effect *ef, struct error *e)
{
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	if (r == 0)
		r = steps_kill(ef, e);
	if (r == 0)
		r = steps_teardown(ef, e);
	if (r == 0)
		r = fs_remove_tree(ef->work, e);
	return r;
}

int steps_unload(struct effect *ef, struct error *e)
{
	ef->loaded = criu_unload(ef->loaded);
	return criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
}

int steps_drop_images(struct effect *ef, struct error *e)
{
	int r = fs_remove_tree(ef->images, e);
	return r < 0 ? r : fs_remove_tree(ef->images_near, e);
}

int steps_mount(struct effect *ef, struct error *e)
{
	return sandbox_mount(&ef->sandbox, e);
}

int steps_unmount(struct effect *ef, struct error *e)
{
	return sandbox_unmount(&ef->sandbox, e);
}

static void forget_asleep(struct effect *ef)
{
	struct journal *j = effect_journal(ef);
	pthread_mutex_lock(&ef->node->lock);
	j->asleep = j->asleep_bytes = 0;
	pthread_mutex_unlock(&ef->node->lock);
}

void steps_answers_itself(struct effect *ef)
{
	forget_asleep(ef);
	if (ef->node->asleep)
		asleep_end_wait(ef);
}

int steps_unanswer(struct effect *ef, const char *why, struct error *e)
{
	cleanup_free char *dir = node_path(ef->node, "asleep", ef->session->id, "");
	forget_asleep(ef);
	if (ef->node->asleep)
		asleep_drop_wait(ef, why);
	int r = asleep_unroute(ef, e);
	return r < 0 || !dir ? r : fs_remove_tree(dir, e);
}

int steps_record(struct effect *ef, struct error *e)
{
	cleanup_free char *dir = asleep_dir(ef->node, ef->session->id);
	cleanup_free char *to = asleep_record_dir(ef->node, ef->session->id);
	cleanup_free char *connections = dir ? fs_join(dir, CONNECTIONS_FILE) : NULL;
	if (!dir || !to || !connections)
		return error_set(e, ENOMEM, "out of memory");
	/* It cannot be asked, and was when it began to doze. */
	if (doze_is_dozing(ef->node, ef->session))
		return fs_mkdirs(dir, 0700, e);
	int r = fs_mkdirs(to, 0700, e);
	unlink(connections); /* of last time; what was asked for in vain then stays in the record */
	if (r == 0 && ef->session->wanted) {
		record_want_all(to, ef->session->wanted);
		free(ef->session->wanted);
		ef->session->wanted = NULL;
	}
	return r < 0 ? r : activator_record(ef->node->config, &ef->request.session, to, e);
}

int steps_check_unanswered(struct effect *ef, struct error *e)
{
	bool unread = false, owed = false;
	pid_t pid = (pid_t)effect_journal(ef)->pid;
	int r = unread_is_there(pid, ef->request.session.port, &unread, e);
	if (r == 0 && !unread)
		r = owed_is_there(pid, ef->request.session.port, &owed, e);
	if (r < 0 || (!unread && !owed))
		return r;
	return error_set(e, EBUSY,
			 "session %s has been sent something it has not %s yet: it goes on",
			 ef->session->id, unread ? "read" : "answered");
}

int steps_check_idle(struct effect *ef, struct error *e)
{
	if (!session_alive(ef->node, ef->session))
		return 0;
	return error_set(e, EBUSY, "session %s runs already (generation %lld)", ef->session->id,
			 (long long)effect_journal(ef)->generation);
}
