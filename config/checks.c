/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "config/config.h"
#include "config/values.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

static bool only(const char *text, const char *allowed)
{
	return text[strspn(text, allowed)] == '\0';
}

static bool has_dot_dot(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '\0' || p[2] == '/'))
			return true;
	return false;
}

static const char *check(bool good, const char *wanted)
{
	return good ? NULL : wanted;
}

const char *value_check_not_empty(const char *text)
{
	return check(*text != '\0', "some text");
}

const char *value_check_path(const char *text)
{
	return check(*text == '/' && !has_dot_dot(text), "an absolute path without \"..\"");
}

const char *value_check_path_or_none(const char *text)
{
	return *text ? value_check_path(text) : NULL;
}

const char *value_check_socket(const char *text)
{
	struct sockaddr_un address;
	if (strlen(text) >= sizeof(address.sun_path))
		return "a path of at most 107 bytes, as the kernel wants for a unix socket";
	return value_check_path(text);
}

const char *value_check_program(const char *text)
{
	if (*text && !strchr(text, '/'))
		return NULL;
	return check(*text == '/' && !has_dot_dot(text), "a program's name or absolute path");
}

const char *value_check_home(const char *text)
{
	static const char wanted[] = "an absolute path that may hold {user}, {id} and {uid}, or "
				     "\"{home}\" with or without more after it";
	static const char *const known[] = { "{home}", "{user}", "{id}", "{uid}" };
	if (has_dot_dot(text) || (*text != '/' && strncmp(text, "{home}", 6) != 0))
		return wanted;
	for (const char *p = text; *p;) {
		size_t len = *p == '}' ? 0 : 1;
		for (size_t i = 0; *p == '{' && i < sizeof(known) / sizeof(known[0]); i++)
			if (strncmp(p, known[i], strlen(known[i])) == 0)
				len = strlen(known[i]);
		if (len == 0 || (*p == '{' && len == 1))
			return wanted;
		p += len;
	}
	return NULL;
}

const char *value_check_name(const char *text)
{
	bool dots = strcmp(text, ".") == 0 || strcmp(text, "..") == 0;
	return check(*text && !dots && only(text, LETTERS DIGITS "._-"),
		     "a name of letters, digits, \".\", \"_\" and \"-\"");
}

const char *value_check_group(const char *text)
{
	return check(*text && strlen(text) <= 255, "a group's name");
}

const char *value_check_host_name(const char *text)
{
	return check(*text != '-' && *text != '.' && only(text, LETTERS DIGITS ".-") &&
			     strlen(text) <= 253,
		     "a host name");
}

const char *value_check_account(const char *text)
{
	return check(*text && *text != '-' && only(text, LETTERS DIGITS "._-"),
		     "the name of a system account");
}

static bool valid_port(const char *text)
{
	char *end;
	if (!*text || strlen(text) > 5 || !only(text, DIGITS))
		return false;
	long port = strtol(text, &end, 10);
	return port >= 1 && port <= 65535;
}

static bool valid_address(int family, const char *text, size_t len)
{
	char plain[INET6_ADDRSTRLEN];
	struct in6_addr address;
	if (len >= sizeof(plain))
		return false;
	memcpy(plain, text, len);
	plain[len] = '\0';
	return inet_pton(family, plain, &address) == 1;
}

/* A host name, an IPv4 address or an IPv6 address in brackets. */
static bool valid_host(const char *text, size_t len)
{
	if (len > 2 && text[0] == '[' && text[len - 1] == ']')
		return valid_address(AF_INET6, text + 1, len - 2);
	return len > 0 && len <= 253 && text[0] != '-' && text[0] != '.' &&
	       strspn(text, LETTERS DIGITS ".-") >= len;
}

/* "host", "host:port", "[::1]:port". */
static bool valid_authority(const char *text, size_t len)
{
	const char *colon = memrchr(text, ':', len);
	if (!colon || (len && text[len - 1] == ']'))
		return valid_host(text, len);
	char port[8] = "";
	size_t port_len = (size_t)(text + len - colon) - 1;
	if (port_len >= sizeof(port))
		return false;
	memcpy(port, colon + 1, port_len);
	return valid_host(text, (size_t)(colon - text)) && valid_port(port);
}

const char *value_check_url(const char *text)
{
	const char *host = "";
	if (strncmp(text, "http://", 7) == 0)
		host = text + 7;
	else if (strncmp(text, "https://", 8) == 0)
		host = text + 8;
	return check(valid_authority(host, strcspn(host, "/")) && !strpbrk(host, " ?#\"<>\\^`{|}"),
		     "a URL such as \"http://host:8081/path\"");
}

const char *value_check_url_or_none(const char *text)
{
	return *text ? value_check_url(text) : NULL;
}

const char *value_check_https_or_none(const char *text)
{
	if (!*text)
		return NULL;
	const char *wrong = value_check_url(text);
	return wrong ? wrong : check(strncmp(text, "https://", 8) == 0, "https:// and a host");
}

const char *value_check_store_url(const char *text)
{
	static const char wanted[] = "\"file:///DIRECTORY\" with an absolute path, "
				     "\"s3://BUCKET/PREFIX\" or \"gs://BUCKET/PREFIX\"";
	const char *path = strncmp(text, "file://", 7) == 0 ? text + 7 : "";
	/* What follows a bucket's name is checked where it is used: cloud/s3_url.h. */
	if (strncmp(text, "s3://", 5) == 0 || strncmp(text, "gs://", 5) == 0) {
		size_t bucket = strcspn(text + 5, "/?");
		return check(bucket >= 3 && bucket <= 63 &&
				     strspn(text + 5, "abcdefghijklmnopqrstuvwxyz" DIGITS "-._") ==
					     bucket &&
				     !strpbrk(text, " \t\r\n"),
			     wanted);
	}
	return check(path[0] == '/' && path[1] && !has_dot_dot(path), wanted);
}

const char *value_check_ipv4(const char *text)
{
	return check(valid_address(AF_INET, text, strlen(text)), "an IPv4 address");
}

const char *value_check_ipv4_or_none(const char *text)
{
	return *text ? value_check_ipv4(text) : NULL;
}

const char *value_check_address(const char *text)
{
	size_t len = strlen(text);
	return check(valid_address(AF_INET, text, len) || valid_address(AF_INET6, text, len),
		     "an IP address");
}

/* Splits "a.b.c.d/len"; false when it is not one. */
static bool parse_network(const char *text, size_t len, uint32_t *address, unsigned *prefix)
{
	const char *slash = memchr(text, '/', len);
	char plain[INET_ADDRSTRLEN];
	struct in_addr in;
	size_t digits = slash ? (size_t)(text + len - slash) - 1 : 0;
	if (!slash || (size_t)(slash - text) >= sizeof(plain) || digits < 1 || digits > 2 ||
	    strspn(slash + 1, DIGITS) < digits)
		return false;
	memcpy(plain, text, (size_t)(slash - text));
	plain[slash - text] = '\0';
	*prefix = (unsigned)strtoul(slash + 1, NULL, 10);
	if (*prefix > 32 || inet_pton(AF_INET, plain, &in) != 1)
		return false;
	*address = ntohl(in.s_addr);
	return true;
}

const char *value_check_pool(const char *text)
{
	uint32_t address;
	unsigned prefix;
	if (!parse_network(text, strlen(text), &address, &prefix) || prefix < 8 || prefix > 29)
		return "an IPv4 network from /8 to /29, such as \"10.99.0.0/16\"";
	return check((address & (UINT32_MAX >> prefix)) == 0,
		     "a network's first address, with no bits set after the prefix");
}

const char *value_check_listen(const char *text)
{
	if (!*text)
		return NULL;
	const char *colon = strrchr(text, ':');
	return check(colon && valid_host(text, (size_t)(colon - text)) && valid_port(colon + 1),
		     "\"host:port\", or \"\" for none");
}

const char *value_check_endpoint(const char *text)
{
	uint32_t address;
	unsigned prefix;
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	return check(colon && valid_port(colon + 1) &&
			     (valid_address(AF_INET, text, len) ||
			      parse_network(text, len, &address, &prefix)),
		     "\"address:port\" or \"network/prefix:port\" with an IPv4 address");
}

/* Length of the name of an environment variable at the start of `text`; 0: none. */
static size_t variable_length(const char *text)
{
	return strspn(text, DIGITS) ? 0 : strspn(text, LETTERS DIGITS "_");
}

const char *value_check_env(const char *text)
{
	size_t len = variable_length(text);
	return check(len && text[len] == '=', "\"NAME=VALUE\"");
}

const char *value_check_variable_or_none(const char *text)
{
	return check(!text[variable_length(text)],
		     "the name of an environment variable, or \"\" for none,");
}

const char *value_check_quiet(const char *text)
{
	struct config_quiet quiet;
	return check(config_quiet_parse(text, &quiet) == 0,
		     "hours such as \"22:00-06:00\" or \"mon-fri 08:00-18:00\"");
}

const char *value_check_poll(const char *text)
{
	struct config_poll poll;
	return check(
		config_poll_parse(text, &poll) == 0,
		"a path such as \"api/kernels\" or \"api/contents/** content=1\", with \"open\" "
		"or \"own\" before it or not");
}
