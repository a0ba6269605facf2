/* SPDX-License-Identifier: Apache-2.0 */
/* CRIU's log names files and processes of the session, so it can hold anything. */
#include "base/cleanup.h"
#include "node/criu.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *log = strndup((const char *)data, size);
	if (!log)
		return 0;
	cleanup_free char *said = criu_first_error(log);
	cleanup_free char *means = criu_explain(log);
	FUZZ_CHECK(!means || said);
	FUZZ_CHECK(!said || !strchr(said, '\n'));
	for (int lines = 1; lines < 4; lines++) {
		const char *tail = criu_log_tail(log, lines);
		FUZZ_CHECK(tail >= log && tail <= log + strlen(log));
	}
	return 0;
}
