/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/nodes_api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/api.h"
#include "controller/lease.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "controller/tokens.h"
#include "wire/identity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_MOST (64 << 10)

/* --- who may call --------------------------------------------------------- */

/* The one that was given out last is used: the one before it is over. */
static int promote(struct controller *c, struct db_node *row, struct error *e)
{
	free(row->serial);
	row->serial = steal_ptr(&row->next_serial);
	return db_node_put(c->db, row, e);
}

static int admit(const struct http_peer *peer, void *arg, struct error *e)
{
	struct controller *c = arg;
	struct db_node row;
	int r = db_node_get(c->db, peer->name, &row, e);
	if (r == 0 && row.next_serial && strcmp(row.next_serial, peer->serial) == 0) {
		r = promote(c, &row, e);
		db_node_deinit(&row);
		return r;
	}
	bool counts = r == 0 && strcmp(row.serial, peer->serial) == 0;
	if (r == 0)
		db_node_deinit(&row);
	if (counts || (r < 0 && r != -ENOENT))
		return r;
	error_clear(e);
	r = error_set(e, EACCES,
		      r < 0 ? "there is no node \"%s\" in this cluster, or no more"
			    : "this certificate of node \"%s\" does not count any more",
		      peer->name);
	return error_remedy(e, r, "to join (again) it needs a new token: elsa node token");
}

/* --- joining -------------------------------------------------------------- */

struct joining {
	struct join_request request;
	struct db_join_token token;
	const char *peer; /* where the request came from */
	char *listen;     /* where the node's API is */
	char key_digest[X509_DIGEST_SIZE];
	char *certificate;
	struct db_node row; /* as it is to be, or was */
	bool known;         /* there was one of that name */
};

static void joining_deinit(struct joining *j)
{
	wire_free(&wire_join_request, &j->request);
	db_join_token_deinit(&j->token);
	db_node_deinit(&j->row);
	free(j->certificate);
	free(j->listen);
}

int node_listen_address(const char *listen, const char *peer, char **to, struct error *e)
{
	const char *colon = listen ? strrchr(listen, ':') : NULL;
	cleanup_free char *host = colon ? strndup(listen, (size_t)(colon - listen)) : NULL;
	char *end = NULL;
	struct in_addr address;
	long port = colon && colon[1] ? strtol(colon + 1, &end, 10) : 0;
	bool any = host && (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "[::]") == 0);
	const char *where = any ? peer : host;
	if (!host || !end || *end || port < 1 || port > 65535 ||
	    inet_pton(AF_INET, where, &address) != 1)
		return error_set(e, EINVAL, "listen: not an IPv4 address and port: \"%s\"",
				 listen ? listen : "");
	*to = str_printf("%s:%ld", where, port);
	return *to ? 0 : error_set(e, ENOMEM, "out of memory");
}

static bool same_host(const char *listen, const char *address)
{
	size_t len = strcspn(listen, ":");
	return strlen(address) == len && strncmp(listen, address, len) == 0;
}

static int check_request(struct controller *c, struct joining *j, struct error *e)
{
	const char *name = j->request.name;
	const struct node *local = c->nodes->local;
	if (!node_name_valid(name))
		return error_set(e, EINVAL, "\"%s\" is not a name for a node", name ? name : "");
	if (local->name && strcmp(local->name, name) == 0) {
		int r = error_set(e, EBUSY, "the node of the hub's own host is called \"%s\"",
				  name);
		return error_remedy(e, r, "give this one another node.name");
	}
	int r = node_listen_address(j->request.listen, j->peer, &j->listen, e);
	return r < 0 ? r : x509_check_csr(j->request.csr, j->key_digest, e);
}

/* The record of that name, if it may be taken over: by the owner of its key, or from its address,
 * when its directory was lost. */
static int look_up(struct controller *c, struct joining *j, struct error *e)
{
	int r = db_node_get(c->db, j->request.name, &j->row, e);
	if (r == -ENOENT) {
		error_clear(e);
		return 0;
	}
	if (r < 0)
		return r;
	j->known = true;
	if (strcmp(j->row.key_digest, j->key_digest) == 0 ||
	    (same_host(j->row.listen, j->peer) && same_host(j->listen, j->peer)))
		return 0;
	r = error_set(e, EEXIST, "another host, at %s, has joined as \"%s\"", j->row.listen,
		      j->request.name);
	return error_remedy(e, r,
			    "give this one another node.name, or, if it takes the other's place, "
			    "first: elsa node remove %s",
			    j->request.name);
}

static int fill_row(struct controller *c, struct joining *j, const struct x509_facts *facts,
		    struct error *e)
{
	struct db_node *row = &j->row;
	replace_text(&row->serial, facts->serial);
	replace_text(&row->next_serial, NULL);
	replace_text(&row->key_digest, j->key_digest);
	replace_text(&row->listen, j->listen);
	replace_text(&row->token, j->token.id);
	row->seen_at = clock_wall();
	if (j->known)
		return 0;
	row->joined_at = row->seen_at;
	replace_text(&row->name, j->request.name);
	replace_text(&row->state, "ready");
	return db_overlay_pick(c->db, c->config->network.overlay, &row->overlay, e);
}

/* In a transaction. Asked again by the same host with the same token, which may have missed the
 * answer, it is no further use of the token. */
static int join_in(struct controller *c, struct joining *j, struct error *e)
{
	struct x509_facts facts;
	int r = look_up(c, j, e);
	if (r < 0)
		return r;
	bool again = j->known && strcmp(j->row.token, j->token.id) == 0 &&
		     strcmp(j->row.key_digest, j->key_digest) == 0;
	r = tokens_take(c, &j->token, again, e);
	if (r == 0)
		r = ca_sign_node(c->nodes_api->ca, j->request.csr, j->request.name,
				 c->config->nodes.certificate_ms, &j->certificate, &facts, e);
	if (r == 0)
		r = fill_row(c, j, &facts, e);
	if (r == 0)
		r = db_node_put(c->db, &j->row, e);
	if (r == 0)
		r = record_event(
			c,
			&(struct record) { .who = "node",
					   .what = j->known ? "node-rejoined" : "node-joined",
					   .why = j->request.name,
					   .detail = j->listen },
			e);
	return r;
}

static int join_recorded(struct controller *c, struct joining *j, struct error *e)
{
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = join_in(c, j, e);
	if (r == 0)
		return db_commit(c->db, e);
	db_rollback(c->db);
	return r;
}

static int decode(struct http_exchange *x, const struct wire_struct *type, void *to,
		  struct error *e)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	return wire_decode_text(type, body, len, to, e);
}

static int join_checked(struct http_exchange *x, struct controller *c, struct joining *j,
			struct error *e)
{
	int64_t wait_s = 0;
	struct tokens *tokens = c->nodes_api->tokens;
	j->peer = http_exchange_peer(x);
	int r = tokens_listen_to(tokens, j->peer, clock_mono(), &wait_s, e);
	if (r < 0) {
		char text[32];
		snprintf(text, sizeof(text), "%lld", (long long)wait_s);
		http_reply_header(x, "Retry-After", text);
		return r;
	}
	r = decode(x, &wire_join_request, &j->request, e);
	if (r == 0)
		r = tokens_check(c, j->request.token ? j->request.token : "", &j->token, e);
	if (r == -EACCES) {
		tokens_wrong(tokens, j->peer, clock_mono());
		log_warning("%s wants to join: %s", j->peer, e->text);
	}
	if (r < 0)
		return r;
	tokens_right(tokens, j->peer);
	r = check_request(c, j, e);
	return r < 0 ? r : join_recorded(c, j, e);
}

static void reply_certificate(struct http_exchange *x, struct controller *c, char *certificate,
			      char *overlay)
{
	struct join_answer answer = {
		.certificate = certificate,
		.ca = c->nodes_api->ca->pem,
		.overlay = overlay,
	};
	http_reply_json(x, 200, wire_encode(&wire_join_answer, &answer));
}

static void join(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	cleanup(joining_deinit) struct joining j = { 0 };
	struct error e = ERROR_INIT;
	if (join_checked(x, c, &j, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	log_info("node %s has joined from %s", j.request.name, j.listen);
	nodes_reload(c, NULL);
	node_look_soon(nodes_of_row(c, j.request.name));
	reply_certificate(x, c, j.certificate, j.row.overlay);
}

/* --- renewal -------------------------------------------------------------- */

/* The old one counts until the new one is used: the answer may be lost. */
static int renew_recorded(struct controller *c, struct db_node *row, const char *csr,
			  char **certificate, struct error *e)
{
	char key_digest[X509_DIGEST_SIZE];
	struct x509_facts facts;
	int r = x509_check_csr(csr, key_digest, e);
	if (r == 0 && strcmp(key_digest, row->key_digest) != 0)
		r = error_set(e, EINVAL, "the request is for another key than the node's");
	if (r == 0)
		r = ca_sign_node(c->nodes_api->ca, csr, row->name, c->config->nodes.certificate_ms,
				 certificate, &facts, e);
	if (r < 0)
		return r;
	replace_text(&row->next_serial, facts.serial);
	row->seen_at = clock_wall();
	return db_node_put(c->db, row, e);
}

static void renew(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	cleanup_json json_t *body = http_exchange_json(x);
	cleanup_free char *certificate = NULL;
	cleanup(db_node_deinit) struct db_node row = { 0 };
	struct error e = ERROR_INIT;
	if (!body)
		return;
	const char *csr = json_string_value(json_object_get(body, "csr"));
	int r = csr ? db_node_get(c->db, http_exchange_peer_name(x), &row, &e)
		    : error_set(&e, EINVAL, "csr: expected a string");
	if (r == 0)
		r = renew_recorded(c, &row, csr, &certificate, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		reply_certificate(x, c, certificate, row.overlay);
}

/* --- for the rest of elsad ------------------------------------------------ */

int node_link(struct controller *c, const char *name, char **base, char **connect_to,
	      struct http_request *request, struct error *e)
{
	struct db_node row;
	if (!c->nodes_api)
		return error_set(e, ENOENT, "nodes.listen is not set: there are no other nodes");
	int r = db_node_get(c->db, name, &row, e);
	if (r < 0)
		return r;
	cleanup_free char *host = node_host(name);
	*base = host ? str_printf("https://%s", host) : NULL;
	*connect_to = steal_ptr(&row.listen);
	db_node_deinit(&row);
	request->connect_to = *connect_to;
	request->ca_file = c->nodes_api->ca->ca_file;
	request->cert_file = c->nodes_api->ca->cert_file;
	request->key_file = c->nodes_api->ca->key_file;
	return *base && *connect_to ? 0 : error_set(e, ENOMEM, "out of memory");
}

int node_moved(struct controller *c, const char *name, const char *listen, const char *peer,
	       struct error *e)
{
	cleanup(db_node_deinit) struct db_node row = { 0 };
	cleanup_free char *now = NULL;
	int r = node_listen_address(listen, peer, &now, e);
	if (r == 0)
		r = db_node_get(c->db, name, &row, e);
	if (r < 0 || strcmp(row.listen, now) == 0)
		return r;
	log_info("node %s is at %s now, not at %s any more", name, now, row.listen);
	replace_text(&row.listen, now);
	r = db_node_put(c->db, &row, e);
	return r < 0 ? r : 1;
}

char *nodes_api_url(const struct config *config)
{
	const char *listen = config->nodes.listen;
	const char *port = strrchr(listen, ':');
	char host[256] = "";
	if (*config->nodes.url)
		return strdup(config->nodes.url);
	if (strncmp(listen, "0.0.0.0:", 8) != 0 && strncmp(listen, "[::]:", 5) != 0)
		return str_printf("https://%s", listen);
	if (*config->nodes.address)
		snprintf(host, sizeof(host), "%s", config->nodes.address);
	else
		gethostname(host, sizeof(host) - 1);
	return str_printf("https://%s%s", host, port ? port : "");
}

/* --- life ----------------------------------------------------------------- */

static const struct http_route routes[] = {
	{ "POST", "/v1/nodes/join", join, .open = true },
	{ "POST", "/v1/nodes/renew", renew },
	{ "POST", "/v1/nodes/lease", lease_asked },
	{ "POST", "/v1/nodes/moving", migrate_moving },
	{ 0 },
};

static void report(const char *what, void *arg)
{
	(void)arg;
	log_warning("nodes.listen: %s", what);
}

static int listen_tls(struct controller *c, struct error *e)
{
	const struct ca *ca = c->nodes_api->ca;
	const struct http_tls tls = {
		.cert_file = ca->cert_file,
		.key_file = ca->key_file,
		.ca_file = ca->ca_file,
		.report = report,
	};
	const struct http_server_options options = {
		.routes = routes,
		.arg = c,
		.max_body = BODY_MOST,
		.tls = &tls,
		.admit = admit,
	};
	return http_server_new(c->base, c->config->nodes.listen, &options, &c->nodes_api->server,
			       e);
}

int nodes_api_new(struct controller *c, struct error *e)
{
	if (!*c->config->nodes.listen)
		return 0;
	c->nodes_api = calloc(1, sizeof(*c->nodes_api));
	if (!c->nodes_api)
		return error_set(e, ENOMEM, "out of memory");
	c->nodes_api->tokens = tokens_new();
	int r = c->nodes_api->tokens ? ca_open(c, &c->nodes_api->ca, e)
				     : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = listen_tls(c, e);
	return error_wrap(e, r, "nodes.listen");
}

void nodes_api_free(struct controller *c)
{
	if (!c->nodes_api)
		return;
	http_server_free(c->nodes_api->server);
	tokens_free(c->nodes_api->tokens);
	ca_close(c->nodes_api->ca);
	free(c->nodes_api);
	c->nodes_api = NULL;
}
