/* SPDX-License-Identifier: Apache-2.0 */
/* What elsad takes from strangers: questions to join, before the token is looked up. */
#include "base/cleanup.h"
#include "controller/nodes_api.h"
#include "tests/fuzz/fuzz.h"
#include "wire/identity.h"
#include "wire/messages.h"

#include <string.h>

static void check_token(const char *text)
{
	struct join_token token;
	if (join_token_parse(text, &token, NULL) < 0) {
		FUZZ_CHECK(!token.id[0] && !token.secret[0] && !token.fingerprint[0]);
		return;
	}
	cleanup_free char *again = join_token_format(&token);
	FUZZ_CHECK(again && strstr(text, again) && id_valid(token.id));
}

static void check_name(const char *name)
{
	if (!node_name_valid(name))
		return;
	cleanup_free char *host = node_host(name);
	FUZZ_CHECK(host && strlen(name) < X509_NAME_SIZE && strcmp(name, CONTROLLER_HOST) != 0 &&
		   strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(host));
}

static void check_listen(const char *listen)
{
	cleanup_free char *first = NULL;
	cleanup_free char *second = NULL;
	if (node_listen_address(listen, "10.0.0.5", &first, NULL) < 0)
		return;
	FUZZ_CHECK(node_listen_address(first, "10.0.0.6", &second, NULL) == 0 &&
		   strcmp(first, second) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct join_request request;
	char digest[X509_DIGEST_SIZE];
	if (wire_decode_text(&wire_join_request, (const char *)data, size, &request, NULL) < 0)
		return 0;
	check_token(request.token ? request.token : "");
	check_name(request.name);
	check_listen(request.listen);
	if (x509_check_csr(request.csr, digest, NULL) == 0)
		FUZZ_CHECK(strlen(digest) == X509_DIGEST_SIZE - 1);
	wire_free(&wire_join_request, &request);
	return 0;
}
