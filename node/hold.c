/* SPDX-License-Identifier: Apache-2.0 */
#include "node/hold.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/cgroup.h"
#include "node/depart.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const char *const hold_reason_names[HOLD_REASON_COUNT] = {
	[HOLD_LEASE] = "lease",
	[HOLD_EVACUATION] = "evacuation",
	[HOLD_DOZE] = "doze",
	[HOLD_MEMORY] = "memory",
};

/* --- the notes ------------------------------------------------------------------- */

static char *note_path(const char *run_dir, const char *boot_id, const char *id,
		       enum hold_reason why)
{
	return str_printf("%s/held/%s/%s.%s", run_dir, boot_id, id, hold_reason_names[why]);
}

static char *path_of(const struct node *node, const struct session *s, enum hold_reason why)
{
	return note_path(node->config->node.run_dir, node->boot_id, s->id, why);
}

int hold_init(struct node *node, struct error *e)
{
	cleanup_free char *dir =
		str_printf("%s/held/%s", node->config->node.run_dir, node->boot_id);
	pthread_mutex_init(&node->hold_lock, NULL);
	return dir ? fs_mkdirs(dir, 0700, e) : error_set(e, ENOMEM, "out of memory");
}

int hold_note(const char *run_dir, const char *boot_id, const char *id, enum hold_reason why,
	      struct error *e)
{
	cleanup_free char *path = note_path(run_dir, boot_id, id, why);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? error_errno(e, "cannot note that session %s is held", id) : 0;
}

static int remove_note(const struct node *node, const struct session *s, enum hold_reason why,
		       struct error *e)
{
	cleanup_free char *path = path_of(node, s, why);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", path);
	return 0;
}

/* --- the freezer; under hold_lock -------------------------------------------------- */

static int ask(struct node *node, const struct session *s, bool freeze, struct error *e)
{
	struct cgroup cg;
	int r = cgroup_init(&cg, node->config->node.cgroup, s->id, e);
	if (r < 0)
		return r;
	if (cgroup_exists(&cg))
		r = freeze ? cgroup_freeze_soon(&cg, e) : cgroup_thaw(&cg, e);
	cgroup_deinit(&cg);
	return r;
}

int hold_take(struct node *node, struct session *s, enum hold_reason why, struct error *e)
{
	int noted = hold_note(node->config->node.run_dir, node->boot_id, s->id, why, e);
	pthread_mutex_lock(&node->hold_lock);
	s->held |= 1U << why;
	int r = s->freezer_owned ? 0 : ask(node, s, true, e);
	pthread_mutex_unlock(&node->hold_lock);
	return noted < 0 ? noted : r;
}

/* The note last: a kill in between leaves a reason, which whoever took it drops once more. */
int hold_drop(struct node *node, struct session *s, enum hold_reason why, struct error *e)
{
	/* One of which it is not known whether it is a checkpoint by now stays as it is. */
	bool undecided = !s->effect && s->journal.effect;
	pthread_mutex_lock(&node->hold_lock);
	bool last = s->held == 1U << why;
	s->held &= ~(1U << why);
	bool runs = last && !s->freezer_owned && !undecided && !session_is_given(s);
	int r = runs ? ask(node, s, false, e) : 0;
	pthread_mutex_unlock(&node->hold_lock);
	return r < 0 ? r : remove_note(node, s, why, e);
}

int hold_clear(struct node *node, struct session *s, enum hold_reason why, struct error *e)
{
	pthread_mutex_lock(&node->hold_lock);
	s->held &= ~(1U << why);
	pthread_mutex_unlock(&node->hold_lock);
	return remove_note(node, s, why, e);
}

static unsigned reasons(struct node *node, const struct session *s)
{
	pthread_mutex_lock(&node->hold_lock);
	unsigned held = s->held;
	pthread_mutex_unlock(&node->hold_lock);
	return held;
}

bool hold_has(struct node *node, const struct session *s, enum hold_reason why)
{
	return reasons(node, s) & 1U << why;
}

bool hold_any(struct node *node, const struct session *s)
{
	return reasons(node, s) != 0;
}

void hold_recover(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	unsigned held = 0;
	for (int why = 0; why < HOLD_REASON_COUNT; why++) {
		cleanup_free char *path = path_of(node, s, (enum hold_reason)why);
		if (path && access(path, F_OK) == 0)
			held |= 1U << why;
	}
	pthread_mutex_lock(&node->hold_lock);
	s->held = held;
	bool stands = held || session_is_given(s);
	int r = stands && !s->freezer_owned && !s->journal.effect ? ask(node, s, true, &e) : 0;
	pthread_mutex_unlock(&node->hold_lock);
	if (r < 0)
		log_error("session %s: it is to stand still: %s", s->id, e.text);
}

/* --- for effects ---------------------------------------------------------------------- */

void hold_own(struct node *node, struct session *s)
{
	pthread_mutex_lock(&node->hold_lock);
	s->freezer_owned = true;
	pthread_mutex_unlock(&node->hold_lock);
}

bool hold_is_owned(struct node *node, const struct session *s)
{
	pthread_mutex_lock(&node->hold_lock);
	bool owned = s->freezer_owned;
	pthread_mutex_unlock(&node->hold_lock);
	return owned;
}

/* Asked to freeze also when it should be frozen: CRIU may have let it go to seize it. */
int hold_settle(struct node *node, struct session *s, struct error *e)
{
	pthread_mutex_lock(&node->hold_lock);
	s->freezer_owned = false;
	int r = ask(node, s, s->held != 0 || session_is_given(s), e);
	pthread_mutex_unlock(&node->hold_lock);
	return r;
}

void hold_give_back(struct node *node, struct session *s)
{
	struct error e = ERROR_INIT;
	pthread_mutex_lock(&node->hold_lock);
	bool owned = s->freezer_owned;
	/* Of an effect that is left open there may be processes that are not recorded. */
	bool over = !s->journal.pid && !s->journal.effect;
	s->freezer_owned = false;
	int r = owned && s->held && !over ? ask(node, s, true, &e) : 0;
	pthread_mutex_unlock(&node->hold_lock);
	if (r < 0)
		log_error("session %s: it is to stand still: %s", s->id, e.text);
	/* A reason may have come behind its last process. */
	if (over)
		hold_forget(node, s);
}

void hold_forget(struct node *node, struct session *s)
{
	pthread_mutex_lock(&node->hold_lock);
	s->held = 0;
	pthread_mutex_unlock(&node->hold_lock);
	for (int why = 0; why < HOLD_REASON_COUNT; why++)
		remove_note(node, s, (enum hold_reason)why, NULL);
}
