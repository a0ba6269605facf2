/* SPDX-License-Identifier: Apache-2.0 */
/* The classes there are, and when which session is looked at. */
#include "controller/size_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "controller/ledger.h"
#include "controller/nodes.h"
#include "controller/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PASS_MS    60000
#define AT_ONCE    20 /* sessions looked at before the loop goes on: each reads the record */
#define PAUSE_MS   20
#define AGAIN_US   (60 * 1000000LL)       /* after it could not be done */
#define SELDOM_US  (6 * 3600 * 1000000LL) /* what it used counts for less and less */
#define BEGUN_US   (10 * 1000000LL)       /* after it was started, or woken */
#define BYTES_MS   (100 * 1024.0)
#define NAMES_MOST 400

/* --- classes -------------------------------------------------------------------------------------
 */

int size_take_rules(const struct config *config, const struct prices *p, struct size *size,
		    struct error *e)
{
	rules_classes_deinit(&size->classes);
	size->rules = rules_size(config);
	return rules_classes_make(config, p, &size->classes, e);
}

int size_check(struct controller *c, const char *name, struct error *e)
{
	const struct size *size = c->size;
	cleanup_buf struct buf names = BUF_INIT(NAMES_MOST);
	if (!*name || size_find(size, name) >= 0)
		return 0;
	if (size->classes.count == 0) {
		int r = error_fault(e, FAULT_BAD_INPUT,
				    "size: there are no size classes to choose from");
		return error_remedy(e, r, "the administrator adds [[size.class]] to elsa.toml");
	}
	for (size_t i = 0; i < size->classes.count; i++)
		buf_printf(&names, "%s%s", i ? ", " : "", size->classes.list[i].name);
	int r = error_fault(e, FAULT_BAD_INPUT, "size: there is no class \"%.64s\"", name);
	return error_remedy(e, r, "there are: %s", buf_text(&names));
}

void size_each(struct controller *c, void (*each)(const char *name, int64_t sessions, void *arg),
	       void *arg)
{
	const struct size *size = c->size;
	for (size_t i = 0; i < size->classes.count; i++) {
		const struct size_class *class = &size->classes.list[i];
		int64_t count = 0;
		for (struct session *s = sessions_first(c); s; s = sessions_next(s))
			count += s->memory_limit == class->memory_bytes &&
				 s->cpu_limit == class->cpus && !size_is_over(s);
		each(class->name, count, arg);
	}
}

/* --- when ----------------------------------------------------------------------------------------
 */

static bool is_put_away(const struct session *s)
{
	return (s->state == SESSION_HIBERNATED || s->state == SESSION_ASLEEP) && !s->effect &&
	       !s->size.asking;
}

static void look_at(struct session *s)
{
	struct size_view view;
	struct error e = ERROR_INIT;
	int64_t pause = AGAIN_US;
	int r = size_look(s, &view, &e);
	if (r == 0 && view.decision.to >= 0)
		r = size_act(s, &view, &e);
	else if (r == 0)
		pause = SELDOM_US;
	if (r == 0 && view.decision.wait_ms >= 0 && view.decision.wait_ms * 1000 < pause)
		pause = view.decision.wait_ms * 1000;
	s->size.next_at = clock_mono() + pause;
	if (r < 0)
		log_warning("%s: its size cannot be decided, or changed: %s", s->label, e.text);
}

static bool is_due(const struct session *s, mono_us now, mono_us *next)
{
	if (!is_put_away(s) && !size_lowers(s))
		return false;
	if (now < s->size.next_at && s->size.next_at < *next)
		*next = s->size.next_at;
	return now >= s->size.next_at && (is_put_away(s) || size_may_lower(s));
}

static void pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct session *next;
	mono_us now = clock_mono();
	mono_us next_at = now + PASS_MS * 1000LL;
	int left = AT_ONCE;
	(void)fd;
	(void)what;
	if (c->size->classes.count == 0)
		return;
	for (struct session *s = sessions_first(c); s && left > 0; s = next) {
		next = sessions_next(s);
		if (!is_due(s, now, &next_at))
			continue;
		if (is_put_away(s))
			look_at(s);
		else
			s->size.next_at = now + size_look_running(s);
		left--;
	}
	int64_t pause_ms = left > 0 ? (next_at - now) / 1000 : PAUSE_MS;
	const struct timeval again = retry_timeval(pause_ms > PAUSE_MS ? pause_ms : PAUSE_MS);
	event_add(c->size->timer, &again);
}

void size_soon(struct session *s)
{
	static const struct timeval now;
	struct size *size = s->controller->size;
	s->size.next_at = 0;
	if (size && size->classes.count)
		event_add(size->timer, &now);
}

void size_settled(struct session *s)
{
	if (s->state == SESSION_HIBERNATED || s->state == SESSION_ASLEEP)
		size_soon(s);
	else if (size_lowers(s))
		s->size.next_at = clock_mono() + BEGUN_US;
}

/* --- all -----------------------------------------------------------------------------------------
 */

int size_new(struct controller *c, struct error *e)
{
	static const struct timeval now;
	c->size = calloc(1, sizeof(*c->size));
	if (!c->size)
		return error_set(e, ENOMEM, "out of memory");
	c->size->pace =
		(struct size_pace) { .stall_ms = SIZE_MOVE_STALL_MS, .bytes_per_ms = BYTES_MS };
	int r = size_take_rules(c->config, ledger_prices(c), c->size, e);
	if (r < 0)
		return r;
	c->size->timer = evtimer_new(c->base, pass, c);
	if (!c->size->timer)
		return error_set(e, ENOMEM, "out of memory");
	event_add(c->size->timer, &now);
	return 0;
}

void size_reload(struct controller *c)
{
	static const struct timeval now;
	struct error e = ERROR_INIT;
	if (size_take_rules(c->config, ledger_prices(c), c->size, &e) < 0)
		log_error("the size classes are not read again, and there are none: %s", e.text);
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		s->size.next_at = 0;
	event_add(c->size->timer, &now);
}

void size_free(struct controller *c)
{
	if (!c->size)
		return;
	rules_classes_deinit(&c->size->classes);
	if (c->size->timer)
		event_free(c->size->timer);
	free(c->size);
	c->size = NULL;
}
