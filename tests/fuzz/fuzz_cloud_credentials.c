/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the clouds' metadata services: what is taken from them becomes part of requests. */
#include "cloud/credentials_sources.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check(const char *text)
{
	FUZZ_CHECK(!text || (*text && strcspn(text, "\r\n \t") == strlen(text)));
}

static void check_value(struct credentials_value *v, int r)
{
	FUZZ_CHECK(r == 0 || (!v->access_key && !v->secret && !v->session_token && !v->bearer));
	check(v->access_key);
	check(v->secret);
	check(v->session_token);
	check(v->bearer);
	credentials_value_deinit(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct credentials_value v = { 0 };
	int r = credentials_amazon_json((const char *)data, size, &v, NULL);
	FUZZ_CHECK(r != 0 || (v.access_key && v.secret && v.session_token));
	check_value(&v, r);
	v = (struct credentials_value) { 0 };
	r = credentials_google_json((const char *)data, size, 1000, &v, NULL);
	FUZZ_CHECK(r != 0 || (v.bearer && v.expires_at > 1000));
	check_value(&v, r);
	return 0;
}
