# SPDX-License-Identifier: Apache-2.0
"""move.*: a session moves to another node under somebody who runs a cell every 50 ms, over a websocket and
a real proxy; against CRIU's own lazy migration of the same server, on hosts and cables like ours, in the
same run. And ours alone, several moves of one session in a row; and one session back and forth many times.

ELSA_MOVE_SIZES   sessions, as MIB or MIB:MIB_REWRITTEN_PER_SECOND
ELSA_MOVE_LINK    what the cable carries, as tc has it; "": as much as it can
ELSA_MOVES        back and forth
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import threading
import time

import movekit
import stock_move
from basekit import wait_for
from clusterkit import Cluster, ClusterNode
from hostkit import Host, Lan
from hubkit import add_account
from jupyter import Server
from move_client import COMMAND, PORT, TOKEN, Moved, Worker, proxy, received_by
from movekit import Sizes, Watch, ask_migrate, elsewhere, wait_settled
from sides import DIRECTORY, ROUNDS

SIZES = os.environ.get("ELSA_MOVE_SIZES", "1024 6144 6144:200").split()
LINK = os.environ.get("ELSA_MOVE_LINK", "4gbit")
MOVES = int(os.environ.get("ELSA_MOVES", "200"))
MOST_S = {"1024": 0.2, "6144": 0.4, "6144:200": 0.6}
USER = "ada"


def sizes_of(text: str) -> Sizes:
    mib, _, rewritten = text.partition(":")
    return Sizes(mib=int(mib), rewrite=int(rewritten or 0))


def name_of(text: str) -> str:
    mib, _, rewritten = text.partition(":")
    size = f"{int(mib) // 1024}gib" if int(mib) % 1024 == 0 else f"{mib}mib"
    return size + (f"_rewritten_{rewritten}mib_s" if rewritten else "")


# --- ours ---------------------------------------------------------------------------------------------


class Ours:
    """Hub's host, two nodes, one session without a Hub."""

    def __init__(self, rate: str):
        self.cluster = Cluster(nodes=2, local=False, people=False,
                               options=movekit.options(nodes={"lease": "30s", "reserve": 0})).start()
        # It costs a third of a processor as often as tests want it, of the two that there are here.
        self.watch = Watch(self.cluster, pause=0.1)
        self.watch.start()
        for node in self.cluster.nodes.values():
            node.shape(rate)
        self.api = self.cluster.api
        self.host = self.cluster.hub.host
        self.home = self.cluster.hub.dir / "home" / USER
        add_account(self.cluster.hub.dir / "home", USER)
        self._start()
        self.proxy = proxy(self.host, self.session["address"], self.cluster.hub.dir / "chp.log")

    def _start(self) -> None:
        operation = self.api.post("/v1/session/start", user=USER, server="", cmd=COMMAND, env={}, port=PORT,
                                  api_token=TOKEN)
        done = self.api.wait_operation(operation)
        if done["state"] != "done":
            raise RuntimeError(f"start: {done}")
        self.watch.sessions.add(self.session["id"])

    @property
    def session(self) -> dict:
        return self.api.session(USER)

    def target(self) -> ClusterNode:
        return elsewhere(self.cluster, USER)

    def missing(self, node: ClusterNode) -> int:
        return node.sessions().get(self.session["id"], {}).get("missing_bytes") or 0

    def move(self) -> tuple[float, int]:
        """Until the last page is there; seconds from when the session runs there, and bytes."""
        target = self.target()
        operation = ask_migrate(self.cluster, USER, target.name)
        wait_for("it to run there", lambda: self.watch.where(self.session["id"]) == [target.name], seconds=120,
                 pause=0.02, unless=lambda: self._why_not(operation["id"]))
        begin, received = time.monotonic(), received_by(target.host)
        done = self.api.wait_operation(operation, 600)
        if done["state"] != "done":
            raise RuntimeError(f"migrate: {done}")
        wait_for("its memory", lambda: not self.missing(target), seconds=600, pause=0.01)
        return time.monotonic() - begin, received_by(target.host) - received

    def _why_not(self, operation: str) -> str | None:
        now = self.api.get("/v1/operation", id=operation)
        return str(now) if now["state"] == "failed" else None

    def close(self) -> None:
        self.watch.ended.set()
        self.proxy.kill()
        self.cluster.close()


def measure_ours(sizes: Sizes, rate: str) -> tuple[Moved, float]:
    """And bytes per second of one TCP stream between the two."""
    ours = Ours(rate)
    try:
        stream = one_stream(*(n.host for n in ours.cluster.nodes.values()))
        worker = Worker(ours.host, sizes, ours.home / "ops")
        moved = worker.watch(ours.move)
        worker.finish([moved])
        if ours.watch.twice:
            raise RuntimeError(f"it ran twice: {ours.watch.twice}")
        return moved, stream
    except BaseException:
        print(ours.cluster.logs(25))
        raise
    finally:
        ours.close()


def one_stream(source: Host, target: Host, seconds: float = 3.0) -> float:
    """What one TCP connection moves."""
    with target.inside():
        listener = socket.create_server((target.address, 0))

    def send() -> None:
        data = memoryview(os.urandom(1 << 20))
        with source.inside():
            out = socket.create_connection(listener.getsockname())
        end = time.monotonic() + seconds
        with out:
            while time.monotonic() < end:
                out.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    come, _ = listener.accept()
    room, count, begin = bytearray(1 << 20), 0, time.monotonic()
    with come, listener:
        while got := come.recv_into(room):
            count += got
    sender.join()
    return count / (time.monotonic() - begin)


def measure_stock(report, sizes: Sizes, tries: int = 3) -> Moved:
    """It fails now and then, which is not what is measured."""
    try:
        with Lan() as lan:
            return stock_move.measure(lan, DIRECTORY / "stock", sizes, LINK)
    except (RuntimeError, AssertionError) as error:
        if tries == 1:
            raise
        report.progress(f"stock: {error}")
    shutil.rmtree(DIRECTORY / "stock", ignore_errors=True)
    return measure_stock(report, sizes, tries - 1)


def against_stock(report, text: str) -> None:
    sizes, name = sizes_of(text), name_of(text)
    theirs = measure_stock(report, sizes)
    report.progress(f"{name}: stock {theirs}")
    ours, stream = measure_ours(sizes, LINK)
    report.progress(f"{name}: ours {ours}, one stream {stream / 1e6:.0f} MB/s")
    report.faster(f"stall_{name}", ours.stall_s, theirs.stall_s)
    if text in MOST_S:
        report.at_most(f"stall_{name}_most", ours.stall_s, MOST_S[text], "s")
    report.at_most(f"disconnects_{name}", ours.disconnects, 0, "disconnects")
    report.at_most(f"wrong_{name}", ours.wrong, 0, "operations")
    report.at_most(f"p99_{name}", ours.p99_s, 3 * ours.quiet_p50_s + 0.02, "s")
    report.plain(f"quiet_p50_{name}", ours.quiet_p50_s, "s")
    report.faster(f"transfer_{name}", ours.transfer_s, theirs.transfer_s)
    report.at_least(f"throughput_{name}", ours.bytes_per_s / stream, 0.7, "of one stream")
    report.plain(f"stream_{name}", stream / 1e9, "GB/s")


# --- one after the other ------------------------------------------------------------------------------


def ours_again(report) -> None:
    """Moves of one session in a row: the first, and those after it."""
    for text in SIZES:
        moved = []
        ours = Ours(LINK)
        try:
            worker = Worker(ours.host, sizes_of(text), ours.home / "ops")
            for _ in range(ROUNDS):
                moved.append(worker.watch(ours.move))
                events = ours.api.events()
                stood = next(e["detail"] for e in events if e["what"] == "migrate")
                report.progress(f"{name_of(text)}: {moved[-1]}, {stood}")
            worker.finish(moved)
        finally:
            ours.close()
        stalls, late = [m.stall_s for m in moved], [m.p99_s for m in moved]
        report.plain(f"stall_{name_of(text)}_again", statistics.median(stalls), "s")
        report.plain(f"p99_{name_of(text)}_again", statistics.median(late), "s")
        report.at_most(f"wrong_{name_of(text)}_again", moved[-1].wrong, 0, "operations")


# --- back and forth -----------------------------------------------------------------------------------

STATE = """
import threading, time, tempfile, os
count, ticks, back, born = 0, 0, 0, time.monotonic()
kept = tempfile.TemporaryFile(dir="/tmp")
kept.write(b"kept" * 1000)
def tick():
    global ticks, back
    before = time.monotonic()
    while True:
        time.sleep(0.01)
        now = time.monotonic()
        ticks, back, before = ticks + 1, back + (now < before), now
threading.Thread(target=tick, daemon=True).start()
"""
ASK = """
count += 1; seen = ticks; kept.seek(0)
time.sleep(0.05)
print(count, ticks > seen, back, kept.read() == b"kept" * 1000)
"""


def back_and_forth(report) -> None:
    """The same session again and again, its state checked each time."""
    ours = Ours("")
    try:
        worker = Worker(ours.host, Sizes(mib=64), ours.home / "ops")
        other = Server(ours.host.address, 8000, TOKEN)
        other.start_kernel()
        other.execute(STATE)
        failures, asked, stalls = 0, 0, []
        for n in range(MOVES):
            begin = time.monotonic()
            try:
                ours.move()
                worker.cells.wait_for_more(3)
                stalls.append(worker.cells.longest_gap(begin, time.monotonic()))
                asked += 1
                told = other.execute(ASK).split()
                wait_settled(ours.cluster, ours.watch, USER)
                failures += told != [str(asked), "True", "0", "True"]
            except (OSError, RuntimeError, AssertionError) as error:
                failures += 1
                report.progress(f"move {n + 1}: {error}")
            if (n + 1) % 20 == 0:
                report.progress(f"{n + 1} of {MOVES} moves, {failures} failures")
        last = [Moved(0, 0, 0, 0, 0, 0, 0)]
        worker.finish(last)
        failures += last[0].wrong + len(worker.cells.disconnects) + len(ours.watch.twice)
        report.at_most(f"back_and_forth_{MOVES}_failures", failures, 0, "failures")
        if stalls:
            report.plain("back_and_forth_stall_median", sorted(stalls)[len(stalls) // 2], "s")
    finally:
        ours.close()


def measure(report) -> None:
    wanted = os.environ.get("ELSA_BENCH", "").split()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    try:
        if not wanted or "against_stock" in wanted:
            for text in SIZES:
                report.progress(f"against_stock {text}")
                against_stock(report, text)
        if not wanted or "ours_again" in wanted:
            ours_again(report)
        if not wanted or "back_and_forth" in wanted:
            back_and_forth(report)
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
