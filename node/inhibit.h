/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_INHIBIT_H
#define ELSA_NODE_INHIBIT_H

/*
 * The last signal before a machine goes down, whoever ordered it: systemd's
 * logind tells those that hold a "delay" lock (org.freedesktop.login1(5),
 * "Inhibitor Locks"; systemd-inhibit(1)) and waits for them up to
 * InhibitDelayMaxSec of logind.conf(5), 5 s unless set. A cloud that presses
 * the power button (ACPI) comes through here.
 *
 * On the loop's thread. A machine without logind says nothing, which is
 * logged once; a bus that goes away is looked for again.
 */

#include "base/error.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct inhibit;

/* `told` once whether a shutdown is under way, and then when one begins, with how long it waits for
 * us, and when it is called off. */
int inhibit_new(struct event_base *base, void (*told)(bool begins, int64_t delay_ms, void *arg),
		void *arg, struct inhibit **inhibit, struct error *e);
void *inhibit_free(struct inhibit *i); /* gives up the lock; returns NULL */

/* A shutdown under way need not wait for us any more. */
void inhibit_let_go(struct inhibit *i);

#endif
