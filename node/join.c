/* SPDX-License-Identifier: Apache-2.0 */
#include "node/join.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/http_client.h"
#include "node/api.h"
#include "node/depart.h"
#include "node/identity.h"
#include "wire/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TICK_MS = 2000,          /* between looks at the token's file */
	RETRY_MOST_MS = 30000,   /* between tries while elsad is not there */
	RENEW_AGAIN_MS = 300000, /* after a renewal that failed */
	CALL_MS = 15000,
	TOKEN_MOST = 4096,
};

struct join {
	struct node *node;
	char *name;
	struct identity id;
	struct http_client *client;
	struct http_call *call; /* under way; NULL */
	struct event *tick;
	struct join_token token; /* of the call under way, or read last */
	struct stat token_seen;  /* its file, as it was read last */
	bool token_spent;        /* that one was refused, or is the one we joined by */
	bool refused;            /* our certificate does not count: a token is needed */
	mono_us try_at;          /* not before */
	int64_t pause_ms;        /* until the next try, doubling */
	struct error said;       /* last: each is said once in a row */
};

char *join_listen(const struct config *config)
{
	const char *port = strrchr(config->node.listen, ':');
	if (!config->node.address[0] || !port)
		return strdup(config->node.listen);
	return str_printf("%s%s", config->node.address, port);
}

static void complain(struct join *j, const struct error *e)
{
	if (strcmp(e->text, j->said.text) == 0)
		return;
	j->said = *e;
	log_warning("%s", e->text);
	if (e->remedy[0])
		log_warning("what to do: %s", e->remedy);
}

static void try_later(struct join *j, int64_t pause_ms)
{
	j->try_at = clock_mono() + pause_ms * 1000;
}

static void back_off(struct join *j)
{
	try_later(j, j->pause_ms);
	j->pause_ms = 2 * j->pause_ms < RETRY_MOST_MS ? 2 * j->pause_ms : RETRY_MOST_MS;
}

/* --- the API -------------------------------------------------------------- */

static void serve(struct join *j)
{
	struct error e = ERROR_INIT;
	const struct http_tls files = { .cert_file = j->id.cert_file,
					.key_file = j->id.key_file,
					.ca_file = j->id.ca_file };
	depart_identity_changed(j->node);
	if (api_serves_tls(j->node))
		return;
	if (api_start_tls(j->node, &files, &e) < 0) {
		error_wrap(&e, 0, "node.listen");
		complain(j, &e);
	} else {
		log_info("node %s serves elsad on %s", j->name, j->node->config->node.listen);
	}
}

/* --- the token ------------------------------------------------------------ */

static bool is_changed(struct join *j)
{
	struct stat now;
	const struct stat *seen = &j->token_seen;
	if (stat(j->node->config->node.join_token_file, &now) < 0)
		now = (struct stat) { 0 };
	bool changed = now.st_ino != seen->st_ino || now.st_size != seen->st_size ||
		       now.st_mtim.tv_sec != seen->st_mtim.tv_sec ||
		       now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
	j->token_seen = now;
	return changed;
}

static int read_token(struct join *j, struct error *e)
{
	const char *path = j->node->config->node.join_token_file;
	cleanup_buf struct buf text = BUF_INIT(TOKEN_MOST);
	int r = fs_read(path, &text, e);
	if (r == 0)
		r = join_token_parse(buf_text(&text), &j->token, e);
	if (r == 0)
		return 0;
	error_wrap(e, r, "this node has not joined elsad yet: node.join_token_file %s", path);
	return error_remedy(e, r, "put there what `elsa node token` prints on the hub's host");
}

/* --- questions to elsad ---------------------------------------------------- */

static int post(struct join *j, const char *path, json_t *body, http_done done, struct error *e)
{
	bool join = !j->id.joined || j->refused;
	cleanup_json json_t *steals = body;
	cleanup_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	cleanup_free char *url = str_printf("https://" CONTROLLER_HOST "%s", path);
	if (!text || !url)
		return error_set(e, ENOMEM, "out of memory");
	struct http_request request = {
		.method = "POST",
		.url = url,
		.connect_to = j->node->config->node.controller + strlen("https://"),
		.body = text,
		.body_len = strlen(text),
		.timeout_ms = CALL_MS,
	};
	if (join) {
		/* The token goes to nobody but the one whose authority it names. */
		request.ca_sha256 = j->token.fingerprint;
	} else {
		request.ca_file = j->id.ca_file;
		request.cert_file = j->id.cert_file;
		request.key_file = j->id.key_file;
	}
	return http_client_call(j->client, &request, done, j, &j->call, e);
}

static void error_of(const struct http_reply *reply, struct error *e)
{
	*e = reply->error;
	if (e->fault != FAULT_NONE || (reply->status >= 200 && reply->status < 300))
		return;
	cleanup_json json_t *body = json_loadb(reply->body, reply->body_len, 0, NULL);
	wire_decode_error(body, reply->status, e);
}

static int take_answer(struct join *j, const struct http_reply *reply, const char *ca_digest,
		       const char *token, struct error *e)
{
	struct join_answer answer = { 0 };
	int r = wire_decode_text(&wire_join_answer, reply->body, reply->body_len, &answer, e);
	if (r == 0)
		r = identity_store(&j->id, j->name, answer.certificate, answer.ca, ca_digest, token,
				   e);
	wire_free(&wire_join_answer, &answer);
	return r;
}

/* --- joining -------------------------------------------------------------- */

static void joined(struct join *j)
{
	log_info("node %s has joined elsad at %s", j->name, j->node->config->node.controller);
	j->refused = false;
	j->token_spent = true;
	j->pause_ms = TICK_MS;
	j->said = ERROR_INIT;
	serve(j);
}

/* What elsad says about this node or its token will be the same the next time, until there is
 * another token; all else may pass. */
static void not_joined(struct join *j, const struct http_reply *reply, struct error *e)
{
	if (reply->status == 0 && e->fault == FAULT_DENIED)
		error_remedy(e, 0,
			     "whatever answers at node.controller is not the elsad that made the "
			     "token: see that address, or get a new token there");
	error_wrap(e, 0, "this node cannot join elsad at %s", j->node->config->node.controller);
	j->token_spent = reply->status == 401 || reply->status == 403;
	if (j->token_spent)
		error_remedy(e, 0, "put a new token into node.join_token_file");
	complain(j, e);
	back_off(j);
	if (reply->retry_after_s)
		try_later(j, reply->retry_after_s * 1000LL);
}

static void join_answered(const struct http_reply *reply, void *arg)
{
	struct join *j = arg;
	struct error e = ERROR_INIT;
	j->call = NULL;
	error_of(reply, &e);
	if (e.fault == FAULT_NONE)
		take_answer(j, reply, j->token.fingerprint, j->token.id, &e);
	if (e.fault == FAULT_NONE)
		joined(j);
	else
		not_joined(j, reply, &e);
}

static int ask_to_join(struct join *j, struct error *e)
{
	cleanup_free char *csr = NULL;
	cleanup_free char *token = join_token_format(&j->token);
	cleanup_free char *listen = join_listen(j->node->config);
	int r = identity_request(&j->id, j->name, &csr, e);
	if (r < 0)
		return r;
	struct join_request request = {
		.token = token,
		.name = j->name,
		.csr = csr,
		.listen = listen,
		.version = (char *)ELSA_VERSION,
	};
	return post(j, "/v1/nodes/join", wire_encode(&wire_join_request, &request), join_answered,
		    e);
}

static void try_to_join(struct join *j)
{
	struct error e = ERROR_INIT;
	if (is_changed(j)) {
		j->token_spent = false;
		j->pause_ms = TICK_MS;
		j->try_at = 0;
	}
	if (j->token_spent || clock_mono() < j->try_at)
		return;
	int r = read_token(j, &e);
	if (r == 0 && j->refused && strcmp(j->token.id, j->id.token) == 0) {
		j->token_spent = true;
		return;
	}
	if (r == 0)
		r = ask_to_join(j, &e);
	if (r < 0) {
		complain(j, &e);
		back_off(j);
	}
}

/* --- renewal -------------------------------------------------------------- */

static void join_again(struct join *j, const char *why)
{
	struct error e = ERROR_INIT;
	error_set(&e, EACCES, "the certificate of node %s %s", j->name, why);
	error_remedy(&e, 0, "to join again put a new token into %s",
		     j->node->config->node.join_token_file);
	complain(j, &e);
	j->refused = true;
	j->try_at = 0;
}

void join_refused(struct node *node)
{
	struct join *j = node->join;
	if (j && j->id.joined && !j->refused)
		join_again(j, "does not count any more at elsad");
}

/* Another authority answers: only the owner of the token that names it may tell us so. */
static bool is_of_another(const struct join *j, const struct http_reply *reply)
{
	return reply->status == 0 && reply->error.fault == FAULT_DENIED &&
	       strcmp(j->token.fingerprint, j->id.ca_digest) != 0 && j->token.fingerprint[0];
}

static void renew_answered(const struct http_reply *reply, void *arg)
{
	struct join *j = arg;
	struct error e = ERROR_INIT;
	j->call = NULL;
	error_of(reply, &e);
	if (e.fault == FAULT_NONE)
		take_answer(j, reply, j->id.ca_digest, NULL, &e);
	if (e.fault == FAULT_NONE) {
		log_info("the certificate of node %s was renewed", j->name);
		j->said = ERROR_INIT;
		return;
	}
	j->token_seen = (struct stat) { 0 }; /* a new token there is asked about again */
	try_later(j, RENEW_AGAIN_MS);
	if (reply->status == 403 || is_of_another(j, reply)) {
		join_refused(j->node);
		return;
	}
	error_wrap(&e, 0, "the certificate cannot be renewed");
	complain(j, &e);
}

static void renew(struct join *j)
{
	cleanup_free char *csr = NULL;
	struct error e = ERROR_INIT;
	int r = identity_request(&j->id, j->name, &csr, &e);
	if (r == 0)
		r = post(j, "/v1/nodes/renew", json_pack("{s:s}", "csr", csr), renew_answered, &e);
	if (r < 0) {
		error_wrap(&e, 0, "the certificate cannot be renewed");
		complain(j, &e);
		try_later(j, RENEW_AGAIN_MS);
	}
}

/* A new token where there is an identity already: elsad is asked whether it still counts. */
static bool is_new_token(struct join *j)
{
	return is_changed(j) && read_token(j, NULL) == 0 && strcmp(j->token.id, j->id.token) != 0;
}

/* --- time goes on --------------------------------------------------------- */

static void look(struct join *j)
{
	if (!j->id.joined || j->refused) {
		try_to_join(j);
		return;
	}
	serve(j);
	if (clock_wall() >= j->id.facts.until) {
		join_again(j, "has expired");
		return;
	}
	bool due = clock_wall() >= identity_renew_at(&j->id) && clock_mono() >= j->try_at;
	if (is_new_token(j) || due)
		renew(j);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct join *j = arg;
	(void)fd;
	(void)what;
	if (!j->call && !j->node->stopping)
		look(j);
}

static int begin(struct join *j, struct error *e)
{
	static const struct timeval interval = { .tv_sec = TICK_MS / 1000 };
	struct error unusable = ERROR_INIT;
	j->name = node_name(j->node);
	if (!j->name || !node_name_valid(j->name))
		return error_set(e, EINVAL, "node.name: \"%s\" is not a name for a node",
				 j->name ? j->name : "");
	int r = identity_init(&j->id, j->node->config, e);
	if (r == 0)
		r = http_client_new(j->node->base, &j->client, e);
	if (r < 0)
		return r;
	if (identity_load(&j->id, j->name, &unusable) < 0)
		complain(j, &unusable);
	j->tick = event_new(j->node->base, -1, EV_PERSIST, on_tick, j);
	if (!j->tick || event_add(j->tick, &interval) < 0)
		return error_set(e, ENOMEM, "out of memory");
	look(j);
	return 0;
}

int join_start(struct node *node, struct error *e)
{
	if (!node->config->node.controller[0])
		return 0;
	struct join *j = calloc(1, sizeof(*j));
	if (!j)
		return error_set(e, ENOMEM, "out of memory");
	j->node = node;
	j->pause_ms = TICK_MS;
	node->join = j;
	return begin(j, e);
}

void join_stop(struct node *node)
{
	struct join *j = node->join;
	if (!j)
		return;
	node->join = NULL;
	if (j->tick)
		event_free(j->tick);
	http_client_free(j->client);
	identity_deinit(&j->id);
	free(j->name);
	free(j);
}
