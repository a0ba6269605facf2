# SPDX-License-Identifier: Apache-2.0
"""spot.*: the sessions of a machine that goes away, from the notice to all durable in the store; against
podman's export of the same sessions, one beside the other as we do it, in the same run.

Once with nothing in the store, once with a snapshot of each and 5 % of it changed since. The data is
checked after each wake, which happens when the notice has been taken back.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time

import evictions
from basekit import wait_for
from hubkit import Stack
from podman import Podman
from protection import protection
from sides import DIRECTORY, Ours, prepared, run_parts, settle

SESSIONS = int(os.environ.get("ELSA_SPOT_SESSIONS", "4"))
MIB = int(os.environ.get("ELSA_SPOT_MIB", "2048"))
EVICTIONS = int(os.environ.get("ELSA_EVICTIONS", "200"))
WINDOW_S = 30
LONG_S = 600  # for what is only timed
PAGE, FLOATS = 4096, 512

DATA = f"import numpy as np; data = np.random.rand({MIB} * 2**17); print(data.sum())"
CHECK = "print(data.sum(), data[12345], data[-1])"
# One page in twenty, here and there, in place.
TOUCH = f"""
first = -data.ctypes.data % {PAGE} // 8
pages = data[first:first + (len(data) - first) // {FLOATS} * {FLOATS}].reshape(-1, {FLOATS})
rng = np.random.default_rng()
for i in rng.choice(len(pages), len(pages) // 20, replace=False, shuffle=False):
    rng.random(out=pages[i])
"""


class Machine:
    """One that can be told that it goes away."""

    def __init__(self):
        self.notice_file = DIRECTORY / "notice.json"
        self.stack = Stack(options={
            "node": {"notices": "file", "notice_file": str(self.notice_file),
                     "notice_interval": "100ms"},
            "spot": {"protect": "none"}, "controller": {"observe": "500ms"}})
        self.stack.start_node()
        self.stack.start_elsad()
        self.name = self.stack.api.get("/v1/nodes")["items"][0]["name"]

    def evacuate(self, window_s: int) -> dict:
        """When all is over, with `s`: seconds from the notice to the last one durable."""
        begin = time.time()
        temporary = self.notice_file.with_suffix(".new")
        temporary.write_text(json.dumps({"kind": "evict", "in": f"{window_s}s"}))
        temporary.rename(self.notice_file)
        last = wait_for("the evacuation", lambda: self.ended(begin), seconds=LONG_S, pause=0.1)
        states = [s["state"] for s in last["sessions"]]
        if states != ["saved"] * SESSIONS:
            raise RuntimeError(f"not all were saved: {last}")
        return {**last, "s": max(s["ended_at"] for s in last["sessions"]) / 1e3 - begin}

    def ended(self, since: float) -> dict | None:
        try:
            last = self.stack.api.get(f"/v1/nodes/evacuation?node={self.name}")
        except Exception:  # there was none yet
            return None
        return last if last["begun_at"] / 1e3 >= since - 1 and last.get("ended_at") else None

    def take_back(self) -> None:
        self.notice_file.unlink()
        wait_for("the node to take sessions again",
                 lambda: not self.stack.api.get("/v1/nodes")["items"][0].get("leaving"), seconds=20)
        time.sleep(1)  # the file is looked at ten times a second

    def close(self) -> None:
        self.stack.close()


def podman_exports(report) -> float:
    """Seconds for all, two at a time: there are two processors."""
    places = [Podman(DIRECTORY / f"podman{n}") for n in range(SESSIONS)]
    try:
        for place in places:
            prepared(place.start(), DATA, CHECK)
        settle()
        begin = time.monotonic()
        for pair in range(0, SESSIONS, 2):
            threads = [threading.Thread(target=p.checkpoint) for p in places[pair:pair + 2]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        took = time.monotonic() - begin
        if not all(p.archive.exists() for p in places):
            raise RuntimeError("podman has not exported all")
        report.progress(f"podman: {took:.1f} s")
        return took
    finally:
        for place in places:
            place.close()


def wake(ours: list[Ours], truths: list[str]) -> None:
    for one, truth in zip(ours, truths):
        one.resume()
        one.wait_arrived()
        if one.server.execute(CHECK) != truth:
            raise RuntimeError("other data came back")


def evacuation(report) -> None:
    baseline = podman_exports(report)
    machine = Machine()
    try:
        ours = [Ours(machine.stack, f"spot{n}") for n in range(SESSIONS)]
        truths = [prepared(one.server, DATA, CHECK) for one in ours]
        settle()
        bare = machine.evacuate(LONG_S)
        report.progress(f"bare: {bare['s']:.1f} s")
        machine.take_back()
        wake(ours, truths)
        for one in ours:
            one.act("snapshot")
        truths = [(one.server.execute(TOUCH), one.server.execute(CHECK))[1] for one in ours]
        settle()
        window = machine.evacuate(WINDOW_S)
        report.progress(f"protected: {window['s']:.1f} s")
        machine.take_back()
        wake(ours, truths)
    finally:
        machine.close()
    report.faster("evacuate_bare", bare["s"], baseline, 2.5)
    report.faster("evacuate_protected_5pct", window["s"], baseline, 4)
    report.plain("margin_of_30s", window["margin_ms"] / 1e3, "s")
    report.plain("sent_protected_5pct", sum(s["bytes"] for s in window["sessions"]), "bytes")


def taken_away(report) -> None:
    """Machines that vanish at random moments, with and without notice, under sessions at work."""
    outcome = evictions.run(EVICTIONS, int(time.time()), report.progress)
    report.plain("evictions", outcome.evictions, "machines")
    report.at_most("evictions_doubled", outcome.doubled, 0, "sessions that ran twice")
    report.at_most("evictions_lost", len(outcome.lost), 0, "sessions")
    report.at_most("evictions_work_lost", outcome.most_lost_s, evictions.RPO, "s")
    report.plain("evictions_away", statistics.median(outcome.away_s), "s")


def measure(report) -> None:
    run_parts(report, evacuation, protection, taken_away)
