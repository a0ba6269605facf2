/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CAPACITY_CALL_H
#define ELSA_CLOUD_CAPACITY_CALL_H

/*
 * One call of a cloud's API: authorized (Signature Version 4, or a bearer
 * token), sent, tried again as cloud/retry.h says, its failure put in words.
 * For cloud/capacity_*.c. One thread.
 */

#include "base/buf.h"
#include "cloud/credentials.h"
#include "cloud/s3_http.h"
#include "cloud/sigv4.h"

#include <stdatomic.h>

/* What an API says when it refuses. */
struct cloud_refusal {
	char code[64];
	char message[512];
};

/* What the operator has to do something about, by code. {a}: the permission, {p}: the pool. */
struct cloud_meaning {
	const char *code; /* the beginning of it, when it ends in '*'; NULL ends the table */
	const char *word; /* also in the message; NULL: whatever that is */
	enum fault fault;
	const char *text;   /* NULL: the API's own message */
	const char *remedy; /* NULL: none */
};

/* An API and who we are to it. */
struct cloud_api {
	const char *who; /* "Amazon", for people */
	char *url;       /* "https://host/base", owned */
	char *host;      /* with its port, owned */
	size_t path_at;  /* where in `url` the path begins */
	char *region;    /* owned; NULL for Google */
	const char *service;
	struct s3_http *http;
	struct credentials *credentials;
	int64_t clock_ahead_ms; /* of the server's clock, learnt from it */
	const atomic_bool *stop;
	void (*read_refusal)(const char *data, size_t len, struct cloud_refusal *refusal);
	const struct cloud_meaning *meanings;
};

int cloud_api_open(struct cloud_api *api, const char *url, enum credentials_cloud cloud,
		   struct error *e);
void cloud_api_deinit(struct cloud_api *api); /* idempotent */

struct cloud_call {
	const char *action; /* "autoscaling:SetDesiredCapacity", "compute.instances.delete" */
	const char *pool;   /* for people */
	const char *method, *path; /* below the base, "" or begins with '/' */
	const struct sigv4_pair *query;
	size_t query_count;
	const char *body, *content_type; /* NULL: none */
	/* Not to be sent again when it may have been carried out. */
	bool once;

	/* results */
	int status;
	struct buf answer; /* the body */
	struct cloud_refusal refusal;
};

/* 0 for 2xx; else negative with *e said. `call` is to be released in each case. */
int cloud_call(struct cloud_api *api, struct cloud_call *call, struct error *e);
void cloud_call_deinit(struct cloud_call *call);

/* The fault that the table has for a refusal; says so in *e (which may be NULL) and returns it
 * negative. */
int cloud_refuse(const struct cloud_api *api, const struct cloud_call *call,
		 const struct cloud_refusal *refusal, struct error *e);

#endif
