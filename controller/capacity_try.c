/* SPDX-License-Identifier: Apache-2.0 */
/* What would be asked of the cloud now, by the config of now, and is not. */
#include "controller/capacity_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "rules/rules.h"
#include "wire/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECISIONS = 64, TEXT_SIZE = 1024 };

static void append(char text[TEXT_SIZE], const char *more)
{
	size_t used = strlen(text);
	snprintf(text + used, TEXT_SIZE - used, "%s%s", used ? "; " : "", more);
}

static void describe(const struct capacity_pass *pass, const struct capacity_decision *d,
		     char text[TEXT_SIZE])
{
	const char *why = capacity_why_name(d->why);
	cleanup_free char *one =
		d->kind == CAPACITY_SHRINK
			? str_printf("%s is given back (%s)", pass->of[d->machine]->kept.id, why)
			: str_printf("to %lld machines (%s)", (long long)d->desired, why);
	if (one)
		append(text, one);
}

static json_t *pool_row(const struct pool *pool, const struct capacity_pass *pass,
			const struct capacity_decision *list, size_t count,
			const struct capacity_outlook *outlook)
{
	char text[TEXT_SIZE] = "";
	int64_t desired = pool->described ? pool->desired : -1;
	json_t *given = json_array();
	for (size_t i = 0; i < count; i++) {
		if (list[i].pool != pool->index)
			continue;
		describe(pass, &list[i], text);
		if (list[i].kind == CAPACITY_SHRINK)
			json_array_append_new(given, wire_text(pass->of[list[i].machine]->kept.id));
		else
			desired = list[i].desired;
	}
	if (outlook->block)
		append(text, capacity_block_text(outlook->block));
	return json_pack("{s:o, s:I, s:o, s:s}", "pool", wire_text(pool->kept.name), "desired",
			 (json_int_t)desired, "gives_back", given, "text",
			 *text ? text : "as it is");
}

/* Who gives machines, and which pools, is read at the start. */
static const char *needs_restart(const struct controller *c)
{
	const struct capacity *cap = c->capacity;
	const char *wanted = c->config->capacity.provider;
	char **pools = c->config->capacity.pools;
	size_t i = 0;
	bool same = strcmp(wanted, cap ? cap->link.provider : "none") == 0;
	for (; cap && same && i < cap->pool_count; i++)
		same = pools && pools[i] && strcmp(pools[i], cap->pools[i].kept.name) == 0;
	if (same && (!cap || !pools[i]))
		return NULL;
	return "its provider and pools are taken up when elsad is restarted";
}

json_t *capacity_decide_json(struct controller *c)
{
	struct capacity *cap = c->capacity;
	struct capacity_pass pass = { 0 };
	struct capacity_decision list[DECISIONS];
	struct capacity_outlook outlook = { 0 };
	const struct capacity_rules rules = rules_capacity(c->config);
	const char *restart = needs_restart(c);
	json_t *rows = json_array();
	wall_ms now = clock_wall();
	json_array_append_new(rows, json_pack("{s:s, s:s}", "pool", "", "text",
					      restart ? restart : "those of now"));
	if (cap && capacity_collect(cap, &pass, now) == 0) {
		size_t count = capacity_decide(&rules, &pass.facts, now, list, DECISIONS, &outlook);
		for (size_t i = 0; i < cap->pool_count; i++)
			json_array_append_new(
				rows, pool_row(&cap->pools[i], &pass, list, count, &outlook));
	}
	capacity_pass_deinit(&pass);
	return rows;
}
