/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/capacity_backends.h"
#include "cloud/gcp_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * Managed instance groups ("Compute Engine API", instanceGroupManagers). A pool
 * is called "projects/P/zones/Z/instanceGroupManagers/NAME" (or regions/R). The
 * group lists what it cannot make as an instance being created, with the error
 * of its last attempt, and goes on trying; such a one is taken back by deleting
 * it, which lowers the target size.
 */

#define URL "https://compute.googleapis.com"
enum { POLLS = 20, POLL_MS = 500, PAGES_MOST = 100 };

#define ALLOW   "allow {a} to the service account of elsad's machine (see packaging/gcp)"
#define ANOTHER "nothing, when another pool can give one; else raise the project's quota"

static const struct cloud_meaning meanings[] = {
	{ "rateLimitExceeded", NULL, FAULT_UNAVAILABLE, "it throttles us", NULL },
	{ "userRateLimitExceeded", NULL, FAULT_UNAVAILABLE, "it throttles us", NULL },
	{ "quotaExceeded", NULL, FAULT_FULL, NULL, ANOTHER },
	{ "QUOTA_EXCEEDED*", NULL, FAULT_FULL, NULL, ANOTHER },
	{ "ZONE_RESOURCE_POOL_EXHAUSTED*", NULL, FAULT_FULL, NULL, NULL },
	{ "RESOURCE_POOL_EXHAUSTED*", NULL, FAULT_FULL, NULL, NULL },
	{ "resourcePoolExhausted", NULL, FAULT_FULL, NULL, NULL },
	{ "STOCKOUT", NULL, FAULT_FULL, NULL, NULL },
	{ "forbidden", NULL, FAULT_DENIED, "permission denied", ALLOW },
	{ "insufficientPermissions", NULL, FAULT_DENIED, "permission denied",
	  "give elsad's machine the scope compute or cloud-platform; " ALLOW },
	{ "accessNotConfigured", NULL, FAULT_DENIED, NULL, "enable the Compute Engine API" },
	{ "PERMISSION_DENIED", NULL, FAULT_DENIED, "permission denied", ALLOW },
	{ "authError", NULL, FAULT_DENIED, NULL, "check the service account of elsad's machine" },
	{ "required", NULL, FAULT_DENIED, NULL, "check the service account of elsad's machine" },
	{ "notFound", NULL, FAULT_NOT_FOUND, NULL, "correct capacity.pools: there is no {p}" },
	{ "resourceNotReady", NULL, FAULT_UNAVAILABLE, NULL, NULL },
	{ 0 }
};

struct gcp {
	struct cloud_capacity base;
	struct cloud_api api;
};

static int gcp_check_pool(const char *pool, struct error *e)
{
	char project[128], kind[16], place[64], name[128];
	int end = 0;
	if (sscanf(pool, "projects/%127[^/]/%15[^/]/%63[^/]/instanceGroupManagers/%127[^/]%n",
		   project, kind, place, name, &end) == 4 &&
	    !pool[end] && (strcmp(kind, "zones") == 0 || strcmp(kind, "regions") == 0))
		return 0;
	int r = error_set(e, EINVAL, "\"%s\" is no managed instance group", pool);
	return error_remedy(e, r,
			    "write projects/PROJECT/zones/ZONE/instanceGroupManagers/NAME into "
			    "capacity.pools");
}

static void gcp_free(struct cloud_capacity *c)
{
	struct gcp *g = (struct gcp *)c;
	cloud_api_deinit(&g->api);
	free(g);
}

static int gcp_open(const struct cloud_options *options, struct cloud_capacity **capacity,
		    struct error *e)
{
	struct gcp *g = calloc(1, sizeof(*g));
	if (!g)
		return error_set(e, ENOMEM, "out of memory");
	g->api = (struct cloud_api) { .who = "Google",
				      .stop = options->stop,
				      .read_refusal = gcp_read_refusal,
				      .meanings = meanings };
	const char *url = options->endpoint && *options->endpoint ? options->endpoint : URL;
	int r = cloud_api_open(&g->api, url, CREDENTIALS_GOOGLE, e);
	if (r < 0) {
		gcp_free(&g->base);
		return r;
	}
	*capacity = &g->base;
	return 0;
}

static int call(struct cloud_capacity *c, struct cloud_call *x, const char *method,
		const char *path, struct error *e)
{
	cleanup_free char *whole = str_printf("/compute/v1/%s", path);
	if (!whole)
		return error_set(e, ENOMEM, "out of memory");
	x->method = method;
	x->path = whole;
	int r = cloud_call(&((struct gcp *)c)->api, x, e);
	x->path = NULL;
	return r;
}

static int unreadable(int r, struct error *e)
{
	return r < 0 ? error_set(e, -r, "Google's answer cannot be read") : 0;
}

/* --- describe --- */

static int read_group(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
		      struct error *e)
{
	struct cloud_call x = { .action = "compute.instanceGroupManagers.get", .pool = pool };
	int r = call(c, &x, "GET", pool, e);
	if (r == 0)
		r = unreadable(gcp_read_group(buf_text(&x.answer), x.answer.len, state), e);
	cloud_call_deinit(&x);
	return r;
}

static int read_page(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
		     char next[2048], struct error *e)
{
	const struct sigv4_pair query = { "pageToken", next };
	struct cloud_call x = { .action = "compute.instanceGroupManagers.listManagedInstances",
				.pool = pool,
				.query = &query,
				.query_count = *next ? 1 : 0 };
	cleanup_free char *path = str_printf("%s/listManagedInstances", pool);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = call(c, &x, "POST", path, e);
	if (r == 0)
		r = unreadable(gcp_read_instances(buf_text(&x.answer), x.answer.len, state, next),
			       e);
	cloud_call_deinit(&x);
	return r;
}

static int gcp_describe(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			struct error *e)
{
	char next[2048] = "";
	int r = gcp_check_pool(pool, e);
	if (r == 0)
		r = read_group(c, pool, state, e);
	for (int page = 0; r == 0 && (page == 0 || *next); page++)
		r = page == PAGES_MOST ? error_set(e, E2BIG, "the list of instances has no end")
				       : read_page(c, pool, state, next, e);
	return r;
}

/* --- what takes its time --- */

/* "projects/P/zones/Z" of a pool. */
static char *scope_of(const char *pool)
{
	const char *end = strstr(pool, "/instanceGroupManagers/");
	return end ? strndup(pool, (size_t)(end - pool)) : NULL;
}

static int poll(struct cloud_capacity *c, const char *pool, struct gcp_operation *op,
		struct error *e)
{
	struct cloud_call x = { .action = "compute.zoneOperations.get", .pool = pool };
	cleanup_free char *scope = scope_of(pool);
	cleanup_free char *path = scope ? str_printf("%s/operations/%s", scope, op->name) : NULL;
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = call(c, &x, "GET", path, e);
	if (r == 0)
		r = unreadable(gcp_read_operation(buf_text(&x.answer), x.answer.len, op), e);
	cloud_call_deinit(&x);
	return r;
}

/* Until it is done, or for some seconds: what it then does shows in the group. */
static int await(struct cloud_capacity *c, const struct cloud_call *x, struct error *e)
{
	struct cloud_api *api = &((struct gcp *)c)->api;
	struct gcp_operation op;
	const struct timespec nap = { .tv_nsec = POLL_MS * 1000000L };
	int r = unreadable(gcp_read_operation(buf_text(&x->answer), x->answer.len, &op), e);
	for (int i = 0; r == 0 && !op.done && i < POLLS; i++) {
		if (api->stop && atomic_load(api->stop))
			return 0;
		nanosleep(&nap, NULL);
		r = poll(c, x->pool, &op, e);
	}
	if (r == 0 && op.refusal.code[0])
		r = cloud_refuse(api, x, &op.refusal, e);
	return r;
}

static int gcp_grow(struct cloud_capacity *c, const char *pool, const struct cloud_growth *growth,
		    struct error *e)
{
	char number[24];
	snprintf(number, sizeof(number), "%lld", (long long)growth->desired);
	const struct sigv4_pair query[] = { { "size", number }, { "requestId", growth->token } };
	struct cloud_call x = { .action = "compute.instanceGroupManagers.update",
				.pool = pool,
				.query = query,
				.query_count = ARRAY_SIZE(query) };
	cleanup_free char *path = str_printf("%s/resize", pool);
	int r = path ? gcp_check_pool(pool, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = call(c, &x, "POST", path, e);
	if (r == 0)
		r = await(c, &x, e);
	cloud_call_deinit(&x);
	return r;
}

/* {"instances": ["projects/P/zones/Z/instances/NAME"]} */
static char *deletion(const char *pool, const struct cloud_instance *instance)
{
	const char *zone = strstr(pool, "/zones/");
	size_t project = strcspn(pool + strlen("projects/"), "/");
	if (!instance->zone && !zone)
		return NULL;
	if (zone)
		zone += strlen("/zones/");
	json_t *url = json_sprintf(
		"projects/%.*s/zones/%.*s/instances/%s", (int)project, pool + strlen("projects/"),
		instance->zone ? (int)strlen(instance->zone) : (int)strcspn(zone, "/"),
		instance->zone ? instance->zone : zone, instance->id);
	json_t *body =
		json_pack("{s:[o],s:b}", "instances", url, "skipInstancesOnValidationError", 1);
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	return text;
}

static int gcp_shrink(struct cloud_capacity *c, const char *pool,
		      const struct cloud_instance *instance, struct error *e)
{
	cleanup_free char *path = str_printf("%s/deleteInstances", pool);
	int r = path ? gcp_check_pool(pool, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	cleanup_free char *body = deletion(pool, instance);
	struct cloud_call x = { .action = "compute.instanceGroupManagers.update",
				.pool = pool,
				.body = body,
				.content_type = "application/json" };
	if (!body)
		return error_set(e, EINVAL, "the zone of %s is not known", instance->id);
	r = call(c, &x, "POST", path, e);
	if (r == 0)
		r = await(c, &x, e);
	cloud_call_deinit(&x);
	return r;
}

const struct capacity_backend capacity_gcp = {
	.name = "gcp",
	.open = gcp_open,
	.free = gcp_free,
	.check_pool = gcp_check_pool,
	.describe = gcp_describe,
	.grow = gcp_grow,
	.shrink = gcp_shrink,
};
