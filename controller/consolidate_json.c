/* SPDX-License-Identifier: Apache-2.0 */
/* Why nodes are emptied or not, as it is shown; what another config would do. */
#include "controller/consolidate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/node.h"
#include "rules/rules.h"
#include "wire/text.h"

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

static json_t *node_row(const struct consolidate_node *n, enum consolidate_reason reason)
{
	cleanup_free char *text = str_printf("%s: %s", consolidate_reason_name(reason),
					     consolidate_reason_text(reason));
	return json_pack("{s:o, s:s, s:I, s:I, s:I, s:s}", "node", wire_text(n->name), "reason",
			 consolidate_reason_name(reason), "in_use", (json_int_t)n->in_use,
			 "in_use_bytes", (json_int_t)n->in_use_bytes, "short_bytes",
			 (json_int_t)n->short_bytes, "text", text ? text : "");
}

json_t *consolidate_decide_json(struct controller *c)
{
	struct consolidate_pass pass = { 0 };
	struct consolidate_decision list[2]; /* nodes come before sessions */
	const struct consolidate_rules rules = rules_consolidate(c->config);
	json_t *rows = json_array();
	wall_ms now = clock_wall(), next;
	size_t count = 0;
	if (consolidate_collect(c, &pass, now) == 0)
		count = consolidate_decide(&rules, &pass.facts, now, list, ARRAY_SIZE(list), &next);
	for (size_t i = 0; i < pass.facts.node_count; i++) {
		const struct consolidate_node *n = &pass.facts.nodes[i];
		bool begins = count && list[0].kind == CONSOLIDATE_BEGIN && list[0].node == i;
		enum consolidate_reason reason = !c->config->consolidation.enabled ? CONSOLIDATE_OFF
						 : begins ? CONSOLIDATE_EMPTYING
							  : n->reason;
		if (!pass.nodes[i]->local)
			json_array_append_new(rows, node_row(n, reason));
	}
	consolidate_pass_deinit(&pass);
	return rows;
}
