/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that leave this node while they run: docs/migration.md. */
#include "base/id.h"
#include "node/api.h"
#include "node/depart.h"
#include "wire/identity.h"

#include <errno.h>
#include <string.h>

static void reply(struct http_exchange *x, int r, const struct error *e)
{
	if (r < 0)
		http_reply_error(x, e);
	else
		http_reply_json(x, 200, json_object());
}

static int check(struct http_exchange *x, const struct departure *wanted, struct error *e)
{
	const char *id = http_exchange_param(x, "id");
	if (!api_id_valid(id) || strcmp(wanted->id, id) != 0)
		return error_set(e, EINVAL, "id: must be the one of the path, as an effect's");
	if (!id_valid(wanted->session))
		return error_set(e, EINVAL, "session: expected 16 hexadecimal digits");
	if (!node_name_valid(wanted->to))
		return error_set(e, EINVAL, "to: \"%s\" is not a name for a node", wanted->to);
	return 0;
}

void api_departure_grant(struct http_exchange *x, void *node)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	struct departure wanted = { 0 }, now = { 0 };
	struct error e = ERROR_INIT;
	int r = wire_decode_text(&wire_departure, body ? body : "", len, &wanted, &e);
	if (r == 0)
		r = check(x, &wanted, &e);
	if (r == 0)
		r = depart_grant(node, &wanted, &now, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_departure, &now);
	wire_free(&wire_departure, &now);
	wire_free(&wire_departure, &wanted);
}

void api_departure(struct http_exchange *x, void *node)
{
	struct departure now = { 0 };
	struct error e = ERROR_INIT;
	if (depart_show(node, http_exchange_param(x, "id"), &now, &e) < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_departure, &now);
	wire_free(&wire_departure, &now);
}

void api_departure_take_back(struct http_exchange *x, void *node)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	struct take_back_request request = { 0 };
	struct error e = ERROR_INIT;
	int r = body && len ? wire_decode_text(&wire_take_back_request, body, len, &request, &e)
			    : 0;
	if (r == 0)
		r = depart_take_back(node, http_exchange_param(x, "id"), request.fence, &e);
	reply(x, r, &e);
}

void api_departure_end(struct http_exchange *x, void *node)
{
	struct error e = ERROR_INIT;
	reply(x, depart_end(node, http_exchange_param(x, "id"), &e), &e);
}
