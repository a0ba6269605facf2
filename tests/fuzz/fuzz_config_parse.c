/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: what is accepted can be printed, and read back prints the same. */
#include "base/cleanup.h"
#include "config/config.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error e = ERROR_INIT;
	struct config *first = NULL;
	struct config *second = NULL;
	if (config_parse((const char *)data, size, "t", &first, &e) < 0) {
		FUZZ_CHECK(!first && strncmp(e.text, "t:", 2) == 0);
		return 0;
	}
	FUZZ_CHECK(first->idle.rule_count >= 1);
	cleanup_free char *printed = config_print(first);
	FUZZ_CHECK(printed);
	FUZZ_CHECK(config_parse(printed, strlen(printed), "printed", &second, &e) == 0);
	cleanup_free char *again = config_print(second);
	FUZZ_CHECK(again && strcmp(printed, again) == 0);
	config_free(first);
	config_free(second);
	return 0;
}
