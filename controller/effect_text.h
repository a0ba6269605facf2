/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EFFECT_TEXT_H
#define ELSA_CONTROLLER_EFFECT_TEXT_H

/* What the end of an effect is called, for people. All are allocated; NULL: out of memory, or
 * nothing to say. One thread. */

#include "controller/effects.h"
#include "controller/remains.h"

/* In the session's reason. */
char *effect_failure_text(const struct effect *effect, const struct effect_result *result);
char *effect_elsewhere_text(const struct effect *effect, const struct effect_result *result);
char *effect_fence_text(const struct effect *effect, const struct effect_result *result,
			enum remains_verdict remains);
/* In a migration's event. */
char *effect_migrate_text(const struct effect *effect, const struct effect_result *result);

#endif
