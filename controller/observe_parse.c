/* SPDX-License-Identifier: Apache-2.0 */
/* What a Jupyter server says of itself, as bytes in and facts out. */
#include "controller/observe.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <string.h>

static wall_ms newer(wall_ms a, wall_ms b, wall_ms now)
{
	if (b > now)
		b = now;
	return a > b ? a : b;
}

static wall_ms time_at(const json_t *item, const char *key)
{
	wall_ms at = 0;
	const char *text = json_string_value(json_object_get(item, key));
	return text && clock_parse(text, &at) == 0 ? at : 0;
}

int observe_parse_kernels(const char *body, size_t len, wall_ms now, struct server_facts *to)
{
	cleanup_json json_t *list = json_loadb(body ? body : "", len, 0, NULL);
	size_t i;
	json_t *kernel;
	if (!json_is_array(list))
		return -EINVAL;
	json_array_foreach (list, i, kernel) {
		const char *state = json_string_value(json_object_get(kernel, "execution_state"));
		to->kernel_busy = to->kernel_busy || (state && strcmp(state, "busy") == 0);
		to->kernel_activity_at =
			newer(to->kernel_activity_at, time_at(kernel, "last_activity"), now);
	}
	return 0;
}

int observe_parse_terminals(const char *body, size_t len, wall_ms now, struct server_facts *to)
{
	cleanup_json json_t *list = json_loadb(body ? body : "", len, 0, NULL);
	size_t i;
	json_t *terminal;
	if (!json_is_array(list))
		return -EINVAL;
	json_array_foreach (list, i, terminal)
		to->terminal_activity_at =
			newer(to->terminal_activity_at, time_at(terminal, "last_activity"), now);
	return 0;
}

int observe_parse_activity(const char *body, size_t len, wall_ms now, struct server_facts *to)
{
	cleanup_json json_t *facts = json_loadb(body ? body : "", len, 0, NULL);
	if (!json_is_object(facts))
		return -EINVAL;
	to->request_at = newer(to->request_at,
			       json_integer_value(json_object_get(facts, "last_request_ms")), now);
	to->request_at = newer(to->request_at,
			       json_integer_value(json_object_get(facts, "last_data_ms")), now);
	return 0;
}

static const char *find_env(const struct session_spec *spec, const char *name)
{
	size_t len = strlen(name);
	for (char **p = spec->env; p && *p; p++)
		if (strncmp(*p, name, len) == 0 && (*p)[len] == '=')
			return *p + len + 1;
	return NULL;
}

char *observe_base_url(const struct session_spec *spec)
{
	const char *prefix = find_env(spec, "JUPYTERHUB_SERVICE_PREFIX");
	if (!prefix || *prefix != '/')
		prefix = "/";
	return str_printf("http://%s:%lld%s%s", spec->address, (long long)spec->port, prefix,
			  prefix[strlen(prefix) - 1] == '/' ? "" : "/");
}
