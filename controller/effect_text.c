/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/effect_text.h"

#include "base/fs.h"
#include "controller/node.h"

/* What the failure of an effect is called in the session's reason. */
char *effect_failure_text(const struct effect *effect, const struct effect_result *result)
{
	static const char *const could_not[EFFECT_KIND_COUNT] = {
		[EFFECT_START] = "could not be started",
		[EFFECT_HIBERNATE] = "could not be checkpointed",
		[EFFECT_SNAPSHOT] = "no snapshot could be taken",
		[EFFECT_RESTORE] = "could not be restored",
		[EFFECT_STOP] = "could not be stopped",
		[EFFECT_FORGET] = "could not be forgotten",
		[EFFECT_FENCE] = "could not be fenced",
		[EFFECT_MIGRATE] = "could not be moved",
		[EFFECT_SLEEP] = "could not be checkpointed",
		[EFFECT_ANSWER] = "could not be answered for",
		[EFFECT_RELEASE] = "could not be let go of by its node",
		[EFFECT_DOZE] = "could not be frozen",
		[EFFECT_ROUSE] = "could not be thawed",
	};
	bool remedy = result->remedy && *result->remedy;
	return str_printf("%s: %s%s%s", could_not[effect->kind],
			  result->text ? result->text : "the node gave no reason",
			  remedy ? ". " : "", remedy ? result->remedy : "");
}

char *effect_elsewhere_text(const struct effect *effect, const struct effect_result *result)
{
	return str_printf("could not be %s on %s: %s; another node is tried",
			  effect->kind == EFFECT_START ? "started" : "restored",
			  node_name(effect->node),
			  result->text ? result->text : "the node gave no reason");
}

/* What a fence means for the session, for people. */
char *effect_fence_text(const struct effect *effect, const struct effect_result *result,
			enum remains_verdict remains)
{
	const struct remains *r = remains_of(effect->session);
	const char *node = node_name(effect->session->node);
	if (remains == REMAINS_TAKEN_BACK)
		return str_printf("it was moving to node %s, and that came to nothing: it goes on "
				  "on %s as it was when it left that",
				  node_name(r->target), node_name(r->source));
	if (r && result->checkpoint > 0)
		return str_printf("it was moving from node %s to %s, and neither has it any more; "
				  "checkpoint %lld is what the store has of it",
				  node_name(r->source), node_name(r->target),
				  (long long)result->checkpoint);
	if (result->checkpoint > 0)
		return str_printf(
			"its node %s was lost; checkpoint %lld is what the store has of it", node,
			(long long)result->checkpoint);
	return str_printf("its node %s was lost, and the store has no checkpoint of it; should the "
			  "node come back with it, it goes on",
			  node);
}

char *effect_migrate_text(const struct effect *effect, const struct effect_result *result)
{
	const char *from = node_name(effect->session->node);
	const char *to = node_name(effect->node);
	if (effect->kind != EFFECT_MIGRATE)
		return NULL;
	if (effect_event(EFFECT_MIGRATE, result) == EVENT_EFFECT_DONE)
		return str_printf("from %s to %s; it stood still for %.3f s", from, to,
				  (double)result->frozen_us / 1e6);
	return str_printf("from %s to %s: %s%s%s", from, to,
			  result->text ? result->text : "the node gave no reason",
			  result->remedy && *result->remedy ? ". " : "",
			  result->remedy ? result->remedy : "");
}
