/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void id_new(char to[ID_SIZE])
{
	uint64_t bits = 0;
	/* Up to 256 bytes getrandom() neither fails nor comes short once the pool is ready. */
	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		abort();
	snprintf(to, ID_SIZE, "%016llx", (unsigned long long)bits);
}

bool id_valid(const char *id)
{
	return id && strlen(id) == ID_SIZE - 1 && strspn(id, "0123456789abcdef") == ID_SIZE - 1;
}
