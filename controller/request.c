/* SPDX-License-Identifier: Apache-2.0 */
/* The spawner's request to start a session, checked. */
#include "controller/spec.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_PORT 8888
#define STRINGS_MOST 4096 /* of a command or an environment */

/* Characters of UTF-8: bytes that do not continue one. */
static size_t count_characters(const char *text)
{
	size_t count = 0;
	for (; *text; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

int check_name(const char *name, bool may_be_empty, const char *what, struct error *e)
{
	if (!name || (!*name && !may_be_empty))
		return error_set(e, EINVAL, "%s: a name is needed", what);
	if (count_characters(name) > SESSION_NAME_MOST)
		return error_set(e, EINVAL, "%s: longer than %d characters", what,
				 SESSION_NAME_MOST);
	return 0;
}

/* --- one field ---------------------------------------------------------------------------------
 */

static bool is_given(const json_t *value)
{
	return value && !json_is_null(value);
}

static int get_text(const json_t *body, const char *key, const char **to, struct error *e)
{
	const json_t *value = json_object_get(body, key);
	if (!is_given(value))
		return 0;
	*to = json_string_value(value);
	return *to ? 0 : error_set(e, EINVAL, "%s: expected a string", key);
}

/* It goes into the head of HTTP requests. */
static int get_token(const json_t *body, const char *key, const char **to, struct error *e)
{
	int r = get_text(body, key, to, e);
	for (const char *p = *to; r == 0 && p && *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~')
			r = error_set(e, EINVAL, "%s: expected printable characters only", key);
	return r;
}

static int get_path(const json_t *body, const char *key, const char **to, struct error *e)
{
	int r = get_text(body, key, to, e);
	if (r < 0 || !*to)
		return r;
	if ((*to)[0] != '/' || strstr(*to, "/../") || strcmp(*to, "/..") == 0 ||
	    (strlen(*to) > 3 && strcmp(*to + strlen(*to) - 3, "/..") == 0))
		return error_set(e, EINVAL, "%s: expected an absolute path without \"..\"", key);
	return 0;
}

static int get_int(const json_t *body, const char *key, int64_t least, int64_t most, int64_t *to,
		   struct error *e)
{
	const json_t *value = json_object_get(body, key);
	if (!is_given(value))
		return 0;
	int64_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < least || number > most)
		return error_set(e, EINVAL, "%s: expected a whole number from %lld to %lld", key,
				 (long long)least, (long long)most);
	*to = number;
	return 0;
}

static int get_number(const json_t *body, const char *key, double most, double *to, struct error *e)
{
	const json_t *value = json_object_get(body, key);
	if (!is_given(value))
		return 0;
	double number = json_number_value(value);
	if (!json_is_number(value) || !(number >= 0 && number <= most))
		return error_set(e, EINVAL, "%s: expected a number from 0 to %g", key, most);
	*to = number;
	return 0;
}

static int get_flag(const json_t *body, const char *key, bool *to, struct error *e)
{
	const json_t *value = json_object_get(body, key);
	if (is_given(value) && !json_is_boolean(value))
		return error_set(e, EINVAL, "%s: expected true or false", key);
	*to = json_is_true(value);
	return 0;
}

static int get_texts(const json_t *body, const char *key, const json_t **to, struct error *e)
{
	const json_t *list = json_object_get(body, key);
	size_t i;
	json_t *item;
	if (!is_given(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > STRINGS_MOST)
		return error_set(e, EINVAL, "%s: expected a list of strings", key);
	json_array_foreach ((json_t *)list, i, item)
		if (!json_is_string(item))
			return error_set(e, EINVAL, "%s[%zu]: expected a string", key, i);
	*to = list;
	return 0;
}

static int get_env(const json_t *body, const json_t **to, struct error *e)
{
	const json_t *env = json_object_get(body, "env");
	const char *name;
	json_t *value;
	if (!is_given(env))
		return 0;
	if (!json_is_object(env) || json_object_size(env) > STRINGS_MOST)
		return error_set(e, EINVAL, "env: expected an object of strings");
	json_object_foreach ((json_t *)env, name, value) {
		if (!*name || strchr(name, '='))
			return error_set(e, EINVAL, "env: \"%.64s\" cannot be a name", name);
		if (!json_is_string(value))
			return error_set(e, EINVAL, "env.%.64s: expected a string", name);
	}
	*to = env;
	return 0;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static int get_limits(const json_t *body, struct session_limits *to, struct error *e)
{
	int r = get_int(body, "memory_bytes", 0, INT64_MAX, &to->memory_bytes, e);
	if (r == 0)
		r = get_number(body, "cpus", 65536, &to->cpus, e);
	if (r == 0)
		r = get_int(body, "pids", 0, INT32_MAX, &to->pids, e);
	return r;
}

static int get_names(const json_t *body, struct start_request *to, struct error *e)
{
	int r = get_text(body, "user", &to->user, e);
	if (r == 0)
		r = get_text(body, "server", &to->server, e);
	if (r == 0)
		r = check_name(to->user, false, "user", e);
	if (r == 0)
		r = check_name(to->server, true, "server", e);
	return r;
}

static int get_files(const json_t *body, struct start_request *to, struct error *e)
{
	int r = get_path(body, "home", &to->home, e);
	if (r == 0)
		r = get_path(body, "image", &to->image, e);
	return r;
}

int start_request_parse(const json_t *body, struct start_request *to, struct error *e)
{
	*to = (struct start_request) { .server = "", .port = DEFAULT_PORT };
	const json_t *spawner = json_object_get(body, "spawner");
	to->spawner = is_given(spawner) ? spawner : NULL;
	int r = get_names(body, to, e);
	if (r == 0)
		r = get_flag(body, "fresh", &to->fresh, e);
	if (r == 0)
		r = get_token(body, "api_token", &to->api_token, e);
	if (r == 0)
		r = get_texts(body, "cmd", &to->cmd, e);
	if (r == 0)
		r = get_env(body, &to->env, e);
	if (r == 0)
		r = get_int(body, "port", 1, 65535, &to->port, e);
	if (r == 0)
		r = get_files(body, to, e);
	if (r == 0)
		r = get_limits(body, &to->limits, e);
	if (r == 0)
		r = get_text(body, "size", &to->size, e);
	if (r == 0)
		r = get_texts(body, "groups", &to->groups, e);
	return r;
}
