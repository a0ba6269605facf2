/* SPDX-License-Identifier: Apache-2.0 */
#include "node/depart_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/arrival.h"
#include "node/tar.h"
#include "node/working_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, ARGS_MOST = 16 };

/* What a session is but for its memory, where the steps of its departure have put it. */
struct files {
	char *near, *far, *pages;
	const char *args[ARGS_MOST];
	size_t count;
};

static void free_files(struct files *f)
{
	free(f->near);
	free(f->far);
	free(f->pages);
}

static void add_if_there(struct files *f, const char *dir, const char *name)
{
	cleanup_free char *path = fs_join(dir, name);
	if (!path || access(path, F_OK) < 0 || f->count + 4 > ARGS_MOST)
		return;
	f->args[f->count++] = "-C";
	f->args[f->count++] = dir;
	f->args[f->count++] = name;
}

static int find_files(struct node *node, const char *session, struct files *f, struct error *e)
{
	f->near = str_printf("%s/images/%s", node->config->node.run_dir, session);
	f->far = node_path(node, "images", session, "");
	f->pages = arrival_dir(node, session);
	if (!f->near || !f->far || !f->pages)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_free char *criu = fs_join(f->near, "criu");
	const char *images = criu && access(criu, F_OK) == 0 ? f->near : f->far;
	add_if_there(f, images, "criu");
	add_if_there(f, images, "remap");
	add_if_there(f, f->far, DEPART_LAYERS);
	add_if_there(f, f->far, DEPART_NAMES);
	add_if_there(f, f->pages, WORKING_SET_FILE);
	return f->count ? 0 : error_set(e, ENOENT, "nothing is written down of the session");
}

static int send_all(int from, struct move_conn *conn, struct error *e)
{
	ssize_t n;
	cleanup_free char *chunk = malloc(CHUNK);
	if (!chunk)
		return error_set(e, ENOMEM, "out of memory");
	while ((n = read(from, chunk, CHUNK)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot read the session's files");
		int r = move_send(conn, MOVE_DATA, chunk, (size_t)n, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_tar(const char *const *how, const char *const *args, int timeout_ms,
		    struct move_conn *conn, struct error *e)
{
	struct tar *tar;
	int from;
	int r = tar_pack(how, args, timeout_ms, &tar, &from, e);
	if (r < 0)
		return r;
	r = send_all(from, conn, e);
	close(from);
	return tar_end(tar, r, e);
}

int depart_files_send(struct node *node, const char *session, struct move_conn *conn,
		      struct error *e)
{
	cleanup(free_files) struct files f = { 0 };
	int r = find_files(node, session, &f, e);
	if (r == 0)
		r = send_tar(tar_plain, f.args, (int)node->config->node.effect_timeout_ms, conn, e);
	return error_wrap(e, r, "what was written down of session %s cannot be sent", session);
}

int depart_files_ahead(struct node *node, const char *session, struct move_conn *conn,
		       struct error *e)
{
	cleanup_free char *upper = node_path(node, "sessions", session, "/upper");
	if (!upper)
		return error_set(e, ENOMEM, "out of memory");
	const char *const args[] = { "-C", upper, ".", NULL };
	int r = send_tar(tar_live, args, (int)node->config->node.effect_timeout_ms, conn, e);
	return error_wrap(e, r, "the layer of session %s cannot be sent", session);
}

int depart_files_bytes(struct node *node, const char *session, int64_t *bytes, struct error *e)
{
	uint64_t near = 0, far = 0;
	cleanup(free_files) struct files f = { 0 };
	int r = find_files(node, session, &f, e);
	if (r == 0 && access(f.near, F_OK) == 0)
		r = fs_tree_bytes(f.near, &near, e);
	if (r == 0 && access(f.far, F_OK) == 0)
		r = fs_tree_bytes(f.far, &far, e);
	*bytes = (int64_t)(near + far);
	return r;
}
