/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_spec.h"

#include "base/fs.h"

#include <string.h>

const char *spec_variable(const struct session_spec *spec, const char *name)
{
	size_t len = strlen(name);
	for (char **p = spec->env; p && *p; p++)
		if (strncmp(*p, name, len) == 0 && (*p)[len] == '=')
			return *p + len + 1;
	return NULL;
}

char *spec_base_url(const struct session_spec *spec)
{
	const char *prefix = spec_variable(spec, "JUPYTERHUB_SERVICE_PREFIX");
	if (!prefix || *prefix != '/')
		prefix = "/";
	return str_printf("%s%s", prefix, prefix[strlen(prefix) - 1] == '/' ? "" : "/");
}
