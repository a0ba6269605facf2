# SPDX-License-Identifier: Apache-2.0
"""wake.*: sessions that sleep or doze unseen, and how soon whoever comes is answered."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from browser import Browser, Kernel
from hubkit import Stack
from jupyter import Server
from nodekit import Node, Session, wait_for
from sides import DIRECTORY, ROUNDS, run_parts, settle

GIB_CELL = "import numpy as np; data = np.random.rand(2**27); print(data.sum())"
CHECK_CELL = "print(data.sum(), data[12345], data[-1])"
TOKEN = "bench"
# Nothing that an open page asks by itself.
PERSON = "/static/favicon.ico"


def start_jupyter(node: Node) -> tuple[Session, Server]:
    session = Session(node, command=[
        "python3", "-m", "jupyter_server", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888",
        f"--IdentityProvider.token={TOKEN}", "--ServerApp.open_browser=False",
        "--ServerApp.allow_remote_access=True"])
    node.done("start", session)
    server = Server(session.address, session.port, TOKEN)
    server.wait_answer()
    server.start_kernel()
    return session, server


def fall_into_doze(node: Node, session: Session) -> None:
    """As soon as its server has read all that the last round has sent."""
    def done() -> bool:
        result = node.effect("doze", session)
        if result["state"] == "failed" and result["fault"] != "conflict":
            raise RuntimeError(result["text"])
        return result["state"] == "done"
    wait_for(done, 120, 0.5)


def first_answer(session: Session) -> float:
    begun = time.monotonic()
    connection = http.client.HTTPConnection(session.address, session.port, timeout=60)
    connection.request("GET", PERSON, headers={"Authorization": f"token {TOKEN}"})
    connection.getresponse().read()
    connection.close()
    return time.monotonic() - begun


def on_a_node(part: Callable) -> Callable:
    """With an elsa-node of its own."""
    def run(report) -> None:
        place = DIRECTORY / "node"
        place.mkdir(parents=True)
        os.chmod(place, 0o755)
        node = Node(place).start()
        try:
            part(report, node)
        finally:
            node.teardown()
    run.__name__ = part.__name__
    return run


@on_a_node
def doze(report, node: Node) -> None:
    session, server = start_jupyter(node)
    server.execute(GIB_CELL)
    truth = server.execute(CHECK_CELL)
    answers, left = [], []
    for n in range(ROUNDS + 1):  # the first brings into page cache what others had
        before = node.sessions()[session.id]
        fall_into_doze(node, session)
        dozing = node.sessions()[session.id]
        answer = first_answer(session)
        status = wait_for(lambda: not (now := node.sessions()[session.id])["dozing"] and now)
        report.progress(f"round {n}: {before['rss_bytes'] >> 20} MiB, dozing "
                        f"{dozing['rss_bytes'] >> 20} MiB, answered in {answer * 1000:.1f} ms, "
                        f"then {status['rss_bytes'] >> 20} MiB")
        time.sleep(1)  # somebody looks at the page before they go on
        if server.execute(CHECK_CELL) != truth:
            raise RuntimeError("another memory than before")
        if n:
            answers.append(answer)
            left.append(dozing["rss_bytes"] / before["rss_bytes"])
    report.at_most("doze_first_answer_1gib", statistics.median(answers), 0.02, "s")
    report.at_most("doze_left_in_memory_1gib", statistics.median(left) * 100, 5, "%")
    node.done("stop", session)


# --- asleep, through the Hub's proxy ------------------------------------------------------------------------


def fall_asleep(stack: Stack, user: str) -> None:
    """As soon as its server has read all that the last round has sent."""
    def done() -> bool:
        if stack.api.state(user) == "asleep":
            return True
        operation = stack.api.post("/v1/session/hibernate", user=user, server="", transparent=True)
        stack.api.wait_operation(operation)
        return stack.api.state(user) == "asleep"
    wait_for(done, 120, 0.5)
    settle()


def page(ada: Browser, _kernel: Kernel) -> None:
    answer = ada.http.get(f"{ada.base}static/favicon.ico", timeout=60)
    if answer.status_code != 200:
        raise RuntimeError(f"answered with {answer.status_code}")


def cell(_ada: Browser, kernel: Kernel) -> None:
    """Over the connection that was open before."""
    said = kernel.run("print(6 * 7)").output
    if said.strip() != "42":
        raise RuntimeError(f"not 42: {said}")


def asleep(report) -> None:
    options = {"idle": {"transparent": True, "timeout": 0}}
    pages, cells = [], []
    with Stack(options=options) as stack:
        ada = stack.browser("ada").log_in()
        ada.start_server()
        kernel = ada.new_kernel()
        kernel.connect()
        kernel.run(GIB_CELL)
        truth = kernel.run(CHECK_CELL).output
        for wake, times in ((page, pages), (cell, cells)):
            for n in range(ROUNDS + 1):
                fall_asleep(stack, "ada")
                begun = time.monotonic()
                wake(ada, kernel)
                took = time.monotonic() - begun
                time.sleep(1)  # somebody looks at it before they go on
                if kernel.run(CHECK_CELL).output != truth:
                    raise RuntimeError("not what was there before")
                report.progress(f"round {n}: a {wake.__name__} after {took * 1000:.0f} ms")
                if n:
                    times.append(took)
    report.at_most("asleep_first_answer_through_proxy_1gib", statistics.median(pages), 0.18, "s")
    report.at_most("asleep_cell_on_open_websocket_1gib", statistics.median(cells), 0.5, "s")


# --- many ---------------------------------------------------------------------------------------------------


def resident(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) << 10


def available() -> int:
    settle()
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+)", text).group(1)) << 10


def begin_asleep(node: Node) -> Session:
    session = Session(node)
    session.start()
    sleep(node, session, 1)
    return session


def sleep(node: Node, session: Session, generation: int) -> None:
    def done() -> bool:
        result = node.effect("sleep", session, generation)
        if result["state"] == "failed" and result["fault"] != "conflict":
            raise RuntimeError(result["text"])
        return result["state"] == "done"
    wait_for(done, 120, 0.5)


def timed_answer(session: Session) -> float:
    begun = time.monotonic()
    session.ask("state", timeout=120)
    return time.monotonic() - begun


@on_a_node
def storm(report, node: Node) -> None:
    few, many = 10, 50
    sessions = [begin_asleep(node) for _ in range(few)]
    with_few = resident(node.process.pid)
    sessions += [begin_asleep(node) for _ in range(many - few)]
    each = (resident(node.process.pid) - with_few) / (many - few) / 1024
    with ThreadPoolExecutor(many) as callers:
        times = sorted(callers.map(timed_answer, sessions))
    report.progress(f"{many} at once: {times[0]:.2f} to {times[-1]:.2f} s")
    report.at_most("our_memory_per_sleeping_session", each, 32, "KiB")
    report.at_most("woken_at_once_50_p95", times[int(many * 0.95) - 1], 6, "s")
    for session in sessions:
        node.done("stop", session)


@on_a_node
def given_back(report, node: Node) -> None:
    count, mib = 20, 300
    before = available()
    sessions = [Session(node) for _ in range(count)]
    for session in sessions:
        session.start()
        session.ask("fill", timeout=60, mib=mib)
    awake = available()
    for session in sessions:
        sleep(node, session, 1)
    after = available()
    report.progress(f"{count} sessions took {(before - awake) >> 20} MiB, asleep {(before - after) >> 20} MiB")
    report.at_least("memory_given_back_20_sessions", (after - awake) / (before - awake) * 100, 95, "%")
    for session in sessions:
        node.done("stop", session)


def measure(report) -> None:
    run_parts(report, asleep, doze, storm, given_back)
