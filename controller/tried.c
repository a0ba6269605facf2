/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/tried.h"

#include "base/cleanup.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static json_t *load(const char *text)
{
	json_t *list = text ? json_loads(text, 0, NULL) : NULL;
	if (json_is_array(list))
		return list;
	json_decref(list);
	return json_array();
}

static const char *text_of(const json_t *item, const char *key)
{
	const char *text = json_string_value(json_object_get(item, key));
	return text ? text : "";
}

char *tried_add(const char *text, const char *node, const char *why, bool gone)
{
	char cut[TRIED_WHY_SIZE];
	snprintf(cut, sizeof(cut), "%s", why);
	cleanup_json json_t *list = load(text);
	json_t *item = json_pack("{s:o, s:o, s:b}", "node", wire_text(node), "why", wire_text(cut),
				 "gone", (int)gone);
	if (json_array_append_new(list, item) < 0)
		return NULL;
	return json_dumps(list, JSON_COMPACT);
}

struct tried tried_on(const char *text, const char *node)
{
	struct tried found = { 0 };
	cleanup_json json_t *list = load(text);
	size_t i;
	json_t *item;
	json_array_foreach (list, i, item) {
		if (strcmp(text_of(item, "node"), node) != 0)
			continue;
		bool gone = json_is_true(json_object_get(item, "gone"));
		found.gone |= gone;
		found.failed |= !gone;
		snprintf(found.why, sizeof(found.why), "%s", text_of(item, "why"));
	}
	return found;
}

size_t tried_count(const char *text)
{
	cleanup_json json_t *list = load(text);
	return json_array_size(list);
}

bool tried_any_failed(const char *text)
{
	cleanup_json json_t *list = load(text);
	size_t i;
	json_t *item;
	json_array_foreach (list, i, item)
		if (!json_is_true(json_object_get(item, "gone")))
			return true;
	return false;
}
