# SPDX-License-Identifier: Apache-2.0
"""size.*: the reference trace through the simulator: how long it takes, and what it says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

from sides import DIRECTORY

ELSA = Path(__file__).resolve().parent.parent / "build" / "release" / "elsa"
USERS = int(os.environ.get("ELSA_USERS", "10000"))
DAYS = int(os.environ.get("ELSA_DAYS", "90"))


def used() -> float:
    """Seconds of processor of what has ended: a busy machine does not count."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def generate(trace: Path) -> float:
    begin = used()
    with open(trace, "wb") as out:
        subprocess.run([ELSA, "trace", "generate", f"--users={USERS}", f"--days={DAYS}"],
                       stdout=out, check=True)
    return used() - begin


def simulate(trace: Path) -> tuple[dict, float]:
    begin = used()
    said = subprocess.run([ELSA, "simulate", str(trace), "--json"], capture_output=True, check=True)
    return json.loads(said.stdout), used() - begin


def measure(report) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    trace = DIRECTORY / "reference.trace"
    try:
        took = generate(trace)
        report.progress(f"{trace.stat().st_size >> 20} MiB generated in {took:.1f} s")
        found, seconds = simulate(trace)
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
    ways = {way["way"]: way for way in found["ways"]}
    ours = ways["elsa"]
    report.plain("generated", took, "s of a core")
    report.at_most("simulated", seconds, 60, "s of a core")
    report.faster("cost", ours["cost"], ways["always-on"]["cost"], 10, found["currency"])
    report.at_most("cost_by_cull", ours["cost"] / ways["cull-spot"]["cost"], 1.15, "times")
    report.plain("cost_by_cull_on_demand", ours["cost"] / ways["cull"]["cost"], "times")
    report.at_most("wake_p99", ours["wakes"]["p99_ms"] / 1e3, 0.5, "s")
    report.plain("wake_most", ours["wakes"]["most_ms"] / 1e3, "s")
    report.at_most("lost", ours["states_lost"], 0, "sessions")
    report.plain("work_lost", ours["work_hours"]["lost"], "h")
    report.plain("evicted", ours["evictions"]["sessions"], "sessions")
