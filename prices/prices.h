/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_PRICES_PRICES_H
#define ELSA_PRICES_PRICES_H

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

/* Requests to the store: docs/performance.md for a wake; a checkpoint puts packs and a manifest. */
enum { PRICES_GETS_OF_WAKE = 70, PRICES_PUTS_OF_CHECKPOINT = 3 };
#define PRICES_MONTH_HOURS 730.0

/* What a GiB of memory costs an hour on a machine: its part of the machine's price. */
struct price_memory {
	double machine; /* as it is */
	double demand;  /* on demand */
};

/* `type` as the cloud calls it, or NULL. One that the catalogue does not have counts as the
 * machines of its first on-demand pool, and on spot what no pool has as on demand. */
struct price_memory prices_memory(const struct prices *p, const char *type, bool spot);

/* The whole text, ended by a NUL. What is wrong is said with its line. */
int prices_parse(const char *text, struct prices *to, struct error *e);

extern const char prices_default[]; /* packaging/prices/aws-us-east-1 */

#endif
