/* SPDX-License-Identifier: Apache-2.0 */
/* Notices that somebody makes up, to see what happens. */
#include "node/api.h"
#include "node/notices.h"

void api_drill(struct http_exchange *x, void *node)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	struct drill_request request = { 0 };
	struct error e = ERROR_INIT;
	int r = wire_decode_text(&wire_drill_request, body ? body : "", len, &request, &e);
	if (r == 0)
		r = notices_drill(node, request.kind, request.in_ms,
				  request.who ? request.who : http_exchange_peer(x), &e);
	wire_free(&wire_drill_request, &request);
	if (r < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, json_object());
}

void api_drill_cancel(struct http_exchange *x, void *node)
{
	struct error e = ERROR_INIT;
	if (notices_drill_cancel(node, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, json_object());
}
