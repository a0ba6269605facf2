/* SPDX-License-Identifier: Apache-2.0 */
#include "node/criu.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words in an error line of CRIU 3.17 to 4.2, and what they mean to the owner of a session. The
 * first that fits an error line is taken. */
static const struct {
	const char *words;
	const char *means;
} meanings[] = {
	{ "io_uring", "A program in the session uses io_uring, which cannot be checkpointed. End "
		      "that program, or make it use another way of input and output." },
	{ "execvp(\"elsa-criu.so\"",
	  "CRIU did not load Elsa's library: it must not be linked statically, nor have "
	  "capabilities of its own file (getcap)." },
	{ "perf_event", "A program in the session has a performance counter open (perf). End it." },
	{ "userfaultfd", "A program in the session handles its own page faults (userfaultfd). End "
			 "it." },
	{ "External socket is used",
	  "A program in the session is connected over a unix socket to one "
	  "outside of it. End that connection." },
	{ "half of stream unix connection",
	  "A program in the session is connected over a unix socket "
	  "to one outside of it. End that connection." },
	{ "unreachable peer", "A program in the session is connected over a unix socket to one "
			      "outside of it. End that connection." },
	{ "In-flight connection", "A connection is just being made. This passes: try again." },
	{ "to disable MPTCP",
	  "A program in the session uses MPTCP, which cannot be checkpointed. For "
	  "Go programs set GODEBUG=multipathtcp=0." },
	{ "Unsupported proto",
	  "A program in the session has a network socket of a kind that cannot be "
	  "checkpointed. End that program." },
	{ "Unknown pair family", "A program in the session has a socket of a kind that cannot be "
				 "checkpointed. End that program." },
	{ "unsupported socket family",
	  "A program in the session has a socket of a kind that cannot be "
	  "checkpointed. End that program." },
	{ "BUG! Unknown socket collected", "A program in the session has a socket of a kind that "
					   "cannot be checkpointed. End that program." },
	{ "Control messages in queue",
	  "A message with credentials or file descriptors is under way "
	  "between two programs of the session. This passes: try again." },
	{ "Can't dump ghost file", "A file of more than 4 GiB was deleted while a program has it "
				   "open. Close it in the program." },
	{ "Can't create link remap",
	  "A file was deleted in a directory where nothing can be written "
	  "while a program has it open. Close it in the program." },
	{ "Can't lookup mount=",
	  "A program in the session has a file open on a file system that was "
	  "unmounted or is not the session's own. Close it." },
	{ "Open files on overmounted mounts", "A program has a file open that lies below another "
					      "mount. Close it." },
	{ "doesn't have a proper root mount", "A file system was mounted into the session while it "
					      "ran, which cannot be checkpointed. Unmount it." },
	{ "Can't dump file", "A program in the session has something open that cannot be "
			     "checkpointed: the message names the process and the descriptor." },
	{ "Zombie with children",
	  "A process of the session is just ending. This passes: try again." },
	{ "Zombies with threads",
	  "A process of the session is just ending. This passes: try again." },
	{ "Individually stopped threads",
	  "Threads of one process are stopped, others run: a debugger "
	  "is at work. Let it go on or end it." },
	{ "Can't seize",
	  "A process of the session is being traced by a debugger. End the debugger." },
	{ "Unseizable",
	  "A process of the session is being traced by a debugger. End the debugger." },
	{ "Unable to freeze cgroup",
	  "The session did not come to rest: a process hangs in the kernel, "
	  "often on a network file system. Look at that, then try again." },
	{ "session leader", "A process belongs to a terminal session from outside." },
	{ "has bad size",
	  "A file that the session had open was changed while it slept. Put the file "
	  "back as it was and try again, or start afresh." },
	{ "has bad build-ID",
	  "A program or library was exchanged while the session slept. Put the old "
	  "version back and try again, or start afresh." },
	{ "has bad mode",
	  "The permissions of a file that the session had open were changed while it "
	  "slept. Put them back and try again, or start afresh." },
	{ "Can't open file",
	  "A file that the session had open is no longer there. Put it back and try "
	  "again, or start afresh." },
	{ "Can't open link_remap",
	  "A file that the session needs was removed from its home while it "
	  "slept." },
	{ "No mapping for", "A mount of the session is not known on this node: its configuration "
			    "differs from the one the session was started with." },
	{ "Address already in use", "The session's address or port is in use on this node." },
	{ "Can't bind inet socket", "The session's address is not there in its network." },
	{ "Can't fork for", "Not enough processes are allowed: raise the limit of processes." },
	{ "No space left", "The disk is full. Make room and try again." },
	{ "Cannot allocate memory", "Memory does not suffice for the session on this node, or its "
				    "limit is too low." },
	{ "Can't get rlimit", "CRIU lacks CAP_SYS_RESOURCE: run elsa-node with it." },
	{ "CPU instruction capabilities", "This processor lacks what the session's had." },
	{ "FPU feature", "This processor lacks what the session's had." },
	{ "vdso",
	  "This CRIU does not know this kernel: install a newer CRIU (see 'elsa doctor')." },
	{ "Can't get 1:", "This CRIU does not know this kernel: install a newer CRIU (see 'elsa "
			  "doctor')." },
};

/* "(00.123456)  42: Error (criu/files.c:12): text". Returns the text, or NULL if it is no error. */
static const char *error_text(const char *line, size_t len)
{
	cleanup_free char *copy = strndup(line, len);
	const char *mark = copy ? strstr(copy, "Error (") : NULL;
	const char *text = mark ? strstr(mark, "): ") : NULL;
	return text ? line + (text - copy) + 3 : NULL;
}

/* Said when something went wrong before, or when nothing did; never the reason. */
static bool is_no_reason(const char *text)
{
	static const char *const words[] = { "Dumping FAILED",
					     "Restoring FAILED",
					     "Pre-dumping FAILED",
					     "Killing processes",
					     "cg: cgroupd: recv req error",
					     "rlimit: Can't setup RLIMIT_NOFILE" };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strncmp(text, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

/* Calls `each` with every error's text and its length until it returns true. */
static void each_error(const char *log, bool (*each)(const char *text, size_t len, void *arg),
		       void *arg)
{
	while (*log) {
		size_t len = strcspn(log, "\n");
		const char *text = error_text(log, len);
		if (text && !is_no_reason(text) && each(text, len - (size_t)(text - log), arg))
			return;
		log += len + (log[len] == '\n');
	}
}

static bool take_text(const char *text, size_t len, void *arg)
{
	*(char **)arg = strndup(text, len);
	return true;
}

char *criu_first_error(const char *log)
{
	char *text = NULL;
	each_error(log, take_text, &text);
	return text;
}

static bool take_meaning(const char *text, size_t len, void *arg)
{
	cleanup_free char *line = strndup(text, len);
	for (size_t i = 0; line && i < ARRAY_SIZE(meanings); i++) {
		if (strcasestr(line, meanings[i].words)) {
			*(char **)arg = strdup(meanings[i].means);
			return true;
		}
	}
	return false;
}

char *criu_explain(const char *log)
{
	char *means = NULL;
	each_error(log, take_meaning, &means);
	return means;
}

const char *criu_log_tail(const char *log, int lines)
{
	const char *p = log + strlen(log);
	if (p > log && p[-1] == '\n')
		p--;
	while (p > log && !(p[-1] == '\n' && --lines == 0))
		p--;
	return p;
}
