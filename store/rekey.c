/* SPDX-License-Identifier: Apache-2.0 */
#include "store/internal.h"

#include <string.h>

/* One session whose key cannot be had must not keep the others from being wrapped: it is told at
 * the end. */
int store_rekey(struct store *store, int64_t *count,
		void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int failed = 0;
	*count = 0;
	int r = store_scan(store, NULL, -1, &scan, e);
	for (size_t i = 0; i < scan.count && r == 0; i++) {
		struct error one = ERROR_INIT;
		const struct store_object *o = &scan.list[i];
		if (o->kind != STORE_KIND_KEY ||
		    (i && scan.list[i - 1].kind == STORE_KIND_KEY &&
		     strcmp(scan.list[i - 1].session, o->session) == 0))
			continue;
		int done = keyring_rewrap(store->keys, o->session, &one);
		if (done > 0)
			++*count;
		if (done < 0 && failed == 0) {
			failed = done;
			if (e)
				*e = one;
		}
		if (progress)
			progress(i + 1, scan.count, arg);
	}
	if (r == 0 && progress)
		progress(scan.count, scan.count, arg);
	return r ? r : failed;
}
