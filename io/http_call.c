/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_transfer.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* OpenSSL writes to connections whose peer is gone. The signal is held back for this thread only,
 * and taken if it came: a command that prints into a pipe needs the rest of the program to heed it.
 */
static CURLcode perform(CURL *easy)
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

int http_call_blocking(const struct http_request *request, int *status, char **body,
		       struct error *e)
{
	cleanup(http_transfer_deinit) struct http_transfer t = { 0 };
	struct http_reply reply;
	int r = http_transfer_init(&t, request, NULL, e);
	if (r < 0)
		return r;
	http_transfer_reply(&t, perform(t.easy), &reply);
	if (reply.status == 0) {
		if (e)
			*e = reply.error;
		return -fault_errno(reply.error.fault);
	}
	*status = reply.status;
	*body = buf_steal(&t.body);
	return *body ? 0 : error_set(e, ENOMEM, "out of memory");
}

char *http_escape(const char *text)
{
	/* No handle is needed; a length of 0 means up to the NUL. */
	char *escaped = curl_easy_escape(NULL, text, 0);
	char *copy = escaped ? strdup(escaped) : NULL;
	curl_free(escaped);
	return copy;
}
