/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "base/id.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

int store_open(const char *url, struct store **store, struct error *e)
{
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(e, ENOMEM, "out of memory");
	int r = object_store_open(url, &s->objects, e);
	if (r < 0) {
		free(s);
		return r;
	}
	*store = s;
	return 0;
}

void *store_close(struct store *store)
{
	if (store)
		object_store_free(store->objects);
	free(store);
	return NULL;
}

int store_key(const char *session, int64_t generation, const char *rest, char **key,
	      struct error *e)
{
	if (!id_valid(session) || generation < 0)
		return error_set(e, EINVAL, "\"%.40s\", %" PRId64 ": not a session and generation",
				 session, generation);
	*key = str_printf("s/%s/%" PRId64 "/%s", session, generation, rest);
	return *key ? 0 : error_set(e, ENOMEM, "out of memory");
}

/* A number as store_key() writes it, so that a checkpoint has only one name. */
static bool parse_generation(const char *text, size_t len, int64_t *generation)
{
	char digits[20];
	char again[24];
	if (len == 0 || len >= sizeof(digits) || strspn(text, "0123456789") < len)
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	*generation = (int64_t)strtoll(digits, NULL, 10);
	snprintf(again, sizeof(again), "%" PRId64, *generation);
	return strcmp(digits, again) == 0;
}

static bool parse_session(const char *text, char session[17])
{
	if (strnlen(text, 16) < 16)
		return false;
	memcpy(session, text, 16);
	session[16] = '\0';
	return id_valid(session);
}

bool store_key_split(const char *key, char session[17], int64_t *generation, const char **rest)
{
	if (strncmp(key, "s/", 2) != 0 || !parse_session(key + 2, session) || key[18] != '/')
		return false;
	const char *slash = strchr(key + 19, '/');
	if (!slash || !parse_generation(key + 19, (size_t)(slash - key) - 19, generation))
		return false;
	*rest = slash + 1;
	return true;
}

char *store_staging_name(const char *session, int64_t generation, const char *id)
{
	return str_printf("%s-%" PRId64 "-%s", session, generation, id);
}

bool store_staging_split(const char *name, char session[17], int64_t *generation)
{
	if (!parse_session(name, session) || name[16] != '-')
		return false;
	const char *dash = strchr(name + 17, '-');
	return dash && parse_generation(name + 17, (size_t)(dash - name) - 17, generation) &&
	       id_valid(dash + 1);
}

bool store_staging_locked(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int decode(struct store *store, const char *key, const char *session, int64_t generation,
		  struct manifest *m, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = object_read_all(store->objects, key, &text, e);
	if (r < 0)
		return r;
	r = manifest_decode(buf_text(&text), text.len, m, e);
	if (r == 0 && (strcmp(m->meta.session, session) != 0 || m->meta.generation != generation)) {
		r = error_set(e, EBADMSG, "it belongs to generation %" PRId64 " of session %s",
			      m->meta.generation, m->meta.session);
		manifest_deinit(m);
	}
	return r < 0 ? error_wrap(e, r, "object %s", key) : 0;
}

int store_manifest_read(struct store *store, const char *session, int64_t generation,
			struct manifest *m, struct error *e)
{
	struct object_stat st;
	cleanup_free char *key = NULL;
	cleanup_free char *aside = NULL;
	int r = store_key(session, generation, STORE_MANIFEST, &key, e);
	if (r == 0)
		r = store_key(session, generation, STORE_ASIDE, &aside, e);
	if (r == 0)
		r = object_stat(store->objects, key, &st, e);
	if (r == -ENOENT)
		return error_set(e, ENOENT, "session %s has no checkpoint %" PRId64, session,
				 generation);
	if (r == 0)
		r = decode(store, key, session, generation, m, e);
	if (r < 0)
		return r;
	r = object_stat(store->objects, aside, &st, e);
	m->meta.aside = r == 0;
	if (r < 0 && r != -ENOENT) {
		manifest_deinit(m);
		return r;
	}
	return 0;
}

int store_object_key(const struct manifest *m, const struct manifest_file *file, char **key,
		     struct error *e)
{
	return store_key(m->meta.session, m->meta.generation, file->object, key, e);
}
