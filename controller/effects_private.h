/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EFFECTS_PRIVATE_H
#define ELSA_CONTROLLER_EFFECTS_PRIVATE_H

/* What controller/effects.c, which asks, and controller/effects_answer.c share. */

#include "controller/effects.h"

/* There is a session where there was none. */
bool effect_begins(enum effect_kind kind);
/* In a while, longer each time. */
void effect_ask_again(struct effect *effect, const char *why);

/* Of the question; `arg`: the effect, which may be gone afterwards. */
void effect_answered(const struct http_reply *reply, void *arg);

#endif
