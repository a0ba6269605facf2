# SPDX-License-Identifier: Apache-2.0
"""Time that passes in elsad's account without anybody waiting for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from basekit import CHECKOUT
from elsad_kit import Elsad
from recount import DAY_MS, Catalogue

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
