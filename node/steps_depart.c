/* SPDX-License-Identifier: Apache-2.0 */
#include "node/effect.h"

const struct plan plan_depart = { .name = "depart" };
const struct plan plan_return = { .name = "return" };
