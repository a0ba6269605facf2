# SPDX-License-Identifier: Apache-2.0
"""What standing protection costs: a session of 1 GiB in which 1 % of the memory changes each minute,
snapshotted at an RPO of 60 s. A part of the group spot."""

from __future__ import annotations

import os
import time
from pathlib import Path

from basekit import wait_for
from sides import Ours, median, prepared
from store import FLOATS, PAGE, RANDOM, session, stack_with

RPO = 60  # seconds
SNAPSHOTS = int(os.environ.get("ELSA_SNAPSHOTS", "5"))

# In a hundred steps each minute, single pages in place, as store.TOUCH does.
CHANGE = f"""
import threading, time
first = -data.ctypes.data % {PAGE} // 8
pages = data[first:first + (len(data) - first) // {FLOATS} * {FLOATS}].reshape(-1, {FLOATS})
changed = 0
def change():
    global changed
    rng = np.random.default_rng()
    while True:
        for i in rng.integers(0, len(pages), len(pages) // 10000):
            rng.random(out=pages[i])
            changed += 1
        time.sleep(0.6)
threading.Thread(target=change, daemon=True).start()
"""


def cpu_s(*pids: int) -> float:
    """Used by processes and by their children that have ended."""
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(map(int, fields[11:15]))
    return used / os.sysconf("SC_CLK_TCK")


def next_snapshot(ours: Ours, before: str | None) -> dict:
    """The operation after that one, when it ended."""

    def ended() -> dict | None:
        operation = ours.api.session(ours.user)["operation"]
        new = operation["kind"] == "snapshot" and operation["id"] != before
        return operation if new and operation["state"] != "running" else None

    operation = wait_for("a snapshot", ended, seconds=3 * RPO, pause=0.2)
    if operation["state"] != "done":
        raise RuntimeError(operation["error"])
    return operation


def protection(report) -> None:
    options = {"spot": {"protect": "all", "rpo": f"{RPO}s"}, "controller": {"observe": "5s"}}
    results: list[dict] = []
    with stack_with(options) as stack, session(stack, "bench") as ours:
        prepared(ours.server, RANDOM, CHANGE)
        operation = next_snapshot(ours, None)
        pids = [stack.node.process.pid, stack.elsad.process.pid]
        changed, used = int(ours.server.execute("print(changed)")), cpu_s(*pids)
        begin = time.monotonic()
        for n in range(SNAPSHOTS):
            operation = next_snapshot(ours, operation["id"])
            results.append(operation["result"])
            report.progress(f"snapshot {n + 1} of {SNAPSHOTS}: {operation['result']}")
        took, used = time.monotonic() - begin, cpu_s(*pids) - used
        changed = int(ours.server.execute("print(changed)")) - changed
    gib = median(results, "memory_bytes") / 2**30
    report.at_most("protection_cpu", 100 * used / took, 5, "% of a core")
    report.at_most("protection_frozen", median(results, "frozen_us") / 1e6 / gib, 0.5, "s per GiB")
    report.at_most("protection_bytes", sum(r["stored_bytes"] for r in results) / (changed * PAGE), 2,
                   "times what changed")
    report.plain("protection_interval", took / SNAPSHOTS, "s")
