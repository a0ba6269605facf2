/* SPDX-License-Identifier: Apache-2.0 */
#include "node/lease_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/hold.h"
#include "node/join.h"
#include "node/notices.h"
#include "node/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_MS = 500,       /* at least so often there is a look at the guard */
	BUSY_MS = 20,        /* ... while sessions are being stopped */
	ASK_AGAIN_MS = 2000, /* without a lease */
	ASK_LEAST_MS = 300,
};

static int64_t clock_us(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t lease_boot_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

int64_t lease_real_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

/* As far as this lease is concerned. */
static int64_t now_of(const struct lease_time *t)
{
	return lease_now(t, lease_boot_us(), lease_real_us());
}

/* --- asked from anywhere ---------------------------------------------------------------- */

bool lease_held(struct node *node)
{
	const struct lease *l = node->lease;
	struct lease_time t = { 0 };
	if (!l)
		return true;
	while (!guard_page_get(l->page, &t))
		;
	return !atomic_load(&l->lapsed) && lease_is_held(&t, now_of(&t));
}

int64_t lease_left_ms(const struct node *node)
{
	const struct lease *l = node->lease;
	struct lease_time t = { 0 };
	if (!l)
		return -1;
	while (!guard_page_get(l->page, &t))
		;
	int64_t left = lease_freeze_at(&t) - now_of(&t);
	return t.lease_us && left > 0 && !atomic_load(&l->lapsed) ? left / 1000 : 0;
}

bool lease_is_answered(const struct node *node, int64_t ms)
{
	const struct lease *l = node->lease;
	if (!l || atomic_load(&l->lapsed))
		return false;
	if (l->said[0] == '\0')
		return true;
	return l->late && now_of(&l->time) - l->time.sent_us < ms * 1000;
}

unsigned lease_epoch(const struct node *node)
{
	return node->lease ? atomic_load(&node->lease->epoch) : 0;
}

static int refuse(struct error *e)
{
	int r = error_fault(e, FAULT_UNAVAILABLE, "this node has lost touch with elsad");
	return error_remedy(e, r, "It runs no session until elsad answers it again.");
}

int lease_check(struct effect *ef, struct error *e)
{
	/* What ran before a crash is not ended for it: hold_settle() has it stand still. */
	if (ef->recovering)
		return 0;
	return ef->lease_epoch == lease_epoch(ef->node) && lease_held(ef->node) ? 0 : refuse(e);
}

int lease_admit(struct node *node, enum effect_kind kind, struct error *e)
{
	bool runs = kind == EFFECT_START || kind == EFFECT_RESTORE || kind == EFFECT_MIGRATE ||
		    kind == EFFECT_RETURN;
	return !runs || lease_held(node) ? 0 : refuse(e);
}

/* --- it lapses -------------------------------------------------------------------------- */

static void settle(struct lease *l)
{
	if (atomic_load(&l->page->settled_us) == l->time.sent_us || !lease_all_frozen(l->node))
		return;
	atomic_store(&l->page->settled_us, l->time.sent_us);
	log_info("all sessions stand still");
}

static void lapse(struct lease *l)
{
	if (!atomic_exchange(&l->lapsed, true)) {
		atomic_fetch_add(&l->epoch, 1);
		log_warning("the lease lapses, since elsad does not answer: sessions are held");
	}
	lease_hold_all(l->node);
	settle(l);
}

/*
 * Sessions that the guard has frozen stand still together, and nothing can be done
 * to any of them so: each is held by itself, and then they are let go of. That
 * the guard need not freeze them anew is said before.
 */
static void see_to_guard(struct lease *l)
{
	uint32_t freezes = atomic_load(&l->page->freezes);
	struct error e = ERROR_INIT;
	if (freezes % 2 || (freezes == l->freezes_seen && !l->frozen_together))
		return;
	l->frozen_together = true;
	if (atomic_load(&l->lapsed)) {
		if (!lease_hold_all(l->node))
			return;
		atomic_store(&l->page->settled_us, l->time.sent_us);
	}
	if (lease_thaw_together(l->node, &e) < 0) {
		log_error("%s", e.text);
		return;
	}
	log_info("the guard had frozen all sessions");
	l->freezes_seen = freezes;
	l->frozen_together = false;
}

/* --- it is granted ------------------------------------------------------------------------ */

static void complain(struct lease *l, const char *what, const char *why)
{
	char said[sizeof(l->said)];
	snprintf(said, sizeof(said), "%s: %s", what, why);
	if (strcmp(said, l->said) == 0)
		return;
	memcpy(l->said, said, sizeof(said));
	log_warning("%s", said);
}

/* The page first: from then on the guard waits. Without one the lease does not count. */
static int count(struct lease *l, const struct lease_time *t, struct error *e)
{
	guard_page_put(l->page, t);
	l->time = *t;
	return lease_ensure_guard(l, e);
}

static void granted(struct lease *l, const struct lease_grant *grant)
{
	struct error e = ERROR_INIT;
	struct lease_time t = { l->asked_us, grant->lease_ms * 1000,
				lease_real_us() - lease_boot_us() };
	if (!lease_is_held(&t, lease_boot_us())) {
		complain(l, "no lease", "the answer came too late");
		return;
	}
	/* What has lapsed meanwhile has lapsed. */
	if (!atomic_load(&l->lapsed) && !lease_is_held(&l->time, now_of(&l->time)))
		lapse(l);
	if (count(l, &t, &e) < 0) {
		complain(l, "no lease", e.text);
		lapse(l);
		return;
	}
	bool before = atomic_exchange(&l->lapsed, false);
	see_to_guard(l);
	lease_obey(l, grant);
	if (before)
		log_info("the node has a lease of %lld ms", (long long)grant->lease_ms);
	l->said[0] = '\0';
}

static void wake_in(struct lease *l, int64_t us)
{
	struct timeval t = { us / 1000000, us % 1000000 };
	event_add(l->tick, &t);
}

static void answered(const struct http_reply *reply, void *arg)
{
	struct lease *l = arg;
	struct lease_grant grant = { 0 };
	struct error e = reply->error;
	l->call = NULL;
	if (l->leaves)
		return;
	if (l->ask_at_us == 0) /* there was news meanwhile */
		wake_in(l, 0);
	if (reply->status == 403)
		join_refused(l->node);
	if (e.fault == FAULT_NONE && reply->status != 200)
		error_set(&e, EPERM, "elsad answers %d: %.200s", reply->status, reply->body);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_lease_grant, reply->body, reply->body_len, &grant, &e);
	l->late = e.fault == FAULT_TIMEOUT;
	if (e.fault == FAULT_NONE)
		granted(l, &grant);
	else
		complain(l, "no lease from elsad", e.text);
	wire_free(&wire_lease_grant, &grant);
}

static int64_t pause_us(const struct lease *l)
{
	int64_t pause = l->time.lease_us / LEASE_ASKS;
	if (!l->time.lease_us || pause > ASK_AGAIN_MS * 1000LL) {
		if (!l->time.lease_us || atomic_load(&l->lapsed))
			return ASK_AGAIN_MS * 1000LL;
	}
	return pause > ASK_LEAST_MS * 1000LL ? pause : ASK_LEAST_MS * 1000LL;
}

static int post(struct lease *l, const char *body, struct error *e)
{
	const struct http_request request = {
		.method = "POST",
		.url = "https://controller.elsa/v1/nodes/lease",
		.connect_to = l->node->config->node.controller + strlen("https://"),
		.body = body,
		.body_len = strlen(body),
		/* One that hangs must not be waited for as long as the lease. */
		.timeout_ms = (int)(pause_us(l) / 1000),
		.connect_timeout_ms = (int)(pause_us(l) / 1000),
		.ca_file = l->ca_file,
		.cert_file = l->cert_file,
		.key_file = l->key_file,
	};
	return http_client_call(l->client, &request, answered, l, &l->call, e);
}

static int fill(const struct lease *l, struct lease_request *question, struct error *e)
{
	const struct node *node = l->node;
	question->asked_at = l->asked_us;
	question->news_at = l->news_us;
	question->leaving = l->leaves;
	question->boot_id = strdup(node->boot_id);
	question->listen = join_listen(node->config);
	if (!question->boot_id || !question->listen)
		return error_set(e, ENOMEM, "out of memory");
	return notices_get(node, &question->notices, &question->notice_count, e);
}

static void ask(struct lease *l)
{
	struct error e = ERROR_INIT;
	struct lease_request question = { 0 };
	l->asked_us = lease_boot_us();
	l->ask_at_us = l->asked_us + pause_us(l);
	if (access(l->cert_file, R_OK) < 0) { /* it has not joined yet: somebody may wait for it */
		l->ask_at_us = l->asked_us + ASK_LEAST_MS * 1000LL;
		return;
	}
	int r = fill(l, &question, &e);
	cleanup_json json_t *json = r == 0 ? wire_encode(&wire_lease_request, &question) : NULL;
	cleanup_free char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (r == 0)
		r = body ? post(l, body, &e) : error_set(&e, ENOMEM, "out of memory");
	if (r < 0)
		complain(l, "elsad cannot be asked", e.text);
	wire_free(&wire_lease_request, &question);
}

void lease_soon(struct node *node)
{
	struct lease *l = node->lease;
	if (!l || !l->tick || l->leaves)
		return;
	l->ask_at_us = 0; /* behind the question that is under way, which does not say it yet */
	if (!l->call)
		wake_in(l, 0);
}

void lease_news(struct node *node)
{
	if (!node->lease)
		return;
	node->lease->news_us = lease_boot_us();
	lease_soon(node);
}

/* --- it is given back ------------------------------------------------------------------------- */

/* Here it has ended before elsad hears of it. The guard has nothing to guard any more. */
static void give_back(struct lease *l)
{
	l->leaves = true;
	l->time = (struct lease_time) { 0 };
	guard_page_put(l->page, &l->time);
	atomic_store(&l->lapsed, true);
	atomic_fetch_add(&l->epoch, 1);
	event_del(l->tick);
	if (l->call)
		http_call_cancel(l->call);
	l->call = NULL;
}

static int count_one(const char *id, void *arg)
{
	size_t *count = arg;
	(void)id;
	++*count;
	return 0;
}

/* Nor any of which the journal could not be read. */
static bool has_no_session(const struct node *node)
{
	size_t count = 0;
	return !node->sessions && sandbox_each(node->config, count_one, &count, NULL) == 0 &&
	       count == 0;
}

bool lease_leave(struct node *node)
{
	struct lease *l = node->lease;
	if (!l || !l->tick)
		return false;
	if (!l->leaves && !atomic_load(&l->lapsed) && has_no_session(node)) {
		give_back(l);
		ask(l);
	}
	return l->leaves && l->call;
}

/* --- time goes on --------------------------------------------------------------------------- */

static void look_at_guard(struct lease *l)
{
	struct error e = ERROR_INIT;
	int64_t now = lease_boot_us();
	see_to_guard(l);
	if (now - l->looked_us < TICK_MS * 1000)
		return;
	l->looked_us = now;
	if (lease_ensure_guard(l, &e) < 0)
		complain(l, "sessions are not guarded", e.text);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct lease *l = arg;
	(void)fd;
	(void)what;
	if (!lease_is_held(&l->time, now_of(&l->time)) && !atomic_load(&l->lapsed))
		lapse(l);
	look_at_guard(l);
	bool lapsed = atomic_load(&l->lapsed);
	if (lapsed)
		settle(l);
	int64_t now = lease_boot_us();
	if (!l->call && now >= l->ask_at_us)
		ask(l);
	bool busy = lapsed && atomic_load(&l->page->settled_us) != l->time.sent_us;
	int64_t next = (busy ? BUSY_MS : TICK_MS) * 1000LL;
	int64_t due = lease_freeze_at(&l->time) - now_of(&l->time);
	if (!lapsed && due < next)
		next = due > 0 ? due : 0;
	if (!l->call && l->ask_at_us - now < next)
		next = l->ask_at_us > now ? l->ask_at_us - now : 0;
	wake_in(l, next);
}

/* --- beginning and ending ----------------------------------------------------------------------
 */

static bool is_joined(const struct node *node)
{
	return node->config->node.controller[0];
}

static int init(struct lease *l, struct error *e)
{
	l->cert_file = node_path(l->node, "identity", "cert", ".pem");
	l->key_file = node_path(l->node, "identity", "key", ".pem");
	l->ca_file = node_path(l->node, "identity", "ca", ".pem");
	if (!l->cert_file || !l->key_file || !l->ca_file)
		return error_set(e, ENOMEM, "out of memory");
	return lease_map(l, e);
}

int lease_open(struct node *node, struct error *e)
{
	if (!is_joined(node)) {
		lease_dismiss_guard(node);
		return 0;
	}
	struct lease *l = calloc(1, sizeof(*l));
	if (!l)
		return error_set(e, ENOMEM, "out of memory");
	l->node = node;
	l->file = -1;
	node->lease = l;
	int r = init(l, e);
	if (r < 0) {
		lease_close(node);
		return r;
	}
	bool lapsed = !lease_is_held(&l->time, now_of(&l->time));
	atomic_store(&l->lapsed, lapsed);
	l->frozen_together = lease_is_frozen_together(node);
	return 0;
}

void lease_take_over(struct node *node)
{
	struct lease *l = node->lease;
	if (!l)
		return;
	if (atomic_load(&l->lapsed))
		lease_hold_all(node);
	see_to_guard(l);
}

int lease_start(struct node *node, struct error *e)
{
	struct lease *l = node->lease;
	if (!l)
		return 0;
	int r = http_client_new(node->base, &l->client, e);
	if (r < 0)
		return r;
	l->tick = event_new(node->base, -1, 0, on_tick, l);
	if (!l->tick)
		return error_set(e, ENOMEM, "out of memory");
	wake_in(l, 0);
	return 0;
}

void lease_close(struct node *node)
{
	struct lease *l = node->lease;
	if (!l)
		return;
	node->lease = NULL;
	if (l->tick)
		event_free(l->tick);
	http_client_free(l->client);
	lease_unmap(l);
	free(l->cert_file);
	free(l->key_file);
	free(l->ca_file);
	free(l->strange);
	free(l);
}
