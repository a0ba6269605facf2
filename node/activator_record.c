/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator.h"

#include "base/fs.h"

int activator_record(const struct config *config, const struct session_spec *spec, const char *dir,
		     struct error *e)
{
	(void)config;
	(void)spec;
	int r = fs_remove_tree(dir, e);
	return r < 0 ? r : fs_mkdirs(dir, 0700, e);
}
