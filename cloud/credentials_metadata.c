/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/credentials_sources.h"
#include "io/http_client.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define AMAZON_METADATA "http://169.254.169.254"
#define GOOGLE_METADATA "http://metadata.google.internal"
#define CONTAINER_HOST  "http://169.254.170.2"
#define IMDS_ROLE       "/latest/meta-data/iam/security-credentials/"
#define IMDS_REGION     "/latest/meta-data/placement/region"
#define GOOGLE_TOKEN    "/computeMetadata/v1/instance/service-accounts/default/token"

/* These services are one hop away and answer at once or not at all. */
enum { CONNECT_MS = 1000, ANSWER_MS = 5000, TRIES = 3, BODY_MOST = 64 * 1024, TOKEN_MOST = 4096 };

static void pause_ms(int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	nanosleep(&t, NULL);
}

/* Any answer but 429 and 5xx is final. */
static int call(const char *method, const char *base, const char *path, const char *header,
		int *status, char **body, struct error *e)
{
	const char *headers[] = { header, NULL };
	cleanup_free char *url = str_printf("%s%s", base, path);
	struct http_request request = { .method = method,
					.url = url,
					.headers = header ? headers : NULL,
					.timeout_ms = ANSWER_MS,
					.connect_timeout_ms = CONNECT_MS,
					.max_body = BODY_MOST };
	if (!url)
		return error_set(e, ENOMEM, "out of memory");
	for (int i = 1;; i++) {
		free(*body);
		*body = NULL;
		int r = http_call_blocking(&request, status, body, e);
		bool passing = r < 0 || *status == 429 || *status >= 500;
		if (!passing || i == TRIES)
			return r;
		pause_ms(100 << i);
	}
}

/* It will be part of a request's headers. */
static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 127)
			return false;
	return true;
}

static int copy_string(const json_t *object, const char *name, char **to)
{
	const char *text = json_string_value(json_object_get(object, name));
	if (!text || !*text || !is_printable(text))
		return -EBADMSG;
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

int credentials_amazon_json(const char *text, size_t len, struct credentials_value *v,
			    struct error *e)
{
	json_t *root = json_loadb(text, len, 0, NULL);
	const char *expires = json_string_value(json_object_get(root, "Expiration"));
	const char *code = json_string_value(json_object_get(root, "Code"));
	int r = root ? copy_string(root, "AccessKeyId", &v->access_key) : -EBADMSG;
	if (r == 0)
		r = copy_string(root, "SecretAccessKey", &v->secret);
	if (r == 0)
		r = copy_string(root, "Token", &v->session_token);
	if (r == 0 && expires && clock_parse(expires, &v->expires_at) < 0)
		r = -EBADMSG;
	if (r < 0) {
		credentials_value_deinit(v);
		error_set(e, -r, "the role's credentials cannot be read%s%s", code ? ": " : "",
			  code ? code : "");
	}
	json_decref(root);
	return r;
}

int credentials_google_json(const char *text, size_t len, wall_ms now, struct credentials_value *v,
			    struct error *e)
{
	json_t *root = json_loadb(text, len, 0, NULL);
	json_int_t seconds = json_integer_value(json_object_get(root, "expires_in"));
	int r = root ? copy_string(root, "access_token", &v->bearer) : -EBADMSG;
	if (r == 0 && (seconds <= 0 || seconds > 7 * 86400))
		r = -EBADMSG;
	if (r < 0) {
		credentials_value_deinit(v);
		error_set(e, -r, "the service account's token cannot be read");
	} else {
		v->expires_at = now + seconds * 1000;
	}
	json_decref(root);
	return r;
}

static const char *or_env(const char *set, const char *env, const char *otherwise)
{
	const char *value = getenv(env);
	if (set)
		return set;
	return value && *value ? value : otherwise;
}

/* The token of a session with the metadata service, as a header. Machines without the service do
 * not answer; ones that hide it from containers (hop limit) neither. */
static int imds_token(const char *base, char **header, struct error *e)
{
	int status;
	cleanup_free char *body = NULL;
	struct error inner = ERROR_INIT;
	if (call("PUT", base, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600",
		 &status, &body, &inner) < 0 ||
	    status != 200 || strpbrk(body, "\r\n") || strlen(body) > TOKEN_MOST)
		return CREDENTIALS_NOT_HERE;
	*header = str_printf("X-aws-ec2-metadata-token: %s", body);
	return *header ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int imds_get(const char *base, const char *path, const char *token, char **body,
		    struct error *e)
{
	int status;
	int r = call("GET", base, path, token, &status, body, e);
	if (r < 0)
		return r;
	if (status == 404)
		return CREDENTIALS_NOT_HERE; /* no role */
	if (status != 200)
		return error_set(e, EACCES, "the metadata service answered %d", status);
	return 0;
}

int credentials_amazon_imds(const struct credentials_options *options, struct credentials_value *v,
			    struct error *e)
{
	const char *base =
		or_env(options->metadata, "AWS_EC2_METADATA_SERVICE_ENDPOINT", AMAZON_METADATA);
	cleanup_free char *token = NULL;
	cleanup_free char *roles = NULL;
	cleanup_free char *body = NULL;
	if (strcasecmp(or_env(NULL, "AWS_EC2_METADATA_DISABLED", ""), "true") == 0)
		return CREDENTIALS_NOT_HERE;
	int r = imds_token(base, &token, e);
	if (r == 0)
		r = imds_get(base, IMDS_ROLE, token, &roles, e);
	if (r != 0)
		return r;
	roles[strcspn(roles, "\r\n")] = '\0';
	if (!*roles)
		return CREDENTIALS_NOT_HERE;
	cleanup_free char *escaped = http_escape(roles);
	cleanup_free char *path = escaped ? str_printf("%s%s", IMDS_ROLE, escaped) : NULL;
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	r = imds_get(base, path, token, &body, e);
	return r != 0 ? r : credentials_amazon_json(body, strlen(body), v, e);
}

char *credentials_machine_region(const struct credentials_options *options)
{
	const char *base =
		or_env(options->metadata, "AWS_EC2_METADATA_SERVICE_ENDPOINT", AMAZON_METADATA);
	cleanup_free char *token = NULL;
	cleanup_free char *body = NULL;
	if (strcasecmp(or_env(NULL, "AWS_EC2_METADATA_DISABLED", ""), "true") == 0 ||
	    imds_token(base, &token, NULL) != 0 ||
	    imds_get(base, IMDS_REGION, token, &body, NULL) != 0)
		return NULL;
	body[strcspn(body, "\r\n")] = '\0';
	return *body && is_printable(body) ? steal_ptr(&body) : NULL;
}

/* Where Amazon's containers get a role: a path on a fixed host (ECS), or any URL (EKS). */
static char *container_url(void)
{
	const char *path = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *url = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	if (path && *path)
		return str_printf("%s%s", CONTAINER_HOST, path);
	return url && *url ? strdup(url) : NULL;
}

static int container_token(char **header, struct error *e)
{
	const char *file = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	cleanup_buf struct buf text = BUF_INIT(TOKEN_MOST);
	if (file && *file) {
		int r = fs_read(file, &text, e);
		if (r < 0)
			return r;
		token = buf_text(&text);
	}
	if (!token || !*token)
		return 0;
	*header = str_printf("Authorization: %.*s", (int)strcspn(token, "\r\n"), token);
	return *header ? 0 : error_set(e, ENOMEM, "out of memory");
}

int credentials_amazon_container(const struct credentials_options *options,
				 struct credentials_value *v, struct error *e)
{
	int status;
	cleanup_free char *url = container_url();
	cleanup_free char *header = NULL;
	cleanup_free char *body = NULL;
	(void)options;
	if (!url)
		return CREDENTIALS_NOT_HERE;
	int r = container_token(&header, e);
	if (r == 0)
		r = call("GET", url, "", header, &status, &body, e);
	if (r == 0 && status != 200)
		r = error_set(e, EACCES, "it answered %d", status);
	if (r == 0)
		r = credentials_amazon_json(body, strlen(body), v, e);
	return r < 0 ? error_wrap(e, r, "the container's credentials from %s", url) : 0;
}

int credentials_google_metadata(const struct credentials_options *options,
				struct credentials_value *v, struct error *e)
{
	int status;
	cleanup_free char *body = NULL;
	const char *host = getenv("GCE_METADATA_HOST");
	cleanup_free char *base = options->metadata ? strdup(options->metadata)
				  : host && *host   ? str_printf("http://%s", host)
						    : strdup(GOOGLE_METADATA);
	struct error inner = ERROR_INIT;
	if (!base)
		return error_set(e, ENOMEM, "out of memory");
	if (call("GET", base, GOOGLE_TOKEN, "Metadata-Flavor: Google", &status, &body, &inner) <
		    0 ||
	    status == 404)
		return CREDENTIALS_NOT_HERE;
	if (status != 200)
		return error_set(e, EACCES, "the metadata service answered %d", status);
	return credentials_google_json(body, strlen(body), clock_wall(), v, e);
}
