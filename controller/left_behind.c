/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/left_behind.h"

#include "base/cleanup.h"
#include "wire/text.h"

#include <errno.h>
#include <string.h>

json_t *left_behind_json(const struct session *s)
{
	json_t *json = s->row.left_behind ? json_loads(s->row.left_behind, 0, NULL) : NULL;
	return json ? json : json_null();
}

int left_behind_note(struct session *s, const char *node, wall_ms at, const struct evacuee *one,
		     struct error *e)
{
	const char *why = one->why ? one->why : "the node gives no reason";
	cleanup_json json_t *json =
		json_pack("{s:o, s:I, s:o, s:I}", "node", wire_text(node), "at", (json_int_t)at,
			  "why", wire_text(why), "snapshot_at", (json_int_t)one->snapshot_at);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	if (s->row.left_behind && strcmp(s->row.left_behind, text) == 0)
		return 0;
	return session_set_left_behind(s, text, e);
}

int left_behind_take_back(struct session *s, const char *node, struct error *e)
{
	cleanup_json json_t *json = left_behind_json(s);
	bool its = json_is_object(json) && strcmp(wire_text_at(json, "node"), node) == 0;
	return its ? session_set_left_behind(s, NULL, e) : 0;
}
