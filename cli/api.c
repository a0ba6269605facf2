/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "io/http_client.h"
#include "wire/codec.h"

#include <errno.h>
#include <string.h>

static void address_request(struct cli *cli, const char *path, char **url,
	struct http_request *request)
{
	if (strncmp(cli->url, "unix:", 5) == 0) {
		request->unix_socket = cli->url + 5;
		*url = str_printf("http://elsad%s", path);
	} else {
		*url = str_printf("%s%s", cli->url, path);
	}
	request->url = *url;
}

/* Turns "no connection" into what a person can do about it. */
static int explain_unreachable(struct cli *cli, int r, struct error *e)
{
	error_wrap(e, r, "cannot reach elsad at %s", cli->url);
	if (r == -EACCES)
		return error_remedy(e, r,
			"run elsa as root, or add your account to controller.allowed_users");
	return error_remedy(e, r,
		"start it (systemctl start elsad), or say where it is with --url or --config");
}

static int call(struct cli *cli, struct http_request *request, const char *path, char **body,
	struct error *e)
{
	cleanup_free char *url = NULL;
	cleanup_free char *authorization = NULL;
	const char *headers[] = { "Accept: application/json", NULL, NULL };
	int status = 0;
	if (cli->token) {
		authorization = str_printf("Authorization: Bearer %s", cli->token);
		headers[1] = authorization;
	}
	address_request(cli, path, &url, request);
	request->headers = headers;
	request->timeout_ms = request->timeout_ms ? request->timeout_ms : 120000;
	int r = http_call_blocking(request, &status, body, e);
	if (r < 0)
		return explain_unreachable(cli, r, e);
	if (status < 400)
		return 0;
	json_t *answer = json_loads(*body ? *body : "", 0, NULL);
	struct error told = ERROR_INIT;
	wire_decode_error(answer, status, &told);
	json_decref(answer);
	if (e)
		*e = told;
	return -fault_errno(told.fault);
}

static int parse_answer(const char *body, json_t **answer, struct error *e)
{
	json_error_t at;
	if (!answer)
		return 0;
	*answer = json_loads(body ? body : "", JSON_DECODE_ANY, &at);
	if (!*answer)
		return error_fault(e, FAULT_INTERNAL, "elsad answered something that is no JSON: %s",
			at.text);
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

char *api_session_path(struct cli *cli, const char *path, const char *more)
{
	cleanup_free char *user = http_escape(cli->user ? cli->user : "");
	cleanup_free char *server = http_escape(cli->server ? cli->server : "");
	return str_printf("%s?user=%s&server=%s%s", path, user ? user : "", server ? server : "",
		more ? more : "");
}

json_t *api_session_body(struct cli *cli)
{
	return json_pack("{s:s, s:s, s:s, s:s?}", "user", cli->user, "server",
		cli->server ? cli->server : "", "who", "elsa", "why", cli->why);
}
