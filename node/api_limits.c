/* SPDX-License-Identifier: Apache-2.0 */
/* PUT /v1/sessions/{id}/limits: see node/resize.h. */
#include "node/api.h"
#include "node/resize.h"

#include <errno.h>

void api_limits(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	struct session *s = session_find(node, http_exchange_param(x, "id"));
	struct session_limits limits = { 0 };
	struct error e = ERROR_INIT;
	size_t len = 0;
	const char *body = http_exchange_body(x, &len);
	int r = wire_decode_text(&wire_session_limits, body ? body : "", len, &limits, &e);
	if (r == 0 && !s)
		r = error_set(&e, ENOENT, "there is no session %s here",
			      http_exchange_param(x, "id"));
	if (r == 0)
		r = resize(node, s, &limits, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_session_limits, &limits);
}
