/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_HUB_PRIVATE_H
#define ELSA_CONTROLLER_HUB_PRIVATE_H

/* For hub*.c and their tests. One thread. */

#include "controller/hub.h"

struct hub_pass {
	uint64_t number;        /* of the pass under way or the last one */
	struct http_call *call; /* NULL: none is under way */
	int64_t offset;         /* of the page under way */
	int64_t users;          /* counted in this pass */
	bool sees_all;          /* the token lists every user there is */
};

struct hub {
	char *token; /* NULL: it could not be read */
	enum hub_state state;
	struct error error;
	struct event *timer; /* until the next pass */
	struct hub_pass pass;
	int failures; /* passes in a row that were given up */
};

void hub_read_token(struct controller *c);
struct event *hub_pass_timer(struct controller *c);
void hub_pass_soon(struct controller *c);

/* The user is in none of two complete listings: asks for it by name and acts when the Hub says that
 * there is none. */
void hub_check_absent(struct controller *c, struct person *person);

/* --- pure parts --------------------------------------------------------------------------------
 */

/* One page of the users' listing. `each` borrows its arguments. *next: offset of the next page, -1
 * when this was the last. Negative with *e for anything that is no such page: nothing of it may be
 * believed then, although `each` may have been called. */
struct hub_user {
	const char *name;
	bool admin;
	const json_t *groups;  /* list of strings, or NULL: not told */
	const json_t *servers; /* object by server name, or NULL: not told */
};
int hub_parse_page(const char *body, size_t len, void (*each)(const struct hub_user *, void *),
		   void *arg, int64_t *next, struct error *e);

/* A server's last_activity of hub_user.servers; 0: not told. Now of one that is being started: its
 * user waits for it. */
wall_ms hub_server_activity(const json_t *servers, const char *server, wall_ms now);

/* The answer to GET /user: which of the scopes elsad needs are not among the token's (a list for
 * people in `missing`), and whether list:users is without a filter. */
int hub_parse_self(const char *body, size_t len, char *missing, size_t missing_size, bool *sees_all,
		   struct error *e);

#endif
