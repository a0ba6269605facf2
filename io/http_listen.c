/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/http_listen.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 128 };

/* Removes a socket that nobody listens on any more: what a killed process has left. */
static int remove_stale(const struct sockaddr_un *address, struct error *e)
{
	const char *path = address->sun_path;
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(e, "cannot look at %s", path);
	/* connect() says "refused" of any other file as well. */
	if (!S_ISSOCK(st.st_mode))
		return error_set(e, EEXIST, "%s exists and is not a socket", path);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(e, "cannot make a socket");
	int r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	if (r == 0 || errno == EAGAIN) /* its queue of connections may be full, but it is there */
		return error_set(e, EBUSY, "another process is listening on %s", path);
	if (errno != ECONNREFUSED)
		return error_errno(e, "cannot tell whether %s is in use", path);
	return unlink(path) == 0 || errno == ENOENT ? 0 : error_errno(e, "cannot remove %s", path);
}

static int open_unix(struct http_listen *l, const char *path, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;
	if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path))
		return error_set(e, EINVAL, "not a path that a socket can have: %s", path);
	memcpy(address.sun_path, path, strlen(path));
	int r = remove_stale(&address, e);
	if (r < 0)
		return r;
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cleanup_free char *copy = strdup(path);
	if (fd < 0 || !copy)
		return error_errno(e, "cannot make a socket");
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(e, "cannot bind %s", path);
	/* Everybody may connect and is then asked who they are. */
	if (chmod(path, 0666) < 0 || stat(path, &st) < 0 || listen(fd, BACKLOG) < 0) {
		r = error_errno(e, "cannot listen on %s", path);
		unlink(path);
		return r;
	}
	*l = (struct http_listen) {
		.fd = steal_fd(&fd), .path = steal_ptr(&copy), .dev = st.st_dev, .ino = st.st_ino
	};
	return 0;
}

/* "10.0.0.1:8082" or "[::1]:8082". libevent's parser takes no port 0, which asks for any. */
static int parse_tcp(const char *where, struct sockaddr_storage *to, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	const char *colon = strrchr(where, ':');
	char host[INET6_ADDRSTRLEN + 2] = "";
	char *end;
	if (!colon || (size_t)(colon - where) >= sizeof(host) || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	memcpy(host, where, (size_t)(colon - where));
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (*end || port > 65535)
		return -EINVAL;
	*to = (struct sockaddr_storage) { 0 };
	size_t host_len = strlen(host);
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		to->ss_family = AF_INET;
		*len = sizeof(*v4);
	} else if (host[0] == '[' && host[host_len - 1] == ']') {
		host[host_len - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			return -EINVAL;
		to->ss_family = AF_INET6;
		*len = sizeof(*v6);
	} else {
		return -EINVAL;
	}
	v4->sin_port = htons((uint16_t)port); /* at the same place for both */
	return 0;
}

static int open_tcp(struct http_listen *l, const char *where, struct error *e)
{
	static const int on = 1;
	struct sockaddr_storage address;
	socklen_t len;
	if (parse_tcp(where, &address, &len) < 0)
		return error_set(e, EINVAL, "not an address and port: %s", where);
	cleanup_fd int fd =
		socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(e, "cannot make a socket");
	/* Accepted connections inherit the options. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&address, len) < 0 || listen(fd, BACKLOG) < 0) {
		int code = errno;
		int r = error_errno(e, "cannot listen on %s", where);
		if (code == EADDRINUSE && e)
			e->fault = FAULT_CONFLICT;
		return r;
	}
	*l = (struct http_listen) { .fd = steal_fd(&fd) };
	return 0;
}

int http_listen_open(struct http_listen *l, const char *where, struct error *e)
{
	static const char unix_prefix[] = "unix:";
	*l = HTTP_LISTEN_INIT;
	if (strncmp(where, unix_prefix, strlen(unix_prefix)) == 0)
		return open_unix(l, where + strlen(unix_prefix), e);
	return open_tcp(l, where, e);
}

void http_listen_deinit(struct http_listen *l)
{
	struct stat st;
	cleanup_close_fd(&l->fd);
	if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	free(l->path);
	*l = HTTP_LISTEN_INIT;
}
