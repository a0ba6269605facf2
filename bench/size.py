# SPDX-License-Identifier: Apache-2.0
"""size.*: the reference trace through the simulator: how long it takes, and what it says, without size classes
and with them; a pass of decisions over many sessions; the account that elsad keeps against one counted again from
its events; kernels that grow on a node too small for them."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from pathlib import Path

from accountkit import CATALOGUE, TYPE, shift
from elsad_kit import Elsad
from growth import growing
from recount import DAY_MS, Recount
from sides import DIRECTORY, run_parts

RELEASE = Path(__file__).resolve().parent.parent / "build" / "release"
ELSA = RELEASE / "elsa"
SESSIONS = 10000
ACCOUNTS = int(os.environ.get("ELSA_ACCOUNTS", "30"))
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


def simulate(trace: Path, *options: str) -> tuple[dict, float]:
    begin = used()
    said = subprocess.run([ELSA, "simulate", str(trace), "--json", *options], capture_output=True, check=True)
    return json.loads(said.stdout), used() - begin


def decisions() -> float:
    """Milliseconds of processor that a pass over all sessions takes."""
    said = subprocess.run([RELEASE / "policy_bench", str(SESSIONS), "50"], capture_output=True, check=True)
    return json.loads(said.stdout)["ms"]


def live_a_day(elsad: Elsad, rng: random.Random, users: list[str]) -> None:
    for user in users:
        state = elsad.session(user)["state"] if elsad.events(user=user, limit=1) else "stopped"
        what = rng.choice(["start"] if state in ("stopped", "hibernated") else ["hibernate", "snapshot", "stop", ""])
        if what:
            asked = elsad.start_session(user) if what == "start" else elsad.act(what, user)
            elsad.follow(asked)


def account(report) -> float:
    """By how much the account and a recount differ, in per cent: thirty users and sixty days in which they come,
    sleep, wake and go, with elsad killed each night."""
    rng = random.Random(1)
    users = [f"user-{i}" for i in range(ACCOUNTS)]
    with Elsad(DIRECTORY) as elsad:
        elsad.node.info.update(TYPE)
        for _ in range(12):
            elsad.start()
            live_a_day(elsad, rng, users)
            elsad.kill()
            shift(elsad, 5 * DAY_MS)
        elsad.start()
        said = elsad.get("/v1/savings", since_ms=3650 * DAY_MS)
        counted = Recount(elsad.events(limit=10000), CATALOGUE).until(said["until"]).total()
    report.progress(f"always on {said['total']['always_on']:.2f}, cost {said['total']['cost']:.2f}")
    pairs = [(said["total"]["always_on"], counted.always), (said["total"]["machines"], counted.machine),
             (said["total"]["store"], counted.store)]  # fmt: skip
    return max(100 * abs(a - b) / b for a, b in pairs)


def account_recount(report) -> None:
    report.at_most("account_recount", account(report), 1, "%")


def decision_pass(report) -> None:
    report.at_most("decision_pass", decisions(), 20, "ms of a core")


def simulator(report) -> None:
    trace = DIRECTORY / "reference.trace"
    took = generate(trace)
    report.progress(f"{trace.stat().st_size >> 20} MiB generated in {took:.1f} s")
    found, seconds = simulate(trace)
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


SIZES = """\
session.memory = "8G"
session.memory_most = "16G"
""" + "".join(f'[[size.class]]\nname = "of-{memory}"\nmemory = "{memory}"\n' for memory in ("1G", "4G", "8G"))


def right_sizing(report) -> None:
    """What it saves where each session has 8 GiB otherwise."""
    trace, config = DIRECTORY / "reference.trace", DIRECTORY / "sizes.toml"
    config.write_text(SIZES)
    generate(trace)
    found, seconds = simulate(trace, "--config", str(config))
    ways = {way["way"]: way for way in found["ways"]}
    ours, one = ways["elsa"], ways["one-size"]
    report.plain("simulated_sizes", seconds, "s of a core")
    report.plain("cost_by_one_size", ours["cost"] / one["cost"], "times")
    report.plain("out_of_memory", ours["sizes"]["out_of_memory"], "sessions")


def measure(report) -> None:
    run_parts(report, account_recount, decision_pass, growing, simulator, right_sizing)
