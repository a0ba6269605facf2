/* SPDX-License-Identifier: Apache-2.0 */
#include "node/precopy.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/move_ahead.h"
#include "node/move_client.h"
#include "policies/precopy.h"
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	LEFT_FREE = 1 << 30, /* bytes of node.state_dir */
	MEASURED = 64,       /* pages of a part that says how quick the link is */
	PAUSE_MOST_US = 2000000,
	LOOK_US = 50000,
};

struct precopy {
	struct effect *ef;
	struct move_client *client;
	struct precopy_facts facts;
	struct move_part part; /* the last one */
	struct buf body;
	unsigned char *pages;
	mono_us begun, round_begun, before_begun; /* this round, the one before */
	uint64_t came;                            /* bytes of memory, in all rounds */
};

/* --- what is known ------------------------------------------------------------------- */

/* With what it has already: others write there, too, and another session's memory comes. */
static int64_t room_for(const struct effect *ef, const struct move_ahead *ahead)
{
	struct statvfs fs;
	const struct config *c = ef->node->config;
	if (statvfs(c->node.state_dir, &fs) < 0)
		return 0;
	int64_t left = (int64_t)(fs.f_bavail * fs.f_frsize) - LEFT_FREE;
	left = (left > 0 ? left : 0) + (ahead ? (int64_t)ahead->bytes : 0);
	return left < c->move.precopy_bytes ? left : c->move.precopy_bytes;
}

static void begin(struct precopy *p)
{
	const struct effect *ef = p->ef;
	const struct config *c = ef->node->config;
	int mode = precopy_mode_from(c->move.precopy);
	p->begun = p->round_begun = clock_mono();
	p->facts = (struct precopy_facts) {
		.mode = mode < 0 ? PRECOPY_NEVER : (enum precopy_mode)mode,
		.memory_bytes = ef->move->offer.memory_bytes,
		.room_bytes = room_for(ef, NULL),
		.share = c->move.precopy_share,
		.left_ms = -1,
		.most_ms = c->node.effect_timeout_ms / 2,
		.to_go_bytes = ef->move->offer.memory_bytes,
	};
}

/* While it is measured the quickest part counts, by the clock or by TCP: the others stood behind
 * something. */
static void note_link(struct precopy *p, size_t wire_bytes, mono_us took)
{
	struct precopy_facts *f = &p->facts;
	int64_t link_us = took - p->part.took_us;
	if (p->part.pages < MEASURED)
		return;
	int64_t bytes = (int64_t)wire_bytes, us = link_us > 0 ? link_us : 1;
	if (f->pieces++ >= precopy_defaults.pieces) {
		bytes = (int64_t)p->part.pages * STORE_PAGE;
		us = took > 0 ? took : 1;
	}
	int64_t now = bytes * 1000000 / us;
	if (f->pieces > precopy_defaults.pieces) {
		f->link_per_s = (7 * f->link_per_s + now) / 8;
		return;
	}
	int64_t told = (int64_t)p->part.link_per_s;
	now = told > now ? told : now;
	f->link_per_s = now > f->link_per_s ? now : f->link_per_s;
}

static void note_round_end(struct precopy *p)
{
	struct precopy_facts *f = &p->facts;
	mono_us now = clock_mono();
	/* What this one found had changed since the one before was at the same place. */
	f->changed_ms = f->rounds ? (p->round_begun - p->before_begun) / 1000 + 1 : 0;
	f->changed_bytes = (int64_t)p->part.sent_bytes;
	f->rounds++;
	p->before_begun = p->round_begun;
	p->round_begun = now;
}

static void note_part(struct precopy *p)
{
	struct precopy_facts *f = &p->facts;
	const struct move_part *part = &p->part;
	int64_t all = (int64_t)part->all_bytes, seen = (int64_t)part->seen_bytes;
	p->came += (uint64_t)part->pages * STORE_PAGE;
	f->memory_bytes = all;
	f->room_bytes = room_for(p->ef, p->client->ahead);
	f->left_ms = part->left_ms;
	f->spent_ms = (clock_mono() - p->begun) / 1000;
	if (part->last)
		note_round_end(p);
	if (part->last || f->rounds > 0)
		f->to_go_bytes = f->changed_bytes;
	else
		f->to_go_bytes = all > seen ? all - seen : 0;
	effect_progress(p->ef, part->seen_bytes, part->all_bytes);
}

/* --- what is done --------------------------------------------------------------------- */

static int put(struct precopy *p, const struct move_range *ranges, size_t count, struct error *e)
{
	struct move_ahead *ahead = p->client->ahead;
	const unsigned char *from = p->pages;
	int r = 0;
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = move_ahead_put(ahead, &ranges[i], from, e);
		from += (size_t)ranges[i].pages * STORE_PAGE;
	}
	return r;
}

/* That the link is quick is seen by what is as it is. */
static int take_part(struct precopy *p, mono_us *took, struct error *e)
{
	cleanup_free struct move_range *ranges = NULL;
	struct move_ahead *ahead = p->client->ahead;
	size_t count = 0;
	bool squeeze =
		p->facts.pieces >= precopy_defaults.pieces && move_rates_squeeze(&ahead->rates);
	int r = move_client_ahead(p->client, squeeze, &p->body, took, e);
	if (r == 0)
		r = move_part_read(p->body.data, p->body.len, &p->part, &ranges, &count, p->pages,
				   e);
	if (r < 0)
		return r;
	if (p->part.pages >= MEASURED)
		move_rates_note(&ahead->rates, squeeze, (uint64_t)p->part.pages * STORE_PAGE,
				*took);
	note_link(p, p->body.len, *took);
	note_part(p);
	return put(p, ranges, count, e);
}

/* Others want the link, too, and processors. */
static void pause_for(const struct precopy *p, mono_us took)
{
	double share = p->facts.share;
	double us = (double)took * (1 - share) / share;
	mono_us until = clock_mono() + (us < PAUSE_MOST_US ? (mono_us)us : PAUSE_MOST_US), left;
	while (!p->ef->node->stopping && (left = until - clock_mono()) > 0)
		usleep((useconds_t)(left < LOOK_US ? left : LOOK_US));
}

/* Where that node says that it stays there, it does. A connection that is gone is made anew, for
 * what is to be asked next. */
static int look_at_failure(struct precopy *p, int result, const struct error *why, struct error *e)
{
	struct move_client *c = p->client;
	if (why->fault == FAULT_CONFLICT || why->fault == FAULT_NOT_FOUND) {
		if (e)
			*e = *why;
		return result;
	}
	log_warning("session %s: no more of its memory comes ahead: %s", c->session, why->text);
	c->conn = move_conn_free(c->conn);
	return move_client_open(c, e);
}

static int copy(struct precopy *p, enum precopy_why *why, struct error *e)
{
	struct error own = ERROR_INIT;
	mono_us took = 0;
	int r = 0;
	while (precopy_goes_on(*why = precopy_decide(&precopy_defaults, &p->facts))) {
		if (p->ef->node->stopping)
			return error_fault(e, FAULT_UNAVAILABLE, "elsa-node is about to end");
		r = take_part(p, &took, &own);
		if (r < 0)
			return look_at_failure(p, r, &own, e);
		pause_for(p, took);
	}
	return 0;
}

static void say(const struct precopy *p, enum precopy_why why)
{
	log_info("session %s: %llu MiB of its memory came ahead, in %u rounds and %.1f s; %s",
		 p->ef->session->id, (unsigned long long)(p->came >> 20), p->facts.rounds,
		 (double)(clock_mono() - p->begun) / 1e6, precopy_why_names[why]);
}

/* What came to measure the link alone would only be asked about. */
static void end(struct precopy *p, enum precopy_why why)
{
	struct move_client *c = p->client;
	say(p, why);
	if (p->facts.pieces <= precopy_defaults.pieces && p->facts.rounds == 0)
		c->ahead = move_ahead_free(c->ahead);
	effect_progress(p->ef, 0, 0);
}

/* Without is what it is where no file can be made for it. */
static int have_file(struct precopy *p)
{
	struct error why = ERROR_INIT;
	const struct node *node = p->ef->node;
	int r = move_ahead_new(node->config->node.state_dir, (uint64_t)p->facts.room_bytes,
			       &p->client->ahead, &why);
	if (r < 0)
		log_warning("session %s: its memory does not come ahead: %s", p->ef->session->id,
			    why.text);
	return r;
}

int precopy_run(struct effect *ef, struct error *e)
{
	struct precopy p = { .ef = ef, .client = ef->move, .body = BUF_INIT(MOVE_BODY_MOST) };
	begin(&p);
	enum precopy_why why = precopy_decide(&precopy_defaults, &p.facts);
	if (!precopy_goes_on(why) || have_file(&p) < 0)
		return 0;
	cleanup_free unsigned char *pages = malloc((size_t)MOVE_PAGES_MOST * STORE_PAGE);
	p.pages = pages;
	int r = pages ? copy(&p, &why, e) : 0;
	end(&p, why);
	buf_deinit(&p.body);
	return r;
}
