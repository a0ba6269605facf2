/* SPDX-License-Identifier: Apache-2.0 */
#include "node/layers.h"

#include "base/cleanup.h"
#include "node/tar.h"

#include <errno.h>
#include <unistd.h>

#define SAVING  "cannot save the session's own layer of files"
#define LOADING "cannot bring back the session's own layer of files"

int layers_save(const char *upper, struct store_write *write, int timeout_ms, struct error *e)
{
	const char *const args[] = { "-C", upper, ".", NULL };
	struct error own = ERROR_INIT;
	struct tar *tar;
	int ours;
	int r = tar_pack(tar_layer, args, timeout_ms, &tar, &ours, &own);
	if (r == 0) {
		r = store_write_file(write, LAYERS_FILE, 0600, ours, &own);
		close(ours);
		r = tar_end(tar, r, &own);
	}
	if (r < 0 && e)
		*e = own;
	return error_wrap(e, r, SAVING);
}

int layers_load(const char *upper, struct store_read *read, int timeout_ms, struct error *e)
{
	struct error own = ERROR_INIT;
	struct tar *tar;
	int ours;
	int r = tar_unpack(tar_layer, upper, timeout_ms, &tar, &ours, &own);
	if (r == 0) {
		r = store_read_file(read, LAYERS_FILE, ours, &own);
		close(ours);
		r = tar_end(tar, r, &own);
	}
	if (r < 0 && e)
		*e = own;
	return error_wrap(e, r, LOADING);
}

int layers_pack(const char *upper, const char *file, int timeout_ms, struct error *e)
{
	const char *const args[] = { "-C", upper, ".", NULL };
	return error_wrap(e, tar_pack_file(tar_layer, args, file, timeout_ms, e), SAVING);
}

int layers_unpack(const char *upper, const char *file, int timeout_ms, struct error *e)
{
	return error_wrap(e, tar_unpack_file(tar_layer, upper, file, timeout_ms, e), LOADING);
}
