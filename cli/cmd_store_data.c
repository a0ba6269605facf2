/* SPDX-License-Identifier: Apache-2.0 */
/* The store's data: export, import, part by part. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/bar.h"
#include "cli/table.h"
#include "cli/text.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PART = 1 << 20 };

/* A part of an export may wait for a slow bucket. */
#define PART_TIMEOUT_S 600

/* --- export -------------------------------------------------------------------- */

struct output {
	int fd;
	char *part; /* name of the file until it is whole; NULL: standard output */
	const char *path;
	int64_t written;
	int code; /* errno of a write that failed; 0 */
};

static void output_deinit(struct output *to)
{
	if (to->part) {
		if (to->fd >= 0)
			close(to->fd);
		unlink(to->part);
	}
	free(to->part);
}

static int open_output(const char *path, struct output *to, struct error *e)
{
	int r = 0;
	*to = (struct output) { .fd = STDOUT_FILENO, .path = path };
	if ((!path || strcmp(path, "-") == 0) && isatty(STDOUT_FILENO)) {
		r = error_set(e, EINVAL, "a checkpoint is nothing for a terminal");
		return error_remedy(e, r, "name a file, or redirect standard output");
	}
	if (!path || strcmp(path, "-") == 0)
		return 0;
	if (access(path, F_OK) == 0) {
		r = error_set(e, EEXIST, "there is a %s already", path);
		return error_remedy(e, r, "name another file, or remove that one");
	}
	to->part = str_printf("%s.part", path);
	to->fd = to->part ? open(to->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
				 0600)
			  : -1;
	return to->fd < 0 ? error_errno(e, "cannot make %s", to->part ? to->part : path) : 0;
}

static int write_part(const char *data, size_t len, void *arg)
{
	struct output *to = arg;
	while (len) {
		ssize_t n = write(to->fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			to->code = errno;
			return -1;
		}
		data += n;
		len -= (size_t)n;
		to->written += n;
	}
	return 0;
}

static int cannot_write(const struct output *to, struct error *e)
{
	errno = to->code;
	return error_errno(e, "cannot write %s", to->part ? to->path : "to standard output");
}

static int fetch_all(struct cli *cli, const char *id, int64_t total, struct output *to,
		     struct error *e)
{
	struct bar bar = { .title = "export" };
	cleanup_free char *path = str_printf("/v1/store/data?id=%s", id);
	int64_t before;
	int r;
	do {
		before = to->written;
		r = api_get_bytes(cli, path, write_part, to, e);
		bar_show(&bar, to->written, total);
	} while (r == 0 && to->written > before);
	bar_end(&bar);
	return to->code ? cannot_write(to, e) : r;
}

static int finish_output(struct output *to, struct error *e)
{
	if (!to->part)
		return 0;
	int fd = to->fd;
	to->fd = -1;
	if (fsync(fd) < 0 || close(fd) < 0) {
		to->code = errno;
		return cannot_write(to, e);
	}
	/* Not over what somebody else has made meanwhile. */
	if (link(to->part, to->path) < 0)
		return error_errno(e, "cannot name the file %s", to->path);
	return 0;
}

static int check_id(const json_t *task, struct error *e)
{
	const char *id = wire_text_at(task, "id");
	if (*id && strspn(id, "0123456789abcdef") == strlen(id))
		return 0;
	return api_check_object(NULL, NULL, e);
}

int cmd_store_export(struct cli *cli, struct error *e)
{
	cleanup_json json_t *checkpoint = NULL;
	cleanup_json json_t *task = NULL;
	cleanup(output_deinit) struct output to = { .fd = -1 };
	char bytes[32];
	int r = open_output(cli->argument, &to, e);
	r = r < 0 ? r : store_checkpoint(cli, &checkpoint, e);
	if (r < 0)
		return r;
	r = store_task_begin(cli, "export", store_checkpoint_body(cli, checkpoint), &task, e);
	r = r < 0 ? r : check_id(task, e);
	if (!cli->timeout_s)
		cli->timeout_s = PART_TIMEOUT_S;
	int64_t total = wire_number_at(checkpoint, "stored_bytes") +
			wire_number_at(checkpoint, "shared_bytes");
	r = r < 0 ? r : fetch_all(cli, wire_text_at(task, "id"), total, &to, e);
	r = r < 0 ? r : finish_output(&to, e);
	if (r < 0)
		return r;
	fprintf(to.part && !cli->json ? stdout : stderr, "%s of ", format_bytes(to.written, bytes));
	text_print_name(to.part && !cli->json ? stdout : stderr, cli->user);
	fprintf(to.part && !cli->json ? stdout : stderr, "'s checkpoint %lld%s%s\n",
		(long long)wire_number_at(checkpoint, "generation"), to.part ? " are in " : "",
		to.part ? to.path : " written");
	return 0;
}

/* --- import -------------------------------------------------------------------- */

static int open_input(const char *path, int *fd, int64_t *size, struct error *e)
{
	struct stat st;
	*fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return error_errno(e, "cannot read %s", path);
	*size = S_ISREG(st.st_mode) ? st.st_size : 0;
	return 0;
}

static int send_all(struct cli *cli, const char *id, int fd, int64_t total, struct error *e)
{
	struct bar bar = { .title = "import" };
	cleanup_free char *path = str_printf("/v1/store/data?id=%s", id);
	cleanup_free char *part = malloc(PART);
	int64_t sent = 0;
	ssize_t n = 1;
	int r = part ? 0 : error_set(e, ENOMEM, "out of memory");
	while (r == 0 && n > 0) {
		n = fs_read_up_to(fd, part, PART);
		/* An empty one ends it; after a failure here there is none, and it does not count.
		 */
		r = n < 0 ? error_errno(e, "cannot read what is to be imported")
			  : api_post_bytes(cli, path, part, (size_t)n, e);
		sent += n > 0 ? n : 0;
		bar_show(&bar, sent, total);
	}
	bar_end(&bar);
	return r;
}

static void say_imported(const json_t *end)
{
	const json_t *checkpoint = json_object_get(end, "checkpoint");
	const char *server = wire_text_at(checkpoint, "server");
	text_print_name(stdout, wire_text_at(checkpoint, "user"));
	if (*server) {
		putchar('/');
		text_print_name(stdout, server);
	}
	printf(" generation %lld: imported; ", (long long)wire_number_at(checkpoint, "generation"));
	text_print_name(stdout, wire_text_at(end, "record"));
	putchar('\n');
}

int cmd_store_import(struct cli *cli, struct error *e)
{
	cleanup_json json_t *task = NULL;
	cleanup_json json_t *end = NULL;
	cleanup_fd int fd = -1;
	int64_t size = 0;
	int64_t timeout = cli->timeout_s;
	int r = open_input(cli->argument, &fd, &size, e);
	r = r < 0 ? r : store_task_begin(cli, "import", json_object(), &task, e);
	r = r < 0 ? r : check_id(task, e);
	if (!cli->timeout_s)
		cli->timeout_s = PART_TIMEOUT_S;
	r = r < 0 ? r : send_all(cli, wire_text_at(task, "id"), fd, size, e);
	cli->timeout_s = timeout;
	r = r < 0 ? r : store_task_follow(cli, "import", wire_text_at(task, "id"), &end, e);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(stdout, end);
	else
		say_imported(end);
	return 0;
}
