/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include <errno.h>

static int check(struct effect *ef, struct error *e)
{
	(void)ef;
	return error_set(e, EOPNOTSUPP, "not yet");
}

static int resume(struct effect *ef, size_t at, struct error *e)
{
	(void)ef;
	(void)at;
	(void)e;
	return -1;
}

static const struct step steps[] = {
	{ .name = "check", .run = check },
	{ .name = "end", .run = check },
};

const struct plan plan_doze = {
	.name = "doze", .steps = steps, .count = 2, .commit = 1, .resume = resume
};

const struct plan plan_rouse = {
	.name = "rouse", .steps = steps, .count = 2, .commit = 1, .resume = resume
};
