/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/ec2_xml.h"

#include "base/cleanup.h"
#include "cloud/capacity_backends.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <string.h>

/* --- any of them --- */

struct reading {
	XML_Parser parser;
	ec2_element each;
	void *arg;
	int result;
	unsigned depth;
	struct buf path, text;
	size_t ends[EC2_DEPTH_MAX]; /* lengths of `path` above each element */
};

static void stop(struct reading *x, int result)
{
	if (x->result == 0)
		x->result = result;
	XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL on_start(void *data, const XML_Char *name, const XML_Char **attributes)
{
	struct reading *x = data;
	(void)attributes;
	if (x->depth == EC2_DEPTH_MAX) {
		stop(x, -EBADMSG);
		return;
	}
	x->ends[x->depth++] = x->path.len;
	if (buf_printf(&x->path, "%s%s", x->path.len ? "/" : "", name) < 0)
		stop(x, -EBADMSG);
	buf_reset(&x->text);
}

static void XMLCALL on_text(void *data, const XML_Char *text, int len)
{
	struct reading *x = data;
	if (buf_append(&x->text, text, (size_t)len) < 0)
		stop(x, -EBADMSG);
}

static void XMLCALL on_end(void *data, const XML_Char *name)
{
	struct reading *x = data;
	(void)name;
	if (x->result)
		return;
	int r = x->each(buf_text(&x->path), buf_text(&x->text), x->arg);
	x->path.len = x->ends[--x->depth];
	x->path.data[x->path.len] = '\0';
	buf_reset(&x->text);
	if (r)
		stop(x, r);
}

static void XMLCALL on_doctype(void *data, const XML_Char *name, const XML_Char *system,
			       const XML_Char *public, int has_internal)
{
	(void)name;
	(void)system;
	(void)public;
	(void)has_internal;
	stop(data, -EBADMSG);
}

int ec2_xml_read(const char *data, size_t len, ec2_element each, void *arg)
{
	struct reading x = { .each = each,
			     .arg = arg,
			     .parser = XML_ParserCreate("UTF-8"),
			     .path = BUF_INIT(EC2_TEXT_MAX),
			     .text = BUF_INIT(EC2_TEXT_MAX) };
	if (!x.parser)
		return -ENOMEM;
	XML_SetUserData(x.parser, &x);
	XML_SetElementHandler(x.parser, on_start, on_end);
	XML_SetCharacterDataHandler(x.parser, on_text);
	XML_SetStartDoctypeDeclHandler(x.parser, on_doctype);
	if ((len > INT_MAX || XML_Parse(x.parser, data, (int)len, 1) != XML_STATUS_OK) &&
	    x.result == 0)
		x.result = -EBADMSG;
	XML_ParserFree(x.parser);
	buf_deinit(&x.path);
	buf_deinit(&x.text);
	return x.result;
}

bool ec2_path_is(const char *path, const char *end)
{
	size_t len = strlen(path), want = strlen(end);
	return len >= want && strcmp(path + len - want, end) == 0;
}

static int64_t number(const char *text)
{
	int64_t n = 0;
	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || n > 1000000000)
			return -1;
		n = n * 10 + (*text - '0');
	}
	return n;
}

static int replace(char **to, const char *text)
{
	return cloud_copy(to, *text ? text : NULL);
}

/* --- <Error> --- */

static int refusal_element(const char *path, const char *text, void *arg)
{
	struct cloud_refusal *r = arg;
	if (ec2_path_is(path, "/Error/Code") && !r->code[0])
		snprintf(r->code, sizeof(r->code), "%s", text);
	else if (ec2_path_is(path, "/Error/Message") && !r->message[0])
		snprintf(r->message, sizeof(r->message), "%s", text);
	return 0;
}

void ec2_read_refusal(const char *data, size_t len, struct cloud_refusal *refusal)
{
	*refusal = (struct cloud_refusal) { 0 };
	if (ec2_xml_read(data, len, refusal_element, refusal) < 0)
		*refusal = (struct cloud_refusal) { 0 };
}

/* --- DescribeAutoScalingGroups --- */

#define GROUP  "/AutoScalingGroups/member"
#define MEMBER GROUP "/Instances/member"

struct group {
	struct cloud_pool *pool;
	bool found;
	bool protects_new, all_protected;
	bool is_protected; /* the instance being read */
	struct cloud_instance *instance;
};

/* "Pending", "Pending:Wait", "InService", "Terminating:Proceed", "Standby", ... */
static enum cloud_instance_state lifecycle_state(const char *text)
{
	if (strncmp(text, "Pending", 7) == 0)
		return CLOUD_PENDING;
	return strcmp(text, "InService") == 0 ? CLOUD_RUNNING : CLOUD_ENDING;
}

static int group_instance(struct group *g, const char *path, const char *text)
{
	if (!g->instance) {
		g->instance = cloud_pool_add(g->pool);
		g->is_protected = false;
		if (!g->instance)
			return -ENOMEM;
	}
	struct cloud_instance *i = g->instance;
	if (ec2_path_is(path, MEMBER)) {
		g->instance = NULL;
		g->all_protected &= g->is_protected || i->state == CLOUD_ENDING;
		return i->id ? 0 : -EBADMSG;
	}
	if (ec2_path_is(path, MEMBER "/InstanceId"))
		return replace(&i->id, text);
	if (ec2_path_is(path, MEMBER "/AvailabilityZone"))
		return replace(&i->zone, text);
	if (ec2_path_is(path, MEMBER "/InstanceType"))
		return replace(&i->type, text);
	if (ec2_path_is(path, MEMBER "/LifecycleState"))
		i->state = lifecycle_state(text);
	if (ec2_path_is(path, MEMBER "/ProtectedFromScaleIn"))
		g->is_protected = strcmp(text, "true") == 0;
	return 0;
}

static int group_element(const char *path, const char *text, void *arg)
{
	struct group *g = arg;
	if (strstr(path, MEMBER))
		return group_instance(g, path, text);
	if (ec2_path_is(path, GROUP))
		g->found = true;
	else if (ec2_path_is(path, GROUP "/DesiredCapacity"))
		g->pool->desired = number(text);
	else if (ec2_path_is(path, GROUP "/MaxSize"))
		g->pool->most = number(text);
	else if (ec2_path_is(path, GROUP "/NewInstancesProtectedFromScaleIn"))
		g->protects_new = strcmp(text, "true") == 0;
	return 0;
}

int ec2_read_group(const char *data, size_t len, struct cloud_pool *pool)
{
	struct group g = { .pool = pool, .all_protected = true };
	pool->desired = -1;
	int r = ec2_xml_read(data, len, group_element, &g);
	/* Lowering the number ends instances that are not protected, whatever runs there. */
	pool->can_lower = g.protects_new && g.all_protected;
	if (r == 0 && !g.found)
		return -ENOENT;
	return r < 0 ? r : pool->desired < 0 || g.instance ? -EBADMSG : 0;
}

/* --- DescribeScalingActivities --- */

#define ACTIVITY "/Activities/member"

struct activities {
	struct cloud_pool *pool;
	bool launch, failed, known;
	wall_ms at;
	char why[512];
};

static int activity_end(struct activities *a)
{
	struct cloud_pool *p = a->pool;
	int r = 0;
	/* The newest comes first. */
	if (a->launch && !a->known) {
		a->known = true;
		if (a->failed) {
			r = cloud_copy(&p->refused, a->why[0] ? a->why : "it failed");
			p->refused_at = a->at;
		}
	}
	a->launch = a->failed = false;
	a->at = 0;
	a->why[0] = '\0';
	return r;
}

static int activity_element(const char *path, const char *text, void *arg)
{
	struct activities *a = arg;
	if (ec2_path_is(path, ACTIVITY))
		return activity_end(a);
	if (ec2_path_is(path, ACTIVITY "/Description"))
		a->launch = strncmp(text, "Launching", 9) == 0;
	else if (ec2_path_is(path, ACTIVITY "/StatusCode"))
		a->failed = strcmp(text, "Failed") == 0;
	else if (ec2_path_is(path, ACTIVITY "/StatusMessage"))
		snprintf(a->why, sizeof(a->why), "%s", text);
	else if (ec2_path_is(path, ACTIVITY "/StartTime") && clock_parse(text, &a->at) < 0)
		a->at = 0;
	return 0;
}

int ec2_read_activities(const char *data, size_t len, struct cloud_pool *pool)
{
	struct activities a = { .pool = pool };
	return ec2_xml_read(data, len, activity_element, &a);
}

/* --- CreateFleet --- */

static int fleet_element(const char *path, const char *text, void *arg)
{
	struct ec2_fleet *f = arg;
	struct cloud_refusal *r = &f->refusal;
	if (ec2_path_is(path, "/fleetInstanceSet/item/instanceIds/item"))
		f->launched++;
	else if (ec2_path_is(path, "/errorSet/item/errorCode") && !r->code[0])
		snprintf(r->code, sizeof(r->code), "%s", text);
	else if (ec2_path_is(path, "/errorSet/item/errorMessage") && !r->message[0])
		snprintf(r->message, sizeof(r->message), "%s", text);
	return 0;
}

int ec2_read_fleet(const char *data, size_t len, struct ec2_fleet *fleet)
{
	*fleet = (struct ec2_fleet) { 0 };
	return ec2_xml_read(data, len, fleet_element, fleet);
}

/* --- DescribeInstances --- */

#define INSTANCE "/reservationSet/item/instancesSet/item"

struct instances {
	struct cloud_pool *pool;
	struct cloud_instance *instance;
	char *next;
};

static enum cloud_instance_state instance_state(const char *text)
{
	if (strcmp(text, "pending") == 0)
		return CLOUD_PENDING;
	return strcmp(text, "running") == 0 ? CLOUD_RUNNING : CLOUD_ENDING;
}

static int instance_field(struct instances *l, const char *path, const char *text)
{
	struct cloud_instance *i = l->instance ? l->instance : cloud_pool_add(l->pool);
	l->instance = i;
	if (!i)
		return -ENOMEM;
	if (ec2_path_is(path, INSTANCE)) {
		l->instance = NULL;
		return i->id ? 0 : -EBADMSG;
	}
	if (ec2_path_is(path, INSTANCE "/instanceId"))
		return replace(&i->id, text);
	if (ec2_path_is(path, INSTANCE "/instanceType"))
		return replace(&i->type, text);
	if (ec2_path_is(path, INSTANCE "/placement/availabilityZone"))
		return replace(&i->zone, text);
	if (ec2_path_is(path, INSTANCE "/instanceLifecycle"))
		return replace(&i->price, text);
	if (ec2_path_is(path, INSTANCE "/instanceState/name"))
		i->state = instance_state(text);
	if (ec2_path_is(path, INSTANCE "/launchTime") && clock_parse(text, &i->launched_at) < 0)
		i->launched_at = 0;
	return 0;
}

static int instances_element(const char *path, const char *text, void *arg)
{
	struct instances *l = arg;
	if (strstr(path, INSTANCE))
		return instance_field(l, path, text);
	if (ec2_path_is(path, "/nextToken")) {
		if (strlen(text) >= 2048)
			return -EBADMSG;
		memcpy(l->next, text, strlen(text) + 1);
	}
	return 0;
}

int ec2_read_instances(const char *data, size_t len, struct cloud_pool *pool, char next[2048])
{
	struct instances l = { .pool = pool, .next = next };
	next[0] = '\0';
	int r = ec2_xml_read(data, len, instances_element, &l);
	return r < 0 ? r : l.instance ? -EBADMSG : 0;
}
