/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "config/fields.h"
#include "config/options.h"

#include <string.h>

enum { PRINT_MAX = 64 << 20 };

static int print_options(const char *section, const void *base, struct buf *to)
{
	int r = 0;
	for (size_t i = 0; i < option_count && r == 0; i++)
		if (strcmp(options[i].section, section) == 0)
			r = field_print(base, &options[i], to);
	return r;
}

static int print_entries(const char *section, const void *entries, size_t size, size_t count,
			 struct buf *to)
{
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++) {
		r = buf_printf(to, "\n[[%s]]\n", section);
		if (r == 0)
			r = print_options(section, (const char *)entries + i * size, to);
	}
	return r;
}

/* The last rule is [idle] itself, printed there. */
static int print_list(const char *section, const struct config *c, struct buf *to)
{
	if (strcmp(section, OPTION_RULE) == 0)
		return print_entries(section, c->idle.rules, sizeof(*c->idle.rules),
				     c->idle.rule_count - 1, to);
	if (strcmp(section, OPTION_BUDGET) == 0)
		return print_entries(section, c->budget.groups, sizeof(*c->budget.groups),
				     c->budget.group_count, to);
	return print_entries(section, c->size.classes, sizeof(*c->size.classes),
			     c->size.class_count, to);
}

char *config_print(const struct config *config)
{
	cleanup_buf struct buf to = BUF_INIT(PRINT_MAX);
	int r = 0;
	for (size_t i = 0; i < option_section_count && r == 0; i++) {
		const char *section = option_sections[i].name;
		if (option_is_list(section)) {
			r = print_list(section, config, &to);
			continue;
		}
		r = buf_printf(&to, "%s[%s]\n", i ? "\n" : "", section);
		if (r == 0)
			r = print_options(section, config, &to);
	}
	return r < 0 ? NULL : buf_steal(&to);
}

static int print_comment(const char *text, struct buf *to)
{
	int r = 0;
	while (*text && r == 0) {
		size_t len = strcspn(text, "\n");
		r = buf_printf(to, "# %.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
	return r;
}

/* What stands in the example for an option that has no default of its own. */
static const char *sample_of(const struct option *option)
{
	static const struct {
		const char *section, *key, *value;
	} samples[] = {
		{ OPTION_RULE, "name", "\"teachers\"" },
		{ OPTION_RULE, "users", "[\"prof-*\"]" },
		{ OPTION_RULE, "groups", "[\"staff\"]" },
		{ OPTION_RULE, "servers", "[\"\"]" },
		{ OPTION_RULE, "wake_ahead", "[\"mon-fri 07:50-08:30\"]" },
		{ OPTION_CLASS, "name", "\"medium\"" },
		{ OPTION_CLASS, "memory", "\"4G\"" },
		{ OPTION_BUDGET, "group", "\"students\"" },
		{ OPTION_BUDGET, "amount", "400.0" },
	};
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		if (strcmp(samples[i].section, option->section) == 0 &&
		    strcmp(samples[i].key, option->key) == 0)
			return samples[i].value;
	const struct option *inherited = option_find("idle", option->key);
	return inherited ? inherited->initial : "\"\"";
}

static int print_example_option(const struct option *option, struct buf *to)
{
	const char *value = option->initial ? option->initial : sample_of(option);
	int r = print_comment(option->doc, to);
	return r < 0 ? r : buf_printf(to, "#%s = %s\n", option->key, value);
}

static int print_example_section(const struct option_section *section, struct buf *to)
{
	bool list = option_is_list(section->name);
	int r = buf_append(to, "\n", 1);
	if (r == 0)
		r = print_comment(section->doc, to);
	if (r == 0)
		r = buf_printf(to, list ? "#[[%s]]\n" : "[%s]\n", section->name);
	for (size_t i = 0; i < option_count && r == 0; i++)
		if (strcmp(options[i].section, section->name) == 0)
			r = print_example_option(&options[i], to);
	return r;
}

char *config_example(void)
{
	cleanup_buf struct buf to = BUF_INIT(PRINT_MAX);
	int r = print_comment(
		"SPDX-License-Identifier: Apache-2.0\n"
		"Elsa's settings, for elsad, elsa-node and elsa. Every option is here "
		"with its default;\nremove the \"#\" to change one. Times are \"250ms\", "
		"\"30s\", \"10m\", \"2h\", \"1d\", \"1w\" or\nseconds as a number; sizes "
		"\"512M\", \"4G\" or bytes. `elsa config check` tests a file.\n",
		&to);
	for (size_t i = 0; i < option_section_count && r == 0; i++)
		r = print_example_section(&option_sections[i], &to);
	return r < 0 ? NULL : buf_steal(&to);
}
