/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/names.h"
#include "cloud/notice_provider.h"
#include "wire/codec.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_MOST_S = 366 * 86400 };

/* "30s", "500ms", "2m", "1h", or seconds. */
static int parse_in(const json_t *value, int64_t *ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	const char *text = json_string_value(value);
	double number = json_is_number(value) ? json_number_value(value) : -1;
	const char *unit = "";
	if (text && (isdigit((unsigned char)*text) || *text == '.')) {
		char *end;
		number = strtod(text, &end);
		unit = end;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		double all = number * units[i].ms;
		if (strcmp(units[i].unit, unit) == 0 && all >= 0 && all <= IN_MOST_S * 1000.0) {
			*ms = (int64_t)all;
			return 0;
		}
	}
	return -EINVAL;
}

static int bad(struct error *e, const char *what)
{
	return error_set(e, EBADMSG, "%s", what);
}

static int check_members(const json_t *object, struct error *e)
{
	static const char *const names[] = { "kind", "at", "in", "detail", "id" };
	const char *name;
	const json_t *value;
	json_object_foreach ((json_t *)object, name, value) {
		int known = value_of(names, ARRAY_SIZE(names), name);
		if (known < 0)
			return error_set(e, EBADMSG, "a notice has no \"%.64s\"", name);
		if (!json_is_string(value) && strcmp(name, "in") != 0)
			return error_set(e, EBADMSG, "\"%s\" must be text", name);
	}
	if (json_object_get(object, "at") && json_object_get(object, "in"))
		return bad(e, "\"at\" and \"in\" cannot both be there");
	return 0;
}

static int set_time(struct notice_item *item, const json_t *object, wall_ms from, struct error *e)
{
	const json_t *at = json_object_get(object, "at");
	const json_t *in = json_object_get(object, "in");
	int64_t ms = 0;
	if (at && notice_time(json_string_value(at), &item->at) < 0)
		return bad(e, "\"at\" must be a time like \"2026-11-29T10:00:00Z\"");
	if (in && parse_in(in, &ms) < 0)
		return bad(e, "\"in\" must be a duration like \"30s\"");
	if (in) {
		item->at = from + ms;
		item->is_relative = true;
	}
	return 0;
}

static int add(struct notice_items *to, const json_t *object, size_t index, wall_ms from,
	       struct error *e)
{
	if (!json_is_object(object))
		return bad(e, "expected a JSON object, or a list of them");
	int r = check_members(object, e);
	if (r < 0)
		return r;
	const char *id = json_string_value(json_object_get(object, "id"));
	const char *detail = json_string_value(json_object_get(object, "detail"));
	const char *kind = json_string_value(json_object_get(object, "kind"));
	int value = value_of(notice_kind_names, NOTICE_KIND_COUNT, kind);
	char key[72];
	if (value < 0)
		return bad(e, "\"kind\" must be evict, rebalance, reboot, freeze or none");
	if (value == NOTICE_NONE)
		return 0;
	if (id)
		snprintf(key, sizeof(key), "file:%s", id);
	else
		snprintf(key, sizeof(key), "file:%zu", index);
	struct notice_item *item =
		notice_add(to, key, (enum notice_kind)value, detail ? detail : "", SIZE_MAX);
	return item ? set_time(item, object, from, e) : bad(e, to->odd);
}

int notice_file(const char *text, size_t len, wall_ms from, struct notice_items *to,
		struct error *e)
{
	json_error_t where;
	*to = (struct notice_items) { 0 };
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	if (!len)
		return 0;
	if (len > NOTICE_BODY_MOST)
		return error_set(e, EBADMSG, "larger than %d bytes", NOTICE_BODY_MOST);
	cleanup_json json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return error_set(e, EBADMSG, "line %d: %s", where.line, where.text);
	int r = json_is_array(root) ? 0 : add(to, root, 0, from, e);
	for (size_t i = 0; r == 0 && i < json_array_size(root); i++)
		r = add(to, json_array_get(root, i), i, from, e);
	if (r < 0)
		*to = (struct notice_items) { 0 };
	return r;
}
