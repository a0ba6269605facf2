/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "node/doctor.h"
#include "node/identity.h"
#include "node/node.h"

#include <stdlib.h>

static void report(struct doctor *d, const struct identity *id)
{
	char until[CLOCK_TEXT_SIZE], left[CLOCK_TEXT_SIZE];
	int64_t ms = id->facts.until - clock_wall();
	struct doctor_check *c;
	clock_format(id->facts.until, until);
	if (ms > 0)
		c = doctor_add(d, "identity", DOCTOR_ADVISED, true,
			       "node %s, by a certificate good until %.19sZ (%s), of the authority "
			       "%.16s...",
			       id->facts.name, until, clock_format_duration(ms, left),
			       id->ca_digest);
	else
		c = doctor_add(d, "identity", DOCTOR_ADVISED, false,
			       "the certificate of node %s has expired at %.19sZ", id->facts.name,
			       until);
	doctor_remedy(c, "put a new token of `elsa node token` into %s",
		      d->config->node.join_token_file);
}

void doctor_check_identity(struct doctor *d)
{
	const struct node node = { .config = d->config };
	struct identity id;
	struct error e = ERROR_INIT;
	if (!d->config->node.controller[0])
		return;
	cleanup_free char *name = node_name(&node);
	int r = identity_init(&id, d->config, &e);
	if (r == 0)
		r = identity_load(&id, name ? name : "", &e);
	if (r == 0 && id.joined) {
		report(d, &id);
	} else {
		struct doctor_check *c =
			doctor_add(d, "identity", DOCTOR_ADVISED, false, "%.500s",
				   r < 0 ? e.text : "this node has not joined elsad yet");
		doctor_remedy(c,
			      "put a token of `elsa node token` into %s; elsa-node's log says "
			      "what came of it",
			      d->config->node.join_token_file);
	}
	identity_deinit(&id);
}
