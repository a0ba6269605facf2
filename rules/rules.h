/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_RULES_RULES_H
#define ELSA_RULES_RULES_H

/*
 * What policies/ decides by, as the configuration has it: one place for elsad and for the
 * simulator. Sizes in bytes, durations in milliseconds. Thread-safe.
 */

#include "config/config.h"
#include "policies/capacity.h"
#include "policies/consolidate.h"
#include "policies/protect.h"
#include "policies/size.h"
#include "policies/size_move.h"
#include "prices/prices.h"

struct protect_rules rules_protect(const struct config *config);
struct capacity_rules rules_capacity(const struct config *config);
struct consolidate_rules rules_consolidate(const struct config *config);
struct size_rules rules_size(const struct config *config);
struct size_move_rules rules_size_move(const struct config *config);

/* The size classes that there are: the config's, or the catalogue's types. To be freed, and all
 * zero before; 0 or -ENOMEM. */
struct rules_classes {
	struct size_class *list; /* which own their names */
	size_t count;
};
int rules_classes_make(const struct config *config, const struct prices *prices,
		       struct rules_classes *to, struct error *e);
void rules_classes_deinit(struct rules_classes *classes); /* none are left */

#endif
