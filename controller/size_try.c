/* SPDX-License-Identifier: Apache-2.0 */
/* What would become of sizes under another config. */
#include "controller/size_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/ledger.h"
#include "wire/text.h"

#define MIB (INT64_C(1) << 20)

/* "small", or what it has where that is no class. */
static char *name_of_size(const struct size *size, int class, const struct size_facts *f)
{
	if (class >= 0)
		return str_printf("%s", size->classes.list[class].name);
	return f->memory_bytes > 0 ? str_printf("%lld MiB", (long long)(f->memory_bytes / MIB))
				   : str_printf("no limit");
}

static json_t *name_json(const struct size *size, int class)
{
	return class < 0 ? json_null() : wire_text(size->classes.list[class].name);
}

/* Nothing that a moment alone makes another: both rows are compared. */
static json_t *row_of(const struct session *s, const struct size *size,
		      const struct size_view *view)
{
	const struct size_facts *f = &view->facts;
	const struct size_decision *d = &view->decision;
	int has = size_with(size, f->memory_bytes, f->cpus);
	int becomes = d->to >= 0 ? d->to : has;
	cleanup_free char *name = name_of_size(size, becomes, f);
	cleanup_free char *text =
		str_printf("%s%s: %s", name ? name : "", d->to >= 0 ? "" : " stays",
			   size_reason_text(d->reason));
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:I}", "user", wire_text(s->row.user),
		"server", wire_text(s->row.server), "text", wire_text(text ? text : ""), "class",
		name_json(size, becomes), "to", name_json(size, d->to), "chosen",
		name_json(size, f->chosen), "reason", size_reason_name(d->reason), "memory_bytes",
		(json_int_t)(becomes >= 0 ? size->classes.list[becomes].memory_bytes : f->memory_bytes),
		"need_bytes", (json_int_t)d->need_bytes);
}

/* Looked at by `config` and `other`. What it used is read once if it counts as far back in both. */
static int look_by(const struct session *s, struct config *config, struct size *other,
		   const struct size_view *now, struct size_view *then, struct error *e)
{
	struct controller *c = s->controller;
	struct config *own_config = c->config;
	struct size *own = c->size;
	int r = 0;
	if (config->size.window_ms == own_config->size.window_ms) {
		then->facts = now->facts;
		then->facts.chosen = size_find(other, s->row.size);
		then->decision =
			size_decide(&other->rules, other->classes.list, other->classes.count, &then->facts);
		return 0;
	}
	c->config = config;
	c->size = other;
	r = size_look(s, then, e);
	c->config = own_config;
	c->size = own;
	return r;
}

static int try_each(struct controller *c, struct config *config, struct size *other, json_t *now,
		    json_t *then, struct error *e)
{
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		struct size_view before, after;
		if (size_is_over(s))
			continue;
		int r = size_look(s, &before, e);
		if (r == 0)
			r = look_by(s, config, other, &before, &after, e);
		if (r < 0)
			return r;
		json_array_append_new(now, row_of(s, c->size, &before));
		json_array_append_new(then, row_of(s, other, &after));
	}
	return 0;
}

int size_try(struct controller *c, struct config *config, json_t *now, json_t *then,
	     struct error *e)
{
	struct size other = { 0 };
	int r = size_take_rules(config, ledger_prices(c), &other, e);
	if (r == 0 && (c->size->classes.count || other.classes.count))
		r = try_each(c, config, &other, now, then, e);
	rules_classes_deinit(&other.classes);
	return r;
}
