/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/gcp_json.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/capacity_backends.h"
#include "wire/text.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Numbers of 64 bits come as strings. */
static int64_t number_of(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	char *end;
	if (json_is_integer(value))
		return json_integer_value(value);
	const char *text = json_string_value(value);
	long long n = text && *text ? strtoll(text, &end, 10) : -1;
	return text && *text && !*end ? n : -1;
}

static void take(struct cloud_refusal *r, const char *code, const char *message)
{
	snprintf(r->code, sizeof(r->code), "%s", code);
	snprintf(r->message, sizeof(r->message), "%s", message);
}

void gcp_read_refusal(const char *data, size_t len, struct cloud_refusal *refusal)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const json_t *error = json_object_get(root, "error");
	const char *reason =
		wire_text_at(json_array_get(json_object_get(error, "errors"), 0), "reason");
	take(refusal, *reason ? reason : wire_text_at(error, "status"),
	     wire_text_at(error, "message"));
	json_decref(root);
}

int gcp_read_group(const char *data, size_t len, struct cloud_pool *pool)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	pool->desired = number_of(root, "targetSize");
	json_decref(root);
	return pool->desired < 0 ? -EBADMSG : 0;
}

/* What the group does to an instance; any other action means that it goes. */
static enum cloud_instance_state state_of(const json_t *instance)
{
	static const char *const making[] = { "CREATING",   "CREATING_WITHOUT_RETRIES",
					      "RECREATING", "VERIFYING",
					      "RESTARTING", "STARTING",
					      "RESUMING" };
	static const char *const calm[] = { "NONE", "REFRESHING" };
	const char *action = wire_text_at(instance, "currentAction");
	const char *status = wire_text_at(instance, "instanceStatus");
	for (size_t i = 0; i < ARRAY_SIZE(making); i++)
		if (strcmp(action, making[i]) == 0)
			return CLOUD_PENDING;
	for (size_t i = 0; i < ARRAY_SIZE(calm); i++)
		if (strcmp(action, calm[i]) == 0)
			return strcmp(status, "RUNNING") == 0 ? CLOUD_RUNNING
			       : strcmp(status, "PROVISIONING") == 0 ||
					       strcmp(status, "STAGING") == 0
				       ? CLOUD_PENDING
				       : CLOUD_ENDING;
	return CLOUD_ENDING;
}

static const char *last_part(const char *url)
{
	const char *slash = strrchr(url, '/');
	return slash ? slash + 1 : url;
}

/* ".../zones/ZONE/..." */
static int take_zone(char **zone, const char *url)
{
	const char *at = strstr(url, "/zones/");
	if (!at)
		return 0;
	at += strlen("/zones/");
	*zone = strndup(at, strcspn(at, "/"));
	return *zone ? 0 : -ENOMEM;
}

static int take_refusal(struct cloud_pool *pool, struct cloud_instance *i, const json_t *instance)
{
	const json_t *attempt = json_object_get(instance, "lastAttempt");
	const json_t *errors = json_object_get(json_object_get(attempt, "errors"), "errors");
	const json_t *first = json_array_get(errors, 0);
	if (!first || i->state != CLOUD_PENDING)
		return 0;
	cleanup_free char *why =
		str_printf("%s: %s", wire_text_at(first, "code"), wire_text_at(first, "message"));
	if (!why)
		return -ENOMEM;
	int r = cloud_copy(&i->refused, why);
	return r < 0 ? r : cloud_copy(&pool->refused, why);
}

static int take_instance(struct cloud_pool *pool, const json_t *instance)
{
	const char *url = wire_text_at(instance, "instance");
	const char *name = wire_text_at(instance, "name");
	const char *number = wire_text_at(instance, "id");
	if (!*name)
		name = last_part(url);
	struct cloud_instance *i = cloud_pool_add(pool);
	if (!i)
		return -ENOMEM;
	int r = cloud_copy(&i->id, name);
	if (r == 0 && !*name)
		r = -EBADMSG;
	if (r == 0 && *number && strcmp(number, "0") != 0)
		r = cloud_copy(&i->alias, number);
	if (r == 0)
		r = take_zone(&i->zone, url);
	i->state = state_of(instance);
	return r < 0 ? r : take_refusal(pool, i, instance);
}

int gcp_read_instances(const char *data, size_t len, struct cloud_pool *pool, char next[2048])
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const json_t *list = json_object_get(root, "managedInstances");
	const char *token = wire_text_at(root, "nextPageToken");
	int r = json_is_object(root) && (!list || json_is_array(list)) ? 0 : -EBADMSG;
	for (size_t i = 0; i < json_array_size(list) && r == 0; i++)
		r = take_instance(pool, json_array_get(list, i));
	if (r == 0 && strlen(token) >= 2048)
		r = -EBADMSG;
	snprintf(next, 2048, "%s", token);
	json_decref(root);
	return r;
}

int gcp_read_operation(const char *data, size_t len, struct gcp_operation *operation)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const json_t *errors = json_object_get(json_object_get(root, "error"), "errors");
	const json_t *first = json_array_get(errors, 0);
	*operation = (struct gcp_operation) { 0 };
	bool good = *wire_text_at(root, "status") && strlen(wire_text_at(root, "name")) < 128;
	snprintf(operation->name, sizeof(operation->name), "%s", wire_text_at(root, "name"));
	operation->done = strcmp(wire_text_at(root, "status"), "DONE") == 0;
	if (first)
		take(&operation->refusal, wire_text_at(first, "code"),
		     wire_text_at(first, "message"));
	json_decref(root);
	return good ? 0 : -EBADMSG;
}
