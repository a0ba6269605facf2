/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "io/http_client.h"
#include "node/activator_polls.h"
#include "node/activator_record.h"
#include "node/activator_spec.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

/* Makes the record: asks the session's server what its open pages will ask. */

#define CONTENTS "api/contents"

enum {
	WHOLE_US = 5 * 1000000,
	ONE_MS = 1500,
	PATHS_MOST = 64,
};

/* Under way. */
struct asking {
	const struct session_spec *spec;
	const char *dir;
	char *url;   /* of the server, with a slash at its end */
	char *field; /* Authorization */
	mono_us until;
	size_t bytes;
	char *paths[PATHS_MOST]; /* to be asked, and asked */
	size_t count, at;
};

static void asking_deinit(struct asking *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->paths[i]);
	free(a->url);
	free(a->field);
}

static void add_path(struct asking *a, const char *path)
{
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->paths[i], path) == 0)
			return;
	char *copy = a->count < PATHS_MOST && strlen(path) < POLL_PATH_SIZE ? strdup(path) : NULL;
	if (copy)
		a->paths[a->count++] = copy;
}

static void add_below(struct asking *a, const char *dir, size_t len)
{
	cleanup_free char *path = len ? str_printf(CONTENTS "/%.*s", (int)len, dir) : NULL;
	if (path)
		add_path(a, path);
}

/* Where the open documents are: their tabs show that directory. */
static void add_open_directories(struct asking *a, const char *body, size_t len)
{
	size_t i;
	const json_t *session;
	json_t *list = json_loadb(body, len, 0, NULL);
	json_array_foreach (list, i, session) {
		const char *path = json_string_value(json_object_get(session, "path"));
		const char *slash = path ? strrchr(path, '/') : NULL;
		if (slash)
			add_below(a, path, (size_t)(slash - path));
	}
	json_decref(list);
}

/* The directories in a listing, so that those near the top are there as far as there is room. */
static void add_directories(struct asking *a, const char *body, size_t len)
{
	size_t i;
	const json_t *entry;
	json_t *listing = json_loadb(body, len, 0, NULL);
	json_array_foreach (json_object_get(listing, "content"), i, entry) {
		const char *type = json_string_value(json_object_get(entry, "type"));
		const char *path = json_string_value(json_object_get(entry, "path"));
		if (type && path && strcmp(type, "directory") == 0)
			add_below(a, path, strlen(path));
	}
	json_decref(listing);
}

/* Each part of the path percent-encoded. */
static char *escape_path(const char *path)
{
	cleanup_buf struct buf to = BUF_INIT(8 * POLL_PATH_SIZE);
	while (*path) {
		size_t len = strcspn(path, "/");
		cleanup_free char *part = strndup(path, len);
		cleanup_free char *escaped = part ? http_escape(part) : NULL;
		if (!escaped || buf_printf(&to, "%s%s", to.len ? "/" : "", escaped) < 0)
			return NULL;
		path += len + (path[len] == '/');
	}
	return buf_steal(&to);
}

static bool is_contents(const char *path)
{
	return strncmp(path, CONTENTS, strlen(CONTENTS)) == 0;
}

/* Jupyter answers in JSON, but for an address that it does not know at all. */
static const char *type_of(const char *body)
{
	return *body == '<' ? "text/html; charset=UTF-8" : "application/json";
}

static void keep(struct asking *a, const char *path, int status, const char *body)
{
	size_t len = strlen(body);
	if ((status != 200 && status != 404) || len > RECORD_BODY_MOST ||
	    a->bytes + len > RECORD_MOST)
		return;
	if (record_write(a->dir, path, status, type_of(body), body, len, NULL) == 0)
		a->bytes += len;
	if (status == 200 && strcmp(path, "api/sessions") == 0)
		add_open_directories(a, body, len);
	if (status == 200 && is_contents(path))
		add_directories(a, body, len);
}

static void ask_one(struct asking *a, const char *path)
{
	int status;
	cleanup_free char *body = NULL;
	cleanup_free char *escaped = escape_path(path);
	/* What is asked here is no activity of its user's. */
	cleanup_free char *url =
		escaped ? str_printf("%s%s?no_track_activity=1%s", a->url, escaped,
				     is_contents(path) ? "&content=1&type=directory" : "")
			: NULL;
	const struct http_request request = {
		.url = url,
		.headers = (const char *const[]) { a->field, NULL },
		.timeout_ms = ONE_MS,
		.max_body = RECORD_BODY_MOST,
	};
	if (url && http_call_blocking(&request, &status, &body, NULL) == 0)
		keep(a, path, status, body);
}

static void add_polls(struct asking *a, char *const *polls)
{
	struct config_poll poll;
	for (; *polls; polls++)
		if (config_poll_parse(*polls, &poll) == 0)
			add_path(a, poll.path);
}

/* What was asked for in vain the last time; wanted further on. */
static void add_wanted(struct asking *a, char *lines)
{
	char *rest = NULL;
	for (char *p = strtok_r(lines, "\n", &rest); p; p = strtok_r(NULL, "\n", &rest)) {
		add_path(a, p);
		record_want(a->dir, p);
	}
}

static int prepare(struct asking *a, struct error *e)
{
	const char *token = spec_variable(a->spec, "JUPYTERHUB_API_TOKEN");
	cleanup_free char *base = spec_base_url(a->spec);
	a->until = clock_mono() + WHOLE_US;
	a->url = base ? str_printf("http://%s:%lld%s", a->spec->address, (long long)a->spec->port,
				   base)
		      : NULL;
	a->field = str_printf("Authorization: token %s", token ? token : "");
	return a->url && a->field ? 0 : error_set(e, ENOMEM, "out of memory");
}

int activator_record(const struct config *config, const struct session_spec *spec, const char *dir,
		     struct error *e)
{
	cleanup(asking_deinit) struct asking a = { .spec = spec, .dir = dir };
	cleanup_buf struct buf wanted = BUF_INIT(64 << 10);
	int r = prepare(&a, e);
	if (r < 0)
		return r;
	record_wanted(dir, &wanted);
	r = fs_remove_tree(dir, e);
	if (r == 0)
		r = fs_mkdirs(dir, 0700, e);
	if (r < 0)
		return r;
	add_polls(&a, config->wake.polls);
	if (wanted.len)
		add_wanted(&a, wanted.data);
	for (; a.at < a.count && clock_mono() < a.until; a.at++)
		ask_one(&a, a.paths[a.at]);
	return 0;
}
