/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
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
			      const char *data, struct credentials *who)
{
	const struct credential_rules rules = { .cookie = a->cookie,
						.token_in_url = a->token_in_url,
						.now_s = clock_wall() / 1000 };
	const struct hub_session session = request_hub_session(a);
	if (!a->api_url[0] || !credentials_find(head, data, &rules, who))
		return HUB_NOBODY;
	return hub_remembers(a->all->hub, &session, who);
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

static enum request_outcome answer(const struct activator *a, const struct config_poll *poll,
				   const char *path, bool bare, bool last, struct evbuffer *to)
{
	struct record_answer recorded;
	if (record_read(a->record, path, &recorded) < 0)
		return not_recorded(a, poll, path);
	page_write(&(struct page) { .status = recorded.status,
				    .type = recorded.type,
				    .body = buf_text(&recorded.body),
				    .body_len = recorded.body.len,
				    .bare = bare,
				    .close = last },
		   to);
	buf_deinit(&recorded.body);
	return last ? REQUEST_LAST : REQUEST_ANSWERED;
}

enum request_outcome request_handle(struct activator *a, const struct request_head *head,
				    const char *data, struct credentials *who, struct evbuffer *to)
{
	char path[POLL_PATH_SIZE];
	const struct config_poll *poll = find_poll(a, head, data, path);
	if (!poll)
		return REQUEST_TOUCHES;
	bool bare = strcmp(request_head_method(head), "HEAD") == 0;
	bool last = !request_head_keeps_alive(head);
	enum hub_verdict verdict = poll->open ? HUB_GUEST : judge(a, head, data, who);
	if (verdict == HUB_UNKNOWN)
		return REQUEST_UNKNOWN;
	if (verdict == HUB_NOBODY) {
		page_forbidden(bare, last, to);
		return last ? REQUEST_LAST : REQUEST_ANSWERED;
	}
	if (poll->own && verdict != HUB_OWNER)
		return REQUEST_HELD;
	return answer(a, poll, path, bare, last, to);
}
