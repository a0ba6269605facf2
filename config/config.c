/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "config/fields.h"
#include "config/options.h"
#include "config/toml.h"
#include "config/values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FILE_MAX = 1 << 20,
	ENTRIES_MAX = 1000,
};

struct loader {
	struct config *config;
	const char *name; /* of the document, for errors */
	struct error *e;
	const struct toml_node *root;
};

DEFINE_CLEANUP(struct config *, config_free)
DEFINE_CLEANUP(struct toml_node *, toml_free)

/* An entry of a list. */
static void entry_deinit(void *entry, const char *list)
{
	for (size_t i = 0; i < option_count; i++)
		if (strcmp(options[i].section, list) == 0)
			field_free(entry, &options[i]);
}

void *config_free(struct config *config)
{
	if (!config)
		return NULL;
	for (size_t i = 0; i < option_count; i++)
		if (!option_is_list(options[i].section))
			field_free(config, &options[i]);
	for (size_t i = 0; i < config->idle.rule_count; i++)
		entry_deinit(&config->idle.rules[i], OPTION_RULE);
	for (size_t i = 0; i < config->size.class_count; i++)
		entry_deinit(&config->size.classes[i], OPTION_CLASS);
	for (size_t i = 0; i < config->budget.group_count; i++)
		entry_deinit(&config->budget.groups[i], OPTION_BUDGET);
	free(config->budget.groups);
	free(config->idle.rules);
	free(config->size.classes);
	free(config);
	return NULL;
}

static const struct toml_node *find(const struct toml_node *table, const char *key)
{
	for (size_t i = 0; table && i < table->count; i++)
		if (strcmp(table->children[i].key, key) == 0)
			return &table->children[i];
	return NULL;
}

static int fail_unknown(const struct loader *l, const char *section, const struct toml_node *node)
{
	char suggestion[128];
	option_suggest(section, node->key, suggestion, sizeof(suggestion));
	return error_set(l->e, EINVAL, "%s:%d:%d: %s %s%s%.100s is not known%s%s%s", l->name,
			 node->key_at.line, node->key_at.column, section ? "option" : "section",
			 section ? section : "", section ? "." : "", node->key,
			 suggestion[0] ? "; did you mean " : "", suggestion,
			 suggestion[0] ? "?" : "");
}

static bool is_list(const char *section, const char *key)
{
	char name[64];
	snprintf(name, sizeof(name), "%s.%s", section, key);
	return option_is_section(name);
}

static int apply_table(const struct loader *l, const char *section, const struct toml_node *table,
		       void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct toml_node *node = &table->children[i];
		const struct option *option = option_find(section, node->key);
		if (!option && is_list(section, node->key))
			continue; /* apply_rules(), apply_classes(), apply_budgets() */
		if (!option)
			return fail_unknown(l, section, node);
		int r = field_set(base, option, node, l->name, l->e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_sections(const struct loader *l)
{
	for (size_t i = 0; i < l->root->count; i++) {
		const struct toml_node *node = &l->root->children[i];
		if (!option_is_section(node->key) || option_is_list(node->key))
			return fail_unknown(l, NULL, node);
		if (node->type != TOML_TABLE)
			return error_set(l->e, EINVAL,
					 "%s:%d:%d: %s is a section, [%s], and not %s", l->name,
					 node->key_at.line, node->key_at.column, node->key,
					 node->key, toml_type_name(node->type));
		int r = apply_table(l, node->key, node, l->config);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_list(const struct loader *l, const struct toml_node *list, const char *section,
		      const char *what)
{
	size_t count = list ? list->count : 0;
	bool tables = !list || list->type == TOML_ARRAY;
	for (size_t i = 0; tables && i < count; i++)
		tables = list->children[i].type == TOML_TABLE;
	if (!tables)
		return error_set(l->e, EINVAL, "%s:%d:%d: %s: %s are written [[%s]]", l->name,
				 list->key_at.line, list->key_at.column, section, what, section);
	if (count > ENTRIES_MAX)
		return error_set(l->e, EINVAL, "%s:%d:%d: %s: too many %s", l->name,
				 list->key_at.line, list->key_at.column, section, what);
	return 0;
}

/* A rule with a name of its own and, for now, all else as `base`. */
static int rule_init(struct config_rule *rule, const struct config_rule *base, const char *name)
{
	*rule = *base;
	rule->users = rule->groups = rule->servers = rule->wake_ahead = NULL;
	rule->admins = strdup("any");
	rule->name = strdup(name);
	return rule->admins && rule->name ? 0 : -ENOMEM;
}

static int apply_rule(const struct loader *l, const struct toml_node *node)
{
	struct config *c = l->config;
	char name[32] = "default";
	if (node)
		snprintf(name, sizeof(name), "rule %zu", c->idle.rule_count + 1);
	struct config_rule *rule = &c->idle.rules[c->idle.rule_count++];
	if (rule_init(rule, &c->idle.base, name) < 0)
		return error_set(l->e, ENOMEM, "out of memory while reading %s", l->name);
	return node ? apply_table(l, OPTION_RULE, node, rule) : 0;
}

/* Also appends the rule for everybody else, which is [idle] itself. */
static int apply_rules(const struct loader *l)
{
	struct config *c = l->config;
	const struct toml_node *list = find(find(l->root, "idle"), "rule");
	size_t count = list ? list->count : 0;
	int checked = check_list(l, list, OPTION_RULE, "rules");
	if (checked < 0)
		return checked;
	c->idle.rules = calloc(count + 1, sizeof(*c->idle.rules));
	if (!c->idle.rules)
		return error_set(l->e, ENOMEM, "out of memory while reading %s", l->name);
	for (size_t i = 0; i < count; i++) {
		int r = apply_rule(l, &list->children[i]);
		if (r < 0)
			return r;
	}
	return apply_rule(l, NULL);
}

/* --- size classes ------------------------------------------------------------------------- */

static int fail_class(const struct loader *l, const struct toml_node *node, const char *text)
{
	return error_set(l->e, EINVAL, "%s:%d:%d: " OPTION_CLASS ": %s", l->name, node->at.line,
			 node->at.column, text);
}

static int check_class(const struct loader *l, const struct toml_node *node)
{
	const struct config *c = l->config;
	const struct config_class *own = &c->size.classes[c->size.class_count - 1];
	if (!own->name)
		return fail_class(l, node, "it has no name");
	if (strcmp(own->name, "auto") == 0)
		return fail_class(l, find(node, "name"),
				  "\"auto\" is what users say for a size by use");
	if (own->memory_bytes == 0)
		return fail_class(l, node, "it has no memory, such as memory = \"4G\"");
	for (const struct config_class *other = c->size.classes; other < own; other++) {
		char text[160];
		snprintf(text, sizeof(text), "there is a class \"%.64s\" already", own->name);
		if (strcmp(own->name, other->name) == 0)
			return fail_class(l, find(node, "name"), text);
		snprintf(text, sizeof(text), "it has the same memory and cpus as \"%.64s\"",
			 other->name);
		if (own->memory_bytes == other->memory_bytes && own->cpus == other->cpus)
			return fail_class(l, find(node, "memory"), text);
	}
	return 0;
}

static int apply_classes(const struct loader *l)
{
	struct config *c = l->config;
	const struct toml_node *list = find(find(l->root, "size"), "class");
	size_t count = list ? list->count : 0;
	int r = check_list(l, list, OPTION_CLASS, "classes");
	if (r < 0 || count == 0)
		return r;
	c->size.classes = calloc(count, sizeof(*c->size.classes));
	if (!c->size.classes)
		return error_set(l->e, ENOMEM, "out of memory while reading %s", l->name);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct config_class *to = &c->size.classes[c->size.class_count++];
		r = apply_table(l, OPTION_CLASS, &list->children[i], to);
		if (r == 0)
			r = check_class(l, &list->children[i]);
	}
	return r;
}

/* --- budgets ------------------------------------------------------------------------------ */

static int fail_budget(const struct loader *l, const struct toml_node *node, const char *text)
{
	return error_set(l->e, EINVAL, "%s:%d:%d: " OPTION_BUDGET ": %s", l->name, node->at.line,
			 node->at.column, text);
}

static int check_budget(const struct loader *l, const struct toml_node *node)
{
	const struct config *c = l->config;
	const struct config_budget *own = &c->budget.groups[c->budget.group_count - 1];
	if (!own->group)
		return fail_budget(l, node, "it has no group, such as group = \"students\"");
	if (own->amount <= 0)
		return fail_budget(l, node, "it has no amount, such as amount = 400.0");
	for (const struct config_budget *other = c->budget.groups; other < own; other++) {
		char text[160];
		snprintf(text, sizeof(text), "\"%.64s\" has a budget for each %s already: give one",
			 own->group, own->per);
		if (strcmp(own->group, other->group) == 0 && strcmp(own->per, other->per) == 0)
			return fail_budget(l, find(node, "group"), text);
	}
	return 0;
}

static int apply_budgets(const struct loader *l)
{
	struct config *c = l->config;
	const struct toml_node *list = find(find(l->root, "budget"), "group");
	size_t count = list ? list->count : 0;
	int r = check_list(l, list, OPTION_BUDGET, "budgets");
	if (r < 0 || count == 0)
		return r;
	c->budget.groups = calloc(count, sizeof(*c->budget.groups));
	if (!c->budget.groups)
		return error_set(l->e, ENOMEM, "out of memory while reading %s", l->name);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct config_budget *to = &c->budget.groups[c->budget.group_count++];
		*to = (struct config_budget) { .per = strdup("month"), .starts = strdup("allow") };
		if (!to->per || !to->starts)
			return error_set(l->e, ENOMEM, "out of memory while reading %s", l->name);
		r = apply_table(l, OPTION_BUDGET, &list->children[i], to);
		if (r == 0)
			r = check_budget(l, &list->children[i]);
	}
	return r;
}

/* --- what is wrong only together ---------------------------------------------------------- */

/* Wrong only together with another option; told at this one if the file gives it. */
static int fail_between(const struct loader *l, const char *section, const char *key,
			const char *text)
{
	const struct toml_node *node = find(find(l->root, section), key);
	if (!node)
		return error_set(l->e, EINVAL, "%s: %s.%s: %s", l->name, section, key, text);
	return error_set(l->e, EINVAL, "%s:%d:%d: %s.%s: %s", l->name, node->at.line,
			 node->at.column, section, key, text);
}

static bool is_listed(char *const *list, const char *text)
{
	for (; *list; list++)
		if (strcmp(*list, text) == 0)
			return true;
	return false;
}

static int check_store(const struct loader *l)
{
	const struct config *c = l->config;
	if (c->store.key_command[0] && c->store.key_env[0])
		return fail_between(l, "store", "key_command",
				    "gives the master key, and so does store.key_env: set only "
				    "one of them");
	if (c->store.key_command[0] && value_check_program(c->store.key_command[0]))
		return fail_between(l, "store", "key_command",
				    "must begin with a program's name or absolute path; the "
				    "arguments are entries of their own");
	if (!c->store.key_command[0] && !c->store.key_env[0] &&
	    is_listed(c->store.old_key_files, c->store.key_file))
		return fail_between(l, "store", "old_key_files",
				    "names store.key_file, which is the present key: a rotation "
				    "needs a new file for that");
	return 0;
}

/* A session that is to run for so long cannot be too old before. */
static int check_rules(const struct loader *l)
{
	const struct config *c = l->config;
	for (size_t i = 0; i < c->idle.rule_count; i++) {
		const struct config_rule *rule = &c->idle.rules[i];
		bool last = i + 1 == c->idle.rule_count;
		if (rule->max_age_ms <= 0 || rule->max_age_ms >= rule->min_uptime_ms)
			continue;
		if (last)
			return fail_between(l, "idle", "max_age", "is below idle.min_uptime");
		return error_set(l->e, EINVAL, "%s: idle.rule \"%s\": max_age is below min_uptime",
				 l->name, rule->name);
	}
	return 0;
}

static int check_sizes(const struct loader *l)
{
	const struct config *c = l->config;
	int64_t largest = 0;
	for (size_t i = 0; i < c->size.class_count; i++)
		if (c->size.classes[i].memory_bytes > largest)
			largest = c->size.classes[i].memory_bytes;
	if (c->size.catalogue && c->size.class_count)
		return fail_between(l, "size", "catalogue",
				    "gives the classes, and so does [[size.class]]: set only one "
				    "of them");
	if (c->size.class_count && c->session.memory_bytes > largest)
		return fail_between(l, "session", "memory",
				    "no [[size.class]] is as large: add one, or lower this");
	return 0;
}

static int check_together(const struct loader *l)
{
	const struct config *c = l->config;
	if (c->controller.listen[0] && !c->controller.token_file[0])
		return fail_between(l, "controller", "listen",
				    "needs controller.token_file, or anybody could call");
	if (c->session.uid_min > c->session.uid_max)
		return fail_between(l, "session", "uid_min", "is above session.uid_max");
	if (!c->session.command[0])
		return fail_between(l, "session", "command", "is empty");
	int r = check_rules(l);
	if (r == 0)
		r = check_sizes(l);
	return r < 0 ? r : check_store(l);
}

static int load_sections(struct config *c, const char *text, size_t len, const char *name,
			 struct toml_node **root, struct error *e)
{
	int r = toml_parse(text, len, name, root, e);
	if (r < 0)
		return r;
	struct loader l = { .config = c, .name = name, .e = e, .root = *root };
	return apply_sections(&l);
}

/* Defaults go the same way as a file does, and so through the same checks. */
static int load_defaults(struct config *c, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_MAX);
	cleanup(toml_freep) struct toml_node *root = NULL;
	const char *section = "";
	int r = 0;
	for (size_t i = 0; i < option_count && r == 0; i++) {
		const struct option *o = &options[i];
		if (option_is_list(o->section))
			continue;
		if (strcmp(section, o->section) != 0)
			r = buf_printf(&text, "[%s]\n", o->section);
		section = o->section;
		if (r == 0)
			r = buf_printf(&text, "%s = %s\n", o->key, o->initial);
	}
	if (r < 0)
		return error_set(e, -r, "out of memory for the default settings");
	return load_sections(c, buf_text(&text), text.len, "defaults", &root, e);
}

int config_parse(const char *text, size_t len, const char *name, struct config **config,
		 struct error *e)
{
	cleanup(toml_freep) struct toml_node *root = NULL;
	cleanup(config_freep) struct config *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory while reading %s", name);
	int r = load_defaults(c, e);
	if (r == 0)
		r = load_sections(c, text, len, name, &root, e);
	if (r < 0)
		return r;
	struct loader l = { .config = c, .name = name, .e = e, .root = root };
	r = apply_rules(&l);
	if (r == 0)
		r = apply_classes(&l);
	if (r == 0)
		r = apply_budgets(&l);
	if (r == 0)
		r = check_together(&l);
	if (r < 0)
		return r;
	*config = steal_ptr(&c);
	return 0;
}

int config_load(const char *path, struct config **config, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_MAX);
	int r = path ? fs_read(path, &text, e) : 0;
	if (r < 0)
		return error_remedy(e, r,
				    "every option has a default: an empty file will do, and "
				    "config.example.toml describes them all");
	r = config_parse(buf_text(&text), text.len, path ? path : "defaults", config, e);
	if (r == -EINVAL)
		error_remedy(e, r,
			     "correct the file; `elsa config check` tests it, and "
			     "config.example.toml describes every option");
	return r;
}
