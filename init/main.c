/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elsa-init: pid 1 of every session. Runs the command behind "--", reaps what
 * is orphaned, hands signals on to the command and ends as it does.
 *
 * It also holds the vault (node/vault.h): two connected sockets that nobody
 * here ever reads or writes. elsa-node keeps descriptors in their queue that
 * must live as long as the session. They are part of the session, so a
 * checkpoint carries them; their numbers are known to node/vault.c.
 *
 * Static, since it runs in images of any kind.
 */
#define _GNU_SOURCE
#include "init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What elsa-node looks for in the session's log. */
static void __attribute__((noreturn)) fail(int code, const char *what, const char *name)
{
	dprintf(STDERR_FILENO, INIT_REFUSAL "cannot %s %s: %s\n", what, name, strerror(code));
	/* As shells say "not found" and "not executable". */
	_exit(code == ENOENT ? 127 : 126);
}

static int make_vault(void)
{
	/* Room for some hundred messages where the machine's limit allows it. */
	const int room = 1 << 20;
	int ends[2], at[2] = { INIT_VAULT_IN, INIT_VAULT_OUT };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		if (dup3(ends[i], at[i], O_CLOEXEC) < 0)
			return -1;
		close(ends[i]);
	}
	return 0;
}

static void __attribute__((noreturn)) run_command(char **argv, const sigset_t *mask)
{
	/* A group of its own, so that what is sent to a group does not reach init. */
	setpgid(0, 0);
	signal(SIGTTIN, SIG_DFL);
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	fail(errno, "execute", argv[0]);
}

/* True when the command itself has ended. */
static int reap(pid_t command, int *status)
{
	int ended = 0, how;
	pid_t pid;
	while ((pid = waitpid(-1, &how, WNOHANG)) > 0) {
		if (pid == command) {
			*status = how;
			ended = 1;
		}
	}
	return ended;
}

static int serve(pid_t command, const sigset_t *signals)
{
	int status = 0;
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(signals, &info);
		if (number == SIGCHLD && reap(command, &status))
			return status;
		/* It may have ended this moment; then SIGCHLD is next. */
		if (number > 0 && number != SIGCHLD)
			kill(command, number);
	}
}

/* All but those that a fault of our own raises. */
static void signals_to_hand_on(sigset_t *set)
{
	static const int own[] = { SIGFPE,  SIGILL, SIGSEGV, SIGBUS, SIGABRT,
				   SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
	sigfillset(set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(set, own[i]);
}

int main(int argc, char **argv)
{
	sigset_t signals, before;
	if (argc < 3 || strcmp(argv[1], "--") != 0) {
		dprintf(STDERR_FILENO, "usage: elsa-init -- COMMAND...\n");
		return 2;
	}
	if (make_vault() < 0)
		fail(errno, "make", "the vault");
	signals_to_hand_on(&signals);
	sigprocmask(SIG_BLOCK, &signals, &before);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	pid_t command = fork();
	if (command < 0)
		fail(errno, "start", argv[2]);
	if (command == 0)
		run_command(argv + 2, &before);
	int status = serve(command, &signals);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
