/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Marks of writers at work: what they may need is not removed. A mark says which
 * process made it, so that those left by a crash are known for what they are on
 * the machine where it happened; elsewhere they are believed for a day.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "store/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MARK_MOST = 512 };

static bool first_line(const char *path, char *to, size_t size)
{
	cleanup_file FILE *f = fopen(path, "re");
	if (!f || !fgets(to, (int)size, f))
		return false;
	to[strcspn(to, "\n")] = '\0';
	return true;
}

/* In clock ticks after boot: field 22 of stat, counted after the name in brackets. */
static bool start_time(long pid, unsigned long long *ticks)
{
	char path[64];
	char line[1024];
	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	if (!first_line(path, line, sizeof(line)))
		return false;
	const char *at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%llu", ticks) == 1;
}

/* What a number of a process belongs to: the boot and the name space. */
static bool where(char *to, size_t size)
{
	char boot[64];
	char space[64];
	if (!first_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)))
		return false;
	ssize_t n = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);
	if (n < 0)
		return false;
	space[n] = '\0';
	snprintf(to, size, "%s %s", boot, space);
	return true;
}

static int mark_key(const char *session, int64_t generation, const char *writer, char **key,
		    struct error *e)
{
	char rest[32];
	snprintf(rest, sizeof(rest), "%.16s.mark", writer);
	return store_key(session, generation, rest, key, e);
}

/* "1 STORE PID START\nBOOT SPACE\n" */
int store_mark_put(struct store *store, const char *session, int64_t generation, const char *writer,
		   struct error *e)
{
	char place[160];
	unsigned long long ticks = 0;
	cleanup_free char *key = NULL;
	cleanup_free char *text = NULL;
	int r = mark_key(session, generation, writer, &key, e);
	if (r < 0)
		return r;
	if (where(place, sizeof(place)) && start_time(getpid(), &ticks))
		text = str_printf("1 %s %ld %llu\n%s\n", store->id, (long)getpid(), ticks, place);
	else
		text = str_printf("1 %s 0 0\n-\n", store->id);
	if (!text)
		return store_oom(e);
	r = object_put(store->objects, key, text, strlen(text), true, e);
	return r == -EEXIST ? 0 : r; /* a request that was made twice */
}

/* Whether the process that made the mark can be seen not to be there any more. */
static bool is_gone(const struct store *store, const char *text, bool *ours)
{
	char id[17];
	char here[160];
	char place[160];
	long pid;
	unsigned long long ticks;
	unsigned long long now;
	*ours = false;
	if (sscanf(text, "1 %16s %ld %llu\n%159[^\n]", id, &pid, &ticks, place) != 4 || pid <= 0)
		return false;
	*ours = strcmp(id, store->id) == 0;
	if (!where(here, sizeof(here)) || strcmp(here, place) != 0)
		return false;
	return !start_time(pid, &now) || now != ticks;
}

int store_mark_live(struct store *store, const struct store_object *mark,
		    bool (*live)(const char *session, int64_t generation, void *arg), void *arg,
		    bool *result, struct error *e)
{
	bool ours;
	cleanup_buf struct buf text = BUF_INIT(MARK_MOST);
	*result = live && live(mark->session, mark->generation, arg);
	if (*result)
		return 0;
	int r = object_read_all(store->objects, mark->key, &text, e);
	if (r == -ENOENT) {
		/* It was removed a moment ago: the next look will not see it. */
		*result = true;
		return 0;
	}
	if (r < 0 && r != -EBADMSG)
		return r;
	bool gone = is_gone(store, buf_text(&text), &ours);
	if (ours)
		*result = store_is_writing(store, mark->writer);
	else
		*result = !gone && clock_wall() < mark->st.modified_at + STORE_MARK_MS;
	return 0;
}
