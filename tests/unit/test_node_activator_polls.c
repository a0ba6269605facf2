/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/activator_world.h"

#include "io/http_server.h"
#include "node/activator_identity.h"
#include "node/activator_record.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Polls, with what stands for the Hub, and for the session's own server while its
 * record is made, on the world's loop.
 */

#define TOKEN             "0wner"
#define GUEST             "gu3st"
#define STRANGER          "str4nger"
#define AS(token)         "Authorization: token " token "\r\n"
#define GET(path, fields) "GET /user/ada/" path " HTTP/1.1\r\nHost: x\r\n" fields "\r\n"

struct hub {
	struct world *w;
	struct http_server *server;
	int asked;
	bool away;
	bool holds; /* the next question, */
	struct http_exchange *held;
};

static struct hub hub;

/* As jupyter_server says to whom the Hub has told it no more of than the name. */
#define IDENTITY(username, rest)                                                                   \
	"{\"identity\": {\"username\": \"" username "\", " rest "}, \"permissions\": {}}"
#define PLAIN(name)                                                                                \
	IDENTITY(name, "\"name\": \"" name "\", \"display_name\": \"" name "\", "                  \
		       "\"initials\": null, \"avatar_url\": null, \"color\": null")

static const char *me; /* NULL: in a form of its own */

static void answer_user(struct http_exchange *x, void *arg)
{
	struct hub *h = arg;
	const char *token = http_exchange_header(x, "Authorization");
	h->asked++;
	if (h->holds)
		h->held = x;
	else if (h->away)
		http_reply_text(x, 502, "text/plain", "", 0);
	else if (strcmp(token, "token " TOKEN) == 0)
		http_reply_json(x, 200,
				json_pack("{s:s, s:s, s:[s]}", "name", "ada", "kind", "user",
					  "scopes", "access:servers!user=ada"));
	else if (strcmp(token, "token " GUEST) == 0)
		http_reply_json(x, 200,
				json_pack("{s:s, s:s, s:[s]}", "name", "eve", "kind", "user",
					  "scopes", "access:servers!server=ada/"));
	else if (strcmp(token, "token " STRANGER) == 0)
		http_reply_json(x, 200,
				json_pack("{s:s, s:s, s:[s]}", "name", "mallory", "kind", "user",
					  "scopes", "access:servers!user=mallory"));
	else
		http_reply_text(x, 403, "application/json", "{}", 2);
}

/* The session's own. */
static void answer_api(struct http_exchange *x, void *arg)
{
	const char *path = http_exchange_param(x, "path");
	(void)arg;
	assert_string_equal(http_exchange_header(x, "Authorization"), "token own");
	assert_string_equal(http_exchange_query(x, "no_track_activity"), "1");
	if (strcmp(path, "sessions") == 0)
		http_reply_json(x, 200, json_pack("[{s:s}]", "path", "deep/er/x.ipynb"));
	else if (strcmp(path, "contents") == 0)
		http_reply_json(x, 200,
				json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "content", "type",
					  "directory", "path", "a b", "type", "file", "path",
					  "c.txt"));
	else if (strcmp(path, "contents/a%20b") == 0 || strcmp(path, "contents/deep/er") == 0 ||
		 strcmp(path, "contents/wanted") == 0)
		http_reply_json(x, 200, json_pack("{s:[], s:s}", "content", "path", path));
	else if (strcmp(path, "me") == 0 && me)
		http_reply_text(x, 200, "application/json", me, strlen(me));
	else if (strcmp(path, "kernels") == 0 || strcmp(path, "me") == 0)
		http_reply_json(x, 200, json_pack("{s:s}", "of", path));
	else
		http_reply_text(x, 404, "text/html", "<html>", 6);
}

static void answer_version(struct http_exchange *x, void *arg)
{
	(void)arg;
	http_reply_json(x, 200, json_pack("{s:s}", "version", "2.15.0"));
}

static const struct http_route routes[] = {
	{ "GET", "/hub/api/user", answer_user },
	{ "GET", "/user/ada/api", answer_version },
	{ "GET", "/user/ada/api/{path*}", answer_api },
	{ 0 },
};

static struct config *recording_config;
static atomic_bool recorded;

static void *record_main(void *arg)
{
	struct world *w = arg;
	struct error e = ERROR_INIT;
	int r = activator_record(recording_config, &w->spec, w->record, &e);
	recorded = true;
	return (void *)(intptr_t)r;
}

static void make_record(struct world *w)
{
	pthread_t thread;
	void *result;
	recording_config = w->config;
	recorded = false;
	assert_int_equal(pthread_create(&thread, NULL, record_main, w), 0);
	UNTIL(w, recorded);
	pthread_join(thread, &result);
	assert_null(result);
}

static int setup(void **state)
{
	static char api_url[64];
	struct http_server_options options = { .routes = routes, .arg = &hub, .open = true };
	int r = world_setup(state);
	struct world *w = *state;
	hub = (struct hub) { .w = w };
	assert_int_equal(http_server_new(w->base, "127.0.0.1:0", &options, &hub.server, NULL), 0);
	w->spec.port = http_server_port(hub.server);
	snprintf(api_url, sizeof(api_url), "JUPYTERHUB_API_URL=http://127.0.0.1:%d/hub/api",
		 http_server_port(hub.server));
	char *env[] = { "JUPYTERHUB_SERVICE_PREFIX=/user/ada/", "JUPYTERHUB_API_TOKEN=own",
			"JUPYTERHUB_CLIENT_ID=jupyterhub-user-ada",
			"JUPYTERHUB_OAUTH_ACCESS_SCOPES=[\"access:servers!server=ada/\", "
			"\"access:servers!user=ada\"]",
			api_url };
	memcpy(w->env, env, sizeof(env));
	activator_free(w->a);
	world_begin(w);
	make_record(w);
	return r;
}

static int teardown(void **state)
{
	http_server_free(hub.server);
	return world_teardown(state);
}

/* What comes back, up to the end of its body of `len` bytes. */
static void expect(struct world *w, int fd, const char *status, const char *body)
{
	cleanup_buf struct buf heard = BUF_INIT(1 << 20);
	UNTIL(w, (hear_some(fd, &heard),
		  strstr(buf_text(&heard), "\r\n\r\n") && strstr(buf_text(&heard), body)));
	if (strncmp(heard.data + 9, status, 3) != 0)
		fail_msg("%s", heard.data);
}

static void the_owner_gets_the_truth_and_nobody_wakes(void **state)
{
	struct world *w = *state;
	/* One connection, one after the other, and two at once. */
	cleanup_fd int fd = client(w, GET("api/kernels?1", AS(TOKEN)));
	expect(w, fd, "200", "{\"of\":\"kernels\"}");
	say(w, fd, GET("api/me?2", AS(TOKEN)), strlen(GET("api/me?2", AS(TOKEN))));
	expect(w, fd, "200", "{\"of\":\"me\"}");
	static const char two[] = GET("api/contents/a%20b?content=1&3", AS(TOKEN))
		GET("api/contents/deep/er/?type=directory&_=4", AS(TOKEN));
	say(w, fd, two, sizeof(two) - 1);
	expect(w, fd, "200", "contents/deep/er");
	cleanup_fd int unknown = client(w, GET("api/metrics/v1", AS(TOKEN)));
	expect(w, unknown, "404", "<html>");
	assert_int_equal(hub.asked, 1);
	assert_int_equal(w->touches, 0);
	activator_woken(w->a);
	assert_int_equal(w->connects, 0);
}

static void others_get_what_is_theirs(void **state)
{
	static const struct {
		const char *request, *status, *body;
	} cases[] = {
		{ GET("api", ""), "200", "2.15.0" },
		{ GET("api/", ""), "200", "2.15.0" },
		{ GET("api/kernels", ""), "403", "Forbidden" },
		{ GET("api/kernels", AS("wrong")), "403", "Forbidden" },
		{ GET("api/kernels", AS(STRANGER)), "403", "Forbidden" },
		{ GET("api/kernels?token=" TOKEN, ""), "403", "Forbidden" },
		{ GET("api/kernels", AS(GUEST)), "200", "kernels" },
		{ GET("api/kernels", AS(TOKEN) "Sec-Fetch-Mode: cors\r\n"), "200", "kernels" },
		{ GET("api/contents/none?content=1", ""), "403", "Forbidden" },
		{ GET("api/kernels", "Connection: close\r\n"), "403", "Forbidden" },
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_fd int fd = client(w, cases[i].request);
		expect(w, fd, cases[i].status, cases[i].body);
	}
	assert_int_equal(w->touches, 0);
	assert_int_equal(hub.asked, 4);
}

static void head_has_no_body_and_close_closes(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf heard = BUF_INIT(1 << 16);
	cleanup_fd int fd = client(w, "HEAD /user/ada/api HTTP/1.1\r\nConnection: close\r\n\r\n");
	shutdown(fd, SHUT_WR);
	hear_to_end(w, fd, &heard);
	assert_memory_equal(heard.data, "HTTP/1.1 200 OK\r\n", 17);
	assert_non_null(strstr(heard.data, "Content-Length: 21\r\n"));
	assert_null(strstr(heard.data, "version"));
	UNTIL(w, activator_connections(w->a) == 0);
}

static void a_guest_is_told_who_it_is(void **state)
{
	struct world *w = *state;
	me = PLAIN("ada");
	make_record(w);
	me = NULL;
	for (int i = 0; i < 2; i++) {
		cleanup_fd int fd = client(w, GET("api/me?1", AS(GUEST)));
		expect(w, fd, "200", PLAIN("eve"));
		say(w, fd, GET("api/me?2", AS(TOKEN)), strlen(GET("api/me?2", AS(TOKEN))));
		expect(w, fd, "200", PLAIN("ada"));
	}
	cleanup_fd int stranger = client(w, GET("api/me", AS(STRANGER)));
	expect(w, stranger, "403", "Forbidden");
	assert_int_equal(hub.asked, 3);
	assert_int_equal(w->touches, 0);
}

static void what_is_known_of_a_guest_is_its_name(void **state)
{
	(void)state;
	static const struct {
		const char *recorded, *guest, *answer;
	} cases[] = {
		{ PLAIN("ada"), "eve", PLAIN("eve") },
		{ PLAIN("ada"), "e\"\xc3\xa9", PLAIN("e\\\"\\u00E9") },
		{ IDENTITY("ada", "\"extra\": null"), "eve", IDENTITY("eve", "\"extra\": null") },
		{ PLAIN("eve"), "eve", NULL },
		{ IDENTITY("ada", "\"display_name\": \"Ada L.\""), "eve", NULL },
		{ IDENTITY("ada", "\"color\": \"red\""), "eve", NULL },
		{ IDENTITY("ada", "\"groups\": []"), "eve", NULL },
		{ "{\"identity\": {\"name\": \"ada\"}}", "eve", NULL },
		{ "{\"identity\": {\"username\": null}}", "eve", NULL },
		{ "{\"identity\": \"ada\"}", "eve", NULL },
		{ "{}", "eve", NULL },
		{ "[", "eve", NULL },
		{ "", "eve", NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *answer = identity_for(
			cases[i].recorded, strlen(cases[i].recorded), "ada", cases[i].guest);
		if (cases[i].answer)
			assert_string_equal(answer, cases[i].answer);
		else
			assert_null(answer);
	}
}

/* What a server says of the guest with words of its own: it waits, and gets the session's answer.
 */
static void what_cannot_be_answered_waits_for_the_session(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf told = BUF_INIT(1 << 16);
	cleanup_fd int guest = client(w, GET("api/me", AS(GUEST)));
	UNTIL(w, hub.asked == 1);
	hub.away = true;
	cleanup_fd int fd = client(w, GET("api/kernels", AS(TOKEN)));
	UNTIL(w, hub.asked == 2);
	for (int i = 0; i < 20; i++)
		world_turn(w);
	assert_int_equal(w->touches, 0);
	assert_int_equal(activator_connections(w->a), 2);
	activator_failed(w->a, "no", 1);
	assert_int_equal(activator_connections(w->a), 2);
	activator_woken(w->a);
	cleanup_fd int first = server_accept(w);
	cleanup_fd int second = server_accept(w);
	hear(w, first, &told, strlen(GET("api/me", AS(GUEST))));
	assert_non_null(strstr(told.data, "GET /user/ada/api/"));
}

static void a_poll_that_is_being_asked_about_when_it_wakes(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf told = BUF_INIT(1 << 16);
	hub.holds = true;
	cleanup_fd int fd = client(w, GET("api/kernels", AS(TOKEN)));
	UNTIL(w, hub.held);
	activator_woken(w->a);
	cleanup_fd int server = server_accept(w);
	http_reply_text(hub.held, 403, "application/json", "{}", 2);
	hear(w, server, &told, strlen(GET("api/kernels", AS(TOKEN))));
	assert_memory_equal(told.data, GET("api/kernels", AS(TOKEN)), told.len);
}

static void a_new_directory_is_a_person_once(void **state)
{
	struct world *w = *state;
	cleanup_fd int fd = client(w, GET("api/contents/wanted?content=1&1", AS(TOKEN)));
	UNTIL(w, w->touches == 1);
	assert_string_equal(w->touched, "GET /user/ada/api/contents/wanted");
	close(steal_fd(&fd));
	for (int i = 0; i < 2; i++) {
		make_record(w);
		cleanup_fd int again = client(w, GET("api/contents/wanted?content=1&2", AS(TOKEN)));
		expect(w, again, "200", "contents/wanted");
	}
	assert_int_equal(w->touches, 1);
}

static void what_is_no_poll_is_somebody(void **state)
{
	static const char *const requests[] = {
		"POST /user/ada/api/kernels HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"GET /user/ada/api/kernels HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
		"GET /user/ada/api/kernels HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		GET("lab", ""),
		GET("api/contents/x.ipynb?content=0", ""),
		"GET /user/eve/api/kernels HTTP/1.1\r\n\r\n",
	};
	struct world *w = *state;
	int fds[ARRAY_SIZE(requests)];
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		fds[i] = client(w, requests[i]);
	UNTIL(w, w->touches == (int)ARRAY_SIZE(requests));
	assert_int_equal(hub.asked, 0);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		close(fds[i]);
}

#define WITH_HUB(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_HUB(the_owner_gets_the_truth_and_nobody_wakes),
		WITH_HUB(others_get_what_is_theirs),
		WITH_HUB(head_has_no_body_and_close_closes),
		WITH_HUB(a_guest_is_told_who_it_is),
		cmocka_unit_test(what_is_known_of_a_guest_is_its_name),
		WITH_HUB(what_cannot_be_answered_waits_for_the_session),
		WITH_HUB(a_poll_that_is_being_asked_about_when_it_wakes),
		WITH_HUB(a_new_directory_is_a_person_once),
		WITH_HUB(what_is_no_poll_is_somebody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
