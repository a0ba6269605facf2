/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/depart_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/arrival.h"
#include "node/move_files.h"
#include "node/tar.h"
#include "node/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CHUNK = 1 << 20,
	EARLY_MOST = 32 << 20, /* together: for what is more the other node has another place */
};

/* What a session is but for its memory, where the steps of its departure have put it. */
enum { CRIU, REMAP, LAYERS, NAMES, WORKING_SET, FILES };
static const char *const names[FILES] = {
	[CRIU] = "criu",
	[REMAP] = "remap",
	[LAYERS] = DEPART_LAYERS,
	[NAMES] = DEPART_NAMES,
	[WORKING_SET] = WORKING_SET_FILE,
};
struct files {
	char *at[FILES];
};

static bool is_directory(int i)
{
	return i == CRIU || i == REMAP;
}

static void free_files(struct files *f)
{
	for (int i = 0; i < FILES; i++)
		free(f->at[i]);
}

static int find_files(struct node *node, const char *session, struct files *f, struct error *e)
{
	cleanup_free char *near = str_printf("%s/images/%s", node->config->node.run_dir, session);
	cleanup_free char *far = node_path(node, "images", session, "");
	cleanup_free char *pages = arrival_dir(node, session);
	cleanup_free char *criu = near ? fs_join(near, names[CRIU]) : NULL;
	if (!criu || !far || !pages)
		return error_set(e, ENOMEM, "out of memory");
	const char *images = access(criu, F_OK) == 0 ? near : far;
	const char *const dirs[FILES] = { images, images, far, far, pages };
	for (int i = 0; i < FILES; i++)
		if (!(f->at[i] = fs_join(dirs[i], names[i])))
			return error_set(e, ENOMEM, "out of memory");
	if (access(f->at[CRIU], F_OK) < 0)
		return error_set(e, ENOENT, "nothing is written down of the session");
	return 0;
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
		      const struct buf *has, struct error *e)
{
	cleanup(free_files) struct files f = { 0 };
	cleanup(move_sending_deinit) struct move_sending s = MOVE_SENDING(conn);
	s.has = has;
	int r = find_files(node, session, &f, e);
	for (int i = 0; r == 0 && i < FILES; i++)
		r = is_directory(i) ? move_sending_dir(&s, f.at[i], names[i], e)
				    : move_sending_file(&s, f.at[i], names[i], e);
	if (r == 0)
		r = move_sending_end(&s, e);
	return error_wrap(e, r, "what was written down of session %s cannot be sent", session);
}

/* Those are written once. The others are small, and some are written again behind the dump. */
static bool is_early(const char *name)
{
	return strncmp(name, "criu/pages-", strlen("criu/pages-")) == 0;
}

/* A lease to read is only had where nobody has it open to write. It is given back at once. */
static bool is_written(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fcntl(fd, F_SETLEASE, F_RDLCK) < 0 || fcntl(fd, F_SETLEASE, F_UNLCK) < 0;
}

struct early {
	struct move_sending sending;
	struct depart_early *so_far;
};

static bool was_sent(const struct depart_early *so_far, const char *name)
{
	const char *end = so_far->names.data + so_far->names.len;
	for (const char *at = so_far->names.data; at && at < end; at += strlen(at) + 1)
		if (strcmp(at, name) == 0)
			return true;
	return false;
}

static int send_early(const char *path, const char *name, void *arg, struct error *e)
{
	struct stat st;
	struct early *s = arg;
	struct depart_early *so_far = s->so_far;
	if (!is_early(name) || was_sent(so_far, name) || is_written(path) || stat(path, &st) < 0 ||
	    so_far->bytes + (uint64_t)st.st_size > EARLY_MOST ||
	    buf_append(&so_far->names, name, strlen(name) + 1) < 0)
		return 0;
	so_far->bytes += (uint64_t)st.st_size;
	return move_sending_file(&s->sending, path, name, e);
}

int depart_files_early(struct node *node, const char *session, struct move_conn *conn,
		       struct depart_early *so_far, struct error *e)
{
	cleanup_free char *criu =
		str_printf("%s/images/%s/criu", node->config->node.run_dir, session);
	struct early s = { MOVE_SENDING(conn), so_far };
	int r = criu ? move_files_each(criu, names[CRIU], send_early, &s, e)
		     : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = move_sending_end(&s.sending, e);
	move_sending_deinit(&s.sending);
	return error_wrap(e, r, "what was written down of session %s cannot be sent", session);
}

/* Should it be packed again meanwhile it is sent again, with the rest. */
int depart_files_layer(struct node *node, const char *session, struct move_conn *conn,
		       struct error *e)
{
	cleanup_free char *layer =
		node_path(node, "images", session, "/" DEPART_EARLY DEPART_LAYERS);
	cleanup_free char *there =
		node_path(node, "images", session, "/" DEPART_EARLY DEPART_NAMES);
	cleanup(move_sending_deinit) struct move_sending s = MOVE_SENDING(conn);
	int r = layer && there ? 0 : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = move_sending_file(&s, there, DEPART_NAMES, e);
	if (r == 0)
		r = move_sending_file(&s, layer, DEPART_LAYERS, e);
	if (r == 0)
		r = move_sending_end(&s, e);
	return error_wrap(e, r, "the layer of session %s cannot be sent", session);
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
	uint64_t all = 0;
	cleanup(free_files) struct files f = { 0 };
	int r = find_files(node, session, &f, e);
	for (int i = 0; r == 0 && i < FILES; i++) {
		uint64_t some = 0;
		if (access(f.at[i], F_OK) == 0)
			r = fs_tree_bytes(f.at[i], &some, e);
		all += some;
	}
	*bytes = (int64_t)all;
	return r;
}
