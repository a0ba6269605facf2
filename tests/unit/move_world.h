/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes with certificates of one authority, and a listener on loopback, for tests of move
 * connections. */
#ifndef ELSA_TESTS_MOVE_WORLD_H
#define ELSA_TESTS_MOVE_WORLD_H

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/move_conn_private.h"
#include "wire/identity.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOVE_HOUR = 3600 * 1000 };

struct move_world {
	char dir[64];
	int listener;
	char at[32]; /* of the listener */
};

static inline void move_world_ca(struct move_world *w, const char *name)
{
	cleanup_free char *key = str_printf("%s/%s.key", w->dir, name);
	cleanup_free char *cert = str_printf("%s/%s.pem", w->dir, name);
	cleanup_free char *pem = NULL;
	const struct x509_terms terms = { .name = name,
					  .from = clock_wall() - MOVE_HOUR,
					  .until = clock_wall() + MOVE_HOUR };
	assert_int_equal(x509_make_key(key, NULL), 0);
	assert_int_equal(x509_make_ca(key, &terms, &pem, NULL), 0);
	assert_int_equal(fs_replace(cert, pem, strlen(pem), 0600, NULL), 0);
}

/* What node `name` connects and accepts with, by the authority `ca`, until then. */
static inline struct move_tls *move_world_tls(struct move_world *w, const char *ca,
					      const char *name, int64_t until)
{
	cleanup_free char *key = str_printf("%s/%s.key", w->dir, name);
	cleanup_free char *cert = str_printf("%s/%s.pem", w->dir, name);
	cleanup_free char *ca_key = str_printf("%s/%s.key", w->dir, ca);
	cleanup_free char *ca_cert = str_printf("%s/%s.pem", w->dir, ca);
	cleanup_free char *host = node_host(name);
	cleanup_free char *csr = NULL;
	cleanup_free char *pem = NULL;
	cleanup_buf struct buf authority = BUF_INIT(1 << 16);
	const struct x509_terms terms = { .name = name,
					  .host = host,
					  .from = clock_wall() - 2 * MOVE_HOUR,
					  .until = clock_wall() + until };
	const struct identity id = { .key_file = key, .cert_file = cert, .ca_file = ca_cert };
	struct move_tls *tls = NULL;
	struct error e = ERROR_INIT;
	assert_int_equal(fs_read(ca_cert, &authority, NULL), 0);
	assert_int_equal(x509_make_key(key, NULL), 0);
	assert_int_equal(x509_make_csr(key, name, &csr, NULL), 0);
	assert_int_equal(x509_sign(csr, buf_text(&authority), ca_key, &terms, &pem, NULL), 0);
	assert_int_equal(fs_replace(cert, pem, strlen(pem), 0600, NULL), 0);
	if (move_tls_new(&id, &tls, &e) < 0)
		fail_msg("%s", e.text);
	return tls;
}

static inline void move_world_init(struct move_world *w)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	*w = (struct move_world) { .dir = "/tmp/elsa-move-XXXXXX" };
	assert_non_null(mkdtemp(w->dir));
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(w->listener, 16), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&address, &len), 0);
	snprintf(w->at, sizeof(w->at), "127.0.0.1:%d", ntohs(address.sin_port));
	move_world_ca(w, "ca");
}

/* This node's certificate is where it looks for it: `dir` is its state_dir. */
static inline void move_world_join(struct move_world *w, const char *name)
{
	cleanup_free char *dir = str_printf("%s/identity", w->dir);
	const char *const files[][2] = { { "key", "key.pem" }, { "pem", "cert.pem" } };
	cleanup_free char *ca = str_printf("%s/ca.pem", w->dir);
	cleanup_free char *ca_there = str_printf("%s/ca.pem", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	move_tls_free(move_world_tls(w, "ca", name, MOVE_HOUR));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		cleanup_free char *from = str_printf("%s/%s.%s", w->dir, name, files[i][0]);
		cleanup_free char *to = str_printf("%s/%s", dir, files[i][1]);
		assert_int_equal(link(from, to), 0);
	}
	assert_int_equal(link(ca, ca_there), 0);
}

static inline void move_world_deinit(struct move_world *w)
{
	close(w->listener);
	fs_remove_tree(w->dir, NULL);
}

/* An answer as an Elsa of another version would. */
static inline int move_world_say_otherwise(struct move_conn *c)
{
	static const unsigned char no[] = { 'E', 'M', MOVE_VERSION + 1, MOVE_ERROR, 2, 0, 0, 0,
					    '{', '}' };
	size_t done;
	return move_conn_write(c, no, sizeof(no), &done, 1000, NULL);
}

#endif
