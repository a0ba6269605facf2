/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "io/http_client.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_DEFAULT_S 120
#define ANSWER_MOST       ((size_t)256 << 20) /* tens of thousands of sessions are a few tens of MiB */

static const char *socket_of(const struct cli *cli)
{
	return strncmp(cli->url, "unix:", 5) == 0 ? cli->url + 5 : NULL;
}

static int address_request(struct cli *cli, const char *path, char **url,
			   struct http_request *request, struct error *e)
{
	request->unix_socket = socket_of(cli);
	*url = str_printf("%s%s", request->unix_socket ? "http://elsad" : cli->url, path);
	request->url = *url;
	return *url ? 0 : error_set(e, ENOMEM, "out of memory");
}

/* Turns "no connection" into what a person can do about it. */
static int explain_unreachable(struct cli *cli, int r, struct error *e)
{
	const char *path = socket_of(cli);
	struct error ignored = ERROR_INIT;
	e = e ? e : &ignored;
	if (e->fault == FAULT_TIMEOUT) {
		error_wrap(e, r, "elsad at %s does not answer", cli->url);
		return error_remedy(e, r,
				    "look at its log (journalctl -u elsad), or give it longer "
				    "with --timeout");
	}
	if (path && access(path, R_OK | W_OK) < 0 && errno == EACCES) {
		r = error_set(e, EACCES, "may not use %s", path);
		return error_remedy(e, r,
				    "run elsa as root, or add your account to "
				    "controller.allowed_users");
	}
	error_wrap(e, r, "cannot reach elsad at %s", cli->url);
	return error_remedy(e, r,
			    "start it (systemctl start elsad), or say where it is with --url "
			    "or --config");
}

/* elsad's own words, or what can be said about an answer that is not its. */
static int explain_status(struct cli *cli, int status, const char *body, struct error *e)
{
	cleanup_json json_t *answer = json_loads(body ? body : "", 0, NULL);
	struct error told = ERROR_INIT;
	wire_decode_error(answer, status, &told);
	if (told.fault == FAULT_NONE)
		error_fault(&told, FAULT_INTERNAL, "the answer was HTTP status %d", status);
	if (!json_object_get(answer, "error"))
		error_wrap(&told, 0, "%s does not answer as elsad does", cli->url);
	if (status == 401 && !cli->token)
		error_remedy(&told, 0, "give its token with --token-file or $ELSA_TOKEN");
	else if (status == 401)
		error_remedy(&told, 0, "the token must be that of controller.token_file");
	else if (status == 403)
		error_remedy(&told, 0,
			     "run elsa as root, or add your account to "
			     "controller.allowed_users");
	else if (!json_object_get(answer, "error"))
		error_remedy(&told, 0, "say with --url where elsad is");
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

/* `type`: a header that says what the body is; NULL: JSON. */
static int call_typed(struct cli *cli, struct http_request *request, const char *path,
		      const char *type, char **body, struct error *e)
{
	cleanup_free char *url = NULL;
	cleanup_free char *authorization = NULL;
	const char *headers[4] = { "Accept: application/json" };
	size_t count = 1;
	int status = 0;
	if (cli->token) {
		authorization = str_printf("Authorization: Bearer %s", cli->token);
		headers[count++] = authorization;
	}
	if (type)
		headers[count] = type;
	int r = path ? address_request(cli, path, &url, request, e)
		     : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	request->headers = headers;
	request->max_body = ANSWER_MOST;
	request->timeout_ms = 1000 * (int)(cli->timeout_s ? cli->timeout_s : TIMEOUT_DEFAULT_S);
	r = http_call_blocking(request, &status, body, e);
	if (r < 0)
		return explain_unreachable(cli, r, e);
	return status >= 200 && status < 300 ? 0 : explain_status(cli, status, *body, e);
}

static int call(struct cli *cli, struct http_request *request, const char *path, char **body,
		struct error *e)
{
	return call_typed(cli, request, path, NULL, body, e);
}

static int not_as_expected(struct error *e, const char *what)
{
	int r = error_fault(e, FAULT_INTERNAL, "elsad answered something that %s", what);
	return error_remedy(e, r,
			    "elsa and elsad should be of the same version: see elsa --version "
			    "and elsa status");
}

static int parse_answer(const char *body, json_t **answer, struct error *e)
{
	if (!answer)
		return 0;
	*answer = json_loads(body ? body : "", JSON_DECODE_ANY, NULL);
	return *answer ? 0 : not_as_expected(e, "is no JSON");
}

int api_check_object(const json_t *answer, const char *key, struct error *e)
{
	if (!json_is_object(answer))
		return not_as_expected(e, "is no object");
	if (key && !json_is_string(json_object_get(answer, key)))
		return not_as_expected(e, "is not what was asked for");
	return 0;
}

int api_get_text(struct cli *cli, const char *path, char **text, struct error *e)
{
	struct http_request request = { .method = "GET" };
	return call(cli, &request, path, text, e);
}

int api_get(struct cli *cli, const char *path, json_t **answer, struct error *e)
{
	cleanup_free char *body = NULL;
	int r = api_get_text(cli, path, &body, e);
	return r < 0 ? r : parse_answer(body, answer, e);
}

int api_get_list(struct cli *cli, const char *path, const char *key, json_t **list, struct error *e)
{
	cleanup_json json_t *answer = NULL;
	int r = api_get(cli, path, &answer, e);
	if (r < 0)
		return r;
	json_t *found = json_object_get(answer, key);
	if (!json_is_array(found))
		return not_as_expected(e, "holds no list");
	*list = json_incref(found);
	return 0;
}

int api_post(struct cli *cli, const char *path, json_t *body, json_t **answer, struct error *e)
{
	cleanup_free char *text = json_dumps(body, JSON_COMPACT);
	cleanup_free char *reply = NULL;
	json_decref(body);
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	struct http_request request = { .method = "POST", .body = text, .body_len = strlen(text) };
	int r = call(cli, &request, path, &reply, e);
	return r < 0 ? r : parse_answer(reply, answer, e);
}

int api_get_bytes(struct cli *cli, const char *path,
		  int (*each)(const char *data, size_t len, void *arg), void *arg, struct error *e)
{
	cleanup_free char *body = NULL;
	struct http_request request = { .method = "GET", .on_data = each, .data_arg = arg };
	return call(cli, &request, path, &body, e);
}

int api_post_bytes(struct cli *cli, const char *path, const char *data, size_t len, struct error *e)
{
	static const char type[] = "Content-Type: application/octet-stream";
	cleanup_free char *reply = NULL;
	struct http_request request = {
		.method = "POST",
		.body = data,
		.body_len = len,
	};
	return call_typed(cli, &request, path, type, &reply, e);
}

char *api_session_path(struct cli *cli, const char *path, const char *more)
{
	cleanup_free char *user = http_escape(cli->user ? cli->user : "");
	cleanup_free char *server = http_escape(cli->server);
	if (!user || !server)
		return NULL;
	return str_printf("%s?user=%s&server=%s%s", path, user, server, more ? more : "");
}

json_t *api_session_body(struct cli *cli)
{
	json_t *body = json_pack("{s:s, s:s, s:s}", "user", cli->user, "server", cli->server, "who",
				 "elsa");
	if (cli->why)
		json_object_set_new(body, "why", wire_text(cli->why));
	return body;
}
