/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CRIU would have a script do at certain points of its work is done right here: a shell takes
 * some milliseconds each time, most of them for nothing, and the session stands still meanwhile.
 *
 * post-dump: the images are complete. CRIU has thawed the cgroup to seize the processes; it is
 * frozen again here, so that they stay still even if CRIU is killed. A "no" makes CRIU let go and
 * clean up.
 * setup-namespaces: the restored init exists and has no child yet.
 * post-setup-namespaces: its mounts are made, its children come next. What has joined the cgroups
 * by now brings all of them with it.
 * pre-resume: the last moment before the processes run. CRIU does not mind a failure here, hence
 * the kill.
 *
 * CRIU forks, has the child execute the script and waits for it. While it runs scripts, and at no
 * other time, its environment has ACTION: there is no child then, but its end is told all the same.
 * Without this library the script is looked for, and CRIU fails for there is none.
 */
#define _GNU_SOURCE
#include "preload/criu.h"
#include "preload/parts.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACTION "CRTOOLS_SCRIPT_ACTION"
#define INIT   "CRTOOLS_INIT_PID"

enum { NO_CHILD = INT_MAX }; /* greater than any pid */

static pid_t (*real_fork)(void);
static int failed;

void script_begin(void)
{
	*(void **)&real_fork = dlsym(RTLD_NEXT, "fork");
}

static int open_in(const char *variable, const char *name, int flags)
{
	char path[PATH_MAX];
	const char *dir = getenv(variable);
	int n = snprintf(path, sizeof(path), "%s/%s", dir ? dir : "", name);
	return dir && n < (int)sizeof(path) ? open(path, flags | O_CLOEXEC) : -1;
}

static int say(int fd, const char *text)
{
	size_t len = strlen(text);
	int r = fd >= 0 && write(fd, text, len) == (ssize_t)len ? 0 : -1;
	if (fd >= 0)
		close(fd);
	return r;
}

static int freeze(void)
{
	int fd = open_in(CRIU_FREEZER, "cgroup.freeze", O_WRONLY);
	if (fd >= 0)
		return say(fd, "1\n");
	return say(open_in(CRIU_FREEZER, "freezer.state", O_WRONLY), "FROZEN\n");
}

/* A line and not more: the next one is for the next question. */
static int read_line(int fd, char *line, size_t size)
{
	size_t len = 0;
	while (len + 1 < size) {
		ssize_t n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		if (line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
	return 0;
}

/* The fifos are opened for both directions: nothing hangs when nobody listens any more, nor ends
 * when nobody is there to give a word. */
int script_tell(const char *line)
{
	return say(open_in(CRIU_WORK, "told", O_RDWR), line);
}

int script_ask(const char *question)
{
	char word[16];
	if (script_tell(question) < 0)
		return -1;
	int fd = open_in(CRIU_WORK, "verdict", O_RDWR);
	int r = fd < 0 ? -1 : read_line(fd, word, sizeof(word));
	if (fd >= 0)
		close(fd);
	return r == 0 && strcmp(word, "yes") == 0 ? 0 : -1;
}

static int adopt(const char *init)
{
	char question[64];
	snprintf(question, sizeof(question), "adopt %s\n", init);
	return script_ask(question);
}

static int act(const char *action)
{
	const char *known = getenv(INIT);
	const char *init = known ? known : "";
	pid_t pid = (pid_t)strtol(init, NULL, 10);
	if (strcmp(action, "post-dump") == 0)
		return freeze() < 0 ? -1 : script_ask("dumped\n");
	if (strcmp(action, "setup-namespaces") == 0)
		return adopt(init);
	if (strcmp(action, "post-setup-namespaces") == 0)
		return script_ask("adopted\n");
	if (strcmp(action, "pre-resume") == 0 && freeze() < 0 && pid > 0)
		kill(pid, SIGKILL);
	return 0;
}

INTERPOSED pid_t fork(void)
{
	const char *action = getenv(ACTION);
	if (!action)
		return real_fork();
	failed = act(action) < 0;
	return NO_CHILD;
}

INTERPOSED pid_t waitpid(pid_t pid, int *status, int options)
{
	if (pid != NO_CHILD)
		return wait4(pid, status, options, NULL);
	*status = failed ? W_EXITCODE(1, 0) : 0;
	return pid;
}
