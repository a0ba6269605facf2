/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions cost and used: savings, usage, and the same for Prometheus. */
#include "controller/api.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "controller/budgets.h"
#include "controller/ledger.h"
#include "controller/nodes.h"
#include "controller/size.h"
#include "controller/spec.h"
#include "controller/usage.h"

#include <string.h>

#define DAY_MS       ((int64_t)24 * 3600 * 1000)
#define SINCE_MOST   (3650 * DAY_MS)
#define METRICS_MOST ((size_t)64 << 10)

/* The value of a word of the query; -1, and answered: it is none of them. */
static int query_word(struct http_exchange *x, const char *name, const char *const *words,
		      size_t count, int initial)
{
	struct error e = ERROR_INIT;
	const char *word = http_exchange_query(x, name);
	for (size_t i = 0; word && i < count; i++)
		if (strcmp(words[i], word) == 0)
			return (int)i;
	if (!word || !*word)
		return initial;
	error_fault(&e, FAULT_BAD_INPUT, "%s: there is no \"%s\"", name, word);
	http_reply_error(x, &e);
	return -1;
}

void api_get_savings(struct http_exchange *x, void *arg)
{
	static const char *const names[] = {
		[ACCOUNT_BY_ALL] = "all",
		[ACCOUNT_BY_USER] = "user",
		[ACCOUNT_BY_GROUP] = "group",
		[ACCOUNT_BY_DAY] = "day",
	};
	struct error e = ERROR_INIT;
	int64_t since;
	int by = query_word(x, "by", names, ARRAY_SIZE(names), ACCOUNT_BY_ALL);
	if (by < 0 || !api_query_number(x, "since_ms", 30 * DAY_MS, SINCE_MOST, &since))
		return;
	json_t *shown = ledger_json(arg, (enum db_account_by)by, since, &e);
	if (shown)
		http_reply_json(x, 200, shown);
	else
		http_reply_error(x, &e);
}

void api_get_usage(struct http_exchange *x, void *arg)
{
	static const char *const names[] = { "minute", "hour", "day" };
	static const enum db_usage_span spans[] = { USAGE_MINUTE, USAGE_HOUR, USAGE_DAY };
	struct error e = ERROR_INIT;
	const char *user = http_exchange_query(x, "user");
	const char *server = http_exchange_query(x, "server");
	int64_t since;
	int span = query_word(x, "span", names, ARRAY_SIZE(names), 1);
	if (span < 0 || !api_query_number(x, "since_ms", DAY_MS, SINCE_MOST, &since))
		return;
	server = server ? server : "";
	json_t *shown = NULL;
	if (check_name(user, false, "user", &e) == 0 && check_name(server, true, "server", &e) == 0)
		shown = usage_json(arg, user, server, spans[span], since, &e);
	if (shown)
		http_reply_json(x, 200, shown);
	else
		http_reply_error(x, &e);
}

/* --- Prometheus ----------------------------------------------------------------------------------
 */

static void head(struct buf *to, const char *name, const char *type, const char *help)
{
	buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_sessions(struct controller *c, struct buf *to)
{
	int64_t counts[SESSION_STATE_COUNT] = { 0 };
	int64_t resident = 0;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		counts[s->state]++;
		resident += s->seen.rss_bytes;
	}
	head(to, "elsa_sessions", "gauge", "Sessions by state.");
	for (int i = 0; i < SESSION_STATE_COUNT; i++)
		buf_printf(to, "elsa_sessions{state=\"%s\"} %lld\n",
			   session_state_name((enum session_state)i), (long long)counts[i]);
	head(to, "elsa_sessions_memory_bytes", "gauge", "Memory that sessions hold.");
	buf_printf(to, "elsa_sessions_memory_bytes %lld\n", (long long)resident);
}

static void add_nodes(struct controller *c, struct buf *to)
{
	static const char *const names[] = { "up", "down", "lost" };
	int64_t counts[ARRAY_SIZE(names)] = { 0 };
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		counts[node->lost ? 2 : node->up ? 0 : 1]++;
	head(to, "elsa_nodes", "gauge", "Machines that run sessions, by whether they answer.");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		buf_printf(to, "elsa_nodes{state=\"%s\"} %lld\n", names[i], (long long)counts[i]);
}

static void add_size(const char *name, int64_t sessions, void *arg)
{
	buf_printf(arg, "elsa_sessions_size{class=\"%s\"} %lld\n", name, (long long)sessions);
}

static void add_account(struct controller *c, const struct db_account_sums *sums, struct buf *to)
{
	const struct {
		const char *name, *help;
		double value;
	} costs[] = {
		{ "elsa_cost_always_on_total", "What sessions would have cost always on.",
		  sums->always },
		{ "elsa_cost_machines_total", "What they cost on the machines that they were on.",
		  sums->machine },
		{ "elsa_cost_store_total", "What keeping them in the store cost.", sums->store },
	};
	head(to, "elsa_sessions_awake_seconds_total", "counter",
	     "Time of sessions with processes.");
	buf_printf(to, "elsa_sessions_awake_seconds_total %.3f\n", (double)sums->awake_ms / 1e3);
	head(to, "elsa_sessions_open_seconds_total", "counter",
	     "Time of sessions, asleep or awake.");
	buf_printf(to, "elsa_sessions_open_seconds_total %.3f\n", (double)sums->open_ms / 1e3);
	for (size_t i = 0; i < ARRAY_SIZE(costs); i++) {
		head(to, costs[i].name, "counter", costs[i].help);
		buf_printf(to, "%s{currency=\"%s\"} %.9f\n", costs[i].name, ledger_currency(c),
			   costs[i].value);
	}
}

void api_get_metrics(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct db_account_sums sums = { 0 };
	struct error e = ERROR_INIT;
	cleanup_buf struct buf text = BUF_INIT(METRICS_MOST);
	if (ledger_total(c, &sums, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	add_sessions(c, &text);
	add_nodes(c, &text);
	head(&text, "elsa_sessions_size", "gauge", "Sessions by size class, asleep or awake.");
	size_each(c, add_size, &text);
	add_account(c, &sums, &text);
	budgets_add_metrics(c, &text);
	http_reply_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_text(&text),
			text.len);
}
