/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/codec.h"
#include "wire/text.h"

#include <stdio.h>
#include <string.h>

json_t *wire_encode_error(const struct error *from)
{
	json_t *text = wire_text(from->text);
	json_t *remedy = wire_text(from->remedy);
	/* "o" takes the references over even when packing fails, and fails on NULL. */
	return json_pack("{s:{s:s, s:o, s:o}}", "error", "fault", fault_name(from->fault), "text",
			 text, "remedy", remedy);
}

/* The fault the peer named or, when that is none of ours (a proxy's answer, a newer program), the
 * one its status stands for. What says that it is an error never becomes FAULT_NONE. */
static enum fault decode_fault(const char *name, int http_status)
{
	enum fault fault = fault_from_name(name);
	if (!name || strcmp(name, fault_name(fault)) != 0)
		fault = fault_from_http_status(http_status);
	return fault == FAULT_NONE ? FAULT_INTERNAL : fault;
}

void wire_decode_error(const json_t *from, int http_status, struct error *to)
{
	const json_t *inner = json_object_get(from, "error");
	const char *text = json_string_value(json_object_get(inner, "text"));
	const char *remedy = json_string_value(json_object_get(inner, "remedy"));
	*to = ERROR_INIT;
	if (!json_is_object(inner) && fault_from_http_status(http_status) == FAULT_NONE)
		return;
	to->fault = decode_fault(json_string_value(json_object_get(inner, "fault")), http_status);
	if (text && *text)
		snprintf(to->text, sizeof(to->text), "%s", text);
	else
		snprintf(to->text, sizeof(to->text), "the answer was HTTP status %d", http_status);
	if (remedy)
		snprintf(to->remedy, sizeof(to->remedy), "%s", remedy);
}
