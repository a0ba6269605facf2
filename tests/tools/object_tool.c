/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloud/object.h by hand, for tests:
 *
 *	object_tool URL COMMAND [ARGUMENT...] [COMMAND ...]
 *
 *	put KEY FILE            put-new KEY FILE     (if absent)
 *	get KEY FILE            read KEY OFFSET LEN  (to standard output)
 *	stat KEY                list PREFIX          remove KEY
 *
 * The first failure ends it: "error: TEXT", "remedy: TEXT" and "fault: NAME" on standard error,
 * exit status 1, or 17 where -EEXIST and 2 where -ENOENT was returned.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/object.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST ((size_t)1 << 30)

static int put(struct object_store *s, const char *key, const char *path, bool if_absent,
	       struct error *e)
{
	cleanup_buf struct buf data = BUF_INIT(MOST);
	int r = fs_read(path, &data, e);
	return r < 0 ? r : object_put(s, key, buf_text(&data), data.len, if_absent, e);
}

static int cmd_put(struct object_store *s, char **a, struct error *e)
{
	return put(s, a[0], a[1], false, e);
}

static int cmd_put_new(struct object_store *s, char **a, struct error *e)
{
	return put(s, a[0], a[1], true, e);
}

static int cmd_get(struct object_store *s, char **a, struct error *e)
{
	cleanup_buf struct buf data = BUF_INIT(MOST);
	int r = object_read_all(s, a[0], &data, e);
	return r < 0 ? r : fs_replace(a[1], buf_text(&data), data.len, 0600, e);
}

static int cmd_read(struct object_store *s, char **a, struct error *e)
{
	size_t len = strtoull(a[2], NULL, 10);
	cleanup_free char *data = malloc(len + 1);
	int r = object_read(s, a[0], strtoull(a[1], NULL, 10), data, len, e);
	if (r == 0)
		fwrite(data, 1, len, stdout);
	return r;
}

static int cmd_stat(struct object_store *s, char **a, struct error *e)
{
	struct object_stat st;
	int r = object_stat(s, a[0], &st, e);
	if (r == 0)
		printf("%" PRIu64 " %" PRId64 "\n", st.size, st.modified_at);
	return r;
}

static int show(const char *key, const struct object_stat *st, void *arg)
{
	(void)arg;
	printf("%s %" PRIu64 "\n", key, st->size);
	return 0;
}

static int cmd_list(struct object_store *s, char **a, struct error *e)
{
	return object_list(s, a[0], show, NULL, e);
}

static int cmd_remove(struct object_store *s, char **a, struct error *e)
{
	return object_remove(s, a[0], e);
}

static const struct {
	const char *name;
	int arguments;
	int (*run)(struct object_store *s, char **arguments, struct error *e);
} commands[] = {
	{ "put", 2, cmd_put },       { "put-new", 2, cmd_put_new }, { "get", 2, cmd_get },
	{ "read", 3, cmd_read },     { "stat", 1, cmd_stat },       { "list", 1, cmd_list },
	{ "remove", 1, cmd_remove },
};

/* How many words the command took, or a negative errno. */
static int run(struct object_store *s, int argc, char **argv, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, argv[0]) != 0)
			continue;
		int n = commands[i].arguments;
		if (n >= argc)
			break;
		int r = commands[i].run(s, argv + 1, e);
		return r < 0 ? r : 1 + n;
	}
	return error_set(e, EINVAL, "%s is not a command, or lacks arguments", argv[0]);
}

static int fail(int r, const struct error *e)
{
	fprintf(stderr, "error: %s\nremedy: %s\nfault: %s\n", e->text, e->remedy,
		fault_name(e->fault));
	return r == -EEXIST || r == -ENOENT ? -r : 1;
}

int main(int argc, char **argv)
{
	struct object_store *s;
	struct error e = ERROR_INIT;
	if (argc < 3)
		return 1;
	int r = object_store_open(argv[1], &s, &e);
	if (r < 0)
		return fail(r, &e);
	for (int i = 2; i < argc && r >= 0; i += r)
		r = run(s, argc - i, argv + i, &e);
	object_store_free(s);
	return r < 0 ? fail(r, &e) : 0;
}
