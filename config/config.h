/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONFIG_CONFIG_H
#define ELSA_CONFIG_CONFIG_H

/*
 * One TOML file for all programs, by one table of options (config/options.c):
 * the parser, `elsa config check`, `elsa config show` and the test of
 * config.example.toml all read that table. An unknown key, a wrong type or a
 * value out of range is an error with file, line and column.
 *
 * A loaded config is immutable; a reload loads a second one and swaps. All
 * strings are owned by it.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Durations are milliseconds; the file says "30s", "10m", "2h", "1d" or seconds as a number.
 * Sizes are bytes; the file says "512M", "4G" (powers of 1024) or bytes as a number. */

struct config_rule { /* [[idle.rule]], tried in order; see policies/idle.h. All but who it is
		      * for and `exempt` is inherited from [idle] where the rule does not say. */
	char *name;  /* "rule N" when not given; "default" for the last */
	char **users, **groups, **servers; /* NULL-terminated; NULL: not given */
	char *admins;                      /* "any", "only", "not" */
	bool exempt;
	int64_t timeout_ms, max_age_ms, min_uptime_ms, stuck_busy_ms, refused_retry_ms;
	double cpu_threshold;
	bool transparent;
	int64_t doze_ms, pressure_after_ms, stop_after_ms;
	char **wake_ahead; /* as quiet_hours; of rules alone */
};

struct config_class { /* [[size.class]] */
	char *name;
	int64_t memory_bytes;
	double cpus;  /* 0: no limit */
	double price; /* an hour; 0: by its memory */
};

struct config_budget { /* [[budget.group]] */
	char *group;
	char *per; /* "day", "month" */
	double amount;
	int64_t timeout_ms; /* beyond it, idle.timeout at most; 0: as before */
	char *starts;       /* beyond it: "allow", "spot", "refuse" */
};

struct config {
	struct {
		char *api_url;    /* http://127.0.0.1:8081/hub/api */
		char *token_file; /* of the Hub service or user elsad acts as */
		int64_t poll_ms;  /* between passes over the users */
		int64_t page_size;
		int64_t timeout_ms;
	} hub;
	struct {
		char *socket;         /* API: unix socket */
		char *listen;         /* API: "host:port" too; "" is off */
		char *token_file;     /* its bearer token */
		char **allowed_users; /* system accounts that may use the socket, besides root */
		char *database;
		char *activity_listen; /* webhook of the sessions: "10.99.0.1:8082"; "" is off */
		char *public_activity_url; /* what sessions get as JUPYTERHUB_ACTIVITY_URL's base;
					      "" : from activity_listen */
		int64_t observe_ms;        /* between looks at the sessions */
	} controller;
	struct {
		char *name;
		char *socket;
		char *state_dir;           /* /var/lib/elsa: sandboxes, journal */
		char *run_dir;             /* /run/elsa */
		char *allowed_user;        /* elsad's account */
		char *criu;                /* program */
		int64_t memory_bytes;      /* for sessions together; 0: the machine's */
		int64_t workers;           /* effects at once */
		int64_t effect_timeout_ms; /* longest a step may take */
		bool lazy_restore;         /* wake before the memory is there */
		char *cgroup;              /* name below each hierarchy: "elsa" */
		/* Of a node that joins elsad on another host; docs/nodes.md. */
		char *controller;      /* https://host:port; "": elsad is on this host */
		char *join_token_file; /* read until it has a certificate */
		char *listen;          /* where it serves elsad */
		char *move_listen;     /* where other nodes fetch sessions; "" is off */
		char *address;         /* of this host, for others; "": found out */
		char *price;           /* "auto", "spot", "on-demand" */
		char *notices;      /* "auto", "none", "aws", "gcp", "azure", "file", "command" */
		char *metadata_url; /* "": the cloud's own */
		char *notice_file;
		char **notice_command;
		int64_t notice_interval_ms;
	} node;
	struct {               /* elsad's view of them */
		char *listen;  /* where they join and renew leases; "" is off */
		char *url;     /* the same for them; "": from listen */
		char *address; /* of the hub's host on the underlay; "": from listen */
		int64_t lease_ms;
		int64_t certificate_ms; /* how long nodes' are good */
		bool local;             /* sessions may run on the hub's host, too */
		char *prefer;           /* "none", "spot", "on-demand" */
		int64_t memory_request_bytes;
		int64_t reserve_bytes; /* of each node */
	} nodes;
	struct {
		char *image; /* root of sessions; "/" */
		char *home;  /* "{home}" of the account, or a pattern with {user} {id} {uid} */
		char *home_inside;
		int64_t uid_min, uid_max; /* for users without a system account */
		char **command;           /* when the spawner gives none */
		char **env;               /* added to each session's */
		int64_t memory_bytes, memory_most_bytes;
		double cpus;
		int64_t pids;
	} session;
	struct {
		char *pool;         /* 10.99.0.0/16 */
		char *host_address; /* 10.99.0.1: the node as its sessions see it */
		char **allow;  /* "10.99.0.1:8081": what sessions may reach on the node or elsewhere
				*/
		bool internet; /* NAT to everywhere but private and metadata addresses */
		char **dns;    /* name servers written into the sandbox's resolv.conf */
		char *overlay; /* 10.98.0.0/16: the hosts among themselves */
		int64_t overlay_port, overlay_id;
	} network;
	struct {
		char *url;    /* file:///var/lib/elsa/store */
		char *verify; /* "sample" or "all": read back before the session is let go */
		int64_t keep; /* generations kept per session; see policies/retention.h for these */
		int64_t keep_age_ms; /* 0: any age */
		int64_t keep_bytes;  /* per session; 0: no limit */
		int64_t gc_ms;       /* between sweeps; 0: never */
		/* The master key, from the first of these that is set; key_file always is. */
		char **key_command;
		char *key_env;
		char *key_file;
		char **old_key_files;
		char *cache; /* directory for pieces of remote checkpoints */
		int64_t cache_bytes;
	} store;
	struct {
		char *protect; /* "none", "spot", "all" */
		int64_t rpo_ms;
		double bandwidth_share; /* of a node's, for snapshots */
		int64_t margin_ms;      /* left free before a deadline */
		int64_t notice_ms;      /* of a notice without a time */
		char *rebalance;        /* "ignore", "avoid", "evacuate" */
		bool move; /* sessions in use leave a doomed machine while they run, if they can */
	} spot;
	struct {
		int64_t concurrency;   /* of one node; 0: as many as it has processors */
		int64_t reserve_bytes; /* left free by what it wakes by itself */
		char **polls;          /* config_poll_parse() */
	} wake;
	struct {
		int64_t patience_ms; /* before it is given: how long each side waits for the other
				      */
		int64_t concurrency; /* of one node, to and from */
		char *precopy;       /* "auto", "never", "always" */
		double precopy_share;
		int64_t precopy_bytes; /* of memory that is kept of one session ahead */
	} move;
	struct {
		char *swap;         /* "off", "zram", "file", "system" */
		int64_t size_bytes; /* 0: the machine's memory */
		char *compression;  /* "auto", "lz4", "zstd", "lzo-rle" */
	} doze;
	struct {
		char *provider; /* "none", "autoscaling", "fleet", "gcp", "command" */
		char **pools;   /* in order of preference */
		char *region;
		char *endpoint;
		char **command;
		int64_t min, max;    /* machines of all pools together */
		int64_t spare_bytes; /* kept free for who comes */
		int64_t cooldown_ms, start_timeout_ms, empty_for_ms;
	} capacity;
	struct {
		bool enabled;
		int64_t steady_ms, calm_ms, give_up_ms;
		double fill; /* share of memory */
		int64_t moves_per_hour, moves_at_once;
		int64_t rest_ms; /* of a session */
	} consolidation;
	struct {
		int64_t interval_ms; /* between passes of the policy */
		int64_t concurrency;
		bool dry_run;
		char **quiet_hours; /* "22:00-06:00", "mon-fri 08:00-18:00" */
		double pressure;    /* percent */
		int64_t utc_offset_minutes;
		int64_t keep_awake_most_ms; /* that a user may ask for at once; 0: not at all */
		struct config_rule base;    /* [idle]'s own timeout and so on */
		struct config_rule *rules;  /* the file's, then `base` for everybody else */
		size_t rule_count;          /* at least 1 */
	} idle;
	struct { /* see policies/size.h */
		bool catalogue;
		int64_t window_ms;
		double headroom, slack;
		int64_t observed_ms, settle_ms;
		char *running;       /* "keep", "lower", "move" */
		double stall_hour;   /* what an hour of standing still is worth */
		int64_t expected_ms; /* that one is expected to go on at most */
		struct config_class *classes;
		size_t class_count;
	} size;
	struct {             /* see policies/budget.h */
		double tell; /* a share */
		struct config_budget *groups;
		size_t group_count;
	} budget;
	struct {
		char *prices;     /* path of a catalogue; "": the built-in one */
		double host_hour; /* of the hub's own host; 0: by the catalogue */
	} account;
	struct {
		int64_t minutes_ms, hours_ms, days_ms; /* how long each is kept; 0: for ever */
	} usage;
	struct {
		char *level; /* error warning info debug */
	} log;
};

/* Reads and checks `path`; NULL: built-in defaults only. 0 or negative with *e. */
int config_load(const char *path, struct config **config, struct error *e);
int config_parse(const char *text, size_t len, const char *name, struct config **config,
		 struct error *e);
void *config_free(struct config *config); /* returns NULL */

/* As TOML with every option and its value; allocated, or NULL. What config_parse() reads back. */
char *config_print(const struct config *config);

/* config.example.toml: every option described, with its default; allocated, or NULL. */
char *config_example(void);

/* One of quiet_hours: "22:00-06:00" or "mon-fri 08:00-18:00" or "sat,sun 00:00-24:00". */
struct config_quiet {
	int from_minute, to_minute; /* since midnight; to <= from: it ends on the next day */
	unsigned weekdays;          /* bit 0: Monday ... bit 6: Sunday; of the day it begins on */
};
int config_quiet_parse(const char *text, struct config_quiet *quiet); /* 0 or -EINVAL */

/* One of wake.polls; config.example.toml says how it is written. */
struct config_poll_query {
	char name[32], value[64];
};
struct config_poll {
	bool open;      /* answered to everybody */
	bool own;       /* ... to the session's owner only */
	bool below;     /* whatever is below `path`, as well as that */
	char path[128]; /* below the server's base URL, without a slash at its ends */
	struct config_poll_query query[4]; /* if one of these is given, it has this value */
	size_t query_count;
};
int config_poll_parse(const char *text, struct config_poll *poll); /* 0 or -EINVAL */

#define CONFIG_DEFAULT_PATH "/etc/elsa/elsa.toml"

#endif
