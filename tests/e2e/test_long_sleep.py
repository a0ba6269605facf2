# SPDX-License-Identifier: Apache-2.0
"""Asleep unseen for long, with a websocket that stays open: it is answered on it as if nothing had been."""

from __future__ import annotations

import os
import time

import pytest

from basekit import wait_for
from hubkit import Stack

# ELSA_LONG=1: an hour. Else longer than the session's server waits for a pong.
SLEEP_S = 3600 if os.environ.get("ELSA_LONG") else 12
PING_MS, PONG_MS = 2000, 8000

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.timeout(400 + SLEEP_S)]  # fmt: skip

OPTIONS = {"idle": {"transparent": True, "timeout": 0}, "doze": {"swap": "off"}}
SETTINGS = {"ws_ping_interval": PING_MS, "ws_ping_timeout": PONG_MS}
HUB_EXTRA = f"""
c.Spawner.args = ["--ServerApp.tornado_settings={SETTINGS}"]
"""

BEFORE = """
import threading, time
kept, rang = 6 * 7, []
wall, monotonic = time.time(), time.monotonic()
threading.Timer(5, lambda: rang.append(time.monotonic() - monotonic)).start()
"""
AFTER = """
import json
print(json.dumps([kept, time.time(), time.time() - wall, time.monotonic() - monotonic, len(rang)]))
"""


def test_a_cell_on_a_websocket_that_was_open_all_along():
    with Stack(options=OPTIONS, hub_extra=HUB_EXTRA) as stack:
        ada = stack.browser("ada")
        ada.log_in()
        ada.start_server()
        kernel = ada.new_kernel().connect()
        kernel.heed_pings(2)
        kernel.run(BEFORE)
        began = time.time()
        operation = stack.api.post("/v1/session/hibernate", user="ada", server="", transparent=True)
        stack.api.wait_operation(operation)
        stack.api.wait_state("ada", "asleep")
        asleep_at = time.time()

        def slept_long() -> bool:
            session = stack.api.session("ada")
            assert session["state"] == "asleep" and not session.get("touched_at"), stack.logs()
            return time.time() - asleep_at >= SLEEP_S

        wait_for("the sleep to be long", slept_long, seconds=SLEEP_S + 60, pause=min(1, SLEEP_S / 60))
        asked = time.time()
        kept, now, wall, monotonic, rang = kernel.value(AFTER, seconds=60)
        print(f"asleep for {asked - asleep_at:.0f} s, answered after {time.time() - asked:.3f} s")
        assert kept == 42
        # The wall clock went on, and what counts running time did not.
        assert abs(now - time.time()) < 5 and abs(wall - (time.time() - began)) < 5
        assert monotonic < wall - SLEEP_S + 5
        # Neither a pong that is long overdue nor a timer that is has done any harm.
        kernel.heed_pings(2 + PONG_MS // PING_MS)
        assert kernel.value("print(len(rang))") == 1 and rang <= 1
        assert stack.api.wait_state("ada", "running")["generation"] >= 1
