/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/identity.h"

#include "base/fs.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"
#define SPACE   " \t\r\n"

#define TOKEN_PREFIX "elsa1"

bool node_name_valid(const char *name)
{
	size_t len = name ? strlen(name) : 0;
	if (len == 0 || len > NODE_NAME_MOST || name[0] == '.' ||
	    strspn(name, LETTERS DIGITS ".-") != len)
		return false;
	for (const char *label = name; label; label = strchr(label, '.')) {
		label += *label == '.';
		size_t end = strcspn(label, ".");
		if (end == 0 || label[0] == '-' || label[end - 1] == '-')
			return false;
	}
	return strcasecmp(name, CONTROLLER_HOST) != 0;
}

char *node_host(const char *name)
{
	char *host = str_printf("%s.node.elsa", name);
	for (char *c = host; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return host;
}

/* One part of the token, up to a dot or the end, of exactly size - 1 hexadecimal digits. */
static bool take_part(const char **at, char *to, size_t size)
{
	size_t len = strspn(*at, "0123456789abcdef");
	if (**at == '\0' || len != size - 1)
		return false;
	memcpy(to, *at, len);
	to[len] = '\0';
	*at += len;
	return true;
}

static bool take_dot(const char **at)
{
	if (**at != '.')
		return false;
	(*at)++;
	return true;
}

int join_token_parse(const char *text, struct join_token *token, struct error *e)
{
	const char *at = text + strspn(text, SPACE);
	*token = (struct join_token) { 0 };
	if (!*at) {
		error_set(e, EINVAL, "there is no join token");
	} else if (strncmp(at, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0) {
		error_set(e, EINVAL,
			  "not a join token: it does not begin with \"" TOKEN_PREFIX ".\"");
	} else {
		at += strlen(TOKEN_PREFIX);
		if (take_dot(&at) && take_part(&at, token->id, sizeof(token->id)) &&
		    take_dot(&at) && take_part(&at, token->secret, sizeof(token->secret)) &&
		    take_dot(&at) &&
		    take_part(&at, token->fingerprint, sizeof(token->fingerprint)) &&
		    !at[strspn(at, SPACE)])
			return 0;
		error_set(e, EINVAL, "the join token is damaged");
	}
	*token = (struct join_token) { 0 };
	return error_remedy(e, -EINVAL, "`elsa node token` on the hub's host prints a new one");
}

char *join_token_format(const struct join_token *token)
{
	return str_printf(TOKEN_PREFIX ".%s.%s.%s", token->id, token->secret, token->fingerprint);
}
