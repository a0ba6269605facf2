/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/log.h"
#include "base/names.h"
#include "config/config.h"
#include "node/api.h"
#include "node/asleep.h"
#include "node/depart.h"
#include "node/doctor.h"
#include "node/doze.h"
#include "node/effect.h"
#include "node/estimate.h"
#include "node/evacuate.h"
#include "node/join.h"
#include "node/lease.h"
#include "node/notices.h"
#include "node/recover.h"
#include "node/rescue.h"
#include "node/store_jobs.h"
#include "node/teardown.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* How long an end waits for what is under way. What it cuts off is taken up at the next start. */
enum { DRAIN_S = 30, RETRY_S = 5 };

static const char usage[] =
	"Usage: elsa-node [--config FILE] [--check] [--fault "
	"KIND:STEP:before|after|fail|once|wait]\n"
	"       elsa-node [--config FILE] doctor [--json]\n"
	"       elsa-node [--config FILE] teardown [--all]\n"
	"       elsa-node --list-steps | --version | --help\n"
	"\n"
	"Runs, checkpoints and restores sessions on this machine for elsad. Sessions go on\n"
	"running when it ends.\n"
	"\n"
	"  --config FILE  instead of " CONFIG_DEFAULT_PATH "\n"
	"  --check        only check the configuration\n"
	"  --list-steps   print what effects are made of, as \"KIND STEP\" lines\n"
	"  --fault F      for tests: be killed (or fail) at that step\n"
	"  doctor         say what this machine lacks for sessions to be checkpointed\n"
	"  teardown       remove everything of Elsa from this machine but checkpoints and logs;\n"
	"                 refuses while sessions run unless --all says to end them\n";

struct options {
	const char *config;
	const char *fault;
	bool check, json, all;
	const char *command; /* NULL: serve */
};

struct daemon {
	struct node node;
	struct event *signals[3];
	struct event *retry;
	struct event *drain;
	int drained_for;
	bool again; /* SIGHUP: execute this program anew once all is at rest */
	const char *config_path;
};

static int complain(const struct error *e)
{
	fprintf(stderr, "elsa-node: %s\n", e->text);
	if (e->remedy[0])
		fprintf(stderr, "%s\n", e->remedy);
	return fault_exit_code(e->fault);
}

/* --- serving ------------------------------------------------------------------- */

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct daemon *d = arg;
	size_t load = pool_load(d->node.pool) + store_jobs_load(&d->node) +
		      evacuate_load(&d->node) + notices_load(&d->node);
	if (load == 0 && (d->again || !lease_leave(&d->node))) {
		event_base_loopexit(d->node.base, NULL);
		return;
	}
	if (++d->drained_for < DRAIN_S * 10)
		return;
	log_warning(
		"%zu effects or works on the store are under way still: effects are taken up at "
		"the next start",
		load);
	_exit(0);
}

static void begin_end(struct daemon *d)
{
	static const struct timeval tenth = { .tv_usec = 100000 };
	d->node.stopping = true;
	store_jobs_stop(&d->node);
	depart_stop(&d->node);
	sd_notify(0, d->again ? "RELOADING=1" : "STOPPING=1");
	event_add(d->drain, &tenth);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)what;
	struct daemon *d = arg;
	struct config *config = NULL;
	struct error e = ERROR_INIT;
	d->again = number == SIGHUP;
	if (d->again && config_load(d->config_path, &config, &e) < 0) {
		log_error("the configuration stays as it is: %s", e.text);
		return;
	}
	config_free(config);
	log_info(d->again ? "starting anew with the changed configuration" : "ending");
	begin_end(d);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct daemon *d = arg;
	if (!d->node.stopping)
		recover_undecided(&d->node);
}

static int watch_signals(struct daemon *d, struct error *e)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	static const struct timeval pause = { .tv_sec = RETRY_S };
	struct event_base *base = d->node.base;
	signal(SIGPIPE, SIG_IGN);
	d->retry = event_new(base, -1, EV_PERSIST, on_retry, d);
	d->drain = event_new(base, -1, EV_PERSIST, on_drain, d);
	bool ok = d->retry && d->drain && event_add(d->retry, &pause) == 0;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		d->signals[i] = evsignal_new(base, numbers[i], on_signal, d);
		ok = ok && d->signals[i] && event_add(d->signals[i], NULL) == 0;
	}
	return ok ? 0 : error_set(e, ENOMEM, "cannot watch signals");
}

static void close_daemon(struct daemon *d)
{
	join_stop(&d->node);
	api_stop(&d->node);
	depart_free(&d->node);
	notices_free(&d->node);
	store_jobs_free(&d->node);
	rescue_free(&d->node);
	evacuate_free(&d->node);
	estimate_free(&d->node);
	lease_close(&d->node);
	asleep_close(&d->node);
	node_deinit(&d->node);
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		if (d->signals[i])
			event_free(d->signals[i]);
	if (d->retry)
		event_free(d->retry);
	if (d->drain)
		event_free(d->drain);
	if (d->node.base)
		event_base_free(d->node.base);
}

static int open_daemon(struct daemon *d, const struct options *o, struct error *e)
{
	const char *fault = o->fault ? o->fault : getenv("ELSA_FAULT");
	d->node.base = event_base_new();
	if (!d->node.base)
		return error_set(e, ENOMEM, "cannot make an event loop");
	int r = fault_parse(fault, &d->node.fault, e);
	if (r == 0)
		r = teardown_lock(d->node.config, e);
	if (r == 0)
		r = watch_signals(d, e);
	if (r == 0)
		r = node_init(&d->node, e);
	if (r == 0)
		r = estimate_init(&d->node, e);
	if (r == 0)
		r = asleep_open(&d->node, e);
	if (r == 0)
		r = lease_open(&d->node, e);
	if (r == 0)
		r = recover_all(&d->node, e);
	if (r == 0)
		doze_tidy(&d->node);
	if (r == 0)
		r = depart_init(&d->node, e);
	if (r == 0)
		r = evacuate_init(&d->node, e);
	if (r == 0)
		r = rescue_init(&d->node, e);
	if (r == 0)
		r = lease_start(&d->node, e);
	if (r == 0)
		r = store_jobs_new(&d->node, e);
	if (r == 0)
		r = notices_new(&d->node, e);
	if (r == 0)
		r = api_start(&d->node, e);
	if (r == 0)
		r = join_start(&d->node, e);
	return r;
}

static int serve(const struct config *config, const struct options *o, char **argv)
{
	struct error e = ERROR_INIT;
	struct daemon d = { .node.config = config, .config_path = o->config };
	int r = open_daemon(&d, o, &e);
	if (r == 0) {
		log_info("elsa-node " ELSA_VERSION " serves %s", config->node.socket);
		sd_notify(0, "READY=1");
		event_base_dispatch(d.node.base);
	}
	bool again = r == 0 && d.again;
	close_daemon(&d);
	if (again) {
		execv("/proc/self/exe", argv);
		log_error("cannot start anew: %s", strerror(errno));
	}
	return r < 0 ? complain(&e) : again;
}

/* --- the rest -------------------------------------------------------------------- */

static int list_steps(void)
{
	for (int kind = EFFECT_NONE; kind < EFFECT_KIND_COUNT; kind++) {
		const struct plan *plan = effect_plan((enum effect_kind)kind);
		for (size_t i = 0; i < plan->count; i++)
			printf("%s %s\n", plan->name, plan->steps[i].name);
	}
	return 0;
}

static int run_command(const struct config *config, const struct options *o)
{
	struct error e = ERROR_INIT;
	int r;
	if (strcmp(o->command, "doctor") == 0)
		r = doctor_run(config, o->json, stdout, &e);
	else if (strcmp(o->command, "teardown") == 0)
		r = teardown_run(config, o->all, &e);
	else
		r = error_set(&e, EINVAL, "unknown command \"%s\" (see elsa-node --help)",
			      o->command);
	return r < 0 ? complain(&e) : r;
}

static void set_log_level(const struct config *config)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	int level = value_of(names, ARRAY_SIZE(names), config->log.level);
	log_init(level < 0 ? LOG_LEVEL_INFO : (enum log_level)level);
}

/* Memory is wanted in large pieces for the time of a hibernation or a wake. Left to itself the
 * allocator takes such pieces from heaps, one for each thread, and keeps them for the next time. */
static void give_memory_back(void)
{
	enum { LARGE = 512 << 10, HEAPS = 2 };
	mallopt(M_MMAP_THRESHOLD, LARGE);
	mallopt(M_TRIM_THRESHOLD, LARGE);
	mallopt(M_ARENA_MAX, HEAPS);
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *o)
{
	enum { CHECK = 1, LIST, FAULT, JSON, ALL, VERSION, HELP };
	static const struct option names[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, CHECK },
		{ "list-steps", no_argument, NULL, LIST },
		{ "fault", required_argument, NULL, FAULT },
		{ "json", no_argument, NULL, JSON },
		{ "all", no_argument, NULL, ALL },
		{ "version", no_argument, NULL, VERSION },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	*o = (struct options) { .config = CONFIG_DEFAULT_PATH };
	for (int c; (c = getopt_long(argc, argv, "c:", names, NULL)) != -1;) {
		if (c == LIST)
			return list_steps();
		if (c == VERSION)
			return puts("elsa-node " ELSA_VERSION) < 0;
		if (c == HELP)
			return fputs(usage, stdout) < 0;
		if (c == '?') {
			fputs(usage, stderr);
			return fault_exit_code(FAULT_BAD_INPUT);
		}
		o->config = c == 'c' ? optarg : o->config;
		o->fault = c == FAULT ? optarg : o->fault;
		o->check |= c == CHECK;
		o->json |= c == JSON;
		o->all |= c == ALL;
	}
	o->command = optind < argc ? argv[optind] : NULL;
	return -1;
}

int main(int argc, char **argv)
{
	struct options o;
	struct error e = ERROR_INIT;
	struct config *config = NULL;
	int status = parse(argc, argv, &o);
	if (status >= 0)
		return status;
	if (config_load(o.config, &config, &e) < 0)
		return complain(&e);
	set_log_level(config);
	give_memory_back();
	if (o.check)
		status = 0;
	else if (o.command)
		status = run_command(config, &o);
	else
		status = serve(config, &o, argv);
	config_free(config);
	return status;
}
