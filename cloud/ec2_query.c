/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/ec2_query.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/capacity_backends.h"
#include "cloud/ec2_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MOST = 64 << 10, PARAMETERS = 32 };

#define ALLOW       "allow {a} to elsad's credentials (see packaging/aws)"
#define CREDENTIALS "check elsad's AWS credentials"
#define ANOTHER     "nothing, when another pool can give one; else raise the account's quota"

/* Of "Error codes for the Amazon EC2 API" and "Common Errors" of EC2 Auto Scaling. */
static const struct cloud_meaning meanings[] = {
	{ "UnauthorizedOperation", NULL, FAULT_DENIED, "permission denied", ALLOW },
	{ "AccessDenied*", NULL, FAULT_DENIED, "permission denied", ALLOW },
	{ "AuthFailure", NULL, FAULT_DENIED, NULL, CREDENTIALS },
	{ "InvalidClientTokenId", NULL, FAULT_DENIED, "our access key is not known", CREDENTIALS },
	{ "UnrecognizedClientException", NULL, FAULT_DENIED, "our access key is not known",
	  CREDENTIALS },
	{ "SignatureDoesNotMatch", NULL, FAULT_DENIED, NULL,
	  "check the secret key of elsad's AWS credentials, capacity.region, and the clock" },
	{ "RequestExpired", NULL, FAULT_DENIED, NULL, "set the clock; renew elsad's credentials" },
	{ "ExpiredToken*", NULL, FAULT_DENIED, "our credentials have expired", CREDENTIALS },
	{ "OptInRequired", NULL, FAULT_DENIED, NULL, "subscribe the account to the service" },
	{ "Insufficient*", NULL, FAULT_FULL, NULL, NULL },
	{ "UnfulfillableCapacity", NULL, FAULT_FULL, NULL, NULL },
	{ "SpotMaxPriceTooLow", NULL, FAULT_FULL, NULL, NULL },
	{ "Unsupported", NULL, FAULT_FULL, NULL, NULL }, /* the type, in this zone */
	{ "MaxSpotInstanceCountExceeded", NULL, FAULT_FULL, NULL, ANOTHER },
	{ "VcpuLimitExceeded", NULL, FAULT_FULL, NULL, ANOTHER },
	{ "InstanceLimitExceeded", NULL, FAULT_FULL, NULL, ANOTHER },
	{ "ValidationError", "above max value", FAULT_FULL, NULL,
	  "raise the MaxSize of group {p}, or lower capacity.max" },
	{ "ValidationError", "min size", FAULT_CONFLICT, NULL,
	  "lower the MinSize of group {p}: capacity.min is elsad's own" },
	{ "ValidationError", "minSize", FAULT_CONFLICT, NULL,
	  "lower the MinSize of group {p}: capacity.min is elsad's own" },
	{ "ValidationError", "Instance Id not found", FAULT_NOT_FOUND, NULL, NULL },
	{ "ValidationError", "not found", FAULT_NOT_FOUND, NULL,
	  "correct capacity.pools or capacity.region: there is no group {p}" },
	{ "InvalidInstanceID.NotFound", NULL, FAULT_NOT_FOUND, NULL, NULL },
	{ "InvalidLaunchTemplate*", NULL, FAULT_NOT_FOUND, NULL,
	  "correct capacity.pools or capacity.region: {p} names no launch template with that "
	  "version" },
	{ "ScalingActivityInProgress", NULL, FAULT_UNAVAILABLE, NULL, NULL },
	{ "ResourceContention", NULL, FAULT_UNAVAILABLE, NULL, NULL },
	{ "RequestLimitExceeded", NULL, FAULT_UNAVAILABLE, "it throttles us", NULL },
	{ "Throttling*", NULL, FAULT_UNAVAILABLE, "it throttles us", NULL },
	{ 0 }
};

static int find_region(char **region, const struct cloud_options *options, struct error *e)
{
	const struct credentials_options who = { .cloud = CREDENTIALS_AMAZON };
	*region = options->region && *options->region ? strdup(options->region)
						      : credentials_region(&who);
	if (!*region)
		*region = credentials_machine_region(&who);
	if (*region)
		return 0;
	int r = error_set(e, EINVAL, "nobody says which of Amazon's regions");
	return error_remedy(e, r, "set capacity.region");
}

static int open_api(struct cloud_api *api, const struct ec2_service *service,
		    const struct cloud_options *options, struct error *e)
{
	cleanup_free char *region = NULL;
	int r = find_region(&region, options, e);
	if (r < 0)
		return r;
	bool own = !options->endpoint || !*options->endpoint;
	cleanup_free char *url =
		own ? str_printf("https://%s.%s.amazonaws.com%s", service->name, region,
				 strncmp(region, "cn-", 3) == 0 ? ".cn" : "")
		    : strdup(options->endpoint);
	if (!url)
		return error_set(e, ENOMEM, "out of memory");
	*api = (struct cloud_api) { .who = "Amazon",
				    .service = service->name,
				    .stop = options->stop,
				    .read_refusal = ec2_read_refusal,
				    .meanings = meanings };
	r = cloud_api_open(api, url, CREDENTIALS_AMAZON, e);
	api->region = steal_ptr(&region);
	return r;
}

struct ec2_capacity {
	struct cloud_capacity base;
	struct cloud_api api;
	const struct ec2_service *service;
};

void ec2_capacity_free(struct cloud_capacity *c)
{
	cloud_api_deinit(ec2_capacity_api(c));
	free(c);
}

int ec2_capacity_open(const struct ec2_service *service, const struct cloud_options *options,
		      struct cloud_capacity **capacity, struct error *e)
{
	struct ec2_capacity *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	c->service = service;
	int r = open_api(&c->api, service, options, e);
	if (r < 0) {
		ec2_capacity_free(&c->base);
		return r;
	}
	*capacity = &c->base;
	return 0;
}

struct cloud_api *ec2_capacity_api(struct cloud_capacity *c)
{
	return &((struct ec2_capacity *)c)->api;
}

int ec2_capacity_call(struct cloud_capacity *c, struct cloud_call *call,
		      const struct sigv4_pair *what, struct error *e)
{
	struct sigv4_pair all[PARAMETERS];
	size_t count = 0;
	cleanup_buf struct buf body = BUF_INIT(BODY_MOST);
	all[count++] = (struct sigv4_pair) { "Action", strchr(call->action, ':') + 1 };
	all[count++] =
		(struct sigv4_pair) { "Version", ((struct ec2_capacity *)c)->service->version };
	for (; what->name && count < PARAMETERS; what++)
		all[count++] = *what;
	int r = sigv4_query(&body, all, count);
	if (r < 0)
		return error_set(e, -r, "a request cannot be built");
	call->method = "POST";
	call->path = "";
	call->body = buf_text(&body);
	call->content_type = "application/x-www-form-urlencoded; charset=utf-8";
	r = cloud_call(ec2_capacity_api(c), call, e);
	call->body = NULL;
	return r;
}

int ec2_capacity_end(struct cloud_capacity *c, struct cloud_call *call,
		     const struct sigv4_pair *what, struct error *e)
{
	struct error inner = ERROR_INIT;
	int r = ec2_capacity_call(c, call, what, &inner);
	cloud_call_deinit(call);
	if (r < 0 && inner.fault == FAULT_NOT_FOUND)
		return 0;
	if (r < 0 && e)
		*e = inner;
	return r;
}
