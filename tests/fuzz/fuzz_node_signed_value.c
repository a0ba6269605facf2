/* SPDX-License-Identifier: Apache-2.0 */
/* A cookie's value, which a browser sends and anybody may make up. */
#include "base/cleanup.h"
#include "node/activator_credentials.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char to[CREDENTIAL_SIZE];
	cleanup_free char *text = malloc(size ? size : 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	struct text value = { .at = text, .len = size };
	if (signed_value_read(value, "jupyterhub-user-ada", 1795991000, to, sizeof(to)) == 0)
		FUZZ_CHECK(to[0] && strlen(to) < sizeof(to) && !strpbrk(to, " \r\n"));
	return 0;
}
