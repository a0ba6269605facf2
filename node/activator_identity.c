/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_identity.h"

#include "base/cleanup.h"
#include "wire/codec.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

/* jupyter_server/auth/identity.py, User.fill_defaults(): both are the first, unless they are set.
 */
static bool is_name(const char *key)
{
	return strcmp(key, "username") == 0 || strcmp(key, "name") == 0 ||
	       strcmp(key, "display_name") == 0;
}

/* False: there is more to it than the name. */
static bool rename_all(json_t *identity, const char *owner, const char *guest)
{
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(identity, next, key, value)
	{
		const char *text = json_string_value(value);
		if (!is_name(key) && json_is_null(value))
			continue;
		if (!is_name(key) || !text || strcmp(text, owner) != 0 ||
		    json_object_set_new(identity, key, json_string(guest)) < 0)
			return false;
	}
	return json_object_get(identity, "username") != NULL;
}

char *identity_for(const char *recorded, size_t len, const char *owner, const char *guest)
{
	cleanup_json json_t *answer = json_loadb(recorded, len, 0, NULL);
	json_t *identity = json_object_get(answer, "identity");
	return rename_all(identity, owner, guest) ? json_dumps(answer, JSON_ENSURE_ASCII) : NULL;
}
