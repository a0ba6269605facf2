/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/report.h"

#include "base/cleanup.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 860, LEFT = 110, RIGHT = 20, BAR = 26, PLOT_HEIGHT = 240, BOTTOM = 34, TOP = 14 };
#define HOUR 3600000.0

/* Distinct for colour-blind eyes, too (Okabe and Ito). */
static const char *const colours[STRATEGY_MOST] = { "#999999", "#e69f00", "#d55e00",
						    "#56b4e9", "#009e73", "#cc79a7" };

static const char head[] =
	"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>elsa simulate</title>\n<style>\n"
	"body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;"
	"color:#222}\nh1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .3em}\n"
	"table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
	"th,td{padding:.25em .5em;text-align:right;border-bottom:1px solid #ddd}\n"
	"th:first-child,td:first-child{text-align:left}\n"
	"svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#444}\n"
	".axis{stroke:#999}.grid{stroke:#eee}p.note{color:#666;font-size:.9em}\n"
	"@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}"
	"th,td{border-color:#444}svg text{fill:#bbb}.grid{stroke:#333}p.note{color:#999}}\n"
	"</style></head><body>\n";

double report_cost(const struct sim_result *r)
{
	return r->compute + r->storage;
}

static int text(struct buf *to, const char *s)
{
	int r = 0;
	for (; r == 0 && *s; s++) {
		if (*s == '<' || *s == '>' || *s == '&' || *s == '"')
			r = buf_printf(to, "&#%d;", *s);
		else
			r = buf_append(to, s, 1);
	}
	return r;
}

static const char *colour_of(size_t i)
{
	return colours[i % STRATEGY_MOST];
}

/* --- the table ---------------------------------------------------------------------------------
 */

static void duration(int64_t ms, char to[32])
{
	if (ms < 10000)
		snprintf(to, 32, "%.3g s", (double)ms / 1000);
	else
		snprintf(to, 32, "%.0f s", (double)ms / 1000);
}

static int table_row(const struct report *p, const struct sim_result *r, struct buf *to)
{
	char p50[32], p95[32], p99[32], most[32];
	double first = report_cost(p->results[0]), own = report_cost(r);
	duration(tally_at(&r->wakes, 0.5), p50);
	duration(tally_at(&r->wakes, 0.95), p95);
	duration(tally_at(&r->wakes, 0.99), p99);
	duration(r->wakes.most, most);
	int e = buf_printf(to,
			   "<tr><td title=\"%s\">%s</td><td>%.0f</td><td>%.1f&#215;</td>"
			   "<td>%.0f</td>",
			   r->strategy->text, r->strategy->name, own, own > 0 ? first / own : 0,
			   r->machine_hours);
	if (e == 0 && r->wakes.count)
		e = buf_printf(to, "<td>%s</td><td>%s</td><td>%s</td><td>%s</td>", p50, p95, p99,
			       most);
	else if (e == 0)
		e = buf_printf(to, "<td colspan=\"4\">nobody sleeps</td>");
	if (e == 0)
		e = buf_printf(to, "<td>%llu</td><td>%.1f</td><td>%llu / %llu</td></tr>\n",
			       (unsigned long long)r->sessions_lost, (double)r->work.lost_ms / HOUR,
			       (unsigned long long)(r->evicted - r->evicted_lost),
			       (unsigned long long)r->evicted);
	return e;
}

static int table(const struct report *p, struct buf *to)
{
	int r = buf_printf(to,
			   "<table><thead><tr><th></th><th>cost (%s)</th><th>cheaper</th>"
			   "<th>machine hours</th><th>wake p50</th><th>p95</th><th>p99</th>"
			   "<th>most</th><th>states lost</th><th>work lost (h)</th>"
			   "<th>evictions survived</th></tr></thead><tbody>\n",
			   p->prices->currency);
	for (size_t i = 0; r == 0 && i < p->count; i++)
		r = table_row(p, p->results[i], to);
	return r < 0 ? r : buf_printf(to, "</tbody></table>\n");
}

static int size_row(const struct sim_result *r, struct buf *to)
{
	const struct size_counts *c = &r->sizes;
	const uint64_t counts[] = { c->smaller,      c->larger,       c->moved,        c->raised,
				    c->rescue_moved, c->rescue_slept, c->out_of_memory };
	int e = buf_printf(to, "<tr><td title=\"%s\">%s</td><td>%.0f</td><td>%.0f</td>",
			   r->strategy->text, r->strategy->name, c->promised_gib_hours,
			   c->gib_hours);
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(counts); i++)
		e = buf_printf(to, "<td>%llu</td>", (unsigned long long)counts[i]);
	return e < 0 ? e : buf_printf(to, "</tr>\n");
}

static int size_table(const struct report *p, struct buf *to)
{
	int r = buf_printf(to, "<h2>Sizes</h2>\n<table><thead><tr><th></th><th>GiB hours promised"
			       "</th><th>held</th><th>smaller</th><th>larger</th><th>moved</th>"
			       "<th>raised</th><th>larger elsewhere</th><th>after a sleep</th>"
			       "<th>out of memory</th></tr></thead><tbody>\n");
	for (size_t i = 0; r == 0 && i < p->count; i++)
		if (p->results[i]->strategy->limits)
			r = size_row(p->results[i], to);
	return r < 0 ? r : buf_printf(to, "</tbody></table>\n");
}

/* --- plots -------------------------------------------------------------------------------------
 */

static int begin_plot(struct buf *to, const char *title, int height)
{
	return buf_printf(to,
			  "<h2>%s</h2>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" "
			  "aria-label=\"%s\">\n",
			  title, WIDTH, height, title);
}

static int legend(const struct report *p, struct buf *to)
{
	int r = buf_printf(to, "<p class=\"note\">");
	for (size_t i = 0; r == 0 && i < p->count; i++)
		r = buf_printf(to, "<span style=\"color:%s\">&#9632;</span> %s&#160; ",
			       colour_of(i), p->results[i]->strategy->name);
	return r < 0 ? r : buf_printf(to, "</p>\n");
}

static int cost_bars(const struct report *p, struct buf *to)
{
	double most = 0;
	for (size_t i = 0; i < p->count; i++)
		most = fmax(most, report_cost(p->results[i]));
	double scale = most > 0 ? (WIDTH - LEFT - 90) / most : 0;
	int r = begin_plot(to, "Cost: machines, and storage at the end of the bar",
			   (int)p->count * BAR + 8);
	for (size_t i = 0; r == 0 && i < p->count; i++) {
		const struct sim_result *x = p->results[i];
		double y = (double)i * BAR, compute = x->compute * scale;
		r = buf_printf(to,
			       "<text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">%s</text>"
			       "<rect x=\"%d\" y=\"%.0f\" width=\"%.1f\" height=\"18\" "
			       "fill=\"%s\"/><rect x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" "
			       "height=\"18\" fill=\"%s\" opacity=\".5\"/>"
			       "<text x=\"%.1f\" y=\"%.0f\">%.0f</text>\n",
			       LEFT - 8, y + 17, x->strategy->name, LEFT, y + 4, compute,
			       colour_of(i), LEFT + compute, y + 4, x->storage * scale,
			       colour_of(i), LEFT + report_cost(x) * scale + 6, y + 17,
			       report_cost(x));
	}
	return r < 0 ? r : buf_printf(to, "</svg>\n");
}

/* Plot coordinates of a share of the width and of the height. */
static double at_x(double share)
{
	return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double at_y(double share)
{
	return TOP + (1 - share) * (PLOT_HEIGHT - TOP - BOTTOM);
}

static int frame(struct buf *to)
{
	return buf_printf(to, "<path class=\"axis\" fill=\"none\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n",
			  at_x(0), at_y(1), at_y(0), at_x(1));
}

/* Of wakes: from 0.1 s to 1000 s, by powers of ten. */
#define DECADES  4.0
#define LEAST_MS 100.0

static int wake_grid(struct buf *to)
{
	static const char *const labels[] = { "0.1 s", "1 s", "10 s", "100 s", "1000 s" };
	int r = frame(to);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(labels); i++)
		r = buf_printf(to,
			       "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text x=\"%.1f\" "
			       "y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			       at_x((double)i / DECADES), at_y(1), at_y(0),
			       at_x((double)i / DECADES), PLOT_HEIGHT - 14, labels[i]);
	for (int i = 0; r == 0 && i <= 4; i++)
		r = buf_printf(to, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n",
			       LEFT - 8, at_y(i / 4.0) + 4, i * 25);
	return r;
}

static int wake_line(const struct sim_result *r, const char *colour, struct buf *to)
{
	enum { STEPS = 160 };
	int e = buf_printf(to, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"",
			   colour);
	for (int i = 0; e == 0 && i <= STEPS; i++) {
		double share = (double)i / STEPS;
		int64_t ms = (int64_t)(LEAST_MS * pow(10, share * DECADES));
		e = buf_printf(to, "%.1f,%.1f ", at_x(share), at_y(tally_share(&r->wakes, ms)));
	}
	return e < 0 ? e : buf_printf(to, "\"/>\n");
}

static int wake_plot(const struct report *p, struct buf *to)
{
	int r = begin_plot(to, "Wakes that had an answer within", PLOT_HEIGHT);
	if (r == 0)
		r = wake_grid(to);
	for (size_t i = 0; r == 0 && i < p->count; i++)
		if (p->results[i]->wakes.count)
			r = wake_line(p->results[i], colour_of(i), to);
	return r < 0 ? r : buf_printf(to, "</svg>\n");
}

static const struct course *course_of(const struct sim_result *r, bool machines)
{
	return machines ? &r->machines : &r->awake;
}

static double course_most(const struct report *p, bool machines)
{
	double most = 1;
	for (size_t i = 0; i < p->count; i++) {
		const struct course *c = course_of(p->results[i], machines);
		for (size_t j = 0; j < c->count; j++)
			most = fmax(most, c->values[j]);
	}
	return most;
}

static int course_line(const struct report *p, const struct course *c, double most,
		       const char *colour, struct buf *to)
{
	double length = (double)(p->end - p->begin);
	int r = buf_printf(
		to, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.2\" points=\"", colour);
	for (size_t j = 0; r == 0 && j < c->count && length > 0; j++) {
		double x = (double)j * (double)c->step_ms / length;
		r = buf_printf(to, "%.1f,%.1f ", at_x(x < 1 ? x : 1), at_y(c->values[j] / most));
	}
	return r < 0 ? r : buf_printf(to, "\"/>\n");
}

static int course_plot(const struct report *p, const char *title, bool machines, struct buf *to)
{
	double most = course_most(p, machines);
	double days = (double)(p->end - p->begin) / HOUR / 24;
	int r = begin_plot(to, title, PLOT_HEIGHT);
	if (r == 0)
		r = frame(to);
	for (int i = 0; r == 0 && i <= 4; i++)
		r = buf_printf(to,
			       "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>"
			       "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">day %.0f</text>\n",
			       LEFT - 8, at_y(i / 4.0) + 4, most * i / 4, at_x(i / 4.0),
			       PLOT_HEIGHT - 14, days * i / 4);
	for (size_t i = 0; r == 0 && i < p->count; i++)
		r = course_line(p, course_of(p->results[i], machines), most, colour_of(i), to);
	return r < 0 ? r : buf_printf(to, "</svg>\n");
}

/* --- the page ----------------------------------------------------------------------------------
 */

static int notes(const struct report *p, struct buf *to)
{
	char begin[CLOCK_TEXT_SIZE], end[CLOCK_TEXT_SIZE];
	int r = buf_printf(to, "<h1>What it would have cost</h1>\n<p>");
	if (r == 0)
		r = text(to, p->title);
	return r < 0 ? r
		     : buf_printf(
			       to,
			       ", %s to %s, %zu sessions; seed %llu; prices in %s as of %s.</p>\n",
			       clock_format(p->begin, begin), clock_format(p->end, end),
			       p->count ? p->results[0]->sessions : 0, (unsigned long long)p->seed,
			       p->prices->currency,
			       p->prices->as_of[0] ? p->prices->as_of : "an unknown date");
}

int report_html(const struct report *p, struct buf *to)
{
	int r = buf_printf(to, "%s", head);
	r = r < 0 ? r : notes(p, to);
	r = r < 0 ? r : table(p, to);
	r = r < 0 || !p->sizes ? r : size_table(p, to);
	r = r < 0 ? r : cost_bars(p, to);
	r = r < 0 ? r : wake_plot(p, to);
	r = r < 0 ? r : legend(p, to);
	r = r < 0 ? r : course_plot(p, "Sessions awake", false, to);
	r = r < 0 ? r : course_plot(p, "Machines", true, to);
	r = r < 0 ? r : legend(p, to);
	return r < 0 ? r
		     : buf_printf(to,
				  "<p class=\"note\">Made by elsa simulate. How the numbers come "
				  "about: docs/simulator.md.</p>\n</body></html>\n");
}
