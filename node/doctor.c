/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doctor.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {
	[DOCTOR_REQUIRED] = "required",
	[DOCTOR_ADVISED] = "advised",
};

/* One line: errors quote what programs print. */
static void make_line(char *text)
{
	size_t len = strlen(text);
	while (len && strchr(" \n", text[len - 1]))
		text[--len] = '\0';
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
}

struct doctor_check *doctor_add(struct doctor *d, const char *name, enum doctor_level level,
				bool ok, const char *format, ...)
{
	assert(d->count < DOCTOR_CHECKS_MAX);
	struct doctor_check *c = &d->checks[d->count++];
	*c = (struct doctor_check) { .name = name, .level = level, .ok = ok };
	va_list args;
	va_start(args, format);
	vsnprintf(c->text, sizeof(c->text), format, args);
	va_end(args);
	make_line(c->text);
	return c;
}

void doctor_remedy(struct doctor_check *c, const char *format, ...)
{
	if (c->ok)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(c->remedy, sizeof(c->remedy), format, args);
	va_end(args);
}

void doctor_add_result(struct doctor *d, const char *name, enum doctor_level level, int r,
		       const struct error *e, const char *good)
{
	struct doctor_check *c =
		doctor_add(d, name, level, r >= 0, "%.500s", r < 0 ? e->text : good);
	doctor_remedy(c, "%s", e->remedy);
}

bool doctor_ok(const struct doctor *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (!d->checks[i].ok && d->checks[i].level == DOCTOR_REQUIRED)
			return false;
	return true;
}

/* --- output ------------------------------------------------------------------------ */

static const char *verdict(const struct doctor_check *c)
{
	if (c->ok)
		return "ok";
	return c->level == DOCTOR_REQUIRED ? "MISSING" : "note";
}

void doctor_print(const struct doctor *d, FILE *out)
{
	for (size_t i = 0; i < d->count; i++) {
		const struct doctor_check *c = &d->checks[i];
		fprintf(out, "%-8s %-14s %s\n", verdict(c), c->name, c->text);
		if (c->remedy[0])
			fprintf(out, "%-8s %-14s -> %s\n", "", "", c->remedy);
	}
	fprintf(out, "\n%s\n",
		doctor_ok(d) ? "Sessions can be checkpointed on this machine."
			     : "Sessions cannot be checkpointed on this machine until what is "
			       "MISSING is there.");
}

static json_t *check_json(const struct doctor_check *c)
{
	return json_pack("{s:s, s:s, s:b, s:s, s:s}", "name", c->name, "level",
			 level_names[c->level], "ok", c->ok, "text", c->text, "remedy", c->remedy);
}

int doctor_print_json(const struct doctor *d, FILE *out)
{
	json_t *list = json_array();
	int r = list ? 0 : -ENOMEM;
	for (size_t i = 0; i < d->count && r == 0; i++)
		r = json_array_append_new(list, check_json(&d->checks[i])) < 0 ? -ENOMEM : 0;
	json_t *all = r == 0 ? json_pack("{s:b, s:O}", "ok", doctor_ok(d), "checks", list) : NULL;
	if (!all || json_dumpf(all, out, JSON_INDENT(2)) < 0)
		r = -ENOMEM;
	fputc('\n', out);
	json_decref(all);
	json_decref(list);
	return r;
}

static int summarize(const struct doctor *d, struct error *e)
{
	cleanup_buf struct buf names = BUF_INIT(512);
	if (doctor_ok(d))
		return 0;
	for (size_t i = 0; i < d->count; i++)
		if (!d->checks[i].ok && d->checks[i].level == DOCTOR_REQUIRED)
			buf_printf(&names, "%s%s", names.len ? ", " : "", d->checks[i].name);
	return error_fault(e, FAULT_REFUSED, "sessions cannot be checkpointed on this machine: %s",
			   buf_text(&names));
}

int doctor_run(const struct config *config, bool json, FILE *out, struct error *e)
{
	struct doctor d = { .config = config };
	if (geteuid() != 0) {
		int r = error_fault(e, FAULT_DENIED, "the checks need root");
		return error_remedy(e, r, "run it as root");
	}
	doctor_check_machine(&d);
	doctor_check_doze(&d);
	doctor_check_identity(&d);
	doctor_check_sessions(&d);
	doctor_check_trial(&d);
	if (!json)
		doctor_print(&d, out);
	else if (doctor_print_json(&d, out) < 0)
		return error_set(e, ENOMEM, "cannot print the findings");
	return summarize(&d, e);
}
