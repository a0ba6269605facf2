/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_TRACE_HUB_H
#define ELSA_CLI_TRACE_HUB_H

#include "base/error.h"
#include "sim/hub.h"

/*
 * The servers in a JupyterHub's own database, an SQLite file that is only read:
 * each with its last start and activity, in the order of time. *events is the
 * caller's to free. *end: the last time that the Hub saw anything.
 */
int hub_read_database(const char *path, struct hub_event **events, size_t *count, wall_ms *end,
		      struct error *e);

#endif
