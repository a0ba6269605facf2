/* SPDX-License-Identifier: Apache-2.0 */
/* What metadata services, files and commands say of a machine's end. The first byte chooses the
 * reader. What comes out is bounded, and fit for ids, headers and JSON. */
#include "base/cleanup.h"
#include "cloud/notice.h"
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <string.h>

static void check_text(const char *text, size_t size)
{
	FUZZ_CHECK(memchr(text, '\0', size));
}

static void check_items(const struct notice_items *items)
{
	FUZZ_CHECK(items->count <= NOTICE_MOST);
	check_text(items->odd, sizeof(items->odd));
	for (size_t i = 0; i < items->count; i++) {
		const struct notice_item *item = &items->items[i];
		check_text(item->key, sizeof(item->key));
		check_text(item->detail, sizeof(item->detail));
		FUZZ_CHECK(item->kind > NOTICE_NONE && item->kind < NOTICE_KIND_COUNT);
		FUZZ_CHECK(item->at >= 0);
		for (const char *p = item->key; *p; p++)
			FUZZ_CHECK(isalnum((unsigned char)*p) || strchr("-_:/", *p));
	}
}

static void told(enum notice_change change, const struct node_notice *notice, void *arg)
{
	(void)change;
	(void)arg;
	FUZZ_CHECK(notice->id && notice->source && notice->seen_at > 0 && notice->at >= 0);
}

/* Into a list, again, and out of it. */
static void check_list(const struct notice_items *items)
{
	static const struct notice_items none;
	struct notice_list list = { 0 };
	FUZZ_CHECK(notice_list_put(&list, "x", items, 5000, told, NULL) == 0);
	FUZZ_CHECK(list.count <= items->count);
	FUZZ_CHECK(notice_list_put(&list, "x", items, 6000, told, NULL) == 0);
	FUZZ_CHECK(notice_list_put(&list, "x", &none, 7000, told, NULL) == 0 && list.count == 0);
	notice_list_deinit(&list);
}

static int azure(const char *text, size_t len, struct notice_items *to)
{
	return notice_azure_events(text, len, "vm", to);
}

static int file(const char *text, size_t len, struct notice_items *to)
{
	return notice_file(text, len, 1000, to, NULL);
}

static void fuzz_facts(const char *text, size_t len)
{
	struct notice_facts f = { 0 };
	if (notice_azure_facts(text, len, &f) < 0)
		return;
	check_text(f.instance, sizeof(f.instance));
	check_text(f.zone, sizeof(f.zone));
	FUZZ_CHECK(f.instance[0]);
}

/* The answers of a whole conversation: a status each in one byte, then text up to a NUL. */
static void fuzz_watch(const char *text, size_t len)
{
	static const int statuses[] = { 200, 404, 401, 403, 429, 503, 0, 301 };
	struct notice_facts facts = { 0 };
	struct notice_now now = { .wall = 1000, .mono_ms = 1 };
	struct notice_ask ask;
	struct notice_heard heard;
	enum notice_cloud cloud = len ? 1 + (unsigned char)text[0] % 3 : NOTICE_CLOUD_AWS;
	struct notice_watch *w = notice_watch_new(cloud, 0, 1000, &facts);
	for (size_t at = 1; w && at < len;) {
		int64_t ms = notice_watch_next(w, now, &ask);
		FUZZ_CHECK(ms >= 0 && ms <= 60000);
		now.mono_ms += ms;
		now.wall += ms;
		if (ms)
			continue;
		FUZZ_CHECK(ask.path[0] == '/' && !strpbrk(ask.path, " \r\n"));
		for (size_t i = 0; ask.headers[i]; i++)
			FUZZ_CHECK(!strpbrk(ask.headers[i], "\r\n"));
		struct notice_answer answer = { .status = statuses[(unsigned char)text[at] % 8],
						.flavor = "Google" };
		const char *end = memchr(text + at + 1, '\0', len - at - 1);
		answer.len = end ? (size_t)(end - text) - at - 1 : len - at - 1;
		/* As it comes from the client: ended by a NUL. */
		cleanup_free char *body = strndup(text + at + 1, answer.len);
		answer.body = body ? body : "";
		answer.etag = body;
		answer.token_ttl = body;
		at += 2 + answer.len;
		notice_watch_answer(w, now, &answer, &heard);
		check_items(&heard.items);
		check_text(heard.text, sizeof(heard.text));
	}
	notice_watch_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const readers[])(const char *, size_t, struct notice_items *) = {
		notice_aws_action,
		notice_aws_rebalance,
		notice_aws_scheduled,
		notice_aws_lifecycle,
		notice_gcp_preempted,
		notice_gcp_maintenance,
		azure,
		file,
	};
	struct notice_items items;
	wall_ms t;
	if (!size)
		return 0;
	const char *text = (const char *)data + 1;
	unsigned which = data[0] % (ARRAY_SIZE(readers) + 3);
	if (which < ARRAY_SIZE(readers)) {
		int r = readers[which](text, size - 1, &items);
		check_items(&items);
		if (r == 0)
			check_list(&items);
	} else if (which == ARRAY_SIZE(readers)) {
		fuzz_facts(text, size - 1);
	} else if (which == ARRAY_SIZE(readers) + 1) {
		fuzz_watch(text, size - 1);
	} else {
		cleanup_free char *copy = strndup(text, size - 1);
		FUZZ_CHECK(!copy || notice_time(copy, &t) < 0 || t > 0);
	}
	return 0;
}
