/* SPDX-License-Identifier: Apache-2.0 */
#include "store/signed.h"

#include "base/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <string.h>

enum { MAC = 32 };

static void hex(const unsigned char *from, size_t len, char *to)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < 2 * len; i++)
		to[i] = digits[from[i / 2] >> (i % 2 ? 0 : 4) & 15];
	to[2 * len] = '\0';
}

int signed_encode(const struct signed_format *format, const struct buf *body,
		  const struct seal_key *mac_key, struct buf *to, struct error *e)
{
	unsigned char mac[MAC];
	char text[2 * MAC + 1];
	int r = seal_mac(mac_key, body->data, body->len, mac, e);
	if (r < 0)
		return r;
	hex(mac, MAC, text);
	r = buf_printf(to, "{\"format\":\"%s\",\"version\":%d,\"hmac\":\"%s\"}\n", format->name,
		       format->version, text);
	if (r == 0)
		r = buf_append(to, body->data, body->len);
	if (r == 0)
		r = buf_append(to, "\n", 1);
	return r == -ENOMEM ? error_set(e, ENOMEM, "out of memory")
	       : r < 0 ? error_set(e, -r, "the %s is larger than %zu bytes", format->what, to->cap)
		       : 0;
}

static int fail(struct error *e, const char *what)
{
	return error_set(e, EBADMSG, "%s", what);
}

static json_t *load(const char *data, size_t len)
{
	return json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
}

static int check_mac(const struct seal_key *key, const char *said, const char *body, size_t len,
		     struct error *e)
{
	unsigned char mac[MAC];
	char text[2 * MAC + 1];
	int r = seal_mac(key, body, len, mac, e);
	if (r < 0)
		return r;
	hex(mac, MAC, text);
	if (CRYPTO_memcmp(text, said, 2 * MAC) != 0)
		return fail(e, "it was changed, or belongs to another session's key");
	return 0;
}

static int not_one(const struct signed_format *format, struct error *e)
{
	return error_set(e, EBADMSG, "it is not a %s", format->what);
}

int signed_decode(const struct signed_format *format, const char *data, size_t len,
		  const struct seal_key *mac_key, const char **body, size_t *body_len,
		  struct error *e)
{
	const char *name, *mac;
	int version;
	const char *end = memchr(data, '\n', len);
	if (!end || data[len - 1] != '\n' || end == data + len - 1)
		return fail(e, "it is cut short");
	cleanup(json_decrefp) json_t *header = load(data, (size_t)(end - data));
	if (json_unpack(header, "{ss si}", "format", &name, "version", &version) < 0 ||
	    strcmp(name, format->name) != 0)
		return not_one(format, e);
	if (version != format->version)
		return error_set(e, EBADMSG, "it has version %d, and this program knows only %d",
				 version, format->version);
	*body = end + 1;
	*body_len = (size_t)(data + len - *body) - 1;
	if (json_unpack(header, "{ss}", "hmac", &mac) < 0 || json_object_size(header) != 3 ||
	    strlen(mac) != 2 * MAC || strspn(mac, "0123456789abcdef") != 2 * MAC)
		return not_one(format, e);
	return mac_key ? check_mac(mac_key, mac, *body, *body_len, e) : 0;
}

bool signed_is(const struct signed_format *format, const char *data, size_t len)
{
	const char *name;
	const char *end = memchr(data, '\n', len);
	cleanup(json_decrefp) json_t *header = end ? load(data, (size_t)(end - data)) : NULL;
	return json_unpack(header, "{ss}", "format", &name) == 0 && strcmp(name, format->name) == 0;
}
