/* SPDX-License-Identifier: Apache-2.0 */
/* Why nodes are emptied or not, as it is shown; what another config would do. */
#include "controller/consolidate_private.h"

#include "controller/node.h"

json_t *consolidate_node_json(const struct node *node)
{
	if (!node->consolidation.known)
		return json_null();
	enum consolidate_reason reason = node->consolidation.reason;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "reason",
			 consolidate_reason_name(reason), "text", consolidate_reason_text(reason),
			 "until", (json_int_t)node->consolidation.until, "fits_since",
			 (json_int_t)node->consolidation.fits_since, "in_use",
			 (json_int_t)node->consolidation.in_use, "in_use_bytes",
			 (json_int_t)node->consolidation.in_use_bytes, "short_bytes",
			 (json_int_t)node->consolidation.short_bytes);
}
