/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/home_note.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- as the user ------------------------------------------------------------------------ */

/* Of this thread alone, which the C library's setgroups() is not. */
static int set_groups(size_t count, const gid_t *groups)
{
	return (int)syscall(SYS_setgroups, count, groups);
}

struct before {
	gid_t groups[NGROUPS_MAX];
	int count;
};

static void become_ourselves(const struct before *before)
{
	setfsuid(geteuid());
	setfsgid(getegid());
	if (set_groups((size_t)before->count, before->groups) < 0)
		abort(); /* what comes next on this thread must not be done as somebody else */
}

/* With its user's rights and no others: the kernel takes those over files from whoever has another
 * fsuid than 0. */
static int become_user(const struct session_spec *spec, struct before *before, struct error *e)
{
	gid_t gid = (gid_t)spec->gid;
	before->count = getgroups(NGROUPS_MAX, before->groups);
	if (before->count < 0 || set_groups(1, &gid) < 0)
		return error_errno(e, "cannot act as user %lld", (long long)spec->uid);
	setfsgid(gid);
	setfsuid((uid_t)spec->uid);
	if (setfsuid((uid_t)-1) == (int)spec->uid && setfsgid((gid_t)-1) == (int)gid)
		return 0;
	become_ourselves(before);
	return error_set(e, EPERM, "cannot act as user %lld", (long long)spec->uid);
}

/* What is above a home need not be the user's to look into. */
static int open_home(const struct session_spec *spec, int *home, struct error *e)
{
	*home = open(spec->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *home < 0 ? error_errno(e, "cannot open %s", spec->home) : 0;
}

static int as_user(const struct session_spec *spec,
		   int (*act)(int home, const struct session_spec *spec, const char *text,
			      struct error *e),
		   const char *text, struct error *e)
{
	int home = -1;
	if (spec->uid <= 0 || spec->gid <= 0)
		return error_set(e, EPERM, "the session has no user of its own");
	cleanup_free struct before *before = malloc(sizeof(*before));
	int r = before ? open_home(spec, &home, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	r = become_user(spec, before, e);
	if (r == 0) {
		r = act(home, spec, text, e);
		become_ourselves(before);
	}
	close(home);
	return r;
}

/* --- the file --------------------------------------------------------------------------- */

struct names {
	char name[64], temporary[64];
};

static struct names names_of(const struct session_spec *spec)
{
	struct names n;
	snprintf(n.name, sizeof(n.name), HOME_NOTE_NAME, spec->id);
	snprintf(n.temporary, sizeof(n.temporary), "." HOME_NOTE_NAME, spec->id);
	return n;
}

static int fill_file(int home, const char *name, const char *text, struct error *e)
{
	int fd = openat(home, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(e, "cannot make %s", name);
	int r = 0;
	if (fs_write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0)
		r = error_errno(e, "cannot write %s", name);
	if (close(fd) < 0 && r == 0)
		r = error_errno(e, "cannot write %s", name);
	return r;
}

static int write_note(int home, const struct session_spec *spec, const char *text, struct error *e)
{
	const struct names n = names_of(spec);
	unlinkat(home, n.temporary, 0); /* of a crash; where it is none, the next step says so */
	int r = fill_file(home, n.temporary, text, e);
	if (r == 0 && renameat(home, n.temporary, home, n.name) < 0)
		r = error_errno(e, "cannot make %s", n.name);
	if (r < 0)
		unlinkat(home, n.temporary, 0);
	return r;
}

static int remove_note(int home, const struct session_spec *spec, const char *text, struct error *e)
{
	const struct names n = names_of(spec);
	struct stat st;
	(void)text;
	bool there = fstatat(home, n.name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!there && errno != ENOENT)
		return error_errno(e, "cannot look at %s", n.name);
	if (!there || !S_ISREG(st.st_mode) || st.st_uid != (uid_t)spec->uid)
		return 0;
	if (unlinkat(home, n.name, 0) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", n.name);
	return 0;
}

int home_note_write(const struct session_spec *spec, const char *text, struct error *e)
{
	int r = as_user(spec, write_note, text, e);
	return r < 0 ? error_wrap(e, r, "the note in %s", spec->home) : 0;
}

int home_note_remove(const struct session_spec *spec, struct error *e)
{
	int r = as_user(spec, remove_note, NULL, e);
	return r < 0 ? error_wrap(e, r, "the note in %s", spec->home) : 0;
}

/* --- what it says ----------------------------------------------------------------------- */

/* "2026-11-29 18:40:10 UTC" */
static const char *time_text(wall_ms at, char to[CLOCK_TEXT_SIZE])
{
	const size_t date = strlen("2026-11-29"), whole = strlen("2026-11-29T18:40:10");
	if (strlen(clock_format(at, to)) < whole)
		return to;
	to[date] = ' ';
	snprintf(to + whole, CLOCK_TEXT_SIZE - whole, " UTC");
	return to;
}

char *home_note_text(const struct session_spec *spec, wall_ms deadline, const char *why,
		     wall_ms snapshot_at)
{
	char end[CLOCK_TEXT_SIZE] = "", snapshot[CLOCK_TEXT_SIZE] = "";
	bool named = spec->server && spec->server[0];
	time_text(deadline, end);
	time_text(snapshot_at, snapshot);
	return str_printf(
		"Your session%s%s%s ends at %s: the machine that it runs on goes away.\n"
		"\n"
		"It cannot be saved as it is now: %s\n"
		"\n"
		"SAVE YOUR WORK INTO FILES BEFORE THEN. Files in your home directory stay.\n"
		"What is only in memory, as variables in notebooks, %s%s%s.\n"
		"\n"
		"When you start your server again after that, it runs on another machine.\n"
		"You may delete this file.\n",
		named ? " \"" : "", named ? spec->server : "", named ? "\"" : "", end,
		why && *why ? why : "the machine gives no reason",
		snapshot_at ? "goes back to how it was at " : "is lost", snapshot,
		snapshot_at ? ", or is lost" : "");
}
