/* SPDX-License-Identifier: Apache-2.0 */
#include "config/options.h"

#include "base/cleanup.h"
#include "config/config.h"

#include <stdio.h>
#include <string.h>

#define AT(field)        offsetof(struct config, field)
#define IN_RULE(field)   offsetof(struct config_rule, field)
#define IN_CLASS(field)  offsetof(struct config_class, field)
#define IN_BUDGET(field) offsetof(struct config_budget, field)
#define SECOND           1000.0
#define MINUTE           (60 * SECOND)
#define HOUR             (60 * MINUTE)
#define DAY              (24 * HOUR)
#define MIB              (1024.0 * 1024)
#define TIB              (1024.0 * 1024 * MIB)
#define YEARS            (3650 * DAY)

const struct option_section option_sections[] = {
	{ "hub", "JupyterHub, as elsad reaches it." },
	{ "controller", "elsad: the API, the database, what sessions report to." },
	{ "node", "elsa-node: the part that runs, checkpoints and restores sessions." },
	{ "nodes", "Other machines that run sessions (docs/nodes.md)." },
	{ "session", "What a session gets." },
	{ "network", "Addresses of sessions and what they may reach." },
	{ "store", "Where checkpoints are kept." },
	{ "spot", "Machines that may go away at short notice, or at none." },
	{ "move", "Live migration between nodes (docs/migration.md)." },
	{ "doze", "Where the memory of sessions that doze goes (docs/wake.md)." },
	{ "wake", "Sessions that sleep unseen: who wakes them, and how (docs/wake.md)." },
	{ "capacity", "Machines that elsad asks the cloud for, and gives back." },
	{ "consolidation",
	  "Nodes that could be empty are emptied, to be given back (docs/nodes.md)." },
	{ "idle",
	  "When a session is put to sleep. This section's own timeout and the like hold for\n"
	  "everybody whom no [[idle.rule]] names, and for what a rule leaves out." },
	{ OPTION_RULE,
	  "Exceptions, as many as needed: the first rule that fits a session decides." },
	{ "size",
	  "Which of the size classes a session gets, by what it is seen to use (docs/size.md).\n"
	  "Without classes every session keeps the limits that it is started with." },
	{ OPTION_CLASS, "What there is to choose from: each class with a name of its own." },
	{ "account",
	  "What sessions cost, and what they would have cost always on (docs/savings.md)." },
	{ "budget", "What groups of users may cost (docs/savings.md)." },
	{ OPTION_BUDGET,
	  "One budget of one group, of the Hub's; what its users' sessions cost, awake and in the\n"
	  "store, counts. Nothing that runs, or sleeps, is ever ended for it." },
	{ "usage", "How long is kept what sessions were seen to use." },
	{ "log", "What the daemons write to the journal or to standard error." },
};
const size_t option_section_count = ARRAY_SIZE(option_sections);

/* clang-format off */
const struct option options[] = {
	{ "hub", "api_url", OPTION_STRING, AT(hub.api_url), "\"http://127.0.0.1:8081/hub/api\"",
	  .check = value_check_url, .doc = "The Hub's API." },
	{ "hub", "token_file", OPTION_STRING, AT(hub.token_file), "\"/etc/elsa/hub.token\"",
	  .check = value_check_path,
	  .doc = "File with the API token of the Hub service that elsad acts as." },
	{ "hub", "poll", OPTION_DURATION, AT(hub.poll_ms), "\"60s\"", SECOND, DAY,
	  .doc = "Time between two passes over the Hub's users." },
	{ "hub", "page_size", OPTION_INTEGER, AT(hub.page_size), "200", 1, 10000,
	  .doc = "Users asked for at once; the Hub has a limit of its own (200)." },
	{ "hub", "timeout", OPTION_DURATION, AT(hub.timeout_ms), "\"10s\"", SECOND, 10 * MINUTE,
	  .doc = "Longest wait for one answer of the Hub." },

	{ "controller", "socket", OPTION_STRING, AT(controller.socket),
	  "\"/run/elsad/elsad.sock\"", .check = value_check_socket,
	  .doc = "The API's unix socket." },
	{ "controller", "listen", OPTION_STRING, AT(controller.listen), "\"\"",
	  .check = value_check_listen,
	  .doc = "The API on TCP too, as \"host:port\"; it then needs token_file. \"\": not." },
	{ "controller", "token_file", OPTION_STRING, AT(controller.token_file), "\"\"",
	  .check = value_check_path_or_none,
	  .doc = "File with the token that callers on TCP must send." },
	{ "controller", "allowed_users", OPTION_STRINGS, AT(controller.allowed_users), "[]",
	  .check = value_check_account,
	  .doc = "System accounts that may use the socket, besides root and elsad's own; the one\n"
		 "that JupyterHub runs as belongs here." },
	{ "controller", "database", OPTION_STRING, AT(controller.database),
	  "\"/var/lib/elsad/elsad.db\"", .check = value_check_path,
	  .doc = "The record of sessions, checkpoints and events." },
	{ "controller", "activity_listen", OPTION_STRING, AT(controller.activity_listen),
	  "\"10.99.0.1:8082\"", .check = value_check_listen,
	  .doc = "Where sessions report activity to, as \"host:port\". \"\": to the Hub." },
	{ "controller", "public_activity_url", OPTION_STRING, AT(controller.public_activity_url),
	  "\"\"", .check = value_check_url_or_none,
	  .doc = "The same as sessions see it. \"\": made from activity_listen." },
	{ "controller", "observe", OPTION_DURATION, AT(controller.observe_ms), "\"5s\"",
	  100, HOUR, .doc = "Time between two looks at what the sessions do." },

	{ "node", "name", OPTION_STRING, AT(node.name), "\"\"", .check = value_check_host_name,
	  .doc = "What this node is called. \"\": the host's name." },
	{ "node", "socket", OPTION_STRING, AT(node.socket), "\"/run/elsa/node.sock\"",
	  .check = value_check_socket, .doc = "Where elsad reaches elsa-node." },
	{ "node", "state_dir", OPTION_STRING, AT(node.state_dir), "\"/var/lib/elsa\"",
	  .check = value_check_path,
	  .doc = "Sandboxes and the journal of steps under way; on disk, kept over a reboot." },
	{ "node", "run_dir", OPTION_STRING, AT(node.run_dir), "\"/run/elsa\"",
	  .check = value_check_path, .doc = "What need not outlive a reboot." },
	{ "node", "allowed_user", OPTION_STRING, AT(node.allowed_user), "\"elsa\"",
	  .check = value_check_account,
	  .doc = "The system account of elsad; besides root, only it may use the socket." },
	{ "node", "criu", OPTION_STRING, AT(node.criu), "\"criu\"", .check = value_check_program,
	  .doc = "The CRIU program." },
	{ "node", "memory", OPTION_SIZE, AT(node.memory_bytes), "0", 0, 1024 * TIB,
	  .doc = "Memory that sessions may have together. 0: the machine's." },
	{ "node", "workers", OPTION_INTEGER, AT(node.workers), "4", 1, 64,
	  .doc = "Most sessions started, checkpointed or restored at once." },
	{ "node", "effect_timeout", OPTION_DURATION, AT(node.effect_timeout_ms), "\"10m\"",
	  SECOND, DAY, .doc = "Longest that one such step may take." },
	{ "node", "lazy_restore", OPTION_BOOLEAN, AT(node.lazy_restore), "true",
	  .doc = "Let a session wake before its memory is there; it comes as it is touched, and the\n"
		 "rest behind that. false: all memory first." },
	{ "node", "cgroup", OPTION_STRING, AT(node.cgroup), "\"elsa\"", .check = value_check_name,
	  .doc = "Name of the cgroup below which sessions get theirs." },
	{ "node", "controller", OPTION_STRING, AT(node.controller), "\"\"",
	  .check = value_check_https_or_none,
	  .doc = "elsad on another host that this node is to join, as \"https://HOST:PORT\" (there:\n"
		 "nodes.listen). \"\": elsad is on this host and uses the socket." },
	{ "node", "join_token_file", OPTION_STRING, AT(node.join_token_file),
	  "\"/etc/elsa/join.token\"", .check = value_check_path,
	  .doc = "File with a token of `elsa node token`, needed until the node has joined." },
	{ "node", "listen", OPTION_STRING, AT(node.listen), "\"0.0.0.0:8444\"",
	  .check = value_check_listen,
	  .doc = "Where a joined node serves elsad, as \"host:port\"." },
	{ "node", "move_listen", OPTION_STRING, AT(node.move_listen), "\"0.0.0.0:8445\"",
	  .check = value_check_listen,
	  .doc = "Where other nodes fetch the sessions that move to them (docs/migration.md), as\n"
		 "\"host:port\". \"\": nothing is moved while it runs." },
	{ "node", "address", OPTION_STRING, AT(node.address), "\"\"",
	  .check = value_check_ipv4_or_none,
	  .doc = "This host as other hosts reach it. \"\": from where it reaches elsad." },
	{ "node", "price", OPTION_STRING, AT(node.price), "\"auto\"",
	  .choices = "auto spot on-demand",
	  .doc = "What kind of machine it is: auto (ask the cloud), spot, on-demand." },
	{ "node", "notices", OPTION_STRING, AT(node.notices), "\"auto\"",
	  .choices = "auto none aws gcp azure file command",
	  .doc = "Who says that this machine will go away: the cloud it is in (auto finds out\n"
		 "which), notice_file, or notice_command." },
	{ "node", "metadata_url", OPTION_STRING, AT(node.metadata_url), "\"\"",
	  .check = value_check_url_or_none,
	  .doc = "The cloud's metadata service. \"\": at its own address." },
	{ "node", "notice_file", OPTION_STRING, AT(node.notice_file), "\"/run/elsa/notice.json\"",
	  .check = value_check_path, .doc = "A file that holds a notice while there is one." },
	{ "node", "notice_command", OPTION_STRINGS, AT(node.notice_command), "[]",
	  .check = value_check_not_empty,
	  .doc = "A command that prints a notice, or nothing; run every notice_interval." },
	{ "node", "notice_interval", OPTION_DURATION, AT(node.notice_interval_ms), "\"2s\"", 100,
	  10 * MINUTE, .doc = "Time between two questions to what must be asked over and over." },

	{ "nodes", "listen", OPTION_STRING, AT(nodes.listen), "\"\"", .check = value_check_listen,
	  .doc = "Where other hosts' elsa-node joins, as \"host:port\"; it speaks TLS. \"\": there are\n"
		 "no others." },
	{ "nodes", "url", OPTION_STRING, AT(nodes.url), "\"\"", .check = value_check_https_or_none,
	  .doc = "The same as those hosts reach it, for what `elsa node token` prints. \"\": made from\n"
		 "listen." },
	{ "nodes", "address", OPTION_STRING, AT(nodes.address), "\"\"",
	  .check = value_check_ipv4_or_none,
	  .doc = "The hub's host as the others reach it. \"\": that of listen." },
	{ "nodes", "lease", OPTION_DURATION, AT(nodes.lease_ms), "\"30s\"", 2 * SECOND, HOUR,
	  .doc = "A node not heard of for so long has frozen its sessions, and they may be woken\n"
		 "elsewhere." },
	{ "nodes", "certificate", OPTION_DURATION, AT(nodes.certificate_ms), "\"90d\"", 10 * SECOND,
	  3650 * DAY,
	  .doc = "How long the certificates of nodes are good. Each renews its own with a third of\n"
		 "that left." },
	{ "nodes", "local", OPTION_BOOLEAN, AT(nodes.local), "true",
	  .doc = "Whether sessions may run on the hub's own host." },
	{ "nodes", "prefer", OPTION_STRING, AT(nodes.prefer), "\"none\"",
	  .choices = "none spot on-demand",
	  .doc = "Machines that sessions are rather put on where both kinds have room: cheaper ones\n"
		 "(spot), or those that stay (on-demand)." },
	{ "nodes", "memory_request", OPTION_SIZE, AT(nodes.memory_request_bytes), "\"256M\"", 0,
	  1024 * TIB,
	  .doc = "What a session counts for on a node when it has no limit and nothing is known of\n"
		 "its use." },
	{ "nodes", "reserve", OPTION_SIZE, AT(nodes.reserve_bytes), "\"512M\"", 0, 1024 * TIB,
	  .doc = "Memory of each node that is left to the system." },

	{ "session", "image", OPTION_STRING, AT(session.image), "\"/\"",
	  .check = value_check_path,
	  .doc = "Directory with the root file system of sessions (they see it read-only, with a\n"
		 "private layer on top). \"/\": the host's own." },
	{ "session", "home", OPTION_STRING, AT(session.home), "\"{home}\"",
	  .check = value_check_home,
	  .doc = "The user's home on the node: \"{home}\" is that of the system account; a\n"
		 "pattern may hold {user} (made safe as a file name), {id} and {uid}." },
	{ "session", "home_inside", OPTION_STRING, AT(session.home_inside), "\"{home}\"",
	  .check = value_check_home,
	  .doc = "The same inside the session. \"{home}\": that of the system account, or else\n"
		 "/home/{user}." },
	{ "session", "uid_min", OPTION_INTEGER, AT(session.uid_min), "2000000000", 1, 4294967293.0,
	  .doc = "First and last user id for users who have no system account." },
	{ "session", "uid_max", OPTION_INTEGER, AT(session.uid_max), "2000065535", 1, 4294967293.0,
	  .doc = "" },
	{ "session", "command", OPTION_STRINGS, AT(session.command), "[\"jupyterhub-singleuser\"]",
	  .check = value_check_not_empty,
	  .doc = "What is run when the spawner gives no command." },
	{ "session", "env", OPTION_STRINGS, AT(session.env), "[]", .check = value_check_env,
	  .doc = "Added to every session's environment, as \"NAME=VALUE\"." },
	{ "session", "memory", OPTION_SIZE, AT(session.memory_bytes), "0", 0, 1024 * TIB,
	  .doc = "Most memory of a session when the spawner gives no limit. 0: no limit." },
	{ "session", "memory_most", OPTION_SIZE, AT(session.memory_most_bytes), "0", 0, 1024 * TIB,
	  .doc = "A session that comes near its limit is given more, up to this: where it is, or\n"
		 "on another node. 0: its limit stays." },
	{ "session", "cpus", OPTION_NUMBER, AT(session.cpus), "0.0", 0, 4096,
	  .doc = "Most processors of a session, such as 0.5 or 2. 0: no limit." },
	{ "session", "pids", OPTION_INTEGER, AT(session.pids), "1024", 0, 4194304,
	  .doc = "Most processes and threads of a session. 0: no limit." },

	{ "network", "pool", OPTION_STRING, AT(network.pool), "\"10.99.0.0/16\"",
	  .check = value_check_pool,
	  .doc = "Every session has one address from here for life." },
	{ "network", "host_address", OPTION_STRING, AT(network.host_address), "\"10.99.0.1\"",
	  .check = value_check_ipv4,
	  .doc = "The hub's host as sessions see it, whichever host they are on." },
	{ "network", "allow", OPTION_STRINGS, AT(network.allow),
	  "[\"10.99.0.1:8081\", \"10.99.0.1:8082\"]", .check = value_check_endpoint,
	  .doc = "What sessions may reach on the hub's host or elsewhere, as \"address:port\" or\n"
		 "\"network/prefix:port\": the Hub's API and activity_listen at least." },
	{ "network", "overlay", OPTION_STRING, AT(network.overlay), "\"10.98.0.0/16\"",
	  .check = value_check_pool,
	  .doc = "Addresses of the hosts among themselves, when there are several." },
	{ "network", "overlay_port", OPTION_INTEGER, AT(network.overlay_port), "4789", 1, 65535,
	  .doc = "UDP port on which they send each other the sessions' packets (VXLAN)." },
	{ "network", "overlay_id", OPTION_INTEGER, AT(network.overlay_id), "4589", 1, 16777215,
	  .doc = "VXLAN network identifier." },
	{ "network", "internet", OPTION_BOOLEAN, AT(network.internet), "false",
	  .doc = "Let sessions reach all but private and cloud metadata addresses, through NAT." },
	{ "network", "dns", OPTION_STRINGS, AT(network.dns), "[]", .check = value_check_address,
	  .doc = "Name servers of the sessions." },

	{ "store", "url", OPTION_STRING, AT(store.url), "\"file:///var/lib/elsa/store\"",
	  .check = value_check_store_url,
	  .doc = "A directory, as \"file:///DIRECTORY\"; only root needs to get in. Or a bucket, as\n"
		 "\"s3://BUCKET/PREFIX?region=eu-west-1\" (Amazon S3 and what speaks its protocol) or\n"
		 "\"gs://BUCKET/PREFIX\" (Google Cloud Storage), with the credentials that elsa-node's\n"
		 "environment, ~/.aws or machine role gives. Options behind \"?\", joined by \"&\":\n"
		 "endpoint=https://host:9000, region, path_style=0 or 1, ca=/FILE, profile,\n"
		 "timeout=SECONDS (30; most that a request is waited for without progress),\n"
		 "tries=NUMBER (8), metadata=http://host." },
	{ "store", "verify", OPTION_STRING, AT(store.verify), "\"sample\"", .choices = "sample all",
	  .doc = "How much of a checkpoint is read back before its session is let go." },
	{ "store", "keep", OPTION_INTEGER, AT(store.keep), "3", 1, 1000000,
	  .doc = "Checkpoints kept of each session, counting back from the newest." },
	{ "store", "keep_age", OPTION_DURATION, AT(store.keep_age_ms), "0", 0, YEARS,
	  .doc = "Older ones than this are removed, too, but never the newest of a session. 0: not\n"
		 "for their age." },
	{ "store", "keep_bytes", OPTION_SIZE, AT(store.keep_bytes), "0", 0, 1024 * TIB,
	  .doc = "Most that a session's checkpoints may take together; the oldest go first, never the\n"
		 "newest. 0: no limit." },
	{ "store", "gc", OPTION_DURATION, AT(store.gc_ms), "\"1d\"", 0, YEARS,
	  .doc = "Time between two sweeps that remove what no checkpoint needs. 0: never." },
	{ "store", "key_file", OPTION_STRING, AT(store.key_file), "\"/var/lib/elsa/store.key\"",
	  .check = value_check_path,
	  .doc = "File with the master key: 32 bytes, also as 64 hexadecimal digits or in base64,\n"
		 "for root's eyes only. Made when it is missing and the store is still empty. Keep a\n"
		 "copy elsewhere: without it no checkpoint can be read." },
	{ "store", "key_env", OPTION_STRING, AT(store.key_env), "\"\"",
	  .check = value_check_variable_or_none,
	  .doc = "Environment variable of elsa-node that holds the master key instead. \"\": none." },
	{ "store", "key_command", OPTION_STRINGS, AT(store.key_command), "[]",
	  .check = value_check_not_empty,
	  .doc = "Command that prints the master key instead, such as a key service's client, with\n"
		 "its arguments. []: none." },
	{ "store", "old_key_files", OPTION_STRINGS, AT(store.old_key_files), "[]",
	  .check = value_check_path,
	  .doc = "Files with former master keys: what they sealed can still be read, until\n"
		 "`elsa store rekey` has put the present key in their place." },
	{ "store", "cache", OPTION_STRING, AT(store.cache), "\"/var/lib/elsa/cache\"",
	  .check = value_check_path,
	  .doc = "Directory for sealed pieces of checkpoints that lie in a bucket." },
	{ "store", "cache_size", OPTION_SIZE, AT(store.cache_bytes), "\"10G\"", 0, 1024 * TIB,
	  .doc = "Most that it may take. 0: no cache." },

	{ "spot", "protect", OPTION_STRING, AT(spot.protect), "\"spot\"",
	  .choices = "none spot all",
	  .doc = "Where running sessions are snapshotted over and over: none, on spot machines, all." },
	{ "spot", "rpo", OPTION_DURATION, AT(spot.rpo_ms), "\"5m\"", 5 * SECOND, DAY,
	  .doc = "Most work that may be lost when a machine goes away without a word." },
	{ "spot", "bandwidth_share", OPTION_NUMBER, AT(spot.bandwidth_share), "0.25", 0.01, 1,
	  .doc = "Share of a node's time and of its measured throughput that snapshots may take." },
	{ "spot", "margin", OPTION_DURATION, AT(spot.margin_ms), "\"5s\"", 0, 10 * MINUTE,
	  .doc = "What an evacuation leaves free before its deadline." },
	{ "spot", "notice", OPTION_DURATION, AT(spot.notice_ms), "\"30s\"", SECOND, HOUR,
	  .doc = "Time taken for given when a notice says none." },
	{ "spot", "rebalance", OPTION_STRING, AT(spot.rebalance), "\"avoid\"",
	  .choices = "ignore avoid evacuate",
	  .doc = "What is done about a recommendation to rebalance: ignore it, avoid the node for\n"
		 "new sessions, evacuate it." },
	{ "spot", "move", OPTION_BOOLEAN, AT(spot.move), "true",
	  .doc = "Sessions in use leave a machine that goes away while they run, where there is time\n"
		 "and a node for them. false: all go by checkpoint." },

	{ "move", "patience", OPTION_DURATION, AT(move.patience_ms), "\"10s\"", 500, HOUR,
	  .doc = "How long a session that is about to move stands still for a node that does not\n"
		 "answer, before it goes on where it was." },
	{ "move", "concurrency", OPTION_INTEGER, AT(move.concurrency), "2", 1, 64,
	  .doc = "Sessions that may move to and from one node at the same time." },
	{ "move", "precopy", OPTION_STRING, AT(move.precopy), "\"auto\"",
	  .choices = "auto never always",
	  .doc = "Whether a session's memory is copied to the node that it moves to before it stands\n"
		 "still, while it runs: never; wherever there is room and time for it; or, auto, where\n"
		 "the link is so slow that the memory would be long in following." },
	{ "move", "precopy_share", OPTION_NUMBER, AT(move.precopy_share), "0.8", 0.05, 1,
	  .doc = "Share of the link and of a processor that this may take." },
	{ "move", "precopy_room", OPTION_SIZE, AT(move.precopy_bytes), "\"16G\"", 0, TIB,
	  .doc = "What may be kept of one session's memory ahead, in node.state_dir; a session with\n"
		 "more moves without." },

	{ "doze", "swap", OPTION_STRING, AT(doze.swap), "\"off\"",
	  .choices = "off zram file system",
	  .doc = "zram: compressed, in memory. file: in node.state_dir, encrypted with a key that\n"
		 "only this boot of the machine knows; needs dm-crypt and cryptsetup. system: the swap\n"
		 "that the machine has. off: sessions do not doze here. What elsa-node makes itself it\n"
		 "makes when the first session is to doze, and only dozing sessions are put there." },
	{ "doze", "size", OPTION_SIZE, AT(doze.size_bytes), "0", 0, 1024 * TIB,
	  .doc = "Most memory of dozing sessions that zram or file takes. 0: as much as the machine\n"
		 "has. What zram makes of it takes half of that at most." },
	{ "doze", "compression", OPTION_STRING, AT(doze.compression), "\"lz4\"",
	  .choices = "auto lz4 zstd lzo-rle",
	  .doc = "Of zram: lz4 wakes fastest, zstd takes the least memory. auto, or one that the\n"
		 "kernel lacks: the kernel's own choice." },

	{ "wake", "concurrency", OPTION_INTEGER, AT(wake.concurrency), "0", 0, 1000,
	  .doc = "Most sessions that a node wakes at once by itself, because somebody came. 0: as\n"
		 "many as it has processors." },
	{ "wake", "reserve", OPTION_SIZE, AT(wake.reserve_bytes), "\"256M\"", 0, 1024 * TIB,
	  .doc = "Memory that is to be free on a node behind that; else another one is to wake it." },
	{ "wake", "polls", OPTION_STRINGS, AT(wake.polls),
	  "[\"open api\", \"own api/me\", \"api/kernels\", \"api/sessions\", \"api/terminals\", "
	  "\"api/kernelspecs\", \"api/status\", \"api/contents/** content=1 type=directory\", "
	  "\"api/metrics/v1\", \"api/elsa/sleep\", \"api/elsa/activity\"]",
	  .check = value_check_poll,
	  .doc = "What open pages ask over and over, by GET, as paths below the server's URL: these\n"
		 "wake nobody, and are answered as of when the session fell asleep. \"/**\" at the end:\n"
		 "that and all below. NAME=VALUE behind it: only if the query has that value or no\n"
		 "such name; other names do not matter. \"own\" before it: answered to the session's\n"
		 "owner only; \"open\": to everybody, without credentials." },

	{ "capacity", "provider", OPTION_STRING, AT(capacity.provider), "\"none\"",
	  .choices = "none autoscaling fleet gcp command",
	  .doc = "Who gives machines: nobody, EC2 Auto Scaling groups, EC2 fleets from launch\n"
		 "templates, managed instance groups of Google's, a command." },
	{ "capacity", "pools", OPTION_STRINGS, AT(capacity.pools), "[]",
	  .check = value_check_not_empty,
	  .doc = "Where to ask, in this order: names of groups, \"TEMPLATE:VERSION\" (and\n"
		 "\":on-demand\"), or \"projects/P/zones/Z/instanceGroupManagers/NAME\"." },
	{ "capacity", "region", OPTION_STRING, AT(capacity.region), "\"\"",
	  .doc = "Of EC2. \"\": as the machine or its environment says." },
	{ "capacity", "endpoint", OPTION_STRING, AT(capacity.endpoint), "\"\"",
	  .check = value_check_url_or_none, .doc = "Of the cloud's API. \"\": its own." },
	{ "capacity", "command", OPTION_STRINGS, AT(capacity.command), "[]",
	  .check = value_check_not_empty,
	  .doc = "What is run to ask: with \"describe POOL\", \"grow POOL N\" or \"shrink POOL MACHINE\"\n"
		 "behind it (docs/nodes.md)." },
	{ "capacity", "min", OPTION_INTEGER, AT(capacity.min), "0", 0, 100000,
	  .doc = "Fewest machines of the pools together." },
	{ "capacity", "max", OPTION_INTEGER, AT(capacity.max), "10", 0, 100000,
	  .doc = "Most machines of the pools together." },
	{ "capacity", "spare", OPTION_SIZE, AT(capacity.spare_bytes), "0", 0, 1024 * TIB,
	  .doc = "Memory kept free on the nodes together, so that who comes need not wait for a\n"
		 "machine. 0: none." },
	{ "capacity", "cooldown", OPTION_DURATION, AT(capacity.cooldown_ms), "\"2m\"", 0, DAY,
	  .doc = "After a pool had nothing to give, it is not asked again for so long." },
	{ "capacity", "start_timeout", OPTION_DURATION, AT(capacity.start_timeout_ms), "\"5m\"",
	  SECOND, DAY,
	  .doc = "A machine that was granted and has not joined after so long is given up." },
	{ "capacity", "empty_for", OPTION_DURATION, AT(capacity.empty_for_ms), "\"10m\"", 0, DAY,
	  .doc = "A node without sessions for so long is given back." },

	{ "consolidation", "enabled", OPTION_BOOLEAN, AT(consolidation.enabled), "false",
	  .doc = "Empty a machine of capacity.pools when the other nodes have room for its sessions." },
	{ "consolidation", "steady", OPTION_DURATION, AT(consolidation.steady_ms), "\"10m\"", 0, DAY,
	  .doc = "... when they have had it for so long." },
	{ "consolidation", "calm", OPTION_DURATION, AT(consolidation.calm_ms), "\"30m\"", 0, DAY,
	  .doc = "Time between two nodes that are emptied, and after machines were asked for." },
	{ "consolidation", "give_up", OPTION_DURATION, AT(consolidation.give_up_ms), "\"30m\"",
	  SECOND, DAY,
	  .doc = "A node that is not empty after so long keeps what it has." },
	{ "consolidation", "fill", OPTION_NUMBER, AT(consolidation.fill), "0.85", 0.1, 1,
	  .doc = "Share of the other nodes' memory that may be promised then." },
	{ "consolidation", "moves_per_hour", OPTION_INTEGER, AT(consolidation.moves_per_hour), "20",
	  0, 10000,
	  .doc = "Most sessions in use that are moved in an hour, for that or to where they cost less\n"
		 "(size.running); 0: only nodes without any are emptied." },
	{ "consolidation", "moves_at_once", OPTION_INTEGER, AT(consolidation.moves_at_once), "1", 1,
	  100, .doc = "Most sessions that leave at a time." },
	{ "consolidation", "rest", OPTION_DURATION, AT(consolidation.rest_ms), "\"1h\"", 0, 7 * DAY,
	  .doc = "A session that was moved so is not moved again for so long." },

	{ "idle", "interval", OPTION_DURATION, AT(idle.interval_ms), "\"60s\"", 100, DAY,
	  .doc = "Longest time between two passes over the sessions." },
	{ "idle", "concurrency", OPTION_INTEGER, AT(idle.concurrency), "2", 1, 1000,
	  .doc = "Most sessions being put to sleep at once." },
	{ "idle", "dry_run", OPTION_BOOLEAN, AT(idle.dry_run), "false",
	  .doc = "Decide and record, but put nothing to sleep." },
	{ "idle", "quiet_hours", OPTION_STRINGS, AT(idle.quiet_hours), "[]",
	  .check = value_check_quiet,
	  .doc = "When nothing is put to sleep: \"22:00-06:00\", \"mon-fri 08:00-18:00\"." },
	{ "idle", "utc_offset_minutes", OPTION_INTEGER, AT(idle.utc_offset_minutes), "0", -840, 840,
	  .doc = "What the quiet hours (and wake_ahead) are ahead of UTC." },
	{ "idle", "keep_awake_most", OPTION_DURATION, AT(idle.keep_awake_most_ms), "\"8h\"", 0,
	  YEARS,
	  .doc = "How long from now users may keep their own session awake, from the sign in its\n"
		 "pages. 0: not at all." },
	{ "idle", "pressure", OPTION_NUMBER, AT(idle.pressure), "20.0", 0, 100,
	  .doc = "A node where something waits for memory so much of the time (percent, the kernel's\n"
		 "PSI) is short of it: pressure_after holds there. 0: no node is." },
	{ "idle", "doze", OPTION_DURATION, AT(idle.base.doze_ms), "\"10m\"", 0, YEARS,
	  .doc = "Its user away this long: it is frozen where it is, its memory put out of the way, and\n"
		 "wakes in milliseconds, on nodes that can do that ([doze]). 0: never." },
	{ "idle", "timeout", OPTION_DURATION, AT(idle.base.timeout_ms), "\"1h\"", 0, YEARS,
	  .doc = "Its user away this long: it sleeps. 0: never for that." },
	{ "idle", "transparent", OPTION_BOOLEAN, AT(idle.base.transparent), "true",
	  .doc = "Whether nobody sees that it sleeps: its address is answered, the first person who\n"
		 "comes wakes it, and the Hub is told nothing. false: the Hub is asked to stop its\n"
		 "server, and its user starts it." },
	{ "idle", "pressure_after", OPTION_DURATION, AT(idle.base.pressure_after_ms), "\"15m\"", 0,
	  YEARS, .doc = "Its user away this long: it sleeps, if its node is short of memory. 0: no." },
	{ "idle", "stop_after", OPTION_DURATION, AT(idle.base.stop_after_ms), "\"1d\"", 0, YEARS,
	  .doc = "Asleep unseen for so long: the Hub is asked to stop its server. 0: never." },
	{ "idle", "max_age", OPTION_DURATION, AT(idle.base.max_age_ms), "0", 0, YEARS,
	  .doc = "Older than this since its first start: it sleeps when it is not busy. 0: not." },
	{ "idle", "min_uptime", OPTION_DURATION, AT(idle.base.min_uptime_ms), "\"2m\"", 0, YEARS,
	  .doc = "Not before it ran for so long since it started or woke." },
	{ "idle", "cpu_threshold", OPTION_NUMBER, AT(idle.base.cpu_threshold), "0.05", 0, 4096,
	  .doc = "Share of one processor above which it is at work." },
	{ "idle", "stuck_busy", OPTION_DURATION, AT(idle.base.stuck_busy_ms), "\"12h\"", 0, YEARS,
	  .doc = "A kernel \"busy\" for so long but not working is reported. 0: never." },
	{ "idle", "refused_retry", OPTION_DURATION, AT(idle.base.refused_retry_ms), "\"30m\"",
	  0, YEARS, .doc = "Pause after a session could not be checkpointed." },

	{ OPTION_RULE, "name", OPTION_STRING, IN_RULE(name), .check = value_check_not_empty,
	  .doc = "For reasons and reports." },
	{ OPTION_RULE, "users", OPTION_STRINGS, IN_RULE(users),
	  .doc = "Users it is for, as shell patterns. Not given: all." },
	{ OPTION_RULE, "groups", OPTION_STRINGS, IN_RULE(groups),
	  .doc = "Groups of the Hub it is for. Not given: all." },
	{ OPTION_RULE, "servers", OPTION_STRINGS, IN_RULE(servers),
	  .doc = "Names of servers it is for, as shell patterns; \"\" is the default server." },
	{ OPTION_RULE, "admins", OPTION_STRING, IN_RULE(admins), "\"any\"",
	  .choices = "any only not", .doc = "Whether it is for the Hub's admins: any, only, not." },
	{ OPTION_RULE, "exempt", OPTION_BOOLEAN, IN_RULE(exempt), "false",
	  .doc = "Never put to sleep by policy." },
	{ OPTION_RULE, "timeout", OPTION_DURATION, IN_RULE(timeout_ms), NULL, 0, YEARS,
	  .doc = "These as in [idle], and taken from there when not given." },
	{ OPTION_RULE, "transparent", OPTION_BOOLEAN, IN_RULE(transparent), NULL, .doc = "" },
	{ OPTION_RULE, "doze", OPTION_DURATION, IN_RULE(doze_ms), NULL, 0, YEARS, .doc = "" },
	{ OPTION_RULE, "pressure_after", OPTION_DURATION, IN_RULE(pressure_after_ms), NULL, 0,
	  YEARS, .doc = "" },
	{ OPTION_RULE, "stop_after", OPTION_DURATION, IN_RULE(stop_after_ms), NULL, 0, YEARS,
	  .doc = "" },
	{ OPTION_RULE, "max_age", OPTION_DURATION, IN_RULE(max_age_ms), NULL, 0, YEARS, .doc = "" },
	{ OPTION_RULE, "min_uptime", OPTION_DURATION, IN_RULE(min_uptime_ms), NULL, 0, YEARS,
	  .doc = "" },
	{ OPTION_RULE, "cpu_threshold", OPTION_NUMBER, IN_RULE(cpu_threshold), NULL, 0, 4096,
	  .doc = "" },
	{ OPTION_RULE, "stuck_busy", OPTION_DURATION, IN_RULE(stuck_busy_ms), NULL, 0, YEARS,
	  .doc = "" },
	{ OPTION_RULE, "refused_retry", OPTION_DURATION, IN_RULE(refused_retry_ms), NULL, 0, YEARS,
	  .doc = "" },
	{ OPTION_RULE, "wake_ahead", OPTION_STRINGS, IN_RULE(wake_ahead), .check = value_check_quiet,
	  .doc = "When its user is expected, as idle.quiet_hours are written: what sleeps unseen when\n"
		 "that begins is woken ahead. Not given: never." },

	{ "size", "catalogue", OPTION_BOOLEAN, AT(size.catalogue), "false",
	  .doc = "The classes are the instance types of the catalogue (account.prices), each session\n"
		 "having one for itself, in the place of [[size.class]]." },
	{ "size", "window", OPTION_DURATION, AT(size.window_ms), "\"7d\"", HOUR, 365 * DAY,
	  .doc = "How far back it counts what a session has used (and no further than usage.hours)." },
	{ "size", "headroom", OPTION_NUMBER, AT(size.headroom), "0.5", 0, 10,
	  .doc = "Memory that is left free of what a session uses but for a twentieth of its time, as a\n"
		 "share of that. 0.5: half as much again." },
	{ "size", "slack", OPTION_NUMBER, AT(size.slack), "0.25", 0, 10,
	  .doc = "How much more than it needs a class must have for a session to become smaller." },
	{ "size", "observed", OPTION_DURATION, AT(size.observed_ms), "\"2h\"", 0, YEARS,
	  .doc = "Time awake that a session must have been seen before it becomes smaller." },
	{ "size", "settle", OPTION_DURATION, AT(size.settle_ms), "\"1d\"", 0, YEARS,
	  .doc = "Time since its size was changed last before it becomes smaller." },
	{ "size", "running", OPTION_STRING, AT(size.running), "\"keep\"",
	  .choices = "keep lower move",
	  .doc = "What becomes of a session that runs and for which a cheaper class would do. keep: it\n"
		 "gets that when it wakes next. lower: at once, unless it holds or grows too much. move:\n"
		 "besides, it moves as it runs to a node where its memory costs less, where that saves\n"
		 "twice what moving costs; as one of consolidation.moves_per_hour, and no sooner than\n"
		 "consolidation.rest after it was moved last." },
	{ "size", "stall_hour", OPTION_NUMBER, AT(size.stall_hour), "20.0", 0, 1000000,
	  .doc = "What an hour is worth in which a session stands still to be moved, in the catalogue's\n"
		 "currency." },
	{ "size", "expected", OPTION_DURATION, AT(size.expected_ms), "\"8h\"", MINUTE, YEARS,
	  .doc = "A session is expected to go on for as long as it has been awake, and so long at most." },

	{ OPTION_CLASS, "name", OPTION_STRING, IN_CLASS(name), .check = value_check_name,
	  .doc = "As users choose it. A name, and memory, must be given." },
	{ OPTION_CLASS, "memory", OPTION_SIZE, IN_CLASS(memory_bytes), NULL, 16 * MIB, 1024 * TIB,
	  .doc = "Most memory of a session of this class." },
	{ OPTION_CLASS, "cpus", OPTION_NUMBER, IN_CLASS(cpus), "0.0", 0, 4096,
	  .doc = "Most processors. 0: no limit." },
	{ OPTION_CLASS, "price", OPTION_NUMBER, IN_CLASS(price), "0.0", 0, 100000,
	  .doc = "What it costs an hour awake, in the catalogue's currency. 0: what the catalogue says\n"
		 "of so much memory on demand." },

	{ "account", "prices", OPTION_STRING, AT(account.prices), "\"\"",
	  .check = value_check_path_or_none,
	  .doc = "A catalogue of what machines and storage cost (docs/simulator.md). \"\": one of AWS." },
	{ "account", "host_hour", OPTION_NUMBER, AT(account.host_hour), "0.0", 0, 100000,
	  .doc = "What the hub's own host costs an hour, in the catalogue's currency. 0: what the\n"
		 "catalogue says of its instance type, or of the machines on demand." },

	{ "budget", "tell", OPTION_NUMBER, AT(budget.tell), "0.8", 0, 1,
	  .doc = "Share of a budget from which on it is told that it comes to its end." },

	{ OPTION_BUDGET, "group", OPTION_STRING, IN_BUDGET(group), .check = value_check_group,
	  .doc = "The group. It must be given, as must the amount." },
	{ OPTION_BUDGET, "per", OPTION_STRING, IN_BUDGET(per), "\"month\"", .choices = "day month",
	  .doc = "day, month: of UTC." },
	{ OPTION_BUDGET, "amount", OPTION_NUMBER, IN_BUDGET(amount), NULL, 0, 1e12,
	  .doc = "What it may cost in that time, in the catalogue's currency." },
	{ OPTION_BUDGET, "timeout", OPTION_DURATION, IN_BUDGET(timeout_ms), "0", 0, YEARS,
	  .doc = "When that is spent, its users' sessions sleep after so long at most without anybody;\n"
		 "what keeps a session awake keeps it awake all the same. 0: as before." },
	{ OPTION_BUDGET, "starts", OPTION_STRING, IN_BUDGET(starts), "\"allow\"",
	  .choices = "allow spot refuse",
	  .doc = "When that is spent, for sessions that are started afresh: allow. spot: on spot\n"
		 "machines only. refuse. What sleeps is woken all the same." },

	{ "usage", "minutes", OPTION_DURATION, AT(usage.minutes_ms), "\"1d\"", DAY, YEARS,
	  .doc = "One row for each minute of a session that is awake." },
	{ "usage", "hours", OPTION_DURATION, AT(usage.hours_ms), "\"30d\"", 0, YEARS,
	  .doc = "... for each hour. 0: for ever." },
	{ "usage", "days", OPTION_DURATION, AT(usage.days_ms), "0", 0, YEARS,
	  .doc = "... for each day. 0: for ever." },

	{ "log", "level", OPTION_STRING, AT(log.level), "\"info\"",
	  .choices = "error warning info debug",
	  .doc = "Least important kind of line: error, warning, info, debug." },
};
/* clang-format on */
const size_t option_count = ARRAY_SIZE(options);

const struct option *option_find(const char *section, const char *key)
{
	for (size_t i = 0; i < option_count; i++)
		if (strcmp(options[i].section, section) == 0 && strcmp(options[i].key, key) == 0)
			return &options[i];
	return NULL;
}

bool option_is_section(const char *name)
{
	for (size_t i = 0; i < option_section_count; i++)
		if (strcmp(option_sections[i].name, name) == 0)
			return true;
	return false;
}

bool option_is_list(const char *section)
{
	return strchr(section, '.');
}

static void suggest_near(const char *word, const char *candidate, const char **best,
			 unsigned *least)
{
	unsigned distance = value_distance(word, candidate);
	if (distance < *least) {
		*least = distance;
		*best = candidate;
	}
}

void option_suggest(const char *section, const char *key, char *to, size_t size)
{
	const char *best = NULL;
	unsigned least = (unsigned)strlen(key) / 3 + 2; /* further off it is another word */
	to[0] = '\0';
	if (!section)
		for (size_t i = 0; i < option_section_count; i++)
			suggest_near(key, option_sections[i].name, &best, &least);
	for (size_t i = 0; section && i < option_count; i++)
		if (strcmp(options[i].section, section) == 0)
			suggest_near(key, options[i].key, &best, &least);
	if (best) {
		snprintf(to, size, "%s", best);
		return;
	}
	for (size_t i = 0; i < option_count; i++) {
		if (strcmp(options[i].key, key) == 0) {
			snprintf(to, size, "%s.%s", options[i].section, key);
			return;
		}
	}
}
