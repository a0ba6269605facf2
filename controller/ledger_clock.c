/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time as it is charged. Accounts are kept by the wall clock, which can be set: then what lies
 * between the two readings has not passed, or passes twice. The time since the machine was booted
 * tells: its distance from the wall clock is on record, and where it is another one the clock was
 * set. Over a reboot only a clock that was put back can be seen.
 */
#include "controller/ledger_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/record.h"

#include <stdlib.h>
#include <string.h>

#define FACT     "account.clock" /* "BOOT OFFSET" */
#define STEP_MS  2000
#define BOOT_MAX 64

static int64_t boot_ms(void)
{
	return clock_boot() / 1000;
}

static void read_boot(char to[BOOT_MAX])
{
	cleanup_buf struct buf text = BUF_INIT(BOOT_MAX);
	fs_read("/proc/sys/kernel/random/boot_id", &text, NULL);
	snprintf(to, BOOT_MAX, "%.*s", (int)strcspn(buf_text(&text), "\n"), buf_text(&text));
}

static int write_fact(struct controller *c, int64_t offset_ms, struct error *e)
{
	char boot[BOOT_MAX];
	read_boot(boot);
	cleanup_free char *value = str_printf("%s %lld", boot, (long long)offset_ms);
	return db_fact_set(c->db, FACT, value, e);
}

/* What was charged until `from` goes on at `to`. */
static int move_account(struct session *s, wall_ms from, wall_ms to, struct error *e)
{
	struct db *db = s->controller->db;
	struct db_account account = { 0 };
	if (db_account_get(db, s->row.id, &account, NULL) < 0)
		return 0;
	int r = ledger_charge(db, &account, from, e);
	account.sized_at += to - from;
	account.since = to;
	if (r == 0)
		r = db_account_put(db, &account, e);
	db_account_deinit(&account);
	return r;
}

static int write_step(struct controller *c, wall_ms from, wall_ms to, struct error *e)
{
	cleanup_json json_t *inputs =
		json_pack("{s:I, s:I}", "from", (json_int_t)from, "to", (json_int_t)to);
	int r = write_fact(c, to - boot_ms(), e);
	for (struct session *s = sessions_first(c); r == 0 && s; s = sessions_next(s))
		r = move_account(s, from, to, e);
	return r < 0 ? r
		     : record_event(c,
				    &(struct record) { .at = to,
						       .who = "elsad",
						       .what = "clock-step",
						       .why = to > from ? "forward" : "back",
						       .detail = "the clock of this host was set",
						       .inputs = inputs },
				    e);
}

static int step(struct controller *c, wall_ms from, wall_ms to, struct error *e)
{
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = write_step(c, from, to, e);
	if (r < 0) {
		db_rollback(c->db);
		return r;
	}
	r = db_commit(c->db, e);
	if (r == 0)
		c->ledger->offset_ms = to - boot_ms();
	return r;
}

void ledger_check_clock(struct controller *c)
{
	struct error e = ERROR_INIT;
	wall_ms now = clock_wall();
	wall_ms expected = boot_ms() + c->ledger->offset_ms;
	if (llabs(now - expected) <= STEP_MS)
		return;
	log_warning("the clock of this host was set by %lld s", (long long)(now - expected) / 1000);
	if (step(c, expected, now, &e) < 0)
		log_error("that the clock was set cannot be recorded: %s", e.text);
}

static int take_latest(const struct db_account *account, void *arg)
{
	wall_ms *latest = arg;
	*latest = account->since > *latest ? account->since : *latest;
	return 0;
}

int ledger_clock_begin(struct controller *c, struct error *e)
{
	char boot[BOOT_MAX];
	cleanup_free char *fact = NULL;
	wall_ms now = clock_wall();
	wall_ms latest = 0;
	read_boot(boot);
	c->ledger->offset_ms = now - boot_ms();
	bool same = db_fact_get(c->db, FACT, &fact, NULL) == 0 &&
		    strncmp(fact, boot, strlen(boot)) == 0 && fact[strlen(boot)] == ' ';
	if (same) {
		c->ledger->offset_ms = strtoll(fact + strlen(boot), NULL, 10);
		ledger_check_clock(c);
		return 0;
	}
	int r = db_account_each(c->db, take_latest, &latest, e);
	if (r == 0 && latest > now)
		return step(c, latest, now, e);
	return r < 0 ? r : write_fact(c, c->ledger->offset_ms, e);
}
