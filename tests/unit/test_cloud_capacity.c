/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/capacity.h"
#include "cloud/capacity_command.h"
#include "cloud/ec2_xml.h"
#include "cloud/gcp_json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* --- answers --- */

#define GROUP(inside)                                                                              \
	"<DescribeAutoScalingGroupsResponse xmlns=\"http://autoscaling.amazonaws.com/doc/\">"      \
	"<DescribeAutoScalingGroupsResult><AutoScalingGroups>" inside                              \
	"</AutoScalingGroups></DescribeAutoScalingGroupsResult><ResponseMetadata><RequestId>x"     \
	"</RequestId></ResponseMetadata></DescribeAutoScalingGroupsResponse>"
#define MEMBER(id, state, protected)                                                               \
	"<member><InstanceId>" id "</InstanceId><AvailabilityZone>eu-west-1a</AvailabilityZone>"   \
	"<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId></LaunchTemplate>"               \
	"<LifecycleState>" state "</LifecycleState><InstanceType>m6i.large</InstanceType>"         \
	"<ProtectedFromScaleIn>" protected "</ProtectedFromScaleIn></member>"
#define SIZES(desired, protects)                                                                   \
	"<AutoScalingGroupName>g</AutoScalingGroupName><MaxSize>7</MaxSize>"                       \
	"<DesiredCapacity>" desired                                                                \
	"</DesiredCapacity><NewInstancesProtectedFromScaleIn>" protects                            \
	"</NewInstancesProtectedFromScaleIn>"

static void a_group_is_read(void **state)
{
	(void)state;
	static const char text[] = GROUP(
		"<member>" SIZES("3", "true") "<Instances>" MEMBER("i-1", "InService", "true")
			MEMBER("i-2", "Pending:Wait", "true")
				MEMBER("i-3", "Terminating", "false") "</Instances></member>");
	struct cloud_pool pool = { 0 };
	assert_int_equal(ec2_read_group(text, strlen(text), &pool), 0);
	assert_int_equal(pool.desired, 3);
	assert_int_equal(pool.most, 7);
	assert_true(pool.can_lower);
	assert_int_equal(pool.instance_count, 3);
	assert_string_equal(pool.instances[0].id, "i-1");
	assert_string_equal(pool.instances[0].zone, "eu-west-1a");
	assert_string_equal(pool.instances[0].type, "m6i.large");
	assert_int_equal(pool.instances[0].state, CLOUD_RUNNING);
	assert_int_equal(pool.instances[1].state, CLOUD_PENDING);
	assert_int_equal(pool.instances[2].state, CLOUD_ENDING);
	cloud_pool_deinit(&pool);
}

static void only_a_protected_group_can_be_lowered(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool can;
	} cases[] = {
		{ GROUP("<member>" SIZES("0", "true") "<Instances/></member>"), true },
		{ GROUP("<member>" SIZES("0", "false") "<Instances/></member>"), false },
		{ GROUP("<member>" SIZES("1", "true") "<Instances>" MEMBER("i-1", "InService",
									   "false") "</Instances>"
										    "</member>"),
		  false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cloud_pool pool = { 0 };
		assert_int_equal(ec2_read_group(cases[i].text, strlen(cases[i].text), &pool), 0);
		assert_int_equal(pool.can_lower, cases[i].can);
		cloud_pool_deinit(&pool);
	}
}

static void groups_that_are_none(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int want;
	} cases[] = {
		{ GROUP(""), -ENOENT },
		{ GROUP("<member><MaxSize>1</MaxSize></member>"), -EBADMSG },
		{ GROUP("<member>" SIZES("many", "true") "</member>"), -EBADMSG },
		{ GROUP("<member>" SIZES("1", "true") "<Instances><member><LifecycleState>InService"
						      "</LifecycleState></member></Instances>"
						      "</member>"),
		  -EBADMSG },
		{ "<html><body>Bad gateway", -EBADMSG },
		{ "", -EBADMSG },
		{ "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", -EBADMSG },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cloud_pool pool = { 0 };
		int r = ec2_read_group(cases[i].text, strlen(cases[i].text), &pool);
		if (r != cases[i].want)
			fail_msg("case %zu: %d", i, r);
		cloud_pool_deinit(&pool);
	}
}

#define ACTIVITY(what, code, message)                                                              \
	"<member><ActivityId>1</ActivityId><Description>" what "</Description><StatusCode>" code   \
	"</StatusCode><StatusMessage>" message "</StatusMessage>"                                  \
	"<StartTime>2026-01-02T03:04:05Z</StartTime></member>"
#define ACTIVITIES(inside)                                                                         \
	"<DescribeScalingActivitiesResponse><DescribeScalingActivitiesResult><Activities>" inside  \
	"</Activities></DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"

static void the_newest_launch_counts(void **state)
{
	(void)state;
	static const struct {
		const char *text, *refused;
	} cases[] = {
		{ ACTIVITIES(""), NULL },
		{ ACTIVITIES(
			  ACTIVITY("Launching a new EC2 instance.", "Failed", "no capacity")
				  ACTIVITY("Launching a new EC2 instance: i-1", "Successful", "")),
		  "no capacity" },
		{ ACTIVITIES(ACTIVITY("Launching a new EC2 instance: i-1", "InProgress", "")
				     ACTIVITY("Launching a new EC2 instance.", "Failed", "none")),
		  NULL },
		{ ACTIVITIES(ACTIVITY("Terminating EC2 instance: i-1", "Successful", "")
				     ACTIVITY("Launching a new EC2 instance.", "Failed", "")),
		  "it failed" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cloud_pool pool = { 0 };
		const char *text = cases[i].text;
		assert_int_equal(ec2_read_activities(text, strlen(text), &pool), 0);
		assert_string_equal(pool.refused ? pool.refused : "-",
				    cases[i].refused ? cases[i].refused : "-");
		assert_int_equal(pool.refused_at, cases[i].refused ? 1767323045000 : 0);
		cloud_pool_deinit(&pool);
	}
}

static void a_fleet_is_read(void **state)
{
	(void)state;
	static const char text[] =
		"<CreateFleetResponse><fleetId>fleet-1</fleetId><fleetInstanceSet><item>"
		"<lifecycle>spot</lifecycle><instanceIds><item>i-1</item><item>i-2</item>"
		"</instanceIds></item></fleetInstanceSet><errorSet><item><errorCode>"
		"InsufficientInstanceCapacity</errorCode><errorMessage>None left.</errorMessage>"
		"</item></errorSet></CreateFleetResponse>";
	struct ec2_fleet fleet;
	assert_int_equal(ec2_read_fleet(text, strlen(text), &fleet), 0);
	assert_int_equal(fleet.launched, 2);
	assert_string_equal(fleet.refusal.code, "InsufficientInstanceCapacity");
	assert_string_equal(fleet.refusal.message, "None left.");
}

static void instances_are_read(void **state)
{
	(void)state;
	static const char text[] =
		"<DescribeInstancesResponse><reservationSet><item><groupSet><item><groupId>sg"
		"</groupId></item></groupSet><instancesSet><item><instanceId>i-1</instanceId>"
		"<instanceState><code>16</code><name>running</name></instanceState>"
		"<instanceType>c7i.xlarge</instanceType><launchTime>2026-01-02T03:04:05.000Z"
		"</launchTime><placement><availabilityZone>eu-west-1b</availabilityZone></"
		"placement>"
		"<instanceLifecycle>spot</instanceLifecycle><networkInterfaceSet><item>"
		"<attachment><instanceId>other</instanceId></attachment></item>"
		"</networkInterfaceSet></item></instancesSet></item><item><instancesSet><item>"
		"<instanceId>i-2</instanceId><instanceState><name>shutting-down</name>"
		"</instanceState></item></instancesSet></item></reservationSet>"
		"<nextToken>more</nextToken></DescribeInstancesResponse>";
	struct cloud_pool pool = { 0 };
	char next[2048];
	assert_int_equal(ec2_read_instances(text, strlen(text), &pool, next), 0);
	assert_string_equal(next, "more");
	assert_int_equal(pool.instance_count, 2);
	assert_string_equal(pool.instances[0].id, "i-1");
	assert_string_equal(pool.instances[0].zone, "eu-west-1b");
	assert_string_equal(pool.instances[0].price, "spot");
	assert_int_equal(pool.instances[0].launched_at, 1767323045000);
	assert_int_equal(pool.instances[1].state, CLOUD_ENDING);
	cloud_pool_deinit(&pool);
}

static void refusals_are_read(void **state)
{
	(void)state;
	static const char ec2[] = "<Response><Errors><Error><Code>UnauthorizedOperation</Code>"
				  "<Message>You may not.</Message></Error></Errors></Response>";
	static const char group[] = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling"
				    "</Code><Message>Rate</Message></Error></ErrorResponse>";
	static const char google[] =
		"{\"error\":{\"code\":403,\"message\":\"Quota\",\"errors\":[{\"reason\":"
		"\"quotaExceeded\"}],\"status\":\"PERMISSION_DENIED\"}}";
	struct cloud_refusal r;
	ec2_read_refusal(ec2, strlen(ec2), &r);
	assert_string_equal(r.code, "UnauthorizedOperation");
	assert_string_equal(r.message, "You may not.");
	ec2_read_refusal(group, strlen(group), &r);
	assert_string_equal(r.code, "Throttling");
	ec2_read_refusal("<html>", 6, &r);
	assert_string_equal(r.code, "");
	gcp_read_refusal(google, strlen(google), &r);
	assert_string_equal(r.code, "quotaExceeded");
	assert_string_equal(r.message, "Quota");
	gcp_read_refusal("<html>", 6, &r);
	assert_string_equal(r.code, "");
}

#define G "https://www.googleapis.com/compute/v1/projects/p/zones/europe-west4-a/instances/"

static void managed_instances_are_read(void **state)
{
	(void)state;
	static const char text[] =
		"{\"managedInstances\":["
		"{\"instance\":\"" G "n-1\",\"id\":\"123\",\"currentAction\":\"NONE\","
		"\"instanceStatus\":\"RUNNING\"},"
		"{\"instance\":\"" G "n-2\",\"currentAction\":\"CREATING\",\"lastAttempt\":{"
		"\"errors\":{\"errors\":[{\"code\":\"ZONE_RESOURCE_POOL_EXHAUSTED\",\"message\":"
		"\"The zone is full.\"}]}}},"
		"{\"instance\":\"" G "n-3\",\"currentAction\":\"DELETING\"},"
		"{\"instance\":\"" G "n-4\",\"currentAction\":\"NONE\",\"instanceStatus\":"
		"\"STOPPING\"}],\"nextPageToken\":\"t\"}";
	struct cloud_pool pool = { 0 };
	char next[2048];
	assert_int_equal(gcp_read_instances(text, strlen(text), &pool, next), 0);
	assert_int_equal(pool.instance_count, 4);
	assert_string_equal(next, "t");
	assert_string_equal(pool.instances[0].id, "n-1");
	assert_string_equal(pool.instances[0].alias, "123");
	assert_string_equal(pool.instances[0].zone, "europe-west4-a");
	assert_int_equal(pool.instances[0].state, CLOUD_RUNNING);
	assert_int_equal(pool.instances[1].state, CLOUD_PENDING);
	assert_string_equal(pool.instances[1].refused,
			    "ZONE_RESOURCE_POOL_EXHAUSTED: The zone is full.");
	assert_string_equal(pool.refused, pool.instances[1].refused);
	assert_int_equal(pool.instances[2].state, CLOUD_ENDING);
	assert_int_equal(pool.instances[3].state, CLOUD_ENDING);
	cloud_pool_deinit(&pool);
	assert_int_equal(gcp_read_instances("{}", 2, &pool, next), 0);
	assert_int_equal(gcp_read_instances("[]", 2, &pool, next), -EBADMSG);
	cloud_pool_deinit(&pool);
	assert_int_equal(gcp_read_group("{\"targetSize\":4}", 16, &pool), 0);
	assert_int_equal(pool.desired, 4);
	assert_int_equal(gcp_read_group("{\"targetSize\":-4}", 17, &pool), -EBADMSG);
	assert_int_equal(gcp_read_group("{}", 2, &pool), -EBADMSG);
}

static void operations_are_read(void **state)
{
	(void)state;
	static const char failed[] =
		"{\"name\":\"operation-1\",\"status\":\"DONE\",\"error\":{\"errors\":[{\"code\":"
		"\"QUOTA_EXCEEDED\",\"message\":\"CPUS\"}]}}";
	struct gcp_operation op;
	assert_int_equal(gcp_read_operation(failed, strlen(failed), &op), 0);
	assert_true(op.done);
	assert_string_equal(op.refusal.code, "QUOTA_EXCEEDED");
	static const char running[] = "{\"name\":\"o\",\"status\":\"RUNNING\"}";
	assert_int_equal(gcp_read_operation(running, strlen(running), &op), 0);
	assert_false(op.done);
	assert_string_equal(op.refusal.code, "");
	assert_int_equal(gcp_read_operation("{}", 2, &op), -EBADMSG);
}

static void pools_have_names(void **state)
{
	(void)state;
	static const struct {
		const char *provider, *pool;
		bool good;
	} cases[] = {
		{ "autoscaling", "any name", true },
		{ "fleet", "lt-0123:3", true },
		{ "fleet", "elsa-node:$Default:on-demand", true },
		{ "fleet", "elsa-node:1:spot", true },
		{ "fleet", "elsa-node", false },
		{ "fleet", ":1", false },
		{ "fleet", "a:1:free", false },
		{ "gcp", "projects/p/zones/z/instanceGroupManagers/n", true },
		{ "gcp", "projects/p/regions/r/instanceGroupManagers/n", true },
		{ "gcp", "projects/p/zones/z/instanceGroups/n", false },
		{ "gcp", "projects/p/zones/z/instanceGroupManagers/n/x", false },
		{ "gcp", "n", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		int r = cloud_capacity_check_pool(cases[i].provider, cases[i].pool, &e);
		if ((r == 0) != cases[i].good)
			fail_msg("%s", cases[i].pool);
		assert_true(r == 0 || e.remedy[0]);
	}
}

/* --- a server that answers what it is told to --- */

static struct {
	int fd, port;
	pthread_t thread;
	const char *const *answers; /* "STATUS body" of each request, in turn; the last one stays */
	char seen[8][4096];
	int count;
} server;

static void take(int fd)
{
	char *to = server.seen[server.count];
	size_t len = 0, size = sizeof(server.seen[0]) - 1;
	const char *body = NULL;
	for (;;) {
		ssize_t n = read(fd, to + len, size - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		to[len] = '\0';
		body = strstr(to, "\r\n\r\n");
		const char *length = strcasestr(to, "content-length:");
		if (body && (!length || strlen(body + 4) >= strtoul(length + 15, NULL, 10)))
			break;
	}
}

static void *serve(void *arg)
{
	int fd;
	(void)arg;
	while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
		take(fd);
		const char *answer = *server.answers;
		if (server.answers[1])
			server.answers++;
		server.count++;
		if (strcmp(answer, "lost") != 0)
			dprintf(fd,
				"HTTP/1.1 %.3s x\r\nConnection: close\r\nContent-Length: %zu\r\n"
				"\r\n%s",
				answer, strlen(answer + 4), answer + 4);
		close(fd);
	}
	return NULL;
}

static void begin(const char *const *answers)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	server.answers = answers;
	server.count = 0;
	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(server.fd, 8), 0);
	assert_int_equal(getsockname(server.fd, (struct sockaddr *)&a, &len), 0);
	server.port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void end(void)
{
	shutdown(server.fd, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.fd);
}

static struct cloud_capacity *open_provider(const char *provider, const char *const *command)
{
	char url[64];
	struct cloud_capacity *c;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", server.port);
	setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
	unsetenv("http_proxy");
	const struct cloud_options options = {
		.provider = provider, .region = "eu-west-1", .endpoint = url, .command = command
	};
	struct error e = ERROR_INIT;
	if (cloud_capacity_open(&options, &c, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static void assert_seen(int i, const char *text)
{
	if (!strcasestr(server.seen[i], text))
		fail_msg("no \"%s\" in\n%s", text, server.seen[i]);
}

static const struct cloud_growth three = { .desired = 3, .more = 2, .token = "u-u-i-d" };

static void a_group_is_asked(void **state)
{
	(void)state;
	begin((const char *const[]) { "200 <SetDesiredCapacityResponse/>", NULL });
	struct cloud_capacity *c = open_provider("autoscaling", NULL);
	assert_int_equal(cloud_capacity_grow(c, "my group", &three, NULL), 0);
	const struct cloud_instance i = { .id = "i-1" };
	assert_int_equal(cloud_capacity_shrink(c, "my group", &i, NULL), 0);
	cloud_capacity_free(c);
	end();
	assert_seen(0, "POST / HTTP/1.1");
	assert_seen(0, "Credential=AKID/");
	assert_seen(0, "/eu-west-1/autoscaling/aws4_request");
	assert_seen(0, "Action=SetDesiredCapacity&AutoScalingGroupName=my%20group&"
		       "DesiredCapacity=3&HonorCooldown=false&Version=2011-01-01");
	assert_seen(1, "Action=TerminateInstanceInAutoScalingGroup&InstanceId=i-1&"
		       "ShouldDecrementDesiredCapacity=true&Version=2011-01-01");
}

static void a_fleet_is_asked(void **state)
{
	(void)state;
	begin((const char *const[]) {
		"200 <CreateFleetResponse><fleetInstanceSet><item><instanceIds><item>i</item>"
		"</instanceIds></item></fleetInstanceSet></CreateFleetResponse>",
		"200 <CreateFleetResponse><errorSet><item><errorCode>InsufficientInstanceCapacity"
		"</errorCode><errorMessage>None.</errorMessage></item></errorSet>"
		"</CreateFleetResponse>",
		"400 <Response><Errors><Error><Code>IdempotentParameterMismatch</Code></Error>"
		"</Errors></Response>",
		"400 <Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code></Error>"
		"</Errors></Response>",
		NULL });
	struct cloud_capacity *c = open_provider("fleet", NULL);
	struct error e = ERROR_INIT;
	assert_int_equal(cloud_capacity_grow(c, "lt-1:2", &three, &e), 0);
	assert_true(cloud_capacity_grow(c, "elsa:2:on-demand", &three, &e) < 0);
	assert_int_equal(e.fault, FAULT_FULL);
	assert_non_null(strstr(e.text, "None."));
	assert_int_equal(cloud_capacity_grow(c, "lt-1:2", &three, &e), 0);
	const struct cloud_instance i = { .id = "i-1" };
	assert_int_equal(cloud_capacity_shrink(c, "lt-1:2", &i, &e), 0);
	cloud_capacity_free(c);
	end();
	assert_seen(0, "ClientToken=u-u-i-d&LaunchTemplateConfigs.1.LaunchTemplateSpecification."
		       "LaunchTemplateId=lt-1");
	assert_seen(0, "SpotOptions.AllocationStrategy=");
	assert_seen(0, "TargetCapacitySpecification.DefaultTargetCapacityType=spot&"
		       "TargetCapacitySpecification.TotalTargetCapacity=2&Type=instant");
	assert_seen(1, "LaunchTemplateSpecification.LaunchTemplateName=elsa&");
	assert_seen(1, "DefaultTargetCapacityType=on-demand");
	assert_null(strstr(server.seen[1], "SpotOptions"));
	assert_seen(3, "Action=TerminateInstances&InstanceId.1=i-1");
}

/* What is refused, and what for. */
static void refusals_have_meanings(void **state)
{
	(void)state;
#define ERROR(code, message)                                                                       \
	"<ErrorResponse><Error><Code>" code "</Code><Message>" message                             \
	"</Message></Error></ErrorResponse>"
	static const struct {
		const char *answers[4];
		enum fault fault;
		const char *text, *remedy;
		int requests;
	} cases[] = {
		{ { "403 " ERROR("AccessDenied", "x") },
		  FAULT_DENIED,
		  "permission denied",
		  "allow autoscaling:SetDesiredCapacity to elsad's credentials",
		  1 },
		/* Not to be waited out, although the status says so. */
		{ { "500 " ERROR("InsufficientInstanceCapacity", "None left") },
		  FAULT_FULL,
		  "None left",
		  "",
		  1 },
		{ { "400 " ERROR("ValidationError", "value 9 is above max value 3") },
		  FAULT_FULL,
		  "above max",
		  "raise the MaxSize of group g",
		  1 },
		{ { "400 " ERROR("ValidationError", "AutoScalingGroup name not found") },
		  FAULT_NOT_FOUND,
		  "not found",
		  "there is no group g",
		  1 },
		{ { "400 " ERROR("Throttling", "Rate exceeded"), "200 <a/>" },
		  FAULT_NONE,
		  "",
		  "",
		  2 },
		{ { "503 busy", "lost", "200 <a/>" }, FAULT_NONE, "", "", 3 },
		{ { "418 " }, FAULT_BAD_INPUT, "418", "", 1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		begin(cases[i].answers);
		struct cloud_capacity *c = open_provider("autoscaling", NULL);
		cloud_capacity_grow(c, "g", &three, &e);
		cloud_capacity_free(c);
		end();
		if (e.fault != cases[i].fault || !strstr(e.text, cases[i].text) ||
		    !strstr(e.remedy, cases[i].remedy) || server.count != cases[i].requests)
			fail_msg("case %zu: %d requests, %s: %s (%s)", i, server.count,
				 fault_name(e.fault), e.text, e.remedy);
	}
}

/* Terminated twice, the group's number might fall twice. */
static void a_shrink_is_not_sent_twice(void **state)
{
	(void)state;
	begin((const char *const[]) { "lost", "200 <a/>", NULL });
	struct cloud_capacity *c = open_provider("autoscaling", NULL);
	const struct cloud_instance i = { .id = "i-1" };
	struct error e = ERROR_INIT;
	assert_true(cloud_capacity_shrink(c, "g", &i, &e) < 0);
	assert_int_equal(e.fault, FAULT_UNAVAILABLE);
	cloud_capacity_free(c);
	end();
	assert_int_equal(server.count, 1);
}

static void a_command_is_asked(void **state)
{
	(void)state;
	static const char script[] =
		"case \"$1 $2 $3\" in "
		"'describe p ') echo '{\"instances\":[{\"id\":\"m1\",\"price\":\"spot\"},"
		"{\"id\":\"m2\",\"state\":\"ending\"},{\"id\":\"m3\",\"state\":\"pending\"}]}';; "
		"'grow p 3') exit 0;; 'grow dry 3') echo first >&2; echo 'all gone' >&2; exit 75;; "
		"'shrink p m1') exit 0;; 'describe odd ') echo '{}';; *) exit 2;; esac";
	const char *const command[] = { "sh", "-c", script, "pool", NULL };
	struct cloud_capacity *c = open_provider("command", command);
	struct cloud_pool pool;
	struct error e = ERROR_INIT;
	assert_int_equal(cloud_capacity_describe(c, "p", &pool, &e), 0);
	assert_int_equal(pool.desired, 2);
	assert_int_equal(pool.instance_count, 3);
	assert_string_equal(pool.instances[0].price, "spot");
	assert_int_equal(pool.instances[0].state, CLOUD_RUNNING);
	assert_int_equal(pool.instances[2].state, CLOUD_PENDING);
	const struct cloud_instance i = { .id = "m1" };
	assert_int_equal(cloud_capacity_shrink(c, "p", &i, &e), 0);
	cloud_pool_deinit(&pool);
	assert_int_equal(cloud_capacity_grow(c, "p", &three, &e), 0);
	assert_true(cloud_capacity_grow(c, "dry", &three, &e) < 0);
	assert_int_equal(e.fault, FAULT_FULL);
	assert_non_null(strstr(e.text, "all gone"));
	assert_int_equal(cloud_capacity_describe(c, "odd", &pool, &e), -EBADMSG);
	assert_true(cloud_capacity_describe(c, "none", &pool, &e) < 0);
	assert_true(cloud_capacity_lower(c, "p", 1, &e) < 0);
	cloud_capacity_free(c);
}

static void what_a_command_prints_is_checked(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"[]",
		"{\"instances\":{}}",
		"{\"instances\":[{}]}",
		"{\"instances\":[{\"id\":1}]}",
		"{\"instances\":[{\"id\":\"\"}]}",
		"{\"instances\":[],\"desired\":\"2\"}",
		"{\"instances\":[],\"desired\":-1}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cloud_pool pool = { 0 };
		if (command_read_pool(bad[i], strlen(bad[i]), &pool, NULL) != -EBADMSG)
			fail_msg("%s", bad[i]);
		cloud_pool_deinit(&pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_is_read),
		cmocka_unit_test(only_a_protected_group_can_be_lowered),
		cmocka_unit_test(groups_that_are_none),
		cmocka_unit_test(the_newest_launch_counts),
		cmocka_unit_test(a_fleet_is_read),
		cmocka_unit_test(instances_are_read),
		cmocka_unit_test(refusals_are_read),
		cmocka_unit_test(managed_instances_are_read),
		cmocka_unit_test(operations_are_read),
		cmocka_unit_test(pools_have_names),
		cmocka_unit_test(a_group_is_asked),
		cmocka_unit_test(a_fleet_is_asked),
		cmocka_unit_test(refusals_have_meanings),
		cmocka_unit_test(a_shrink_is_not_sent_twice),
		cmocka_unit_test(a_command_is_asked),
		cmocka_unit_test(what_a_command_prints_is_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
