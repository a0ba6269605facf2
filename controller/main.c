/* SPDX-License-Identifier: Apache-2.0 */
/* elsad: the options, the loop, the signals. */
#include "base/cleanup.h"
#include "base/log.h"
#include "controller/controller.h"
#include "controller/steps.h"

#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

struct options {
	const char *config;
	bool check;
};

static void usage(FILE *to)
{
	fputs("usage: elsad [--config FILE] [--check]\n"
	      "\n"
	      "  --config FILE  read FILE instead of " CONFIG_DEFAULT_PATH "\n"
	      "  --check        check the config, say what is wrong with it and exit\n"
	      "  --version      print the version and exit\n"
	      "  --fault STEP   for tests: die by SIGKILL at a step of --list-steps\n"
	      "  --list-steps   print all such steps and exit\n"
	      "\n"
	      "SIGHUP reads the config again.\n",
	      to);
}

/* 0 to go on, else the exit status plus one. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "fault", required_argument, NULL, 'f' },
		{ "list-steps", no_argument, NULL, 'l' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;
	while ((c = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
		switch (c) {
		case 'c':
			options->config = optarg;
			break;
		case 'k':
			options->check = true;
			break;
		case 'f':
			if (steps_set_fault(optarg) == 0)
				break;
			fprintf(stderr, "elsad: no such step: %s (see --list-steps)\n", optarg);
			return 2 + 1;
		case 'l':
			steps_print(stdout);
			return 0 + 1;
		case 'v':
			puts("elsad " ELSA_VERSION);
			return 0 + 1;
		case 'h':
			usage(stdout);
			return 0 + 1;
		default:
			usage(stderr);
			return 2 + 1;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2 + 1;
	}
	return 0;
}

static enum log_level level_of(const struct config *config)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(config->log.level, names[i]) == 0)
			return (enum log_level)i;
	return LOG_LEVEL_INFO;
}

static int complain(const struct error *e)
{
	log_error("%s", e->text);
	if (*e->remedy)
		log_error("what to do: %s", e->remedy);
	return fault_exit_code(e->fault);
}

static int check_config(const char *path, enum log_level *level)
{
	struct config *config = NULL;
	struct error e = ERROR_INIT;
	if (config_load(path, &config, &e) < 0)
		return complain(&e);
	*level = level_of(config);
	config_free(config);
	return 0;
}

struct daemon {
	struct event_base *base;
	struct controller *controller;
};

static void stop(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	(void)what;
	log_info("%s: ending", strsignal((int)fd));
	sd_notify(0, "STOPPING=1");
	event_base_loopbreak(d->base);
}

static void reload(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	(void)fd;
	(void)what;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_mono());
	controller_reload(d->controller);
	log_init(level_of(d->controller->config));
	sd_notify(0, "READY=1");
}

static void alive(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	sd_notify(0, "WATCHDOG=1");
}

static struct event *watchdog_new(struct event_base *base)
{
	uint64_t usec = 0;
	if (sd_watchdog_enabled(0, &usec) <= 0)
		return NULL;
	struct event *timer = event_new(base, -1, EV_PERSIST, alive, NULL);
	const struct timeval half = { .tv_sec = (time_t)(usec / 2000000),
				      .tv_usec = (suseconds_t)(usec / 2 % 1000000) };
	if (timer)
		event_add(timer, &half);
	return timer;
}

static int run(struct daemon *d, const char *config)
{
	struct error e = ERROR_INIT;
	struct event *events[] = {
		evsignal_new(d->base, SIGTERM, stop, d),
		evsignal_new(d->base, SIGINT, stop, d),
		evsignal_new(d->base, SIGHUP, reload, d),
		watchdog_new(d->base),
	};
	int status = 0;
	for (size_t i = 0; i < 3; i++)
		if (events[i])
			event_add(events[i], NULL);
	if (controller_new(d->base, config, &d->controller, &e) < 0) {
		status = complain(&e);
	} else {
		log_info("elsad " ELSA_VERSION " is up");
		sd_notify(0, "READY=1");
		event_base_dispatch(d->base);
		d->controller = controller_free(d->controller);
	}
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (events[i])
			event_free(events[i]);
	return status;
}

int main(int argc, char **argv)
{
	struct options options = { .config = CONFIG_DEFAULT_PATH };
	struct daemon d = { 0 };
	enum log_level level = LOG_LEVEL_INFO;
	int status = parse_options(argc, argv, &options);
	if (status)
		return status - 1;
	log_init(level);
	status = check_config(options.config, &level);
	if (status || options.check) {
		if (!status)
			puts("the config is good");
		return status;
	}
	log_init(level);
	signal(SIGPIPE, SIG_IGN);
	d.base = event_base_new();
	if (!d.base) {
		log_error("cannot make an event loop");
		return 1;
	}
	status = run(&d, options.config);
	event_base_free(d.base);
	return status;
}
