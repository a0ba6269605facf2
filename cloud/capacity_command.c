/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/capacity_command.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/names.h"
#include "cloud/capacity_backends.h"
#include "io/job.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum {
	WORDS_MOST = 64,
	TIMEOUT_MS = 120000,
	NO_CAPACITY = 75, /* EX_TEMPFAIL of sysexits.h */
};

struct command {
	struct cloud_capacity base;
	char *words[WORDS_MOST];
	size_t word_count;
	const atomic_bool *stop;
	volatile pid_t *child;
};

static void command_free(struct cloud_capacity *c)
{
	struct command *m = (struct command *)c;
	for (size_t i = 0; i < m->word_count; i++)
		free(m->words[i]);
	free(m);
}

static int command_open(const struct cloud_options *options, struct cloud_capacity **capacity,
			struct error *e)
{
	const char *const *words = options->command;
	if (!words || !words[0]) {
		int r = error_set(e, EINVAL, "no command is set");
		return error_remedy(e, r, "set capacity.command");
	}
	struct command *m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(e, ENOMEM, "out of memory");
	for (; words[m->word_count] && m->word_count < WORDS_MOST - 4; m->word_count++) {
		m->words[m->word_count] = strdup(words[m->word_count]);
		if (!m->words[m->word_count]) {
			command_free(&m->base);
			return error_set(e, ENOMEM, "out of memory");
		}
	}
	m->stop = options->stop;
	m->child = options->child;
	*capacity = &m->base;
	return 0;
}

static const char *last_line(const struct buf *text)
{
	char *end = text->data + text->len;
	if (!text->len)
		return "it said nothing";
	while (end > text->data && end[-1] == '\n')
		*--end = '\0';
	const char *line = strrchr(text->data, '\n');
	return line ? line + 1 : text->data;
}

static int run(struct cloud_capacity *c, const char *verb, const char *pool, const char *what,
	       struct job_result *result, struct error *e)
{
	const struct command *m = (const struct command *)c;
	const char *argv[WORDS_MOST];
	size_t count = 0;
	for (; count < m->word_count; count++)
		argv[count] = m->words[count];
	argv[count++] = verb;
	argv[count++] = pool;
	argv[count++] = what;
	argv[count] = NULL;
	const struct job_options options =
		JOB_OPTIONS(.argv = argv, .timeout_ms = TIMEOUT_MS, .pid_out = m->child);
	if (m->stop && atomic_load(m->stop))
		return error_fault(e, FAULT_UNAVAILABLE, "we are ending");
	int r = job_run(&options, result, e);
	if (r < 0 || result->status == 0)
		return r;
	enum fault fault = result->status == NO_CAPACITY ? FAULT_FULL : FAULT_UNAVAILABLE;
	return error_fault(e, fault, "\"%s %s\" ended with status %d: %s", m->words[0], verb,
			   result->status, last_line(&result->err));
}

static int read_instance(struct cloud_pool *pool, const json_t *object)
{
	struct cloud_instance *i = cloud_pool_add(pool);
	if (!i)
		return -ENOMEM;
	const struct {
		const char *name;
		char **to;
	} fields[] = { { "id", &i->id },     { "alias", &i->alias }, { "zone", &i->zone },
		       { "type", &i->type }, { "price", &i->price }, { "refused", &i->refused } };
	for (size_t f = 0; f < ARRAY_SIZE(fields); f++) {
		const json_t *value = json_object_get(object, fields[f].name);
		if (value && !json_is_null(value) && !json_is_string(value))
			return -EBADMSG;
		int r = cloud_copy(fields[f].to, json_string_value(value));
		if (r < 0)
			return r;
	}
	const char *state = json_string_value(json_object_get(object, "state"));
	int n = state ? value_of(cloud_instance_state_names, CLOUD_INSTANCE_STATE_COUNT, state)
		      : CLOUD_RUNNING;
	i->state = n < 0 ? CLOUD_ENDING : (enum cloud_instance_state)n;
	return i->id && *i->id ? 0 : -EBADMSG;
}

int command_read_pool(const char *data, size_t len, struct cloud_pool *pool, struct error *e)
{
	json_error_t where;
	json_t *root = json_loadb(data, len, 0, &where);
	const json_t *list = json_object_get(root, "instances");
	const json_t *desired = json_object_get(root, "desired");
	int r = json_is_array(list) && (!desired || json_is_integer(desired)) ? 0 : -EBADMSG;
	for (size_t i = 0; i < json_array_size(list) && r == 0; i++)
		r = read_instance(pool, json_array_get(list, i));
	for (size_t i = 0; i < pool->instance_count && r == 0; i++)
		pool->desired += pool->instances[i].state != CLOUD_ENDING;
	if (desired)
		pool->desired = json_integer_value(desired);
	if (r == 0 && (pool->desired < 0 || pool->desired > 1000000))
		r = -EBADMSG;
	if (r < 0)
		error_set(e, -r, "what the command printed is not as it should be%s%s",
			  root ? "" : ": ", root ? "" : where.text);
	json_decref(root);
	return r;
}

static int command_describe(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			    struct error *e)
{
	struct job_result result = { 0 };
	int r = run(c, "describe", pool, NULL, &result, e);
	if (r == 0)
		r = command_read_pool(buf_text(&result.out), result.out.len, state, e);
	job_result_deinit(&result);
	return r;
}

static int command_grow(struct cloud_capacity *c, const char *pool,
			const struct cloud_growth *growth, struct error *e)
{
	struct job_result result = { 0 };
	char number[24];
	snprintf(number, sizeof(number), "%lld", (long long)growth->desired);
	int r = run(c, "grow", pool, number, &result, e);
	job_result_deinit(&result);
	return r;
}

static int command_shrink(struct cloud_capacity *c, const char *pool,
			  const struct cloud_instance *instance, struct error *e)
{
	struct job_result result = { 0 };
	int r = run(c, "shrink", pool, instance->id, &result, e);
	job_result_deinit(&result);
	return r;
}

const struct capacity_backend capacity_command = {
	.name = "command",
	.open = command_open,
	.free = command_free,
	.describe = command_describe,
	.grow = command_grow,
	.shrink = command_shrink,
};
