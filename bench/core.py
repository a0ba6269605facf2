# SPDX-License-Identifier: Apache-2.0
"""core.*: a session with 1 GiB of random floats sleeps and wakes, against podman; 100 cycles."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

from jupyter import Server
from podman import Podman

GIB_CELL = "import numpy as np; data = np.random.rand(2**27); print(data.sum())"
CHECK_CELL = "print(data.sum(), data[12345], data[-1])"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CYCLES = int(os.environ.get("CYCLES", "100"))


class Ours:
    """One session on a real elsad and elsa-node, without a Hub in between."""

    def __init__(self, stack):
        self.stack = stack
        self.server: Server | None = None

    def start(self, user: str = "bench") -> Server:
        session = self.stack.start_session(user, [
            "python3", "-m", "jupyter_server", "--ip=0.0.0.0", "--port=8888", "--no-browser",
            "--ServerApp.port_retries=0", "--IdentityProvider.token=bench"], port=8888)
        self.server = Server(session["address"], 8888, "bench")
        self.user = user
        return self.server

    def hibernate(self) -> dict:
        begin = time.monotonic()
        operation = self.stack.hibernate_session(self.user)
        return {"s": time.monotonic() - begin, **operation["result"]}

    def resume(self) -> dict:
        """Seconds to the first HTTP answer, from asking elsad."""
        begin = time.monotonic()
        self.stack.start_session(self.user, [], wait=False)
        self.server.wait_answer()
        return {"answer": time.monotonic() - begin, "begin": begin}


def podman_round(podman: Podman, server: Server, truth: str) -> tuple[Server, dict]:
    times = {"hibernate": podman.checkpoint()}
    begin = time.monotonic()
    podman.restore()
    kernel, server = server.kernel, podman.server()
    server.kernel = kernel
    server.wait_answer()
    times["answer"] = time.monotonic() - begin
    if server.execute(CHECK_CELL) != truth:
        raise RuntimeError("podman brought back other data")
    times["cell"] = time.monotonic() - begin
    return server, times


def our_round(ours: Ours, truth: str) -> dict:
    slept = ours.hibernate()
    woke = ours.resume()
    if ours.server.execute(CHECK_CELL) != truth:
        raise RuntimeError("other data came back")
    return {"hibernate": slept["s"], "frozen": slept["frozen_us"] / 1e6,
            "stored": slept["stored_bytes"], "answer": woke["answer"],
            "cell": time.monotonic() - woke["begin"]}


def prepared(server: Server) -> str:
    server.wait_answer()
    server.start_kernel()
    server.execute(GIB_CELL)
    return server.execute(CHECK_CELL)


def against_podman(report, stack, directory: Path) -> None:
    podman, ours = Podman(directory / "podman"), Ours(stack)
    try:
        theirs, mine = podman.start(), ours.start()
        their_truth, my_truth = prepared(theirs), prepared(mine)
        rounds: list[tuple[dict, dict]] = []
        for n in range(ROUNDS):
            theirs, baseline = podman_round(podman, theirs, their_truth)
            rounds.append((baseline, our_round(ours, my_truth)))
            report.progress(f"round {n + 1} of {ROUNDS}: podman {baseline}, ours {rounds[-1][1]}")
    finally:
        podman.close()

    def median(side: int, key: str) -> float:
        return statistics.median(r[side][key] for r in rounds)

    report.faster("frozen_1gib", median(1, "frozen"), median(0, "hibernate"), 3)
    report.faster("hibernate_1gib", median(1, "hibernate"), median(0, "hibernate"), 3)
    report.faster("resume_first_answer_1gib", median(1, "answer"), median(0, "answer"), 3)
    report.faster("resume_first_cell_1gib", median(1, "cell"), median(0, "cell"), 3)
    report.plain("stored_1gib", median(1, "stored"), "bytes")


def cycles(report, stack) -> None:
    """One live session asleep and awake again and again, its state checked each time."""
    ours = Ours(stack)
    server = ours.start("cycles")
    server.wait_answer()
    server.start_kernel()
    server.execute("import threading, time, os; count = 0; ticks = 0\n"
                   "def tick():\n"
                   "    global ticks\n"
                   "    while True:\n"
                   "        time.sleep(0.01); ticks += 1\n"
                   "threading.Thread(target=tick, daemon=True).start(); last = time.monotonic()")
    failures = 0
    for n in range(CYCLES):
        try:
            ours.hibernate()
            ours.resume()
            told = server.execute("count += 1; now = time.monotonic(); seen = ticks; "
                                  "time.sleep(0.05)\n"
                                  "print(count, now >= last, ticks > seen); last = now")
            failures += told.split() != [str(n + 1), "True", "True"]
        except (OSError, RuntimeError) as error:
            failures += 1
            report.progress(f"cycle {n + 1}: {error}")
        if (n + 1) % 20 == 0:
            report.progress(f"{n + 1} of {CYCLES} cycles, {failures} failures")
    report.at_most(f"cycles_{CYCLES}_failures", failures, 0, "failures")


def measure(report) -> None:
    from hubkit import Stack  # the same stack the end-to-end tests use

    directory = Path("/var/lib/elsa/bench")
    shutil.rmtree(directory, ignore_errors=True)
    with Stack(directory / "stack", hub=False) as stack:
        against_podman(report, stack, directory)
        cycles(report, stack)
    shutil.rmtree(directory, ignore_errors=True)
