/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Marks of writers at work: what they may need is not removed. A mark says which
 * process made it, so that those left by a crash are known for what they are on
 * the machine where it happened; elsewhere they are believed for a day.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
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

static void enlist(struct store *store, struct store_writer *w)
{
	pthread_mutex_lock(&store->lock);
	w->next = store->writers;
	store->writers = w;
	pthread_mutex_unlock(&store->lock);
}

static void delist(struct store *store, struct store_writer *w)
{
	pthread_mutex_lock(&store->lock);
	struct store_writer **at = &store->writers;
	while (*at && *at != w)
		at = &(*at)->next;
	if (*at)
		*at = w->next;
	pthread_mutex_unlock(&store->lock);
}

static bool is_listed(struct store *store, const char *id)
{
	pthread_mutex_lock(&store->lock);
	const struct store_writer *w = store->writers;
	while (w && strcmp(w->id, id) != 0)
		w = w->next;
	pthread_mutex_unlock(&store->lock);
	return w != NULL;
}

/* "1 STORE PID START\nBOOT SPACE\n" */
static int put_mark(struct store *store, const char *key, struct error *e)
{
	char place[160];
	unsigned long long ticks = 0;
	cleanup_free char *text = NULL;
	if (where(place, sizeof(place)) && start_time(getpid(), &ticks))
		text = str_printf("1 %s %ld %llu\n%s\n", store->id, (long)getpid(), ticks, place);
	else
		text = str_printf("1 %s 0 0\n-\n", store->id);
	if (!text)
		return store_oom(e);
	int r = object_put(store->objects, key, text, strlen(text), true, e);
	return r == -EEXIST ? 0 : r; /* a request that was made twice */
}

static char *mark_key(const char *session, int64_t generation, const struct store_writer *w)
{
	return str_printf("s/%s/%" PRId64 "/%s.mark", session, generation, w->id);
}

int store_mark(struct store *store, const char *session, int64_t generation, struct store_writer *w,
	       struct error *e)
{
	id_new(w->id);
	cleanup_free char *key = mark_key(session, generation, w);
	if (!key)
		return store_oom(e);
	enlist(store, w);
	return put_mark(store, key, e);
}

void store_unmark(struct store *store, const char *session, int64_t generation,
		  struct store_writer *w)
{
	if (!w->id[0])
		return;
	cleanup_free char *key = mark_key(session, generation, w);
	if (key)
		object_remove(store->objects, key, NULL);
	delist(store, w);
	w->id[0] = '\0';
}

void store_leave_mark(struct store *store, struct store_writer *w)
{
	delist(store, w);
	w->id[0] = '\0';
}

static char *announce_key(const char *session, enum store_kind kind, const struct store_writer *w)
{
	return str_printf("s/%s/%s%s", session,
			  kind == STORE_KIND_FORGET ? STORE_FORGET : STORE_SWEEP, w->id);
}

int store_announce(struct store *store, const char *session, enum store_kind kind,
		   struct store_writer *w, struct error *e)
{
	id_new(w->id);
	cleanup_free char *key = announce_key(session, kind, w);
	if (!key)
		return store_oom(e);
	enlist(store, w);
	return put_mark(store, key, e);
}

void store_announce_end(struct store *store, const char *session, enum store_kind kind,
			struct store_writer *w)
{
	if (!w->id[0])
		return;
	cleanup_free char *key = announce_key(session, kind, w);
	if (key)
		object_remove(store->objects, key, NULL);
	delist(store, w);
	w->id[0] = '\0';
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

int store_mark_live(struct store *store, const struct store_object *mark, bool *result,
		    struct error *e)
{
	bool ours;
	cleanup_buf struct buf text = BUF_INIT(MARK_MOST);
	int r = object_read_all(store->objects, mark->key, &text, e);
	*result = true;
	if (r == -ENOENT)
		return 0; /* removed a moment ago: the next look will not see it */
	if (r < 0 && r != -EBADMSG)
		return r;
	bool gone = is_gone(store, buf_text(&text), &ours);
	if (ours)
		*result = is_listed(store, mark->writer);
	else
		*result = !gone && clock_wall() < mark->st.modified_at + STORE_MARK_MS;
	return 0;
}

int store_check_forgotten(struct store *store, const struct store_scan *scan, struct error *e)
{
	int r = 0;
	for (size_t i = 0; i < scan->count && r == 0; i++) {
		const struct store_object *o = &scan->list[i];
		bool live = false;
		if (o->kind == STORE_KIND_FORGET)
			r = store_mark_live(store, o, &live, e);
		if (live)
			r = error_fault(e, FAULT_CONFLICT, "session %s is being forgotten",
					o->session);
	}
	return r;
}
