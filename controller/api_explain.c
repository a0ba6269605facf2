/* SPDX-License-Identifier: Apache-2.0 */
/* Why a session is as it is and what comes next; what another config would decide. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "controller/explain.h"
#include "controller/try.h"

#include <string.h>

void api_get_explain(struct http_exchange *x, void *arg)
{
	struct error e = ERROR_INIT;
	struct session *s = api_query_session(x, arg);
	json_t *shown = s ? explain_json(s, &e) : NULL;
	if (shown)
		http_reply_json(x, 200, shown);
	else if (s)
		http_reply_error(x, &e);
}

void api_post_policy_try(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct error e = ERROR_INIT;
	struct config *config = NULL;
	if (!body)
		return;
	const char *text = json_string_value(json_object_get(body, "config"));
	const char *name = json_string_value(json_object_get(body, "name"));
	if (!text) {
		api_reply_fault(x, FAULT_BAD_INPUT, "config: expected the text of a config file",
				NULL);
		return;
	}
	int r = config_parse(text, strlen(text), name ? name : "config", &config, &e);
	if (r == 0)
		policy_try(arg, config, x);
	else
		http_reply_error(x, &e);
}
