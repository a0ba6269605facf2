/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CREDENTIALS_SOURCES_H
#define ELSA_CLOUD_CREDENTIALS_SOURCES_H

/* The places that cloud/credentials.c asks in turn, and their formats (pure, for tests). */

#include "cloud/credentials.h"

#include <stddef.h>

enum { CREDENTIALS_FOUND = 0, CREDENTIALS_NOT_HERE = 1 };

/* 0 with *v filled in, CREDENTIALS_NOT_HERE, or a negative errno: then the chain ends there, since
 * somebody set this source up and it does not work. */
typedef int (*credentials_source)(const struct credentials_options *options,
				  struct credentials_value *v, struct error *e);
int credentials_amazon_env(const struct credentials_options *, struct credentials_value *,
			   struct error *);
int credentials_amazon_files(const struct credentials_options *, struct credentials_value *,
			     struct error *);
int credentials_amazon_container(const struct credentials_options *, struct credentials_value *,
				 struct error *);
int credentials_amazon_imds(const struct credentials_options *, struct credentials_value *,
			    struct error *);
int credentials_google_env(const struct credentials_options *, struct credentials_value *,
			   struct error *);
int credentials_google_metadata(const struct credentials_options *, struct credentials_value *,
				struct error *);

/* "NAME" of the profile in use. */
const char *credentials_profile(const struct credentials_options *options);

/* The value of `key` in [section] of an INI file's text as the AWS tools write it; allocated, or
 * NULL. */
char *credentials_ini(const char *text, const char *section, const char *key);

/* Amazon's JSON of temporary credentials; 0 or -EBADMSG. */
int credentials_amazon_json(const char *text, size_t len, struct credentials_value *v,
			    struct error *e);
/* Google's {"access_token":...,"expires_in":seconds}. */
int credentials_google_json(const char *text, size_t len, wall_ms now, struct credentials_value *v,
			    struct error *e);

#endif
