/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/secrets.h"

#include <stddef.h>

static void drop_from_session(json_t *session)
{
	json_object_del(session, "api_token");
	json_object_del(session, "spawner");
}

void drop_secrets(json_t *value)
{
	size_t i;
	json_t *item;
	json_array_foreach (value, i, item)
		drop_secrets(item);
	if (!json_is_object(value))
		return;
	drop_from_session(value);
	drop_from_session(json_object_get(value, "session"));
	drop_from_session(json_object_get(json_object_get(value, "operation"), "session"));
}
