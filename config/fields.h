/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONFIG_FIELDS_H
#define ELSA_CONFIG_FIELDS_H

/*
 * One option's field in struct config or struct config_rule (`base`): set from
 * a TOML value, written as TOML, freed. Private to config/.
 */

#include "base/buf.h"
#include "config/options.h"
#include "config/toml.h"

/* Checks type, range and form. Errors begin with "NAME:LINE:COLUMN: ". */
int field_set(void *base, const struct option *option, const struct toml_node *value,
	      const char *name, struct error *e);

/* "key = value\n", or nothing for a list that is NULL. 0 or what buf_append() returns. */
int field_print(const void *base, const struct option *option, struct buf *to);

void field_free(void *base, const struct option *option);

#endif
