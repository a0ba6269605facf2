/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_reaper.h"

#include "base/cleanup.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

void http_reaper_init(struct http_reaper *r, int listen_fd)
{
	*r = (struct http_reaper) { .local_len = sizeof(r->local) };
	getsockname(listen_fd, (struct sockaddr *)&r->local, &r->local_len);
}

void http_reaper_deinit(struct http_reaper *r)
{
	free(r->seen);
	*r = (struct http_reaper) { 0 };
}

/* Is it an accepted connection of the listening socket's? One that listens on all addresses has
 * connections on each, so for TCP the port decides: it is nobody else's. */
static bool is_ours(const struct http_reaper *r, int fd)
{
	struct sockaddr_storage local = { 0 };
	struct sockaddr_storage peer;
	socklen_t len = sizeof(local);
	socklen_t peer_len = sizeof(peer);
	if (getsockname(fd, (struct sockaddr *)&local, &len) < 0 ||
	    local.ss_family != r->local.ss_family ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return false;
	if (local.ss_family == AF_UNIX)
		return len == r->local_len && memcmp(&local, &r->local, len) == 0;
	/* At the same place for both IP families. */
	return ((struct sockaddr_in *)&local)->sin_port ==
	       ((const struct sockaddr_in *)&r->local)->sin_port;
}

static struct http_reaper_seen *find(struct http_reaper *r, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return NULL;
	for (size_t i = 0; i < r->count; i++)
		if (r->seen[i].ino == st.st_ino)
			return &r->seen[i];
	return NULL;
}

static struct http_reaper_seen *find_or_add(struct http_reaper *r, int fd, mono_us now)
{
	struct http_reaper_seen *found = find(r, fd);
	struct stat st;
	if (found || fstat(fd, &st) < 0)
		return found;
	/* Grows by doubling, at powers of two. */
	if ((r->count & (r->count - 1)) == 0) {
		size_t size = r->count ? 2 * r->count : 1;
		void *more = realloc(r->seen, size * sizeof(*r->seen));
		if (!more)
			return NULL;
		r->seen = more;
	}
	r->seen[r->count] = (struct http_reaper_seen) { .ino = st.st_ino, .since = now };
	return &r->seen[r->count++];
}

void http_reaper_answered(struct http_reaper *r, int fd, mono_us now)
{
	struct http_reaper_seen *found = find(r, fd);
	if (found)
		found->since = now;
}

static void forget_closed(struct http_reaper *r)
{
	size_t kept = 0;
	for (size_t i = 0; i < r->count; i++)
		if (r->seen[i].round == r->round)
			r->seen[kept++] = r->seen[i];
	r->count = kept;
}

size_t http_reaper_run(struct http_reaper *r, mono_us now, mono_us limit, size_t most,
		       bool (*is_busy)(int fd, void *arg), void *arg)
{
	size_t count = 0;
	cleanup_dir DIR *dir = opendir("/proc/self/fd");
	r->round++;
	for (struct dirent *d; dir && (d = readdir(dir));) {
		int fd = (int)strtol(d->d_name, NULL, 10);
		if (d->d_name[0] == '.' || !is_ours(r, fd))
			continue;
		struct http_reaper_seen *s = find_or_add(r, fd, now);
		if (s)
			s->round = r->round;
		if (!is_busy(fd, arg) && (++count > most || (s && now - s->since >= limit)))
			shutdown(fd, SHUT_RDWR);
	}
	forget_closed(r);
	return count;
}
