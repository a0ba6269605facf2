/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_client.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/http_client.h"
#include "node/move_ahead.h"
#include "node/move_files.h"
#include "node/move_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CONNECT_MS = 5000,
	HELLO_MS = 10000,
	GIVE_MS = 10000,  /* it is noted there */
	FILES_MS = 30000, /* between two parts */
	AHEAD_MS = 30000, /* what there is is looked for first */
	ABORT_MS = 2000,
	MOVING_MS = 300,
};

int move_client_tls(const struct node *node, struct move_tls **tls, struct error *e)
{
	struct identity id;
	int r = identity_init(&id, node->config, e);
	if (r < 0)
		return r;
	r = move_tls_new(&id, tls, e);
	identity_deinit(&id);
	return error_wrap(e, r, "only nodes that have joined can take sessions over");
}

int move_client_new(const struct node *node, const char *departure, const char *session,
		    const char *from, const char *at, struct move_client **client, struct error *e)
{
	struct move_client *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	*c = (struct move_client) { .node = node,
				    .departure = strdup(departure),
				    .session = strdup(session),
				    .from = strdup(from),
				    .at = strdup(at) };
	if (!c->departure || !c->session || !c->from || !c->at) {
		move_client_free(c);
		return error_set(e, ENOMEM, "out of memory");
	}
	*client = c;
	return 0;
}

void *move_client_free(struct move_client *c)
{
	if (!c)
		return NULL;
	move_client_wait_moving(c);
	move_conn_free(c->conn);
	move_ahead_free(c->ahead);
	move_lines_free(c->lines);
	wire_free(&wire_move_offer, &c->offer);
	free(c->departure);
	free(c->session);
	free(c->from);
	free(c->at);
	free(c);
	return NULL;
}

/* --- the other node ------------------------------------------------------------------- */

static int say_hello(struct move_client *c, int timeout_ms, struct error *e)
{
	const struct move_hello hello = { .version = MOVE_VERSION,
					  .departure = c->departure,
					  .session = c->session,
					  .control = true };
	struct move_offer offer;
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	cleanup_json json_t *json = wire_encode(&wire_move_hello, &hello);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	int r = move_ask(c->conn, MOVE_HELLO, text, strlen(text), MOVE_OFFER, &answer, timeout_ms,
			 e);
	if (r == 0)
		r = wire_decode_text(&wire_move_offer, buf_text(&answer), answer.len, &offer, e);
	if (r < 0)
		return r;
	wire_free(&wire_move_offer, &c->offer);
	c->offer = offer;
	return 0;
}

static int open_within(struct move_client *c, int connect_ms, int hello_ms, struct error *e)
{
	struct move_tls *tls = NULL;
	if (c->conn)
		return 0;
	int r = move_client_tls(c->node, &tls, e);
	if (r == 0)
		r = move_connect(tls, c->at, c->from, connect_ms, &c->conn, e);
	move_tls_free(tls);
	if (r == 0)
		r = say_hello(c, hello_ms, e);
	if (r < 0)
		c->conn = move_conn_free(c->conn);
	return r;
}

int move_client_open(struct move_client *c, struct error *e)
{
	return open_within(c, CONNECT_MS, HELLO_MS, e);
}

int move_client_ahead(struct move_client *c, bool squeeze, struct buf *body, int64_t *took_us,
		      struct error *e)
{
	unsigned char question[4];
	mono_us begun = clock_mono();
	move_ahead_question(squeeze, question);
	int r = move_ask(c->conn, MOVE_AHEAD, question, sizeof(question), MOVE_DATA, body, AHEAD_MS,
			 e);
	*took_us = clock_mono() - begun;
	return r;
}

int move_client_freeze(struct move_client *c, struct error *e)
{
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	int r = move_ask(c->conn, MOVE_FREEZE, NULL, 0, MOVE_OK, &answer,
			 (int)c->node->config->node.effect_timeout_ms, e);
	c->still_since = clock_mono();
	return r;
}

int move_client_wait_written(struct move_client *c, struct error *e)
{
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	int r = move_ask(c->conn, MOVE_WRITTEN, NULL, 0, MOVE_SKELETON, &answer,
			 (int)c->node->config->node.effect_timeout_ms, e);
	if (r == 0)
		r = wire_decode_text(&wire_move_skeleton, buf_text(&answer), answer.len,
				     &c->skeleton, e);
	if (r == 0)
		c->still_since = clock_mono() - c->skeleton.frozen_us;
	return r;
}

struct parts {
	enum move_type what;
	const struct buf *has;
	int (*take)(const struct buf *part, void *to, struct error *e);
	void *to;
	void (*progress)(uint64_t bytes, void *arg);
	void *arg;
};

/* What comes behind one that could not be taken is not waited for. */
static int take_parts(struct move_client *c, const struct parts *p, struct error *e)
{
	cleanup_buf struct buf part = BUF_INIT(MOVE_BODY_MOST);
	uint64_t bytes = 0;
	/* Before the first that node may have to wait for memory of its own. */
	int wait_ms = (int)c->node->config->node.effect_timeout_ms;
	int r = move_send(c->conn, p->what, p->has ? p->has->data : NULL, p->has ? p->has->len : 0,
			  e);
	while (r == 0) {
		enum move_type type;
		r = move_recv(c->conn, &type, &part, wait_ms, e);
		/* Between two images CRIU may have much to do. */
		wait_ms = p->what == MOVE_EARLY ? wait_ms : FILES_MS;
		if (r < 0)
			break;
		if (type == MOVE_OK)
			return 0;
		if (type == MOVE_ERROR)
			return move_failure_read(c->conn, &part, e);
		if (type != MOVE_DATA)
			return error_set(e, EPROTO, "node %s sends something else than files",
					 c->from);
		r = p->take(&part, p->to, e);
		if (r < 0)
			c->conn = move_conn_free(c->conn);
		bytes += part.len;
		if (p->progress)
			p->progress(bytes, p->arg);
	}
	return r;
}

/* -EPIPE: nobody reads it, who knows why. */
static int pass_on(const struct buf *part, void *to, struct error *e)
{
	if (fs_write_all(*(int *)to, part->data, part->len) == 0)
		return 0;
	return errno == EPIPE ? -EPIPE : error_errno(e, "cannot take the session's files");
}

int move_client_layer_ahead(struct move_client *c, int fd,
			    void (*progress)(uint64_t bytes, void *arg), void *arg, struct error *e)
{
	const struct parts p = { MOVE_LAYER_AHEAD, NULL, pass_on, &fd, progress, arg };
	return take_parts(c, &p, e);
}

static int put_down(const struct buf *part, void *to, struct error *e)
{
	return move_taking_body(to, part, e);
}

int move_client_files(struct move_client *c, enum move_type what, const struct buf *has,
		      const char *dir, void (*progress)(uint64_t bytes, void *arg), void *arg,
		      struct error *e)
{
	cleanup(move_taking_deinit) struct move_taking taking;
	const struct parts p = { what, has, put_down, &taking, progress, arg };
	int r = move_taking_begin(&taking, dir, e);
	if (r == 0)
		r = take_parts(c, &p, e);
	return r < 0 ? r : move_taking_end(&taking, e);
}

/* What that node says, not what becomes of the way to it. */
static bool is_no(const struct error *why)
{
	return why->fault == FAULT_CONFLICT || why->fault == FAULT_NOT_FOUND;
}

static int ask(struct move_client *c, enum move_type what, int timeout_ms, struct error *e)
{
	cleanup_buf struct buf answer = BUF_INIT(MOVE_BODY_MOST);
	int r = move_ask(c->conn, what, NULL, 0, MOVE_OK, &answer, timeout_ms, e);
	if (r < 0 && !is_no(e))
		c->conn = move_conn_free(c->conn);
	return r;
}

int move_client_give(struct move_client *c, struct error *e)
{
	struct error own = ERROR_INIT;
	int r = move_client_open(c, &own);
	if (r == 0)
		r = ask(c, MOVE_GIVE, GIVE_MS, &own);
	if (r == 0)
		return 1;
	bool no = is_no(&own);
	if (e)
		*e = own;
	return no ? 0 : r;
}

int move_client_arrived(struct move_client *c, struct error *e)
{
	struct error own = ERROR_INIT;
	int r = move_client_open(c, &own);
	if (r == 0)
		r = ask(c, MOVE_ARRIVED, HELLO_MS, &own);
	if (r < 0 && own.fault == FAULT_NOT_FOUND)
		return 0;
	if (r < 0 && e)
		*e = own;
	return r;
}

void move_client_abort(struct move_client *c)
{
	struct error e = ERROR_INIT;
	int r = open_within(c, ABORT_MS, ABORT_MS, &e);
	bool heard = r == 0;
	if (r == 0)
		r = ask(c, MOVE_ABORT, ABORT_MS, &e);
	c->given = heard && r < 0 && e.fault == FAULT_CONFLICT;
	c->conn = move_conn_free(c->conn);
	if (r < 0 && !is_no(&e))
		log_info("session %s: node %s is not told that it did not move: %s", c->session,
			 c->from, e.text);
}

/* --- elsad ---------------------------------------------------------------------------- */

struct moving_call {
	pthread_t thread;
	const struct node *node;
	char *session, *body;
};

static void *call_main(void *arg)
{
	struct moving_call *m = arg;
	struct error e = ERROR_INIT;
	int status = 0;
	cleanup_free char *answer = NULL;
	cleanup_free char *cert = node_path(m->node, "identity", "cert", ".pem");
	cleanup_free char *key = node_path(m->node, "identity", "key", ".pem");
	cleanup_free char *ca = node_path(m->node, "identity", "ca", ".pem");
	const struct http_request request = {
		.method = "POST",
		.url = "https://controller.elsa/v1/nodes/moving",
		.connect_to = m->node->config->node.controller + strlen("https://"),
		.body = m->body,
		.body_len = strlen(m->body),
		.timeout_ms = MOVING_MS,
		.connect_timeout_ms = MOVING_MS,
		.ca_file = ca,
		.cert_file = cert,
		.key_file = key,
	};
	int r = cert && key && ca ? http_call_blocking(&request, &status, &answer, &e)
				  : error_set(&e, ENOMEM, "out of memory");
	if (r == 0 && status / 100 != 2)
		r = error_set(&e, EPERM, "elsad answers %d: %.200s", status, answer);
	if (r < 0)
		log_warning("session %s: elsad does not know yet that it moves here: %s",
			    m->session, e.text);
	return NULL;
}

static void *free_call(struct moving_call *m)
{
	free(m->session);
	free(m->body);
	free(m);
	return NULL;
}

void move_client_say_moving(struct move_client *c)
{
	const struct moving_request request = { .session = c->session, .effect = c->departure };
	cleanup_json json_t *json = wire_encode(&wire_moving_request, &request);
	struct moving_call *m = c->node->config->node.controller[0] ? calloc(1, sizeof(*m)) : NULL;
	if (!m)
		return;
	*m = (struct moving_call) { .node = c->node,
				    .session = strdup(c->session),
				    .body = json ? json_dumps(json, JSON_COMPACT) : NULL };
	if (!m->session || !m->body || pthread_create(&m->thread, NULL, call_main, m) != 0)
		m = free_call(m);
	c->moving = m;
}

void move_client_wait_moving(struct move_client *c)
{
	if (!c->moving)
		return;
	pthread_join(c->moving->thread, NULL);
	c->moving = free_call(c->moving);
}
