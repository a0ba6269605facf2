/* SPDX-License-Identifier: Apache-2.0 */
#include "node/acknowledged.h"

#include <stdio.h>
#include <string.h>

void acknowledged_add(struct acknowledged *a, const char *id, mono_us now)
{
	if (strlen(id) >= ACKNOWLEDGED_ID_SIZE)
		return;
	snprintf(a->all[a->next].id, ACKNOWLEDGED_ID_SIZE, "%s", id);
	a->all[a->next].at = now;
	a->next = (a->next + 1) % ACKNOWLEDGED_MOST;
}

bool acknowledged_has(const struct acknowledged *a, const char *id, mono_us now)
{
	for (unsigned i = 0; i < ACKNOWLEDGED_MOST; i++)
		if (a->all[i].id[0] && now - a->all[i].at < ACKNOWLEDGED_FOR_US &&
		    strcmp(a->all[i].id, id) == 0)
			return true;
	return false;
}
