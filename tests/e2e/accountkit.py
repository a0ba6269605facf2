# SPDX-License-Identifier: Apache-2.0
"""elsad's account: time that passes in it without anybody waiting, and whether it is what its events say."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from basekit import CHECKOUT, wait_for
from elsad_kit import Elsad
from recount import DAY_MS, Catalogue, Recount

CATALOGUE = Catalogue((CHECKOUT / "packaging/prices/aws-us-east-1").read_text())
TYPE = {"instance_type": "m6i.2xlarge", "price": "spot", "memory_bytes": 32 << 30}


def database(elsad: Elsad) -> sqlite3.Connection:
    return sqlite3.connect(elsad.dir / "elsad.db")


def shift(elsad: Elsad, ms: int) -> None:
    """All that is on record of the account was so much earlier; elsad does not run."""
    with closing(database(elsad)) as db, db:
        db.execute("UPDATE accounts SET since = since - ?, sized_at = sized_at - ?", (ms, ms))
        db.execute("UPDATE events SET at = at - ?", (ms,))
        db.execute("UPDATE account_days SET day = day - ?", (ms // DAY_MS,))


def set_clock(elsad: Elsad, ms: int) -> None:
    """The clock was put forward by so much while elsad did not run; before that it was right."""
    shift(elsad, ms)
    with closing(database(elsad)) as db, db:
        boot, offset = db.execute("SELECT value FROM facts WHERE key = 'account.clock'").fetchone()[0].split()
        db.execute("UPDATE facts SET value = ? WHERE key = 'account.clock'", (f"{boot} {int(offset) - ms}",))


def check_account(elsad: Elsad, days: bool = False) -> dict:
    """The account of each session (where only whole days were shifted: each day) is what the events say."""

    def summed(rows: dict) -> dict:
        sums: dict = {}
        for key, row in rows.items():
            key = key if days else key[1:]
            sums[key] = [a + b for a, b in zip(row, sums.get(key, [0] * 5))]
        return sums

    def read() -> tuple | None:
        events = elsad.events(limit=10000)
        said = elsad.get("/v1/savings", by="user", since_ms=3650 * DAY_MS)
        with closing(database(elsad)) as db:
            rows = db.execute("SELECT day, user, server, awake_ms, open_ms, always, machine, store"
                              " FROM account_days").fetchall()  # fmt: skip
        return (said, events, rows) if elsad.events(limit=10000) == events else None

    said, events, rows = wait_for("a moment in which nothing happens", read, unless=elsad.why_dead)
    counted = Recount(events, CATALOGUE).until(said["until"])
    kept = summed({tuple(row[:3]): row[3:] for row in rows})
    for key, sums in summed({k: list(vars(v).values()) for k, v in counted.days.items()}).items():
        assert kept.pop(key, [0] * 5) == pytest.approx(sums, rel=1e-6, abs=1e-12), key
    assert not kept
    total = counted.total()
    assert said["total"]["always_on"] == pytest.approx(total.always, rel=0.01)
    assert said["total"]["cost"] == pytest.approx(total.machine + total.store, rel=0.01)
    return said
