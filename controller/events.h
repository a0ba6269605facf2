/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EVENTS_H
#define ELSA_CONTROLLER_EVENTS_H

/* Requests for events, now or when there are new ones. One thread. */

#include "controller/controller.h"

struct events;

int events_new(struct controller *c, struct events **events, struct error *e);
void events_free(struct events *events);
void events_wake(struct events *events); /* when the loop runs again: the event is durable then */

struct events *api_events(struct controller *c);

#endif
