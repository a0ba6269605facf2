/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/steps.h"

#include "base/names.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const char *const step_names[CONTROLLER_STEP_COUNT] = {
	[STEP_DECIDED] = "decided",           [STEP_IN_RECORD] = "in-record",
	[STEP_RECORDED] = "recorded",         [STEP_ASKED] = "asked",
	[STEP_GRANTED] = "granted",           [STEP_ANSWERED] = "answered",
	[STEP_IN_RESULT] = "in-result",       [STEP_DONE] = "done",
	[STEP_ACKNOWLEDGED] = "acknowledged",
};

static struct {
	bool set;
	enum effect_kind kind;
	enum controller_step step;
} fault;

/* There is such a moment: of effects that elsad asks for, and of those that ask a second node
 * first. */
static bool is_one(int kind, int step)
{
	if (kind == EFFECT_DEPART || kind == EFFECT_RETURN)
		return false;
	return step != STEP_GRANTED || kind == EFFECT_MIGRATE;
}

int steps_set_fault(const char *name)
{
	const char *dot = strchr(name, '.');
	if (!dot)
		return -EINVAL;
	int step = value_of(step_names, CONTROLLER_STEP_COUNT, dot + 1);
	for (int kind = EFFECT_NONE + 1; step >= 0 && kind < EFFECT_KIND_COUNT; kind++) {
		size_t len = strlen(effect_kind_names[kind]);
		if (!is_one(kind, step) || len != (size_t)(dot - name) ||
		    strncmp(effect_kind_names[kind], name, len) != 0)
			continue;
		fault.set = true;
		fault.kind = (enum effect_kind)kind;
		fault.step = (enum controller_step)step;
		return 0;
	}
	return -EINVAL;
}

void steps_print(FILE *to)
{
	for (int kind = EFFECT_NONE + 1; kind < EFFECT_KIND_COUNT; kind++)
		for (int step = 0; step < CONTROLLER_STEP_COUNT; step++)
			if (is_one(kind, step))
				fprintf(to, "%s.%s\n", effect_kind_names[kind], step_names[step]);
}

static void die(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	kill(getpid(), SIGKILL);
	pause();
}

void step_reached(struct event_base *base, enum effect_kind kind, enum controller_step step)
{
	if (!fault.set || fault.kind != kind || fault.step != step)
		return;
	/* A request leaves only when the loop runs again: the node is to have it before we die. */
	const struct timeval soon = { .tv_usec = 100 * 1000 };
	if (step != STEP_ASKED || event_base_once(base, -1, EV_TIMEOUT, die, NULL, &soon) < 0)
		die(-1, 0, NULL);
}
