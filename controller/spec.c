/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/spec.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/rows.h"
#include "controller/size.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACCOUNT_UID_MIN 1000 /* below are the system's own: nobody gets to be one by his name */
#define NOBODY_UID      65534

void free_strings(char **strings)
{
	for (char **p = strings; p && *p; p++)
		free(*p);
	free(strings);
}

char **copy_strings(const json_t *list)
{
	size_t i;
	json_t *item;
	char **copy = calloc(json_array_size(list) + 1, sizeof(*copy));
	if (!copy)
		return NULL;
	json_array_foreach ((json_t *)list, i, item)
		replace_text(&copy[i], json_string_value(item));
	return copy;
}

static bool is_configured(const char *name, char *const *configured)
{
	size_t len = strlen(name);
	for (; configured && *configured; configured++)
		if (strncmp(*configured, name, len) == 0 && (*configured)[len] == '=')
			return true;
	return false;
}

char **merge_env(const json_t *env, char *const *configured)
{
	const char *name;
	json_t *value;
	size_t count = json_object_size(env);
	size_t n = 0;
	for (char *const *p = configured; p && *p; p++)
		count++;
	char **merged = calloc(count + 1, sizeof(*merged));
	if (!merged)
		return NULL;
	json_object_foreach ((json_t *)env, name, value) {
		if (is_configured(name, configured))
			continue;
		merged[n] = str_printf("%s=%s", name, json_string_value(value));
		if (!merged[n++]) {
			free_strings(merged);
			return NULL;
		}
	}
	for (char *const *p = configured; p && *p; p++)
		replace_text(&merged[n++], *p);
	return merged;
}

/* --- who it runs as, and where its files are ---------------------------------------------------
 */

struct owner {
	int64_t uid, gid;
	char *home; /* of the account; NULL: it has none */
};

/* The account of that name, unless it is one of the system's own. */
static bool find_account(const char *user, struct owner *owner)
{
	struct passwd pw;
	struct passwd *found = NULL;
	char text[16384];
	if (getpwnam_r(user, &pw, text, sizeof(text), &found) != 0 || !found ||
	    found->pw_uid < ACCOUNT_UID_MIN || found->pw_uid == NOBODY_UID)
		return false;
	owner->uid = found->pw_uid;
	owner->gid = found->pw_gid;
	replace_text(&owner->home, found->pw_dir);
	return true;
}

static int find_owner(struct session *s, const struct session_spec *old, struct owner *owner,
		      struct error *e)
{
	struct controller *c = s->controller;
	bool account = find_account(s->row.user, owner);
	if (old) { /* for life: its files belong to that one */
		owner->uid = old->uid;
		owner->gid = old->gid;
		return 0;
	}
	if (account)
		return 0;
	int r = db_uid_pick(c->db, s->row.user, c->config->session.uid_min,
			    c->config->session.uid_max, &owner->uid, e);
	owner->gid = owner->uid;
	return r;
}

static int set_homes(struct session *s, const struct start_request *request,
		     const struct owner *owner, struct session_spec *spec, struct error *e)
{
	const struct config *config = s->controller->config;
	cleanup_free char *user = safe_path_name(s->row.user);
	cleanup_free char *other = user ? str_printf("/home/%s", user) : NULL;
	if (!user || !other)
		return error_set(e, ENOMEM, "out of memory");
	const struct path_names names = {
		.home = owner->home && *owner->home ? owner->home : other,
		.user = user,
		.id = s->row.id,
		.uid = owner->uid,
	};
	spec->home =
		request->home ? strdup(request->home) : expand_path(config->session.home, &names);
	spec->home_inside = expand_path(config->session.home_inside, &names);
	if (!spec->home || !spec->home_inside)
		return error_set(e, ENAMETOOLONG, "the path of the home of %s is too long",
				 s->label);
	return 0;
}

static void set_limits(const struct session *s, const struct start_request *request,
		       struct session_limits *to)
{
	const struct config *config = s->controller->config;
	const struct session_limits *asked = &request->limits;
	to->memory_bytes = asked->memory_bytes ? asked->memory_bytes : config->session.memory_bytes;
	to->cpus = asked->cpus > 0 ? asked->cpus : config->session.cpus;
	to->pids = asked->pids ? asked->pids : config->session.pids;
	size_at_start(s, request->size, to);
}

struct placing spec_placing(const struct session *s, const struct start_request *request)
{
	const struct config *config = s->controller->config;
	struct session_limits limits;
	set_limits(s, request, &limits);
	return (struct placing) {
		.memory_bytes = limits.memory_bytes ? limits.memory_bytes
						    : config->nodes.memory_request_bytes,
		.cpus = limits.cpus,
		.image = request->image ? request->image : config->session.image,
	};
}

static char **default_command(const struct config *config)
{
	size_t count = 0;
	while (config->session.command && config->session.command[count])
		count++;
	char **copy = calloc(count + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < count; i++)
		replace_text(&copy[i], config->session.command[i]);
	return copy;
}

static int fill_spec(struct session *s, const struct db_session *draft,
		     const struct start_request *request, const struct owner *owner,
		     struct session_spec *spec, struct error *e)
{
	const struct config *config = s->controller->config;
	bool has_command = json_array_size(request->cmd) > 0;
	replace_text(&spec->id, draft->id);
	replace_text(&spec->user, draft->user);
	replace_text(&spec->server, draft->server);
	replace_text(&spec->address, draft->address);
	replace_text(&spec->image, request->image ? request->image : config->session.image);
	spec->port = request->port;
	spec->uid = owner->uid;
	spec->gid = owner->gid;
	spec->cmd = has_command ? copy_strings(request->cmd) : default_command(config);
	spec->env = merge_env(request->env, config->session.env);
	if (!spec->cmd || !spec->env)
		return error_set(e, ENOMEM, "out of memory");
	set_limits(s, request, &spec->limits);
	return set_homes(s, request, owner, spec, e);
}

static int write_spec(struct db_session *draft, const struct start_request *request,
		      const struct session_spec *spec, struct error *e)
{
	cleanup_json json_t *encoded = wire_encode(&wire_session_spec, spec);
	cleanup_free char *text = encoded ? json_dumps(encoded, JSON_COMPACT) : NULL;
	cleanup_free char *spawner =
		request->spawner ? json_dumps(request->spawner, JSON_COMPACT | JSON_ENCODE_ANY)
				 : NULL;
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	replace_text(&draft->spec, text);
	replace_text(&draft->spawner, spawner);
	replace_text(&draft->api_token, request->api_token);
	if (request->size)
		replace_text(&draft->size, *request->size ? request->size : NULL);
	return 0;
}

static void owner_deinit(struct owner *owner)
{
	free(owner->home);
}

int spec_prepare(struct session *s, struct db_session *draft, void *arg, struct error *e)
{
	const struct start_request *request = arg;
	struct session_spec old = { 0 };
	struct session_spec spec = { 0 };
	cleanup(owner_deinit) struct owner owner = { 0 };
	bool again = s->row.spec != NULL;
	int r = again ? session_spec(s, &old, e) : 0;
	if (r == 0)
		r = find_owner(s, again ? &old : NULL, &owner, e);
	if (r == 0 && !draft->address)
		r = db_address_pick(s->controller->db, s->controller->config->network.pool,
				    &draft->address, e);
	if (r == 0)
		r = fill_spec(s, draft, request, &owner, &spec, e);
	if (r == 0)
		r = write_spec(draft, request, &spec, e);
	if (r == 0 && !draft->created_at)
		draft->created_at = clock_wall();
	wire_free(&wire_session_spec, &old);
	wire_free(&wire_session_spec, &spec);
	return r;
}

/* --- a session from elsewhere ------------------------------------------------------------------
 */

static int other_owner(const struct session_spec *spec, struct error *e)
{
	int r = error_fault(e, FAULT_CONFLICT,
			    "its processes run as uid %lld, which is somebody else here",
			    (long long)spec->uid);
	return error_remedy(e, r, "accounts and uids must be the same where a session is taken to");
}

static int check_foreign_owner(struct controller *c, const struct session_spec *spec,
			       struct error *e)
{
	struct passwd pw;
	struct passwd *found = NULL;
	char text[16384];
	int64_t uid = 0;
	cleanup(owner_deinit) struct owner owner = { 0 };
	if (find_account(spec->user, &owner))
		return owner.uid == spec->uid ? 0 : other_owner(spec, e);
	if (getpwuid_r((uid_t)spec->uid, &pw, text, sizeof(text), &found) == 0 && found)
		return other_owner(spec, e);
	/* The one uid of this range: nobody's, or this user's already. */
	if (db_uid_pick(c->db, spec->user, spec->uid, spec->uid, &uid, NULL) < 0 ||
	    uid != spec->uid)
		return other_owner(spec, e);
	return 0;
}

static bool in_pool(const char *pool, const char *address)
{
	char network[INET_ADDRSTRLEN];
	unsigned bits;
	struct in_addr base, in;
	if (sscanf(pool, "%15[0-9.]/%2u", network, &bits) != 2 || bits < 1 || bits > 32 ||
	    inet_pton(AF_INET, network, &base) != 1 || inet_pton(AF_INET, address, &in) != 1)
		return false;
	return (ntohl(base.s_addr) ^ ntohl(in.s_addr)) >> (32 - bits) == 0;
}

int spec_check_foreign(struct controller *c, const struct session_spec *spec, struct error *e)
{
	const char *pool = c->config->network.pool;
	int r = check_name(spec->user, false, "user", e);
	if (r == 0)
		r = check_name(spec->server, true, "server", e);
	if (r == 0 && !in_pool(pool, spec->address)) {
		r = error_fault(e, FAULT_CONFLICT,
				"its address %s, which it keeps for life, is not "
				"of network.pool %s",
				spec->address, pool);
		error_remedy(e, r, "network.pool must be the same where a session is taken to");
	}
	return r < 0 ? r : check_foreign_owner(c, spec, e);
}
