# SPDX-License-Identifier: Apache-2.0
"""core.*: a session with 1 GiB of random floats sleeps and wakes, against podman; 100 cycles."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

from hubkit import Stack
from jupyter import Server
from podman import Podman

COMMAND = ["python3", "-m", "jupyter_server", "--ip=0.0.0.0", "--port=8888", "--no-browser",
           "--ServerApp.port_retries=0", "--IdentityProvider.token=bench"]
GIB_CELL = "import numpy as np; data = np.random.rand(2**27); print(data.sum())"
CHECK_CELL = "print(data.sum(), data[12345], data[-1])"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
CYCLES = int(os.environ.get("CYCLES", "100"))


class Ours:
    """One session on a real elsad and elsa-node, without a Hub in between."""

    def __init__(self, stack: Stack, user: str):
        self.api, self.user = stack.api, user
        self.wake(COMMAND)
        address = self.api.session(user)["address"]
        self.server = Server(address, 8888, "bench")

    def wake(self, command: list[str]) -> dict:
        return self.ended(self.api.post("/v1/session/start", user=self.user, server="", cmd=command,
                                        env={}, port=8888, api_token="bench"))

    def ended(self, operation: dict) -> dict:
        operation = self.api.wait_operation(operation)
        if operation["state"] != "done":
            raise RuntimeError(f"{operation['kind']}: {operation['error']}")
        return operation

    def hibernate(self) -> dict:
        begin = time.monotonic()
        operation = self.ended(self.api.post("/v1/session/hibernate", user=self.user, server=""))
        return {"s": time.monotonic() - begin, **operation["result"]}

    def resume(self) -> float:
        """Until the first HTTP answer; returns when it was asked for. As the Hub does it: the server is
        spoken to when elsad says that it is there. A caller who comes while its packets are held
        back would wait for TCP's next try, a second later."""
        begin = time.monotonic()
        self.wake([])
        self.server.wait_answer()
        return begin

    def forget(self) -> None:
        self.ended(self.api.post("/v1/session/forget", user=self.user, server=""))


def settle() -> None:
    """What one side has left in the page cache is not to be written on the other's time: podman does
    not wait for the disk."""
    os.sync()


def podman_round(podman: Podman, server: Server, truth: str) -> tuple[Server, dict]:
    settle()
    times = {"hibernate": podman.checkpoint()}
    settle()
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
    settle()
    slept = ours.hibernate()
    settle()
    begin = ours.resume()
    answer = time.monotonic() - begin
    if ours.server.execute(CHECK_CELL) != truth:
        raise RuntimeError("other data came back")
    return {"hibernate": slept["s"], "frozen": slept["frozen_us"] / 1e6,
            "stored": slept["stored_bytes"], "answer": answer,
            "cell": time.monotonic() - begin}


def prepared(server: Server) -> str:
    server.wait_answer()
    server.start_kernel()
    server.execute(GIB_CELL)
    return server.execute(CHECK_CELL)


def against_podman(report, stack, directory: Path) -> None:
    podman, ours = Podman(directory / "podman"), Ours(stack, "bench")
    try:
        theirs = podman.start()
        their_truth, my_truth = prepared(theirs), prepared(ours.server)
        rounds: list[tuple[dict, dict]] = []
        for n in range(ROUNDS):
            theirs, baseline = podman_round(podman, theirs, their_truth)
            rounds.append((baseline, our_round(ours, my_truth)))
            report.progress(f"round {n + 1} of {ROUNDS}: podman {baseline}, ours {rounds[-1][1]}")
    finally:
        podman.close()
        ours.forget()

    def median(side: int, key: str) -> float:
        return statistics.median(r[side][key] for r in rounds)

    report.faster("frozen_1gib", median(1, "frozen"), median(0, "hibernate"), 3)
    report.faster("hibernate_1gib", median(1, "hibernate"), median(0, "hibernate"), 3)
    report.faster("resume_first_answer_1gib", median(1, "answer"), median(0, "answer"), 3)
    report.faster("resume_first_cell_1gib", median(1, "cell"), median(0, "cell"), 3)
    report.plain("stored_1gib", median(1, "stored"), "bytes")


def cycles(report, stack) -> None:
    """One live session asleep and awake again and again, its state checked each time."""
    ours = Ours(stack, "cycles")
    server = ours.server
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
    directory = Path("/var/lib/elsa/bench")
    shutil.rmtree(directory, ignore_errors=True)
    stack = Stack()
    try:
        stack.start_node()
        stack.start_elsad()
        against_podman(report, stack, directory)
        cycles(report, stack)
    finally:
        stack.close()
        shutil.rmtree(directory, ignore_errors=True)
