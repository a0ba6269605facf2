# SPDX-License-Identifier: Apache-2.0
"""core.*: a session with 1 GiB of random floats sleeps and wakes, against podman; 100 cycles."""

from __future__ import annotations

import os
import shutil

from hubkit import Stack
from podman import Podman
from sides import DIRECTORY, ROUNDS, Ours, median, our_round, podman_round, prepared

GIB_CELL = "import numpy as np; data = np.random.rand(2**27); print(data.sum())"
CHECK_CELL = "print(data.sum(), data[12345], data[-1])"
CYCLES = int(os.environ.get("ELSA_CYCLES", "100"))


def against_podman(report, stack) -> None:
    podman, ours = Podman(DIRECTORY / "podman"), Ours(stack, "bench")
    baselines: list[dict] = []
    rounds: list[dict] = []
    try:
        theirs = podman.start()
        their_truth = prepared(theirs, GIB_CELL, CHECK_CELL)
        my_truth = prepared(ours.server, GIB_CELL, CHECK_CELL)
        for n in range(ROUNDS):
            theirs, baseline = podman_round(podman, theirs, CHECK_CELL, their_truth)
            baselines.append(baseline)
            rounds.append(our_round(ours, CHECK_CELL, my_truth))
            report.progress(f"round {n + 1} of {ROUNDS}: podman {baseline}, ours {rounds[-1]}")
    finally:
        podman.close()
        ours.forget()
    asleep, awake = median(baselines, "hibernate"), median(baselines, "answer")
    report.faster("frozen_1gib", median(rounds, "frozen"), asleep, 3)
    report.faster("hibernate_1gib", median(rounds, "hibernate"), asleep, 3)
    report.faster("resume_first_answer_1gib", median(rounds, "answer"), awake, 3)
    report.faster("resume_first_cell_1gib", median(rounds, "cell"), median(baselines, "cell"), 3)
    report.plain("stored_1gib", median(rounds, "stored"), "bytes")


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
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    stack = Stack()
    try:
        stack.start_node()
        stack.start_elsad()
        against_podman(report, stack)
        cycles(report, stack)
    finally:
        stack.close()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
