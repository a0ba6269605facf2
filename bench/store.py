# SPDX-License-Identifier: Apache-2.0
"""store.*: checkpoints small, sealed, and awake in a blink; against podman's export and import.

Every round of ours has one of podman's beside it, on the same data. The data is checked after each
wake. Times are of a client that asks elsad (a wake: and then the session's server) as the Hub does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import limits
from hubkit import Stack
from podman import Podman
from s3server import S3Server
from sides import (COMMAND, DIRECTORY, ROUNDS, Ours, median, our_round, podman_round, prepared,
                   run_parts, settle)

PAGE = 4096
FLOATS = 512  # in a page

# 1 GiB that nothing makes much smaller, anew for each round.
RANDOM = "import numpy as np\ndata = None\ndata = np.random.rand(2**27)"
RANDOM_CHECK = "print(data.sum(), data[12345], data[-1])"

# About 1 GiB as people have it: frames of numbers, times, categories and names; strings; records.
TYPICAL = """
import numpy as np, pandas as pd
frames = text = records = None
rng = np.random.default_rng()
rows = 1_000_000
names = np.array([f"customer-{i:06d}@example.org" for i in range(50_000)], dtype=object)
kinds = ["north", "south", "east", "west", "online", "unknown"]
frames = [pd.DataFrame({
    "id": np.arange(rows) + k * rows,
    "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(rng.integers(0, 90, rows)), "s"),
    "price": np.round(rng.lognormal(3, 1, rows), 2),
    "count": rng.poisson(4, rows),
    "measure": rng.normal(20, 5, rows),
    "share": rng.random(rows).astype("float32"),
    "kind": pd.Categorical.from_codes(rng.integers(0, 6, rows), kinds),
    "name": names[rng.integers(0, len(names), rows)],
}) for k in range(12)]
text = [f"{i}: " + " ".join(kinds[j] for j in rng.integers(0, 6, 4)) for i in range(2_000_000)]
records = np.zeros(6_000_000, dtype=[("x", "f4"), ("y", "f4"), ("n", "i4"), ("ok", "?"), ("tag", "S7")])
records["x"] = rng.normal(size=len(records)); records["y"] = np.arange(len(records)) * 0.25
records["n"] = rng.integers(0, 1000, len(records)); records["tag"] = b"sample"
"""
TYPICAL_CHECK = """
print(sum(f["price"].sum() + f["id"].sum() + f["measure"].sum() for f in frames),
      frames[3]["name"][777], len(text), text[-1], records["x"].sum(), records["n"].sum())
"""

# One page in a hundred, here and there, in place: a temporary copy would leave its own dirt behind,
# and an array begins 16 bytes behind a page's border.
TOUCH = f"""
first = -data.ctypes.data % {PAGE} // 8
pages = data[first:first + (len(data) - first) // {FLOATS} * {FLOATS}].reshape(-1, {FLOATS})
rng = np.random.default_rng()
for i in rng.choice(len(pages), len(pages) // 100, replace=False, shuffle=False):
    rng.random(out=pages[i])
"""


def big(gib: int) -> str:
    return f"import numpy as np\ndata = np.random.rand({gib} * 2**27)\nprint(len(data))"


@contextlib.contextmanager
def stack_with(options: dict, env: dict[str, str] | None = None) -> Iterator[Stack]:
    stack = Stack(options=options)
    stack.node.env = env or {}
    try:
        stack.start_node()
        stack.start_elsad()
        yield stack
    finally:
        stack.close()


@contextlib.contextmanager
def session(stack: Stack, user: str) -> Iterator[Ours]:
    ours = Ours(stack, user)
    try:
        yield ours
    finally:
        ours.forget()


@contextlib.contextmanager
def podman_session() -> Iterator[Podman]:
    podman = Podman(DIRECTORY / "podman")
    try:
        yield podman
    finally:
        podman.close()


class Peak:
    """The most memory of elsad and elsa-node together since begin(), by the kernel's own mark."""

    def __init__(self, stack: Stack):
        self.pids = [stack.node.process.pid, stack.elsad.process.pid]
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def mib(self) -> float:
        status = (Path(f"/proc/{pid}/status").read_text() for pid in self.pids)
        return sum(int(s.split("VmHWM:")[1].split()[0]) for s in status) / 1024


# --- 1 GiB, all new, against podman --------------------------------------------------------------


def compare(report, stack: Stack, make: str, check: str) -> tuple[list[dict], list[dict], Peak]:
    """Rounds of ours and of podman's; both make their data anew before each."""
    theirs_all: list[dict] = []
    ours_all: list[dict] = []
    with podman_session() as podman, session(stack, "bench") as ours:
        theirs = podman.start()
        prepared(theirs, "pass")
        prepared(ours.server, "pass")
        peak = Peak(stack)
        for n in range(ROUNDS):
            theirs.execute(make)
            theirs, their_round = podman_round(podman, theirs, check, theirs.execute(check))
            theirs_all.append(their_round)
            ours.server.execute(make)
            ours_all.append(our_round(ours, check, ours.server.execute(check)))
            report.progress(f"round {n + 1} of {ROUNDS}: podman {their_round}, ours {ours_all[-1]}")
            ours.wait_arrived()
    return theirs_all, ours_all, peak


def random_local(report) -> None:
    with stack_with({}) as stack:
        theirs, ours, peak = compare(report, stack, RANDOM, RANDOM_CHECK)
        report.at_most("peak_memory", peak.mib(), 256, "MiB")
    report.faster("frozen_random_1gib", median(ours, "frozen"), median(theirs, "hibernate"), 4)
    report.at_most("wake_1gib", median(ours, "answer"), 0.15, "s")
    report.faster("wake_1gib_podman", median(ours, "answer"), median(theirs, "answer"), 20)


def typical_local(report) -> None:
    with stack_with({}) as stack:
        theirs, ours, _ = compare(report, stack, TYPICAL, TYPICAL_CHECK)
    report.faster("frozen_typical_1gib", median(ours, "frozen"), median(theirs, "hibernate"), 4)
    report.faster("bytes_typical_1gib", median(ours, "stored"), median(theirs, "stored"), 1, "bytes")


@contextlib.contextmanager
def bucket() -> Iterator[tuple[dict, dict[str, str], S3Server]]:
    """A store on our small S3 server: options and environment for a stack, and the server."""
    access, secret = "bench", "bench/secret"
    with S3Server(DIRECTORY / "s3", {access: secret}, buckets=("bench",)) as server:
        url = f"s3://bench/elsa?endpoint=http://127.0.0.1:{server.port}&region=us-east-1"
        env = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "NO_PROXY": "127.0.0.1"}
        yield {"store": {"url": url}}, env, server


def random_bucket(report) -> None:
    with bucket() as (options, env, _), stack_with(options, env) as stack:
        theirs, ours, peak = compare(report, stack, RANDOM, RANDOM_CHECK)
        report.at_most("peak_memory_s3", peak.mib(), 256, "MiB")
    report.faster("frozen_random_1gib_s3", median(ours, "frozen"), median(theirs, "hibernate"), 2.5)


# --- little changed ------------------------------------------------------------------------------


def second(report) -> None:
    """Asleep again after 1 % of the memory changed; and a snapshot of it running."""
    theirs_all: list[dict] = []
    ours_all: list[dict] = []
    snapshots: list[dict] = []
    with stack_with({}) as stack, podman_session() as podman, session(stack, "bench") as ours:
        theirs = podman.start()
        prepared(theirs, RANDOM)
        prepared(ours.server, RANDOM)
        first = our_round(ours, RANDOM_CHECK, ours.server.execute(RANDOM_CHECK))
        for n in range(ROUNDS):
            theirs.execute(TOUCH)
            theirs, their_round = podman_round(podman, theirs, RANDOM_CHECK,
                                               theirs.execute(RANDOM_CHECK))
            theirs_all.append(their_round)
            ours.wait_arrived()
            ours.server.execute(TOUCH)
            ours_all.append(our_round(ours, RANDOM_CHECK, ours.server.execute(RANDOM_CHECK)))
            ours.wait_arrived()
            ours.server.execute(TOUCH)
            settle()
            snapshots.append(ours.act("snapshot"))
            report.progress(f"round {n + 1} of {ROUNDS}: podman {their_round}, ours {ours_all[-1]}, "
                            f"snapshot {snapshots[-1]['frozen_us'] / 1e6:.3f} s")
    share = 100 * median(ours_all, "stored") / first["stored"]
    report.at_most("second_bytes", share, 2, "% of the first")
    report.faster("second_1gib", median(ours_all, "frozen"), median(theirs_all, "hibernate"), 6)
    report.at_most("snapshot_frozen_1gib", median(snapshots, "frozen_us") / 1e6, 0.5, "s")


# --- waking --------------------------------------------------------------------------------------


def wakes(report, ours: Ours, check: str, truth: str) -> list[dict]:
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(our_round(ours, check, truth))
        ours.wait_arrived()
        report.progress(f"{ours.user}: {rounds[-1]}")
    return rounds


def wake_by_size(report) -> None:
    """1 and 8 GiB in one run, alternating; and what the larger one needs of our memory."""
    small: list[dict] = []
    large: list[dict] = []
    with stack_with({}) as stack, session(stack, "small") as a, session(stack, "large") as b:
        check = "print(data[12345], data[-1])"
        truths = [prepared(a.server, big(1), check), prepared(b.server, big(8), check)]
        peak = Peak(stack)
        for n in range(ROUNDS):
            small.append(our_round(a, check, truths[0]))
            a.wait_arrived()
            large.append(our_round(b, check, truths[1]))
            b.wait_arrived()
            report.progress(f"round {n + 1} of {ROUNDS}: 1 GiB {small[-1]}, 8 GiB {large[-1]}")
        report.at_most("peak_memory_8gib", peak.mib(), 256, "MiB")
    report.plain("wake_8gib", median(large, "answer"), "s")
    report.at_most("wake_8gib_by_1gib", median(large, "answer") / median(small, "answer"), 1.3,
                   "times")


def wake_from_far(report) -> None:
    """From a bucket that takes 20 ms longer for each request, with nothing cached. The cell uses
    another megabyte each time: no wake has wanted it before."""
    rounds: list[dict] = []
    cells = [f"print(data[{n * 10_000_000}:{n * 10_000_000 + 131072}].sum())" for n in range(ROUNDS + 1)]
    with bucket() as (options, env, server), stack_with(options, env) as stack, \
         session(stack, "far") as ours:
        prepared(ours.server, big(1))
        truths = [ours.server.execute(cell) for cell in cells]
        our_round(ours, cells[0], truths[0])
        for cell, truth in zip(cells[1:], truths[1:]):
            ours.wait_arrived()
            ours.hibernate()
            for block in (stack.dir / "cache").iterdir():
                block.unlink()
            server.latency = 0.02
            settle()
            begin = ours.resume()
            answer = time.monotonic() - begin
            if ours.server.execute(cell) != truth:
                raise RuntimeError("other data came back")
            rounds.append({"answer": answer, "cell": time.monotonic() - begin})
            report.progress(f"{rounds[-1]}")
            server.latency = 0
    report.at_most("wake_1gib_s3_20ms", median(rounds, "answer"), 0.5, "s")
    report.at_most("wake_1gib_s3_20ms_cell", median(rounds, "cell"), 1.5, "s")


def random_pages(report) -> None:
    """A cell right after the wake that wants 10,000 pages of 6 GiB."""
    count = 10_000
    rounds: list[dict] = []
    with stack_with({}) as stack, session(stack, "pages") as ours:
        prepared(ours.server, big(6))
        for n in range(ROUNDS):
            cell = (f"rng = np.random.default_rng({n}); at = rng.choice(len(data) // {FLOATS}, "
                    f"{count}, replace=False) * {FLOATS}\nprint(data[at].sum())")
            truth = ours.server.execute(cell)
            settle()
            ours.hibernate()
            settle()
            ours.resume()
            begin = time.monotonic()
            if ours.server.execute(cell) != truth:
                raise RuntimeError("other data came back")
            rounds.append({"cell": time.monotonic() - begin})
            report.progress(f"{rounds[-1]}")
            ours.wait_arrived()
    report.at_most("pages_10000_6gib", median(rounds, "cell"), 1.5, "s")


# --- all of it -----------------------------------------------------------------------------------


def machine(report) -> None:
    limits.measure(report, DIRECTORY)


def measure(report) -> None:
    run_parts(report, machine, random_local, random_bucket, typical_local, second, wake_by_size,
              wake_from_far, random_pages)
