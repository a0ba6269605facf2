/* SPDX-License-Identifier: Apache-2.0 */
#include "node/activator_relay.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <sys/socket.h>

enum { RELAY_MOST = 64 << 10 };

static struct relay_side *other_side(struct relay_side *side)
{
	return &side->relay->sides[side == &side->relay->sides[0]];
}

static size_t unsent(const struct relay_side *side)
{
	return evbuffer_get_length(bufferevent_get_output(side->bev));
}

/* The end of one side's sending goes to the other behind its last byte. True: nothing is left to be
 * done, and the relay may be gone. */
static bool pass_end(struct relay_side *from)
{
	struct relay_side *to = other_side(from);
	if (!from->ended || unsent(to))
		return false;
	if (!to->shut) {
		shutdown(bufferevent_getfd(to->bev), SHUT_WR);
		to->shut = true;
	}
	if (!to->ended || unsent(from))
		return false;
	from->relay->events.over(from->relay->arg);
	return true;
}

static void pass_bytes(struct relay_side *from)
{
	struct relay_side *to = other_side(from);
	evbuffer_add_buffer(bufferevent_get_output(to->bev), bufferevent_get_input(from->bev));
	if (unsent(to) >= RELAY_MOST)
		bufferevent_disable(from->bev, EV_READ);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct relay_side *side = arg;
	struct relay *relay = side->relay;
	(void)bev;
	pass_bytes(side);
	if (side == &relay->sides[1] && !relay->answered) {
		relay->answered = true;
		relay->events.answered(relay->arg);
	}
}

/* All that was to be sent on this side is on its way. */
static void on_sent(struct bufferevent *bev, void *arg)
{
	struct relay_side *to = arg, *from = other_side(to);
	(void)bev;
	if (from->failed)
		from->relay->events.over(from->relay->arg);
	else if (!pass_end(from) && !from->ended)
		bufferevent_enable(from->bev, EV_READ);
}

static void fail(struct relay_side *from)
{
	struct relay_side *to = other_side(from);
	from->failed = true;
	pass_bytes(from);
	if (to->failed || !unsent(to))
		from->relay->events.over(from->relay->arg);
	else
		bufferevent_disable(to->bev, EV_READ);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct relay_side *side = arg;
	(void)bev;
	if (what & BEV_EVENT_ERROR) {
		fail(side);
	} else if (what & BEV_EVENT_EOF) {
		side->ended = true;
		pass_bytes(side);
		pass_end(side);
	}
}

static void begin_side(struct relay_side *side, struct relay *relay, struct bufferevent *bev)
{
	*side = (struct relay_side) { .relay = relay, .bev = bev };
	bufferevent_setcb(bev, on_read, on_sent, on_event, side);
	bufferevent_setwatermark(bev, EV_READ, 0, RELAY_MOST);
	bufferevent_setwatermark(bev, EV_WRITE, 0, 0);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

void relay_begin(struct relay *relay, struct bufferevent *first, struct bufferevent *second,
		 bool ended, const struct relay_events *events, void *arg)
{
	relay->events = *events;
	relay->answered = false;
	relay->arg = arg;
	begin_side(&relay->sides[0], relay, first);
	begin_side(&relay->sides[1], relay, second);
	relay->sides[0].ended = ended;
	pass_bytes(&relay->sides[0]);
	pass_bytes(&relay->sides[1]);
	pass_end(&relay->sides[0]);
}
