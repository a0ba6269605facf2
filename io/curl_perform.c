/* SPDX-License-Identifier: Apache-2.0 */
#include "io/curl_perform.h"

#include <signal.h>
#include <time.h>

CURLcode curl_perform(CURL *easy)
{
	static const struct timespec now = { 0 };
	sigset_t pipe, before, pending;
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	CURLcode code = curl_easy_perform(easy);
	if (sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) &&
	    !sigismember(&before, SIGPIPE))
		sigtimedwait(&pipe, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}
