/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/ca.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "wire/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIGEST_FACT "nodes.ca" /* of the authority that the nodes on record know */

#define DAY_MS       (24 * 3600 * 1000LL)
#define EARLIER_MS   (3600 * 1000LL) /* clocks of other hosts may be behind ours */
#define AUTHORITY_MS (20 * 365 * DAY_MS)
#define OWN_MS       (365 * DAY_MS)

enum { PEM_MOST = 64 << 10, RENEWAL_S = 6 * 3600 };

static struct x509_terms terms_of(const char *name, const char *host, int64_t for_ms)
{
	wall_ms now = clock_wall();
	return (struct x509_terms) {
		.name = name,
		.host = host,
		.from = now - (for_ms < EARLIER_MS ? for_ms : EARLIER_MS),
		.until = now + for_ms,
	};
}

static int read_text(const char *path, char **text, struct error *e)
{
	cleanup_buf struct buf read = BUF_INIT(PEM_MOST);
	int r = fs_read(path, &read, e);
	if (r < 0)
		return r;
	*text = buf_steal(&read);
	return *text ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int write_text(const char *path, const char *text, struct error *e)
{
	return fs_replace(path, text, strlen(text), 0644, e);
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* The key is there before the certificate, which is there before anybody is told of it. */
static int make_authority(struct ca *ca, struct error *e)
{
	cleanup_free char *pem = NULL;
	const struct x509_terms terms = terms_of("Elsa", NULL, AUTHORITY_MS);
	int r = exists(ca->ca_key_file) ? 0 : x509_make_key(ca->ca_key_file, e);
	if (r == 0)
		r = x509_make_ca(ca->ca_key_file, &terms, &pem, e);
	if (r == 0)
		r = write_text(ca->ca_file, pem, e);
	if (r == 0)
		log_info("made a certificate authority for nodes in %s", ca->dir);
	return r;
}

static int open_authority(struct ca *ca, struct error *e)
{
	struct x509_facts facts;
	int r = exists(ca->ca_file) ? 0 : make_authority(ca, e);
	if (r == 0)
		r = read_text(ca->ca_file, &ca->pem, e);
	if (r == 0)
		r = x509_facts(ca->pem, &facts, e);
	if (r == 0)
		r = x509_check_pair(ca->pem, ca->pem, ca->ca_key_file, e);
	if (r < 0) {
		error_wrap(e, r, "the certificate authority in %s", ca->dir);
		return error_remedy(e, r,
				    "bring that directory back from a backup, or move it away: a "
				    "new one is then made, and nodes have to join again");
	}
	snprintf(ca->digest, sizeof(ca->digest), "%s", facts.digest);
	return 0;
}

/* --- controller.elsa ------------------------------------------------------ */

static int make_own(struct ca *ca, struct error *e)
{
	cleanup_free char *csr = NULL;
	cleanup_free char *pem = NULL;
	const struct x509_terms terms = terms_of(CONTROLLER_HOST, CONTROLLER_HOST, OWN_MS);
	int r = exists(ca->key_file) ? 0 : x509_make_key(ca->key_file, e);
	if (r == 0)
		r = x509_make_csr(ca->key_file, CONTROLLER_HOST, &csr, e);
	if (r == 0)
		r = x509_sign(csr, ca->pem, ca->ca_key_file, &terms, &pem, e);
	if (r < 0)
		return r;
	/* The authority goes with it: a host that joins knows that one by its digest only. */
	cleanup_free char *chain = str_printf("%s%s", pem, ca->pem);
	return chain ? write_text(ca->cert_file, chain, e) : error_set(e, ENOMEM, "out of memory");
}

/* Is it of this authority and key, and good for a third of its time at least? */
static bool own_is_good(const struct ca *ca)
{
	cleanup_free char *pem = NULL;
	struct x509_facts facts;
	return read_text(ca->cert_file, &pem, NULL) == 0 &&
	       x509_check_pair(pem, ca->pem, ca->key_file, NULL) == 0 &&
	       x509_facts(pem, &facts, NULL) == 0 && facts.until - clock_wall() > OWN_MS / 3;
}

static void renew_own(evutil_socket_t fd, short what, void *arg)
{
	struct ca *ca = arg;
	struct error e = ERROR_INIT;
	(void)fd;
	(void)what;
	if (own_is_good(ca))
		return;
	if (make_own(ca, &e) < 0)
		log_error("elsad's own certificate cannot be renewed: %s", e.text);
	else
		log_info("elsad's own certificate was renewed");
}

/* --- which authority the nodes know --------------------------------------- */

static int count_node(const struct db_node *node, void *arg)
{
	(void)node;
	++*(int *)arg;
	return 0;
}

static int compare_fact(struct controller *c, const struct ca *ca, struct error *e)
{
	cleanup_free char *known = NULL;
	int nodes = 0;
	if (db_fact_get(c->db, DIGEST_FACT, &known, NULL) == 0 && strcmp(known, ca->digest) == 0)
		return 0;
	int r = db_node_each(c->db, count_node, &nodes, e);
	if (r == 0 && nodes)
		log_error("the certificate authority in %s is not the one that %d %s joined: each "
			  "has to join again, with a new token (elsa node token)",
			  ca->dir, nodes, nodes == 1 ? "node has" : "nodes have");
	return r < 0 ? r : db_fact_set(c->db, DIGEST_FACT, ca->digest, e);
}

/* --- life ----------------------------------------------------------------- */

static int name_files(struct ca *ca, const char *database, struct error *e)
{
	const char *slash = strrchr(database, '/');
	ca->dir = slash ? str_printf("%.*s/ca", (int)(slash - database), database) : strdup("ca");
	if (!ca->dir)
		return error_set(e, ENOMEM, "out of memory");
	ca->ca_key_file = fs_join(ca->dir, "ca-key.pem");
	ca->ca_file = fs_join(ca->dir, "ca.pem");
	ca->key_file = fs_join(ca->dir, "controller-key.pem");
	ca->cert_file = fs_join(ca->dir, "controller.pem");
	return ca->ca_key_file && ca->ca_file && ca->key_file && ca->cert_file
		       ? 0
		       : error_set(e, ENOMEM, "out of memory");
}

static int start_renewal(struct controller *c, struct ca *ca, struct error *e)
{
	static const struct timeval interval = { .tv_sec = RENEWAL_S };
	ca->renewal = event_new(c->base, -1, EV_PERSIST, renew_own, ca);
	if (!ca->renewal || event_add(ca->renewal, &interval) < 0)
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

int ca_open(struct controller *c, struct ca **to, struct error *e)
{
	struct ca *ca = calloc(1, sizeof(*ca));
	if (!ca)
		return error_set(e, ENOMEM, "out of memory");
	int r = name_files(ca, c->config->controller.database, e);
	if (r == 0)
		r = fs_mkdirs(ca->dir, 0700, e);
	if (r == 0)
		r = open_authority(ca, e);
	if (r == 0 && !own_is_good(ca))
		r = make_own(ca, e);
	if (r == 0)
		r = compare_fact(c, ca, e);
	if (r == 0)
		r = start_renewal(c, ca, e);
	if (r < 0) {
		ca_close(ca);
		return r;
	}
	*to = ca;
	return 0;
}

void *ca_close(struct ca *ca)
{
	if (!ca)
		return NULL;
	if (ca->renewal)
		event_free(ca->renewal);
	free(ca->dir);
	free(ca->ca_file);
	free(ca->cert_file);
	free(ca->key_file);
	free(ca->ca_key_file);
	free(ca->pem);
	free(ca);
	return NULL;
}

int ca_sign_node(const struct ca *ca, const char *csr, const char *name, int64_t for_ms, char **pem,
		 struct x509_facts *facts, struct error *e)
{
	cleanup_free char *host = node_host(name);
	if (!host)
		return error_set(e, ENOMEM, "out of memory");
	const struct x509_terms terms = terms_of(name, host, for_ms);
	cleanup_free char *made = NULL;
	int r = x509_sign(csr, ca->pem, ca->ca_key_file, &terms, &made, e);
	if (r == 0)
		r = x509_facts(made, facts, e);
	if (r == 0)
		*pem = steal_ptr(&made);
	return r;
}
