/* SPDX-License-Identifier: Apache-2.0 */
#include "node/identity.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PEM_MOST = 64 << 10 };

int identity_init(struct identity *id, const struct config *config, struct error *e)
{
	*id = (struct identity) { 0 };
	id->dir = fs_join(config->node.state_dir, "identity");
	if (!id->dir)
		return error_set(e, ENOMEM, "out of memory");
	id->key_file = fs_join(id->dir, "key.pem");
	id->cert_file = fs_join(id->dir, "cert.pem");
	id->ca_file = fs_join(id->dir, "ca.pem");
	id->token_file = fs_join(id->dir, "joined-by");
	if (id->key_file && id->cert_file && id->ca_file && id->token_file)
		return 0;
	identity_deinit(id);
	return error_set(e, ENOMEM, "out of memory");
}

void identity_deinit(struct identity *id)
{
	free(id->dir);
	free(id->key_file);
	free(id->cert_file);
	free(id->ca_file);
	free(id->token_file);
	*id = (struct identity) { 0 };
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

static int check(const struct identity *id, const char *name, const char *certificate,
		 const char *ca, struct x509_facts *facts, struct error *e)
{
	int r = x509_check_pair(certificate, ca, id->key_file, e);
	if (r == 0)
		r = x509_facts(certificate, facts, e);
	if (r == 0 && strcmp(facts->name, name) != 0)
		r = error_set(e, EINVAL, "the certificate is of \"%s\", and this node is \"%s\"",
			      facts->name, name);
	return r;
}

static void load_token(struct identity *id)
{
	cleanup_free char *text = NULL;
	id->token[0] = '\0';
	if (read_text(id->token_file, &text, NULL) == 0 && id_valid(text))
		snprintf(id->token, sizeof(id->token), "%s", text);
}

int identity_load(struct identity *id, const char *name, struct error *e)
{
	cleanup_free char *certificate = NULL;
	cleanup_free char *ca = NULL;
	struct x509_facts authority;
	id->joined = false;
	if (access(id->cert_file, F_OK) < 0 && errno == ENOENT)
		return 0;
	int r = read_text(id->cert_file, &certificate, e);
	if (r == 0)
		r = read_text(id->ca_file, &ca, e);
	if (r == 0)
		r = check(id, name, certificate, ca, &id->facts, e);
	if (r == 0)
		r = x509_facts(ca, &authority, e);
	if (r < 0)
		return error_wrap(e, r, "what is in %s cannot be used", id->dir);
	snprintf(id->ca_digest, sizeof(id->ca_digest), "%s", authority.digest);
	load_token(id);
	id->joined = true;
	return 0;
}

int identity_request(const struct identity *id, const char *name, char **csr, struct error *e)
{
	int r = fs_mkdirs(id->dir, 0700, e);
	if (r == 0 && access(id->key_file, F_OK) < 0)
		r = x509_make_key(id->key_file, e);
	if (r == 0)
		r = x509_make_csr(id->key_file, name, csr, e);
	return r;
}

static int write_text(const char *path, const char *text, struct error *e)
{
	return fs_replace(path, text, strlen(text), 0600, e);
}

int identity_store(struct identity *id, const char *name, const char *certificate, const char *ca,
		   const char *ca_digest, const char *token, struct error *e)
{
	struct x509_facts facts, authority;
	int r = x509_facts(ca, &authority, e);
	if (r == 0 && strcmp(authority.digest, ca_digest) != 0)
		r = error_set(e, EACCES, "elsad's answer is of another authority than asked");
	if (r == 0)
		r = check(id, name, certificate, ca, &facts, e);
	if (r == 0 && token) {
		r = write_text(id->ca_file, ca, e);
		if (r == 0)
			r = write_text(id->token_file, token, e);
	}
	if (r == 0)
		r = write_text(id->cert_file, certificate, e);
	return r < 0 ? r : identity_load(id, name, e);
}

wall_ms identity_renew_at(const struct identity *id)
{
	return id->facts.until - (id->facts.until - id->facts.from) / 3;
}
