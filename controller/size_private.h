/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_SIZE_PRIVATE_H
#define ELSA_CONTROLLER_SIZE_PRIVATE_H

/* Private to controller/size*.c. */

#include "controller/size.h"
#include "rules/rules.h"

/* What moves were seen to take, the last ones most; until then what they take on other hubs. */
struct size_pace {
	double stall_ms, bytes_per_ms;
};

struct size {
	struct event *timer;
	struct size_rules rules;
	struct rules_classes classes;
	struct size_pace pace;
};

/* A decision, and on what it was made. */
struct size_view {
	struct size_facts facts;
	struct size_decision decision;
};

/* size_facts.c. Of a session as it is; and of one that is started afresh with `limits`. */
int size_look(const struct session *s, struct size_view *to, struct error *e);
int size_look_at_start(const struct session *s, const char *chosen,
		       const struct session_limits *limits, struct size_view *to, struct error *e);
/* ... of who has no session yet. */
int size_look_ahead(struct controller *c, const char *user, const char *server,
		    struct size_view *to, struct error *e);
bool size_is_over(const struct session *s);               /* nothing of it is left to be woken */
int size_find(const struct size *size, const char *name); /* -1: none */

/* The class that has those limits; -1: none. */
int size_with(const struct size *size, int64_t memory_bytes, double cpus);
/* For events, and for who asks; a new reference. */
json_t *size_view_json(const struct size *size, const struct size_view *view);

/* size_act.c. What was decided: done, or under way. */
int size_act(struct session *s, const struct size_view *view, struct error *e);

/* size_running.c. */
bool size_lowers(const struct session *s);    /* it runs, and would get less as it does */
bool size_may_lower(const struct session *s); /* ... now */
bool size_is_less(const struct session *s, const struct size_view *view); /* what is decided */
/* Done what is to be done of one that may be lowered; microseconds until the next look. */
int64_t size_look_running(struct session *s);

/* A decision whether it moves, of one that runs; what it was made on is to be freed. */
struct size_move_view {
	struct size_move_facts facts;
	struct size_move_decision decision;
	struct size_move_node *list;
	struct node **nodes; /* as in the list */
};
bool size_moves(const struct session *s); /* it runs, and would be moved */
int size_move_look(struct session *s, struct size_move_view *to);
void size_move_view_deinit(struct size_move_view *view);

/* size.c. It is looked at again, soon. */
void size_soon(struct session *s);
/* By a config, in the place of those that it has. */
int size_take_rules(const struct config *config, const struct prices *prices, struct size *size,
		    struct error *e);

#endif
