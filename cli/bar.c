/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bar.h"

#include "cli/table.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CELLS     20
#define REDRAW_US (100 * 1000)
#define SURE_US   (500 * 1000) /* before that a speed says nothing */
#define LEFT_MOST (99 * 3600)

static const char *amount(const struct bar *bar, int64_t value, char to[32])
{
	if (!bar->counts)
		return format_bytes(value, to);
	snprintf(to, 32, "%lld", (long long)value);
	return to;
}

static void add_gauge(int64_t done, int64_t total, char to[64])
{
	int cells = (int)((double)done / (double)total * CELLS);
	char gauge[CELLS + 1];
	for (int i = 0; i < CELLS; i++)
		gauge[i] = i < cells ? '#' : '.';
	gauge[CELLS] = '\0';
	snprintf(to, 64, " [%s] %3d %%", gauge, (int)((double)done / (double)total * 100));
}

static void add_speed(const struct bar *bar, int64_t done, int64_t total, mono_us us, char to[64])
{
	char text[32];
	double seconds = (double)us / 1e6;
	double speed = (double)done / seconds;
	double left = (double)(total - done) / speed;
	int used = 0;
	if (!bar->counts)
		used = snprintf(to, 64, "  %s/s", format_bytes((int64_t)speed, text));
	if (total > done && left < LEFT_MOST)
		snprintf(to + used, 64 - (size_t)used, "  %d:%02d left", (int)left / 60,
			 (int)left % 60);
}

const char *bar_text(const struct bar *bar, int64_t done, int64_t total, mono_us us,
		     char to[BAR_SIZE])
{
	char a[32], b[32];
	char gauge[64] = "";
	char speed[64] = "";
	if (done < 0)
		done = 0;
	if (total > 0 && done > total)
		done = total;
	if (total > 0)
		add_gauge(done, total, gauge);
	if (us > SURE_US && done > 0)
		add_speed(bar, done, total, us, speed);
	snprintf(to, BAR_SIZE, "%s:%s  %s%s%s%s", bar->title, gauge, amount(bar, done, a),
		 total > 0 ? " of " : "", total > 0 ? amount(bar, total, b) : "", speed);
	return to;
}

void bar_show(struct bar *bar, int64_t done, int64_t total)
{
	char text[BAR_SIZE];
	mono_us now = clock_mono();
	if (!bar->begun)
		bar->begun = now;
	if (!isatty(STDERR_FILENO) || (bar->shown && now - bar->shown < REDRAW_US))
		return;
	bar->shown = now;
	fprintf(stderr, "\r\033[K%s", bar_text(bar, done, total, now - bar->begun, text));
	fflush(stderr);
}

void bar_end(struct bar *bar)
{
	if (bar->shown)
		fputs("\r\033[K", stderr);
	bar->shown = 0;
}
