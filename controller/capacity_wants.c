/* SPDX-License-Identifier: Apache-2.0 */
/* Who wants a machine. */
#include "controller/capacity_private.h"
#include "controller/idle.h"
#include "controller/node.h"
#include "controller/placing.h"
#include "controller/rows.h"
#include "controller/sessions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOOMED_MS = 15000 }; /* a want of a session on a doomed node, unless said again */

static struct want *want_find(struct capacity *cap, const char *session)
{
	struct want *w;
	TAILQ_FOREACH(w, &cap->wants, entry)
	if (strcmp(w->id, session) == 0)
		return w;
	return NULL;
}

void want_drop(struct capacity *cap, struct want *w)
{
	TAILQ_REMOVE(&cap->wants, w, entry);
	free(w->features);
	free(w);
}

void wants_for_doomed(struct capacity *cap, wall_ms now)
{
	struct controller *c = cap->controller;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		const struct placing what = placing_of(s, true);
		struct node *node = NULL;
		if (!session_has_processes(s) || !placing_is_doomed(s->node) || !idle_in_use(s))
			continue;
		if (placing_choose(s, &what, &node, NULL) != -EAGAIN)
			continue;
		const struct capacity_want want = { .session = s->row.id,
						    .memory_bytes = what.memory_bytes,
						    .features = what.features,
						    .in_use = true,
						    .until = now + DOOMED_MS };
		if (capacity_wanted(c, &want))
			want_find(cap, s->row.id)->doomed = true;
	}
}

void wants_forget(struct capacity *cap, wall_ms now)
{
	struct want *w, *next;
	for (w = TAILQ_FIRST(&cap->wants); w; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (w->until > now && sessions_by_id(cap->controller, w->id))
			continue;
		want_drop(cap, w);
	}
}

bool capacity_can_grow(const struct controller *c)
{
	return strcmp(c->config->capacity.provider, "none") != 0;
}

bool capacity_wanted(struct controller *c, const struct capacity_want *want)
{
	struct capacity *cap = c->capacity;
	if (!cap)
		return false;
	struct want *w = want_find(cap, want->session);
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return false;
		snprintf(w->id, sizeof(w->id), "%s", want->session);
		w->since = clock_wall();
		w->coming = -1;
		TAILQ_INSERT_TAIL(&cap->wants, w, entry);
		for (size_t i = 0; i < cap->pool_count; i++)
			cap->pools[i].look_at = 0;
		capacity_changed(c);
	}
	w->memory_bytes = want->memory_bytes;
	w->in_use = want->in_use;
	w->spot = want->spot;
	w->until = want->until;
	replace_text(&w->features, want->features);
	return true;
}

void capacity_unwanted(struct controller *c, const char *session)
{
	struct want *w = c->capacity ? want_find(c->capacity, session) : NULL;
	if (w)
		want_drop(c->capacity, w);
}

void capacity_explain(struct controller *c, const char *session, char *to, size_t size)
{
	struct capacity *cap = c->capacity;
	const struct want *w = cap ? want_find(cap, session) : NULL;
	char ago[CLOCK_TEXT_SIZE];
	to[0] = '\0';
	if (!w)
		return;
	if (w->coming >= 0) {
		const struct pool_kept *k = &cap->pools[w->coming].kept;
		snprintf(to, size, "a machine of pool %s comes, asked for %s ago", k->name,
			 clock_format_duration(clock_wall() - k->asked_at, ago));
	} else {
		snprintf(to, size, "%s",
			 w->useless ? capacity_block_text(CAPACITY_USELESS)
				    : capacity_block_text(cap->block));
	}
}
