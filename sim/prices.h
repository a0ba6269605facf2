/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_PRICES_H
#define ELSA_SIM_PRICES_H

/*
 * A catalogue: what machines and storage cost, and which pools there are of them
 * (docs/simulator.md). Thread-safe.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PRICES_TYPES_MOST = 256, PRICES_POOLS_MOST = 16, PRICES_NAME = 64 };

struct price_type {
	char name[PRICES_NAME];
	double cpus;
	int64_t memory_bytes;
	double hour; /* on demand */
};

struct price_pool {
	char name[PRICES_NAME];
	size_t type; /* index */
	bool spot;
	double hour;
};

struct prices {
	char currency[8];
	char as_of[16];
	struct price_type types[PRICES_TYPES_MOST];
	size_t type_count;
	struct price_pool pools[PRICES_POOLS_MOST]; /* in the order in which they are asked */
	size_t pool_count;
	int64_t boot_ms; /* from asking for a machine until sessions run there */
	double store_gib_month, put_thousand, get_thousand;
};

/* The whole text, ended by a NUL. What is wrong is said with its line. */
int prices_parse(const char *text, struct prices *to, struct error *e);

extern const char prices_default[]; /* packaging/prices/aws-us-east-1 */

#endif
