/* SPDX-License-Identifier: Apache-2.0 */
#include "node/fault.h"

#include "base/names.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { WAIT_S = 10 };

int fault_parse(const char *text, struct fault_plan *plan, struct error *e)
{
	static const char *const names[] = {
		[FAULT_BEFORE] = "before", [FAULT_AFTER] = "after", [FAULT_FAIL] = "fail",
		[FAULT_ONCE] = "once",     [FAULT_WAIT] = "wait",
	};
	char when[8] = "";
	*plan = (struct fault_plan) { .when = FAULT_NEVER };
	if (!text || !*text)
		return 0;
	if (sscanf(text, "%15[^:]:%23[^:]:%7s", plan->effect, plan->step, when) == 3) {
		int value = value_of(names, sizeof(names) / sizeof(names[0]), when);
		plan->when = value < 0 ? FAULT_NEVER : (enum fault_when)value;
	}
	if (plan->when == FAULT_NEVER)
		return error_set(
			e, EINVAL,
			"--fault takes KIND:STEP:before, :after, :fail, :once or :wait, not \"%s\"",
			text);
	return 0;
}

/* `once` is to fail, as long as it has not. */
static bool is_now(const struct fault_plan *plan, enum fault_when now)
{
	return plan->when == now || (plan->when == FAULT_ONCE && now == FAULT_FAIL);
}

bool fault_hit(struct fault_plan *plan, const char *effect, const char *step, enum fault_when now)
{
	if (!is_now(plan, now) || strcmp(plan->effect, effect) != 0 ||
	    strcmp(plan->step, step) != 0)
		return false;
	if (now == FAULT_WAIT)
		sleep(WAIT_S);
	else if (now != FAULT_FAIL)
		kill(getpid(), SIGKILL);
	return plan->when != FAULT_ONCE || !atomic_exchange(&plan->spent, true);
}
