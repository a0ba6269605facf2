/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/master.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TEXT_MAX = 256, /* more than any way to write a key takes */
	HEX = 2 * SEAL_KEY,
	BASE64 = (SEAL_KEY + 2) / 3 * 4,
	COMMAND_MS = 30000,
};

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool parse_hex(const char *text, struct seal_key *key)
{
	for (size_t i = 0; i < SEAL_KEY; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		key->bytes[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static bool parse_base64(const char *text, struct seal_key *key)
{
	/* It counts what '=' stands for. */
	unsigned char bytes[BASE64 / 4 * 3];
	bool done = text[BASE64 - 1] == '=' && text[BASE64 - 2] != '=' &&
		    EVP_DecodeBlock(bytes, (const unsigned char *)text, BASE64) == sizeof(bytes);
	if (done)
		memcpy(key->bytes, bytes, SEAL_KEY);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return done;
}

static size_t without_newline(const char *text, size_t len)
{
	if (len && text[len - 1] == '\n')
		len--;
	if (len && text[len - 1] == '\r')
		len--;
	return len;
}

int master_parse(const char *text, size_t len, struct seal_key *key, struct error *e)
{
	size_t line = without_newline(text, len);
	if ((line == HEX && parse_hex(text, key)) || (line == BASE64 && parse_base64(text, key)))
		return 0;
	if (len == SEAL_KEY || (len == SEAL_KEY + 1 && text[SEAL_KEY] == '\n')) {
		memcpy(key->bytes, text, SEAL_KEY);
		return 0;
	}
	int r = error_set(e, EINVAL,
			  "it is not a key: not 32 bytes, 64 hexadecimal digits or base64");
	return error_remedy(e, r, "make one with: openssl rand -hex 32");
}

const char *master_of_object(const char *object)
{
	static const char prefix[] = "key-";
	const char *slash = strrchr(object, '/');
	const char *last = slash ? slash + 1 : object;
	return strncmp(last, prefix, sizeof(prefix) - 1) == 0 ? last + sizeof(prefix) - 1 : NULL;
}

/* --- from a file ---------------------------------------------------------------------- */

static int check_private(int fd, const char *path, struct error *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(e, "cannot look at the master key %s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(e, EINVAL, "the master key %s is not a file", path);
	if (!(st.st_mode & 077))
		return 0;
	int r = error_set(e, EACCES, "the master key %s may be read or changed by others (%04o)",
			  path, st.st_mode & 07777);
	return error_remedy(e, r, "chmod 600 %s", path);
}

int master_load_file(const char *path, struct seal_key *key, struct error *e)
{
	char text[TEXT_MAX];
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return error_errno(e, "cannot open the master key %s", path);
	int r = check_private(fd, path, e);
	if (r < 0)
		return r;
	ssize_t len = fs_read_up_to(fd, text, sizeof(text));
	if (len < 0)
		return error_errno(e, "cannot read the master key %s", path);
	r = master_parse(text, (size_t)len, key, e);
	OPENSSL_cleanse(text, sizeof(text));
	return r < 0 ? error_wrap(e, r, "the master key %s", path) : 0;
}

struct found {
	bool any;
	char key[SEAL_NAME]; /* of a master key, once there is one */
};

static int note_object(const char *object, const struct object_stat *st, void *arg)
{
	struct found *found = arg;
	const char *key = master_of_object(object);
	(void)st;
	found->any = true;
	if (!key)
		return 0;
	snprintf(found->key, sizeof(found->key), "%.*s", SEAL_NAME - 1, key);
	return 1;
}

/* What was written with a lost key must not be joined by what is written with a new one: that would
 * only hide the loss. */
static int check_unused(struct object_store *objects, const char *path, struct error *e)
{
	struct found found = { 0 };
	int r = object_list(objects, "s/", note_object, &found, e);
	if (r < 0)
		return error_wrap(
			e, r, "the master key %s is missing, and so the store is looked at", path);
	if (!found.any)
		return 0;
	r = error_set(e, ENOKEY, "the master key %s is missing; the store was written with key %s",
		      path, found.key[0] ? found.key : "unknown");
	return error_remedy(
		e, r,
		"put that key back; to begin another one beside it, name the old one's "
		"file in store.old_key_files and: (umask 077; openssl rand -hex 32 > %s)",
		path);
}

static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}

static int write_key(int fd, const struct seal_key *key)
{
	char text[HEX + 2];
	for (size_t i = 0; i < SEAL_KEY; i++)
		snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
	text[HEX] = '\n';
	int r = fs_write_all(fd, text, HEX + 1) < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0 ? -1
											     : 0;
	OPENSSL_cleanse(text, sizeof(text));
	return r;
}

/* Whole and durable, or not at all; if somebody else was quicker, theirs stays. */
static int create_file(const char *path, const struct seal_key *key, struct error *e)
{
	cleanup_free char *parent = parent_of(path), *tmp = str_printf("%s.XXXXXX", path);
	if (!parent || !tmp)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_mkdirs(parent, 0700, e);
	if (r < 0)
		return r;
	cleanup_fd int fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "cannot create the master key %s", path);
	if (write_key(fd, key) < 0 || (link(tmp, path) < 0 && errno != EEXIST))
		r = error_errno(e, "cannot create the master key %s", path);
	unlink(tmp);
	return r < 0 ? r : fs_sync_dir(parent, e);
}

static int load_or_make(const char *path, struct object_store *objects, struct seal_key *key,
			struct error *e)
{
	int r = master_load_file(path, key, e);
	if (r != -ENOENT)
		return r;
	error_clear(e);
	r = check_unused(objects, path, e);
	if (r == 0)
		r = seal_random(key->bytes, SEAL_KEY, e);
	if (r == 0)
		r = create_file(path, key, e);
	return r < 0 ? r : master_load_file(path, key, e);
}

/* --- from elsewhere ------------------------------------------------------------------- */

/* The command's output never gets into a message: it may be the key. */
static int load_command(const char *const *command, struct seal_key *key, struct error *e)
{
	struct job_result result;
	int r = job_run(&JOB_OPTIONS(.argv = command, .timeout_ms = COMMAND_MS), &result, e);
	if (r == 0 && result.status != 0)
		r = error_set(e, EIO, "it ended with status %d: %.300s", result.status,
			      buf_text(&result.err));
	if (r == 0)
		r = master_parse(buf_text(&result.out), result.out.len, key, e);
	if (result.out.data)
		OPENSSL_cleanse(result.out.data, result.out.size);
	job_result_deinit(&result);
	return r < 0 ? error_wrap(e, r, "store.key_command (%s)", command[0]) : 0;
}

static int load_env(const char *name, struct seal_key *key, struct error *e)
{
	const char *text = getenv(name);
	if (!text)
		return error_set(e, ENOKEY, "store.key_env: the environment has no %s", name);
	int r = master_parse(text, strlen(text), key, e);
	return r < 0 ? error_wrap(e, r, "store.key_env (%s)", name) : 0;
}

int master_load(const struct store_options *options, struct object_store *objects,
		struct seal_key *key, struct error *e)
{
	if (options->key_command && options->key_command[0])
		return load_command(options->key_command, key, e);
	if (options->key_env && options->key_env[0])
		return load_env(options->key_env, key, e);
	if (options->key_file && options->key_file[0])
		return load_or_make(options->key_file, objects, key, e);
	int r = error_set(e, EINVAL, "the store has no master key");
	return error_remedy(e, r, "set store.key_file, store.key_env or store.key_command");
}
