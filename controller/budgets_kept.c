/* SPDX-License-Identifier: Apache-2.0 */
/* What was told of budgets, as one fact of the database. */
#include "controller/budgets_private.h"

#include "base/cleanup.h"
#include "wire/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FACT "budgets"

#define FIELD(type, kind, f) { #f, kind, offsetof(struct type, f) }

static const struct wire_field told_fields[] = {
	{ "group", WIRE_STRING, offsetof(struct budget_told, group), .required = true },
	FIELD(budget_told, WIRE_INT, per),
	FIELD(budget_told, WIRE_INT, level),
	FIELD(budget_told, WIRE_INT, of),
};
static const struct wire_struct wire_told = { "told", sizeof(struct budget_told), told_fields,
					      ARRAY_SIZE(told_fields) };

static const struct wire_field kept_fields[] = {
	{ "told", WIRE_LIST, offsetof(struct budgets_kept, told), .nested = &wire_told,
	  .count_offset = offsetof(struct budgets_kept, count) },
};
static const struct wire_struct wire_kept = { "budgets", sizeof(struct budgets_kept), kept_fields,
					      ARRAY_SIZE(kept_fields) };

void budgets_kept_deinit(struct budgets_kept *kept)
{
	wire_free(&wire_kept, kept);
}

int budgets_load(struct controller *c, struct error *e)
{
	cleanup_free char *text = NULL;
	struct error inner = ERROR_INIT;
	int r = db_fact_get(c->db, FACT, &text, &inner);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = wire_decode_text(&wire_kept, text, strlen(text), &c->budgets->kept, &inner);
	return r < 0 ? error_set(e, -r, "the record of budgets: %s", inner.text) : 0;
}

int budgets_save(struct controller *c, struct error *e)
{
	cleanup_json json_t *json = wire_encode(&wire_kept, &c->budgets->kept);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? db_fact_set(c->db, FACT, text, e) : error_set(e, ENOMEM, "out of memory");
}

static struct budget_told *find(const struct budgets_kept *kept, const struct budget_rule *rule)
{
	for (size_t i = 0; i < kept->count; i++)
		if (kept->told[i].per == (int64_t)rule->per &&
		    strcmp(kept->told[i].group, rule->group) == 0)
			return &kept->told[i];
	return NULL;
}

const struct budget_told *budgets_told(const struct budgets_kept *kept,
				       const struct budget_rule *rule)
{
	return find(kept, rule);
}

int budgets_keep(struct budgets_kept *kept, const struct budget_rule *rule,
		 const struct budget_decision *decision)
{
	struct budget_told *told = find(kept, rule);
	if (!told) {
		told = reallocarray(kept->told, kept->count + 1, sizeof(*told));
		char *group = strdup(rule->group);
		if (told)
			kept->told = told;
		if (!told || !group) {
			free(group);
			return -ENOMEM;
		}
		told = &kept->told[kept->count++];
		*told = (struct budget_told) { .group = group, .per = rule->per };
	}
	told->level = decision->level;
	told->of = decision->from;
	return 0;
}
