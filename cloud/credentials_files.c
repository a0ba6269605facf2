/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/credentials_sources.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>

enum { FILE_MOST = 1 << 20 };

const char *credentials_profile(const struct credentials_options *options)
{
	const char *env = getenv("AWS_PROFILE");
	if (options->profile)
		return options->profile;
	return env && *env ? env : "default";
}

static bool copy_env(char **to, const char *name, int *r)
{
	const char *value = getenv(name);
	if (!value || !*value)
		return false;
	*to = strdup(value);
	if (!*to)
		*r = -ENOMEM;
	return true;
}

static int from_env(const char *id, const char *secret, const char *token,
		    struct credentials_value *v, struct error *e)
{
	int r = 0;
	bool has_id = copy_env(&v->access_key, id, &r);
	bool has_secret = copy_env(&v->secret, secret, &r);
	if (token)
		copy_env(&v->session_token, token, &r);
	if (r == 0 && has_id && has_secret)
		return CREDENTIALS_FOUND;
	credentials_value_deinit(v);
	if (r < 0)
		return error_set(e, -r, "out of memory");
	if (has_id == has_secret)
		return CREDENTIALS_NOT_HERE;
	r = error_set(e, EACCES, "%s is set, but not %s", has_id ? id : secret,
		      has_id ? secret : id);
	return error_remedy(e, r, "set both or neither in elsa-node's environment");
}

int credentials_amazon_env(const struct credentials_options *options, struct credentials_value *v,
			   struct error *e)
{
	if (options->profile) /* said outright in store.url: that counts more */
		return CREDENTIALS_NOT_HERE;
	return from_env("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", v, e);
}

int credentials_google_env(const struct credentials_options *options, struct credentials_value *v,
			   struct error *e)
{
	(void)options;
	return from_env("GS_ACCESS_KEY_ID", "GS_SECRET_ACCESS_KEY", NULL, v, e);
}

/* One line without the white space around it; moves *text to the next. */
static const char *next_line(const char **text, size_t *len)
{
	const char *line = *text;
	size_t whole = strcspn(line, "\n");
	*text = line + whole + (line[whole] == '\n');
	while (whole && isspace((unsigned char)*line)) {
		line++;
		whole--;
	}
	while (whole && isspace((unsigned char)line[whole - 1]))
		whole--;
	*len = whole;
	return line;
}

static bool is_section(const char *line, size_t len, const char *section)
{
	size_t wanted = strlen(section);
	const char *end = memchr(line, ']', len);
	if (!end)
		return false;
	line++;
	while (line < end && isspace((unsigned char)*line))
		line++;
	while (end > line && isspace((unsigned char)end[-1]))
		end--;
	return (size_t)(end - line) == wanted && strncmp(line, section, wanted) == 0;
}

char *credentials_ini(const char *text, const char *section, const char *key)
{
	bool inside = false;
	size_t key_len = strlen(key);
	char *found = NULL;
	while (*text) {
		size_t len;
		const char *line = next_line(&text, &len);
		if (len && line[0] == '[')
			inside = is_section(line, len, section);
		if (!inside || len <= key_len || strncasecmp(line, key, key_len) != 0)
			continue;
		const char *p = line + key_len, *end = line + len;
		while (p < end && isspace((unsigned char)*p))
			p++;
		if (p == end || *p != '=')
			continue;
		for (p++; p < end && isspace((unsigned char)*p);)
			p++;
		free(found); /* the last one counts */
		found = strndup(p, (size_t)(end - p));
	}
	return found;
}

static char *home(void)
{
	const char *env = getenv("HOME");
	struct passwd account, *found = NULL;
	char space[4096];
	if (env && *env)
		return strdup(env);
	if (getpwuid_r(getuid(), &account, space, sizeof(space), &found) == 0 && found)
		return strdup(found->pw_dir);
	return strdup("/root");
}

/* "" when there is no such file. */
static char *read_file(const char *env, const char *name)
{
	const char *set = getenv(env);
	cleanup_free char *dir = home();
	cleanup_free char *path = set && *set ? strdup(set) : dir ? fs_join(dir, name) : NULL;
	cleanup_buf struct buf text = BUF_INIT(FILE_MOST);
	if (!path)
		return NULL;
	if (fs_read(path, &text, NULL) < 0)
		return strdup("");
	return buf_steal(&text);
}

static char *config_section(const struct credentials_options *options)
{
	const char *profile = credentials_profile(options);
	/* ~/.aws/config writes [profile NAME] for all but the default one. */
	return str_printf("%s%s", strcmp(profile, "default") == 0 ? "" : "profile ", profile);
}

static void take(struct credentials_value *v, const char *text, const char *section)
{
	v->access_key = credentials_ini(text, section, "aws_access_key_id");
	v->secret = credentials_ini(text, section, "aws_secret_access_key");
	v->session_token = credentials_ini(text, section, "aws_session_token");
	if (!v->access_key || !v->secret)
		credentials_value_deinit(v);
}

int credentials_amazon_files(const struct credentials_options *options, struct credentials_value *v,
			     struct error *e)
{
	cleanup_free char *section = config_section(options);
	cleanup_free char *secrets = read_file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
	cleanup_free char *config = read_file("AWS_CONFIG_FILE", ".aws/config");
	if (!section || !secrets || !config)
		return error_set(e, ENOMEM, "out of memory");
	take(v, secrets, credentials_profile(options));
	if (!v->access_key)
		take(v, config, section);
	if (v->access_key)
		return CREDENTIALS_FOUND;
	if (!options->profile)
		return CREDENTIALS_NOT_HERE;
	int r = error_set(e, EACCES, "the profile \"%s\" of store.url has no access key",
			  options->profile);
	return error_remedy(e, r,
			    "write aws_access_key_id and aws_secret_access_key below [%s] in "
			    "~/.aws/credentials of elsa-node's account",
			    options->profile);
}

char *credentials_region(const struct credentials_options *options)
{
	int r = 0;
	char *region = NULL;
	if (copy_env(&region, "AWS_REGION", &r) || copy_env(&region, "AWS_DEFAULT_REGION", &r))
		return region;
	cleanup_free char *section = config_section(options);
	cleanup_free char *config = read_file("AWS_CONFIG_FILE", ".aws/config");
	return section && config ? credentials_ini(config, section, "region") : NULL;
}
