/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "node/activator_identity.h"
#include "node/activator_page.h"
#include "node/activator_polls.h"
#include "node/activator_record.h"

#include <string.h>

struct hub_session request_hub_session(const struct activator *a)
{
	return (struct hub_session) { .api_url = a->api_url, .user = a->user, .scopes = a->scopes };
}

/* Only what a page may ask again without anything coming of it. */
static const struct config_poll *find_poll(const struct activator *a,
					   const struct request_head *head, const char *data,
					   char path[POLL_PATH_SIZE])
{
	const char *method = request_head_method(head);
	struct text target = request_head_target(head, data);
	if ((strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) ||
	    request_head_has_body(head) || request_head_upgrades(head) ||
	    poll_path(target, a->base_url, path) < 0)
		return NULL;
	return poll_find(a->all->polls, a->all->poll_count, path, target);
}

bool activator_is_poll(const struct activator *a, const void *bytes, size_t len)
{
	struct request_head head;
	char path[POLL_PATH_SIZE];
	request_head_init(&head);
	int r = request_head_read(&head, bytes, len);
	/* The target is whole when a field has begun. */
	return r >= 0 && (r > 0 || head.fields) && find_poll(a, &head, bytes, path);
}

static enum hub_verdict judge(const struct activator *a, const struct request_head *head,
			      const char *data, struct credentials *who, const char **name)
{
	const struct credential_rules rules = { .cookie = a->cookie,
						.token_in_url = a->token_in_url,
						.now_s = clock_wall() / 1000 };
	const struct hub_session session = request_hub_session(a);
	if (!a->api_url[0] || !credentials_find(head, data, &rules, who))
		return HUB_NOBODY;
	return hub_remembers(a->all->hub, &session, who, name);
}

/* A path with a pattern of its own is always recorded: without it, the record is. Below a pattern
 * there is more than can be, and who goes there for the first time is a person. */
static enum request_outcome not_recorded(const struct activator *a, const struct config_poll *poll,
					 const char *path)
{
	if (!poll->below || strcmp(poll->path, path) == 0)
		return REQUEST_HELD;
	record_want(a->record, path);
	return REQUEST_TOUCHES;
}

/* What was recorded for the session's user, for a guest. */
static bool readdress(const struct activator *a, const char *name, struct buf *body)
{
	cleanup_free char *own =
		name ? identity_for(buf_text(body), body->len, a->user, name) : NULL;
	buf_reset(body);
	return own && buf_append(body, own, strlen(own)) == 0;
}

/* How and to whom. */
struct asked {
	const struct config_poll *poll;
	const char *path;
	bool bare, last;
	enum hub_verdict verdict;
	const char *name; /* a guest's */
};

static enum request_outcome answer(const struct activator *a, const struct asked *as,
				   struct evbuffer *to)
{
	struct record_answer recorded;
	if (record_read(a->record, as->path, &recorded) < 0)
		return not_recorded(a, as->poll, as->path);
	bool known = !as->poll->own || as->verdict == HUB_OWNER ||
		     readdress(a, as->name, &recorded.body);
	if (known)
		page_write(&(struct page) { .status = recorded.status,
					    .type = recorded.type,
					    .body = buf_text(&recorded.body),
					    .body_len = recorded.body.len,
					    .bare = as->bare,
					    .close = as->last },
			   to);
	buf_deinit(&recorded.body);
	if (!known)
		return REQUEST_HELD;
	return as->last ? REQUEST_LAST : REQUEST_ANSWERED;
}

enum request_outcome request_handle(struct activator *a, const struct request_head *head,
				    const char *data, struct credentials *who, struct evbuffer *to)
{
	char path[POLL_PATH_SIZE];
	struct asked as = { .poll = find_poll(a, head, data, path), .path = path };
	if (!as.poll)
		return REQUEST_TOUCHES;
	as.bare = strcmp(request_head_method(head), "HEAD") == 0;
	as.last = !request_head_keeps_alive(head);
	as.verdict = as.poll->open ? HUB_GUEST : judge(a, head, data, who, &as.name);
	if (as.verdict == HUB_UNKNOWN)
		return REQUEST_UNKNOWN;
	if (as.verdict != HUB_NOBODY)
		return answer(a, &as, to);
	page_forbidden(as.bare, as.last, to);
	return as.last ? REQUEST_LAST : REQUEST_ANSWERED;
}
