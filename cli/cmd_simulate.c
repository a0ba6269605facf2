/* SPDX-License-Identifier: Apache-2.0 */
/* A trace through all ways to run a hub at once: it is read only once, so that it may come through
 * a pipe, however long it is. */
#include "cli/cli.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/table.h"
#include "rules/rules.h"
#include "sim/report.h"
#include "sim/trace.h"
#include "wire/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { PART = 1 << 20, FILE_MOST = 16 << 20, PAGE_MOST = 64 << 20, BATCH = 16384 };
#define HOUR_MS 3600000.0

struct simulation {
	struct sim_setup setup;
	struct rules_classes classes;
	struct world *worlds[STRATEGY_MOST];
	size_t ways;
	wall_ms begin, end;
	/* Read, and not taken yet. What a world knows of its sessions is some megabytes: when each
	 * took a record in turn, all of them would drive each other out of the cache. */
	struct trace_record batch[BATCH];
	size_t count;
};

/* --- what is given ------------------------------------------------------------------------------
 */

static int read_prices(const char *path, struct prices *to, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_MOST);
	if (!path)
		return prices_parse(prices_default, to, e);
	int r = fs_read(path, &text, e);
	if (r == 0 && strlen(buf_text(&text)) != text.len)
		r = error_fault(e, FAULT_BAD_INPUT, "it holds a zero byte");
	if (r == 0)
		r = prices_parse(buf_text(&text), to, e);
	return r < 0 ? error_wrap(e, r, "%s", path) : 0;
}

/* A list of {"name": ..., "value": ...}; what has no use here is passed over. */
static int read_bench(const char *path, struct sim_setup *setup, struct error *e)
{
	json_error_t wrong;
	const json_t *entry;
	size_t i, used = 0;
	if (!path)
		return 0;
	cleanup_json json_t *list = json_load_file(path, JSON_REJECT_DUPLICATES, &wrong);
	if (!list || !json_is_array(list))
		return error_fault(e, FAULT_BAD_INPUT, "%s, line %d: %s", path, wrong.line,
				   list ? "not a list of figures" : wrong.text);
	json_array_foreach (list, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));
		const json_t *value = json_object_get(entry, "value");
		if (name && json_is_number(value))
			used += sim_setup_bench(setup, name, json_number_value(value));
	}
	if (used)
		return 0;
	int r = error_fault(e, FAULT_BAD_INPUT, "%s has no figure that is used here", path);
	return error_remedy(e, r, "make it with: make bench GROUP=store");
}

static enum sim_running running_of(const char *mode)
{
	if (strcmp(mode, "move") == 0)
		return SIM_RUNNING_MOVE;
	return strcmp(mode, "lower") == 0 ? SIM_RUNNING_LOWER : SIM_RUNNING_KEEP;
}

static int use_sizes(const struct config *config, struct simulation *sim, struct error *e)
{
	int r = rules_classes_make(config, &sim->setup.prices, &sim->classes, e);
	sim->setup.sizes = (struct sim_sizes) {
		.classes = sim->classes.list,
		.count = sim->classes.count,
		.rules = rules_size(config),
		.window_ms = config->size.window_ms,
		.running = running_of(config->size.running),
		.move = rules_size_move(config),
		.memory_bytes = config->session.memory_bytes,
		.cpus = config->session.cpus,
		.rescue = rescue_defaults,
	};
	sim->setup.sizes.rescue.most_bytes = config->session.memory_most_bytes;
	return r;
}

static void use_config(const struct config *config, struct sim_setup *setup)
{
	const struct config_rule *idle = &config->idle.base;
	setup->idle.timeout_ms = idle->timeout_ms;
	setup->idle.max_age_ms = idle->max_age_ms;
	setup->idle.min_uptime_ms = idle->min_uptime_ms;
	setup->idle.transparent = idle->transparent;
	setup->idle.stop_after_ms = idle->stop_after_ms;
	setup->idle_concurrency = (int)config->idle.concurrency;
	setup->strategies[STRATEGY_ELSA].protects = strcmp(config->spot.protect, "none") != 0;
	setup->protect = rules_protect(config);
	setup->margin_ms = config->spot.margin_ms;
	setup->reserve_bytes = config->nodes.reserve_bytes;
	setup->lease_ms = config->nodes.lease_ms;
	setup->workers = (size_t)config->node.workers;
	setup->consolidates = config->consolidation.enabled;
	setup->consolidate = rules_consolidate(config);
	/* Where nobody gives machines, its numbers mean nothing. */
	if (strcmp(config->capacity.provider, "none") == 0)
		return;
	setup->capacity = rules_capacity(config);
	setup->spare_session_bytes = 0;
}

static int read_config(const char *path, struct simulation *sim, struct error *e)
{
	struct config *config = NULL;
	if (!path)
		return 0;
	int r = config_load(path, &config, e);
	if (r < 0)
		return r;
	use_config(config, &sim->setup);
	r = use_sizes(config, sim, e);
	config_free(config);
	return r;
}

static int prepare(const struct cli *cli, struct simulation *sim, struct error *e)
{
	sim_setup_init(&sim->setup);
	sim->setup.seed = (uint64_t)cli->seed;
	int r = read_prices(cli->prices_path, &sim->setup.prices, e);
	if (r == 0)
		r = read_bench(cli->bench_path, &sim->setup, e);
	if (r == 0)
		r = read_config(cli->config_path, sim, e);
	if (cli->spare_bytes >= 0) {
		sim->setup.capacity.spare_bytes = cli->spare_bytes;
		sim->setup.spare_session_bytes = 0;
	}
	sim_setup_one_size(&sim->setup);
	sim->ways = sim_setup_ways(&sim->setup);
	for (size_t i = 0; r == 0 && i < sim->ways; i++) {
		sim->worlds[i] = world_new(&sim->setup, (enum strategy_id)i, e);
		r = sim->worlds[i] ? 0 : -ENOMEM;
	}
	return r;
}

/* --- the trace ----------------------------------------------------------------------------------
 */

static int take_batch(struct simulation *sim, struct error *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < sim->ways; i++)
		for (size_t k = 0; r == 0 && k < sim->count; k++)
			r = world_take(sim->worlds[i], &sim->batch[k], e);
	sim->count = 0;
	return r;
}

static int take(const struct trace_record *record, void *arg, struct error *e)
{
	struct simulation *sim = arg;
	if (!sim->begin && record->kind != TRACE_POOL)
		sim->begin = record->at;
	sim->end = record->at;
	sim->batch[sim->count++] = *record;
	/* A pool may be refused, for its line's sake; and its name is borrowed. */
	bool last = record->kind == TRACE_POOL || record->kind == TRACE_END;
	return last || sim->count == BATCH ? take_batch(sim, e) : 0;
}

static int feed(int fd, struct trace *trace, struct error *e)
{
	cleanup_free char *part = malloc(PART);
	if (!part)
		return error_set(e, ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = read(fd, part, PART);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot read");
		int r = n ? trace_feed(trace, part, (size_t)n, e) : trace_end(trace, e);
		if (r < 0 || n == 0)
			return r;
	}
}

static int run(const char *path, struct simulation *sim, struct error *e)
{
	cleanup_fd int fd = -1;
	bool standard = strcmp(path, "-") == 0;
	if (!standard && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return error_errno(e, "cannot open %s", path);
	struct trace *trace = trace_new(take, sim);
	int r = trace ? feed(standard ? STDIN_FILENO : fd, trace, e)
		      : error_set(e, ENOMEM, "out of memory");
	trace_free(trace);
	return r < 0 ? error_wrap(e, r, "%s", standard ? "standard input" : path) : 0;
}

/* --- what comes out ------------------------------------------------------------------------------
 */

static json_t *durations(const struct tally *t)
{
	return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I}", "count", (json_int_t)t->count, "mean_ms",
			 tally_mean(t), "p50_ms", (json_int_t)tally_at(t, 0.5), "p95_ms",
			 (json_int_t)tally_at(t, 0.95), "p99_ms", (json_int_t)tally_at(t, 0.99),
			 "most_ms", (json_int_t)t->most);
}

static json_t *work(const struct work_account *w)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "asked", (double)w->asked_ms / HOUR_MS,
			 "kept", (double)w->kept_ms / HOUR_MS, "lost", (double)w->lost_ms / HOUR_MS,
			 "cut", (double)w->cut_ms / HOUR_MS, "pending",
			 (double)w->pending_ms / HOUR_MS);
}

static json_t *evictions(const struct sim_result *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "machines", (json_int_t)r->machines_taken,
			 "sessions", (json_int_t)r->evicted, "saved", (json_int_t)r->evicted_saved,
			 "older", (json_int_t)r->evicted_older, "lost",
			 (json_int_t)r->evicted_lost);
}

static json_t *emptied(const struct sim_result *r)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "machines", (json_int_t)r->emptied, "given_up",
			 (json_int_t)r->emptying_ended, "moved", (json_int_t)r->emptied_moved,
			 "put_to_sleep", (json_int_t)r->emptied_put);
}

static json_t *sizes(const struct size_counts *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "smaller",
			 (json_int_t)c->smaller, "lowered", (json_int_t)c->lowered, "larger",
			 (json_int_t)c->larger, "moved", (json_int_t)c->moved, "raised",
			 (json_int_t)c->raised, "rescue_moved", (json_int_t)c->rescue_moved,
			 "rescue_slept", (json_int_t)c->rescue_slept, "out_of_memory",
			 (json_int_t)c->out_of_memory, "promised_gib_hours", c->promised_gib_hours,
			 "gib_hours", c->gib_hours);
}

static json_t *one_result(const struct simulation *sim, const struct sim_result *r)
{
	json_t *o = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "way",
			      r->strategy->name, "text", r->strategy->text, "cost", report_cost(r),
			      "compute", r->compute, "storage", r->storage, "machine_hours",
			      r->machine_hours, "spot_hours", r->spot_hours, "awake_hours",
			      r->awake_hours, "stored_gib_months", r->stored_gib_months);
	json_object_set_new(o, "machines_peak", json_integer((json_int_t)r->machines_peak));
	json_object_set_new(o, "starts", json_integer((json_int_t)r->starts));
	json_object_set_new(o, "culled", json_integer((json_int_t)r->culled));
	json_object_set_new(o, "hibernations", json_integer((json_int_t)r->hibernations));
	json_object_set_new(o, "snapshots", json_integer((json_int_t)r->snapshots));
	json_object_set_new(o, "states_lost", json_integer((json_int_t)r->sessions_lost));
	json_object_set_new(o, "waiting", json_integer((json_int_t)r->waiting));
	json_object_set_new(o, "wakes", durations(&r->wakes));
	json_object_set_new(o, "wakes_unseen", json_integer((json_int_t)r->wakes_unseen));
	json_object_set_new(o, "pauses", durations(&r->pauses));
	json_object_set_new(o, "work_hours", work(&r->work));
	json_object_set_new(o, "evictions", evictions(r));
	if (sim->setup.consolidates && r->strategy->moves)
		json_object_set_new(o, "emptied", emptied(r));
	if (sim->setup.sizes.count && r->strategy->limits)
		json_object_set_new(o, "sizes", sizes(&r->sizes));
	return o;
}

static void print_as_json(const struct simulation *sim)
{
	const struct sim_setup *s = &sim->setup;
	char begin[CLOCK_TEXT_SIZE], end[CLOCK_TEXT_SIZE];
	cleanup_json json_t *ways = json_array();
	for (size_t i = 0; i < sim->ways; i++)
		json_array_append_new(ways, one_result(sim, world_result(sim->worlds[i])));
	cleanup_json json_t *all = json_pack(
		"{s:s, s:s, s:I, s:I, s:s, s:s, s:O}", "begin", clock_format(sim->begin, begin),
		"end", clock_format(sim->end, end), "seed", (json_int_t)s->seed, "sessions",
		(json_int_t)world_result(sim->worlds[0])->sessions, "currency", s->prices.currency,
		"as_of", s->prices.as_of, "ways", ways);
	print_json(stdout, all);
}

static void set_text(json_t *row, const char *key, char *text)
{
	json_object_set_new(row, key, json_string(text ? text : ""));
	free(text);
}

static void set_duration(json_t *row, const char *key, const struct tally *t, int64_t ms)
{
	if (t->count)
		set_text(row, key, str_printf(ms < 10000 ? "%.2f s" : "%.0f s", (double)ms / 1000));
}

static json_t *row_of(const struct sim_result *r, double always_on)
{
	json_t *row = json_pack("{s:s}", "way", r->strategy->name);
	double cost = report_cost(r);
	set_text(row, "cost", str_printf("%.2f", cost));
	set_text(row, "times", str_printf("%.1fx", cost > 0 ? always_on / cost : 0));
	set_text(row, "hours", str_printf("%.0f", r->machine_hours));
	set_duration(row, "p50", &r->wakes, tally_at(&r->wakes, 0.5));
	set_duration(row, "p95", &r->wakes, tally_at(&r->wakes, 0.95));
	set_duration(row, "p99", &r->wakes, tally_at(&r->wakes, 0.99));
	set_duration(row, "most", &r->wakes, r->wakes.most);
	json_object_set_new(row, "lost", json_integer((json_int_t)r->sessions_lost));
	set_text(row, "work", str_printf("%.1f h", (double)r->work.lost_ms / HOUR_MS));
	if (r->evicted)
		set_text(row, "evicted",
			 str_printf("%llu of %llu",
				    (unsigned long long)(r->evicted - r->evicted_lost),
				    (unsigned long long)r->evicted));
	return row;
}

/* A few may have come just before the end. */
static void print_waiting(const struct sim_result *r)
{
	if (r->waiting)
		printf("%s: %zu sessions waited at the end: no machine is large enough for them, "
		       "there may be "
		       "no more machines, or they came just then\n",
		       r->strategy->name, r->waiting);
}

static json_t *size_row(const struct sim_result *r)
{
	const struct size_counts *c = &r->sizes;
	json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "way",
				r->strategy->name, "smaller", (json_int_t)c->smaller, "larger",
				(json_int_t)c->larger, "moved", (json_int_t)c->moved, "raised",
				(json_int_t)c->raised, "rescue_moved", (json_int_t)c->rescue_moved,
				"rescue_slept", (json_int_t)c->rescue_slept, "out_of_memory",
				(json_int_t)c->out_of_memory);
	set_text(row, "promised", str_printf("%.0f", c->promised_gib_hours));
	set_text(row, "held", str_printf("%.0f", c->gib_hours));
	return row;
}

static void print_sizes(const struct simulation *sim)
{
	static const struct column columns[] = {
		{ "SIZES", "way", COLUMN_TEXT },
		{ "GIB-H PROMISED", "promised", COLUMN_TEXT },
		{ "HELD", "held", COLUMN_TEXT },
		{ "SMALLER", "smaller", COLUMN_INT },
		{ "LARGER", "larger", COLUMN_INT },
		{ "MOVED", "moved", COLUMN_INT },
		{ "RAISED", "raised", COLUMN_INT },
		{ "LARGER ELSEWHERE", "rescue_moved", COLUMN_INT },
		{ "AFTER A SLEEP", "rescue_slept", COLUMN_INT },
		{ "OUT OF MEMORY", "out_of_memory", COLUMN_INT },
	};
	cleanup_json json_t *rows = json_array();
	for (size_t i = 0; i < sim->ways; i++) {
		const struct sim_result *r = world_result(sim->worlds[i]);
		if (r->strategy->limits)
			json_array_append_new(rows, size_row(r));
	}
	printf("\n");
	table_print(stdout, rows, columns, ARRAY_SIZE(columns));
}

static void print_as_table(const struct simulation *sim)
{
	static const struct column columns[] = {
		{ "WAY", "way", COLUMN_TEXT },
		{ "COST", "cost", COLUMN_TEXT },
		{ "CHEAPER", "times", COLUMN_TEXT },
		{ "MACHINE-H", "hours", COLUMN_TEXT },
		{ "WAKE P50", "p50", COLUMN_TEXT },
		{ "P95", "p95", COLUMN_TEXT },
		{ "P99", "p99", COLUMN_TEXT },
		{ "MOST", "most", COLUMN_TEXT },
		{ "STATES LOST", "lost", COLUMN_INT },
		{ "WORK LOST", "work", COLUMN_TEXT },
		{ "EVICTIONS SURVIVED", "evicted", COLUMN_TEXT },
	};
	const struct prices *prices = &sim->setup.prices;
	double always_on = report_cost(world_result(sim->worlds[STRATEGY_ALWAYS_ON]));
	cleanup_json json_t *rows = json_array();
	for (size_t i = 0; i < sim->ways; i++)
		json_array_append_new(rows, row_of(world_result(sim->worlds[i]), always_on));
	table_print(stdout, rows, columns, ARRAY_SIZE(columns));
	printf("\n%zu sessions, %.1f days; %s, prices as of %s\n",
	       world_result(sim->worlds[0])->sessions,
	       (double)(sim->end - sim->begin) / HOUR_MS / 24, prices->currency,
	       prices->as_of[0] ? prices->as_of : "an unknown date");
	if (sim->setup.sizes.count)
		print_sizes(sim);
	for (size_t i = 0; i < sim->ways; i++)
		print_waiting(world_result(sim->worlds[i]));
}

static int write_page(const struct simulation *sim, const char *trace, const char *path,
		      struct error *e)
{
	cleanup_buf struct buf page = BUF_INIT(PAGE_MOST);
	const struct sim_result *results[STRATEGY_MOST];
	for (size_t i = 0; i < sim->ways; i++)
		results[i] = world_result(sim->worlds[i]);
	const char *slash = strrchr(trace, '/');
	const struct report report = { .results = results,
				       .count = sim->ways,
				       .begin = sim->begin,
				       .end = sim->end,
				       .title = slash ? slash + 1 : trace,
				       .prices = &sim->setup.prices,
				       .seed = sim->setup.seed,
				       .sizes = sim->setup.sizes.count > 0 };
	int r = report_html(&report, &page);
	if (r < 0)
		return error_set(e, -r, "cannot make the page");
	return fs_replace_soon(path, page.data, page.len, 0644, e);
}

int cmd_simulate(struct cli *cli, struct error *e)
{
	struct simulation *sim = calloc(1, sizeof(*sim));
	if (!sim)
		return error_set(e, ENOMEM, "out of memory");
	int r = prepare(cli, sim, e);
	if (r == 0)
		r = run(cli->argument, sim, e);
	if (r == 0 && cli->html_path)
		r = write_page(sim, cli->argument, cli->html_path, e);
	if (r == 0 && cli->json)
		print_as_json(sim);
	else if (r == 0)
		print_as_table(sim);
	for (size_t i = 0; i < STRATEGY_MOST; i++)
		world_free(sim->worlds[i]);
	rules_classes_deinit(&sim->classes);
	free(sim);
	return r;
}
