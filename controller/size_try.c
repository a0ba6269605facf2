/* SPDX-License-Identifier: Apache-2.0 */
/* What would become of sizes under another config. */
#include "controller/size_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/ledger.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>

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
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:I}", "user",
			 wire_text(s->row.user), "server", wire_text(s->row.server), "text",
			 wire_text(text ? text : ""), "class", name_json(size, becomes), "to",
			 name_json(size, d->to), "chosen", name_json(size, f->chosen), "reason",
			 size_reason_name(d->reason), "memory_bytes",
			 (json_int_t)(becomes >= 0 ? size->classes.list[becomes].memory_bytes
						   : f->memory_bytes),
			 "need_bytes", (json_int_t)d->need_bytes);
}

/* --- a trial -------------------------------------------------------------------------------------
 */

struct size_trial {
	struct controller *controller;
	struct config *config;
	struct size other; /* by that */
};

int size_trial_new(struct controller *c, struct config *config, struct size_trial **to,
		   struct error *e)
{
	struct size_trial *t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(e, ENOMEM, "out of memory");
	t->controller = c;
	t->config = config;
	int r = size_take_rules(config, ledger_prices(c), &t->other, e);
	*to = r < 0 ? size_trial_free(t) : t;
	return r;
}

void *size_trial_free(struct size_trial *trial)
{
	if (trial)
		rules_classes_deinit(&trial->other.classes);
	free(trial);
	return NULL;
}

/* What it used is read once if it counts as far back in both. */
static int look_by(struct size_trial *t, const struct session *s, const struct size_view *now,
		   struct size_view *then, struct error *e)
{
	struct controller *c = t->controller;
	struct config *own_config = c->config;
	struct size *own = c->size;
	if (t->config->size.window_ms == own_config->size.window_ms) {
		then->facts = now->facts;
		then->facts.chosen = size_find(&t->other, s->row.size);
		then->decision = size_decide(&t->other.rules, t->other.classes.list,
					     t->other.classes.count, &then->facts);
		return 0;
	}
	c->config = t->config;
	c->size = &t->other;
	int r = size_look(s, then, e);
	c->config = own_config;
	c->size = own;
	return r;
}

int size_try(struct size_trial *t, const struct session *s, json_t **now, json_t **then,
	     struct error *e)
{
	const struct size *own = t->controller->size;
	struct size_view before, after;
	if (size_is_over(s) || (!own->classes.count && !t->other.classes.count))
		return 0;
	int r = size_look(s, &before, e);
	if (r == 0)
		r = look_by(t, s, &before, &after, e);
	if (r < 0)
		return r;
	*now = row_of(s, own, &before);
	*then = row_of(s, &t->other, &after);
	return 0;
}
