# SPDX-License-Identifier: Apache-2.0
"""Kernels that grow, many at once, on a node too small for them, with a larger one at hand.

ELSA_GROWING      how many
ELSA_GROWN        MiB that each comes to hold
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import movekit
from basekit import wait_for
from clusterkit import Cluster
from hubkit import add_account
from jupyter import Server
from move_client import COMMAND, PORT, TOKEN
from websocket import WebSocketException

KERNELS = int(os.environ.get("ELSA_GROWING", "50"))
GROWN = int(os.environ.get("ELSA_GROWN", "160"))  # MiB
PER_S = 200                                       # MiB
PIECE = 10                                        # MiB
BEGIN, MOST = 200, 400                            # limits, in MiB: at first, and as far as they are raised
AT_ONCE = 4                                       # that are started

# Each piece is something else, and says which. The pace is kept where the processors allow it.
GROW = f"""
import time
own = %d
held = []
def piece(i):
    return (b"%%05d.%%05d " %% (own, i)) * ({PIECE << 20} // 12)
def grow(mib):
    begin = time.monotonic()
    for i in range(mib // {PIECE}):
        held.append(piece(i))
        time.sleep(max(0, begin + (i + 1) * {PIECE} / {PER_S} - time.monotonic()))
    return time.monotonic() - begin
"""
CHECK = "print(len(held), all(h == piece(i) for i, h in enumerate(held)))"


@dataclass
class Growing:
    """One session with its kernel."""

    user: str
    server: Server
    took: float = 0.0
    said: str = ""
    holds: str = ""

    def grow(self) -> None:
        try:
            self.took = float(self.server.execute(f"print(grow({GROWN}))", timeout=150))
        except (OSError, ValueError, WebSocketException) as error:
            self.said = f"{type(error).__name__}: {error}"

    def check(self) -> None:
        """A kernel that was killed, or another one in its place, has none of it."""
        try:
            self.holds = self.server.execute(CHECK, timeout=60).strip()
        except (OSError, WebSocketException) as error:
            self.holds = f"{type(error).__name__}: {error}"

    @property
    def is_whole(self) -> bool:
        return self.holds == f"{GROWN // PIECE} True"


def begin(cluster: Cluster, number: int) -> Growing:
    user = f"user{number:02d}"
    add_account(cluster.hub.dir / "home", user)
    operation = cluster.api.post("/v1/session/start", user=user, server="", cmd=COMMAND, env={}, port=PORT,
                                 api_token=TOKEN)
    done = cluster.api.wait_operation(operation, 300)
    if done["state"] != "done":
        raise RuntimeError(f"{user}: {done['error']}")
    server = Server(cluster.api.session(user)["address"], PORT, TOKEN,
                    netns=f"/proc/{cluster.hub.host.pid}/ns/net")
    server.wait_answer()
    server.start_kernel()
    server.execute(GROW % number)
    return Growing(user, server)


def watch(report, cluster: Cluster, done: Callable[[], bool]) -> None:
    """Says now and then where they are."""
    def look() -> bool:
        sessions = cluster.api.get("/v1/sessions")["sessions"]
        held = sum(bool(s.get("short_of")) for node in cluster.nodes.values() for s in node.sessions().values())
        at = Counter(s["node"] for s in sessions)
        states = Counter(s["state"] for s in sessions)
        report.progress(f"{dict(at)}, {dict(states)}, {held} stand still")
        return done()
    wait_for("all to have grown", look, seconds=600, pause=5)


def let_grow(cluster: Cluster) -> None:
    """A server that starts grows, too: it is to have no more than the others before all are there."""
    small = cluster.nodes["small"]
    small.write_config(session={"memory_most": f"{MOST}M"})
    small.restart()
    cluster.wait("small to be back", cluster.joined)


def growing(report) -> None:
    """On `small` all fit with the limits they begin with, and a few when they have grown."""
    settings = movekit.options(session={"memory": f"{BEGIN}M", "memory_most": f"{MOST}M"})
    small, big = KERNELS * BEGIN + MOST, KERNELS * MOST
    with Cluster(nodes=("small",), local=False, people=False, options=settings,
                 node_options={"small": {"node": {"memory": f"{small}M"}, "session": {"memory_most": 0}},
                               "big": {"node": {"memory": f"{big}M"}}}) as cluster:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            kernels = list(pool.map(lambda number: begin(cluster, number), range(KERNELS)))
        let_grow(cluster)
        cluster.add("big")
        report.progress(f"{len(kernels)} kernels, which begin to grow")
        began = time.monotonic()
        with ThreadPoolExecutor(KERNELS) as pool:
            cells = [pool.submit(kernel.grow) for kernel in kernels]
            watch(report, cluster, lambda: all(cell.done() for cell in cells))
        took = time.monotonic() - began
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Growing.check, kernels))
        for kernel in kernels:
            if kernel.said or not kernel.is_whole:
                report.progress(f"{kernel.user}: {kernel.said or 'grown'}, it holds {kernel.holds}")
        moved = sum(s["node"] == "big" for s in cluster.api.get("/v1/sessions")["sessions"])
    report.at_most("growing_killed", sum(not k.is_whole for k in kernels), 0, "kernels")
    report.at_most("growing_cut_off", sum(bool(k.said) for k in kernels), 0, "cells")
    report.plain("growing_kernels", len(kernels), "kernels")
    report.plain("growing_moved", moved, "kernels")
    report.plain("growing_all_done", took, "s")
    report.plain("growing_longest", max(k.took for k in kernels), "s")
