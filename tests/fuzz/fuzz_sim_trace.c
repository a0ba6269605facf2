/* SPDX-License-Identifier: Apache-2.0 */
/* A trace, the Hub's log or a catalogue of prices, as somebody sends it. The first byte chooses.
 * What a trace lets through keeps to what the simulator counts on, and to its account of work. */
#include "base/cleanup.h"
#include "sim/hub.h"
#include "sim/world.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { SESSIONS_MOST = 2000 };

struct reading {
	struct world *worlds[STRATEGY_MOST];
	size_t ways;
	wall_ms at, begun;
	uint32_t sessions, pools;
	bool ended, failed;
};

/* A world costs time by what happens in it, and by an hour of its clock: longer ones are left. */
#define WORLD_MOST ((int64_t)400 * 24 * 3600 * 1000)

static void check(const struct reading *in, const struct trace_record *r)
{
	FUZZ_CHECK(!in->ended && r->at >= in->at);
	FUZZ_CHECK(r->duration_ms >= 0 && r->notice_ms >= 0 && r->dry_ms >= 0);
	FUZZ_CHECK(r->memory_bytes >= 0 && r->memory_bytes <= TRACE_MEMORY_MOST);
	FUZZ_CHECK(r->share >= 0 && r->share <= 1);
	FUZZ_CHECK(r->session <= in->sessions);
	FUZZ_CHECK(r->kind != TRACE_BUSY || r->session < in->sessions);
	FUZZ_CHECK(r->kind != TRACE_INTERRUPT || r->pool < in->pools);
}

static int take(const struct trace_record *r, void *arg, struct error *e)
{
	struct reading *in = arg;
	check(in, r);
	in->begun = in->begun || r->kind == TRACE_POOL ? in->begun : r->at;
	in->at = r->kind == TRACE_POOL ? in->at : r->at;
	in->sessions += r->kind == TRACE_OPEN && r->session == in->sessions;
	in->pools += r->kind == TRACE_POOL;
	in->ended = r->kind == TRACE_END;
	for (size_t i = 0; i < in->ways; i++) {
		in->failed |= in->at - in->begun > WORLD_MOST || in->sessions > SESSIONS_MOST;
		if (in->worlds[i] && !in->failed && world_take(in->worlds[i], r, e) < 0)
			in->failed = true;
	}
	return 0;
}

static void check_account(const struct sim_result *r)
{
	const struct work_account *a = &r->work;
	FUZZ_CHECK(a->asked_ms == a->kept_ms + a->lost_ms + a->cut_ms + a->pending_ms);
	FUZZ_CHECK(a->kept_ms >= 0 && a->lost_ms >= 0 && a->cut_ms >= 0 && a->pending_ms >= 0);
	FUZZ_CHECK(r->evicted == r->evicted_saved + r->evicted_older + r->evicted_lost);
}

static void take_sizes(struct sim_sizes *to)
{
	static const struct size_class classes[] = {
		{ "small", INT64_C(1) << 28, 1, 1 },
		{ "large", INT64_C(1) << 34, 2, 8 },
	};
	*to = (struct sim_sizes) {
		.classes = classes,
		.count = 2,
		.rules = size_defaults,
		.window_ms = INT64_C(7) * 24 * 3600 * 1000,
		.running = SIM_RUNNING_MOVE,
		.move = { .worth = SIZE_MOVE_WORTH, .expected_ms = 3600000, .moves_per_hour = 20 },
		.memory_bytes = INT64_C(1) << 32,
		.rescue = rescue_defaults,
	};
	to->rescue.most_bytes = INT64_C(1) << 36;
}

static void fuzz_trace(const char *text, size_t len)
{
	static struct sim_setup setup;
	struct error e = ERROR_INIT;
	struct reading in = { 0 };
	sim_setup_init(&setup);
	FUZZ_CHECK(prices_parse(prices_default, &setup.prices, &e) == 0);
	setup.capacity.max = 50;
	if (len % 2)
		take_sizes(&setup.sizes);
	in.ways = sim_setup_ways(&setup);
	for (size_t i = 0; i < in.ways; i++)
		in.worlds[i] = world_new(&setup, (enum strategy_id)i, &e);
	struct trace *t = trace_new(take, &in);
	if (t && trace_feed(t, text, len, &e) == 0 && trace_end(t, &e) == 0 && !in.failed)
		for (size_t i = 0; i < in.ways; i++)
			check_account(world_result(in.worlds[i]));
	trace_free(t);
	for (size_t i = 0; i < in.ways; i++)
		world_free(in.worlds[i]);
}

static int nothing(const struct trace_record *record, void *arg, struct error *e)
{
	(void)record;
	(void)arg;
	(void)e;
	return 0;
}

/* What comes of any log is a trace that can be read. */
static void fuzz_log(char *text)
{
	cleanup_buf struct buf out = BUF_INIT(1 << 24);
	struct hub_trace hub = { .memory_bytes = 1 << 30, .to = &out };
	struct hub_event event;
	struct error e = ERROR_INIT;
	int r = 0;
	for (char *line = text; r == 0 && *line;) {
		size_t len = strcspn(line, "\n");
		char *next = line + len + (line[len] == '\n');
		line[len] = '\0';
		if (hub_read_log(line, &event))
			r = hub_trace_add(&hub, &event);
		line = next;
	}
	bool any = hub.begin != 0;
	if (r == 0 && any && hub_trace_end(&hub, 0) == 0) {
		struct trace *t = trace_new(nothing, NULL);
		FUZZ_CHECK(!t ||
			   (trace_feed(t, out.data, out.len, &e) == 0 && trace_end(t, &e) == 0));
		trace_free(t);
	}
	hub_trace_deinit(&hub);
}

static void fuzz_prices(const char *text)
{
	static struct prices p;
	struct error e = ERROR_INIT;
	if (prices_parse(text, &p, &e) < 0) {
		FUZZ_CHECK(e.text[0]);
		return;
	}
	FUZZ_CHECK(p.pool_count > 0 && p.pool_count <= PRICES_POOLS_MOST);
	for (size_t i = 0; i < p.pool_count; i++)
		FUZZ_CHECK(p.pools[i].type < p.type_count && p.pools[i].hour >= 0);
	for (size_t i = 0; i < p.type_count; i++) {
		struct price_memory memory = prices_memory(&p, p.types[i].name, true);
		FUZZ_CHECK(memory.machine >= 0 && memory.demand >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	cleanup_free char *text = strndup((const char *)data + 1, size - 1);
	if (!text)
		return 0;
	if (data[0] == 'l')
		fuzz_log(text);
	else if (data[0] == 'p')
		fuzz_prices(text);
	else
		fuzz_trace((const char *)data + 1, size - 1);
	return 0;
}
