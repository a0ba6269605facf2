/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_transfer.h"

#include "base/cleanup.h"
#include "io/curl_perform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int http_call_blocking(const struct http_request *request, int *status, char **body,
		       struct error *e)
{
	cleanup(http_transfer_deinit) struct http_transfer t = { 0 };
	struct http_reply reply;
	int r = http_transfer_init(&t, request, request->data_arg, e);
	if (r < 0)
		return r;
	http_transfer_reply(&t, curl_perform(t.easy), &reply);
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
